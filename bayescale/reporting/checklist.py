"""The reporting checklist of (Mis)Fitting, filled in from fit, table and law; what they do not tell is asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayescale.datasets import DATASETS
from bayescale.errors import NotFittedFor, RunsError
from bayescale.model import isoflop_levels
from bayescale.plots.style import count_label, percent
from bayescale.posterior import Fit
from bayescale.reporting.cells import Column, Table, heading, text
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, compute_of

#: The items in their order; S1 and on are fields of the checklist's data sheet.
NUMBERS = tuple(
    "1.1 1.2 1.3 1.4 1.5 2.1 2.2 2.3a 2.3b 2.3c 2.4 2.5 2.6 2.7 2.8 3.1 3.2 3.3a 3.3b 3.4 3.5 4.1 4.2 4.3 4.4 4.5 4.6 "
    "S1 S2 S3 S4 S5 S6 S7 S8 S9 S10 S11 S12 S13 S14".split()
)
#: Columns that tell how runs were trained, by what they are about; a header counts if it contains one of the words.
_TRAINING = (
    *("lr", "batch", "schedule", "scheduler", "warmup", "decay", "cooldown", "optimizer", "optimiser", "momentum"),
    *("learning_rate", "weight_decay", "beta", "beta1", "beta2", "dropout", "clip", "hparams", "hyperparameters"),
)
_DATA = ("dataset", "datasets", "corpus", "data", "mix", "mixture", "train_set", "training_set", "training_data")
_EVALUATION = ("eval_set", "eval", "evaluation", "val_set", "test_set", "benchmark", "validation_set")
_DOMAIN = ("domain", "task", "modality", "language", "languages")
_SHAPE = (
    *("width", "depth", "heads", "head", "layers", "context", "vocab", "experts", "hidden", "ffn", "aspect"),
    *("d_model", "n_layer", "n_layers", "n_head", "n_heads", "seq_len", "sequence_length", "vocab_size"),
)
#: Words that mean something else inside a longer name.
_LOOSE = frozenset({*_DATA, *_EVALUATION, *_DOMAIN})
#: Words of a header that tell that a column is a loss, and not on which data.
_LOSS_WORDS = frozenset(
    "loss losses val valid validation eval evaluation test final last held out heldout ce nll xent cross entropy ppl "
    "perplexity bpb bpc bits nats per token byte char lm mean avg average best min smoothed ema se".split()
)
#: Names of kinds of a column that are spelt out; more are counted.
_SPELT = 5
_SMOOTHED = ("smooth", "ema", "interpolated", "centered", "centred")


@dataclass(frozen=True)
class Item:
    """One item: its number, what it asks, and the answer, or None where only the authors know it."""

    number: str
    asks: str
    answer: str | None

    def to_json(self) -> dict[str, Any]:
        """The item as a record."""
        return {"number": self.number, "asks": self.asks, "answer": self.answer}


def checklist_items(fit: Fit, document: Mapping[str, Any], answers: Mapping[str, str] | None = None) -> list[Item]:
    """Every item with its answer; `answers` are the authors' own by number, and stand beside what the fit tells."""
    known = provenance_of(fit)
    items = [*_law_items(fit), *_setup_items(fit, known), *_data_items(fit, known), *_fitting_items(fit, document),
             *_sheet_items(fit, document, known)]  # fmt: skip
    answers = answers or {}
    return [replace(i, answer=_joined(i.answer, f"The authors: {a}") if (a := answers.get(i.number)) else i.answer)
            for i in items]  # fmt: skip


def require_items(numbers: Iterable[str]) -> None:
    """Raise `NotFittedFor` (BS-U001) for a number that the checklist does not have, before the work."""
    for number in numbers:
        if number not in NUMBERS:
            remedy = f"Its items are {', '.join(NUMBERS)}."
            raise NotFittedFor(f"the checklist has no item {number!r}", code="BS-U001", remedy=remedy)


def share_filled(items: Sequence[Item]) -> float:
    """The share of items that have an answer."""
    return sum(i.answer is not None for i in items) / len(items)


def provenance_of(fit: Fit) -> Mapping[str, str]:
    """What the record of a known data set says about how its runs were made."""
    dataset = DATASETS.get(fit.info["runs"]["source"])
    return dataset.provenance if dataset else {}


def checklist_table(items: Sequence[Item]) -> Table:
    """The checklist as a table; what is left to answer is marked."""
    rows = tuple(
        (text(i.number), text(i.asks), text(i.answer if i.answer is not None else "TO ANSWER: " + i.asks))
        for i in items
    )
    filled = sum(i.answer is not None for i in items)
    return Table(
        "checklist",
        text(f"Reporting checklist: {filled} of {len(items)} items answered from the fit."),
        (Column("item", heading("")), Column("asks", heading("item")), Column("answer", heading("answer"))),
        rows,
        wide=True,
    )


def _law_items(fit: Fit) -> list[Item]:
    law = fit.law
    variables = "; ".join(f"{i.name}: {i.meaning} in {i.unit}" for i in law.inputs)
    response = law.responses[0]
    unit = fit.info["loss_unit"] if response.name == "loss" else response.unit
    parameters = ", ".join(f"{p.name} ({p.meaning})" for p in law.parameters)
    sources = "; ".join(map(str, law.references)) or "none given"
    together = _together(fit)
    return [
        Item("1.1", "Form of the law", f"{law.title}: {law.equation}"),
        Item("1.2", "Variables and their units", f"{variables}; response: {response.name} in {unit}"),
        Item("1.3", "Parameters that are fitted", parameters),
        Item("1.4", "Principles behind the form", f"As in {sources}. Valid for: {law.validity or 'not stated'}"),
        Item("1.5", "Assumptions about how the variables relate", together),
    ]


def _together(fit: Fit) -> str:
    runs = fit.runs
    said = "Allocations take C = 6ND. "
    if runs.has("params") and runs.has("tokens"):
        r = np.corrcoef(np.log(runs.values("params")), np.log(runs.values("tokens")))[0, 1]
        said += f"In these runs log N and log D are correlated by {r:.2f}. "
    relations = "; ".join(fit.law.relations)
    return said + (f"Nested with: {relations}." if relations else "The law's terms are as its equation states.")


def _range(fit: Fit, column: str) -> str | None:
    runs = fit.runs
    values = compute_of(runs) if column == "flops" else runs.values(column) if runs.has(column) else None
    if values is None:
        return None
    distinct = len(np.unique(np.round(np.log(values), 3)))
    written = (lambda x: f"{x:.3g}") if column == "flops" else count_label
    return f"{written(float(values.min()))} to {written(float(values.max()))} ({distinct} distinct)"


def _headers(fit: Fit) -> dict[str, str]:
    """The header of every column that was renamed when the table was read, as the notes say."""
    (said,) = [a for a in fit.info["runs"]["assumptions"] if a.startswith("columns: ")][:1] or [""]
    return {name: header for name, _, header in re.findall(r"(\w+) = (['\"])(.*?)\2", said)}


def _columns_like(fit: Fit, words: Sequence[str]) -> list[str]:
    """The columns whose name has one of the words, or whose header is one."""
    headers = _headers(fit)
    return [
        c
        for c in fit.runs.columns
        if headers.get(c, c).lower() in words or set(words) & set(c.lower().split("_")) - {c.lower()} - _LOOSE
    ]


def _described(fit: Fit, columns: Sequence[str]) -> str | None:
    """What columns hold, and whether they change with model size."""
    parts, headers = [], _headers(fit)
    for c in columns:
        try:
            x = fit.runs.values(c)
        except RunsError:
            kinds, c = fit.runs.labels(c)[1], headers.get(c, c)
            parts.append(f"{c}: {', '.join(kinds)}" if len(kinds) <= _SPELT else f"{c}: {len(kinds)} kinds")
            continue
        c = headers.get(c, c)
        x = x[np.isfinite(x)]
        if len(x) < len(fit.runs) or not len(x):
            continue
        if np.ptp(x) == 0:
            parts.append(f"{c}: {x[0]:.4g} in all runs")
            continue
        told = f"{c}: {x.min():.4g} to {x.max():.4g}"
        if fit.runs.has("params") and np.ptp(fit.runs.values("params")) > 0:
            rank = _rank_correlation(x, fit.runs.values("params"))
            told += f", rank correlation with N {rank:.2f}"
        parts.append(told)
    return "Recorded in the table: " + "; ".join(parts) if parts else None


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(np.asarray(spearmanr(x, y))[0])


def _setup_items(fit: Fit, known: Mapping[str, str]) -> list[Item]:
    runs, about = fit.runs, fit.info["runs"]
    models = len(runs.labels("run")[1]) if runs.has("run") else len(runs)
    amounts = _range(fit, "tokens")
    return [
        Item("2.1", "How many models", f"{models} runs in {about['used']} rows"),
        Item("2.2", "Which sizes", _range(fit, "params")),
        Item("2.3a", "How much data each", f"{amounts} tokens" if amounts else None),
        Item("2.3b", "Which data", known.get("data") or _described(fit, _columns_like(fit, _DATA))),
        Item("2.3c", "Is any data repeated", known.get("repeats") or _repeats(fit)),
        Item("2.4", "How N, D and C are counted", _counting(fit)),
        Item("2.5", "Code for counting", _counting_code(fit)),
        Item(
            "2.6",
            "How hyper-parameters are chosen, and whether they change with scale",
            known.get("hyperparameters") or _described(fit, _columns_like(fit, _TRAINING)),
        ),
        Item(
            "2.7",
            "Other settings (width, depth), and whether they change with scale",
            _joined(known.get("architecture"), _described(fit, _columns_like(fit, _SHAPE))),
        ),
        Item("2.8", "Is the training code open", known.get("training code")),
    ]


def _joined(*parts: str | None) -> str | None:
    return " ".join(f"{p.rstrip('.')}." for p in parts if p) or None


def _repeats(fit: Fit) -> str | None:
    runs = fit.runs
    if runs.has("unique_tokens") and runs.has("tokens"):
        epochs = runs.values("tokens") / runs.values("unique_tokens")
        return f"{epochs.min():.2g} to {epochs.max():.2g} epochs"
    if runs.has("epochs"):
        epochs = runs.values("epochs")
        return f"{epochs.min():.2g} to {epochs.max():.2g} epochs"
    return None


def _evaluated_on(fit: Fit) -> str | None:
    """What the table tells of the data that the response was measured on: a column, or words of the header."""
    if told := _described(fit, _columns_like(fit, _EVALUATION)):
        return told
    header = _headers(fit).get(fit.law.responses[0].source, "")
    words = re.findall(r"[a-z]+[0-9]*", header.lower())
    if {"train", "training"} & set(words):
        return f"the training data, by the header {header}"
    telling = [w for w in words if w not in _LOSS_WORDS]
    return f"as the header says: {header}" if telling else None


def _domain(fit: Fit) -> str | None:
    """What is modelled, where a column says so, the data are counted in tokens or the unit of the loss was stated."""
    if told := _described(fit, _columns_like(fit, _DOMAIN)):
        return told
    counted = _headers(fit).get("tokens", "tokens")
    derived = any(a.startswith("tokens is not in the table") for a in fit.info["runs"]["assumptions"])
    if fit.runs.has("tokens") and not derived and "token" in counted.lower():
        return f"models of sequences of tokens (the table counts its data in tokens: column {counted})"
    response, unit = fit.law.responses[0], fit.info["loss_unit"]
    assumed = any("--loss-unit" in a for a in fit.info["runs"]["assumptions"])  # a note that offers the flag
    if response.name != "loss" or assumed or "/" not in unit:
        return None
    return f"models of sequences of {unit.partition('/')[2]}s (loss in {unit})"


def _counting(fit: Fit) -> str:
    runs = fit.runs
    count = fit.info.get("convention")
    said = f"N: {count}. " if count else "N: as the table gives it; which parameters it counts is not recorded. "
    if not runs.has("flops"):
        return said + "C = 6ND."
    if not (runs.has("params") and runs.has("tokens")):
        return said + "C: as the table gives it."
    ratio = runs.values("flops") / (FLOPS_PER_PARAM_TOKEN * runs.values("params") * runs.values("tokens"))
    if np.allclose(ratio, 1, rtol=1e-3):
        return said + "C = 6ND in every row."
    return said + f"C: the table's own, {ratio.min():.2f} to {ratio.max():.2f} times 6ND."


def _counting_code(fit: Fit) -> str:
    notes = [a for a in fit.info["runs"]["assumptions"] if "6N" in a or "6·" in a or "counts" in a]
    return "; ".join(notes) if notes else "Counts are the table's own; bayescale computes none of them anew."


def _data_items(fit: Fit, known: Mapping[str, str]) -> list[Item]:
    runs, about = fit.runs, fit.info["runs"]
    per_run = "one row a run: final values"
    if runs.has("run"):
        counts = np.bincount(runs.labels("run")[0])
        if counts.max() > 1:
            per_run = f"{counts.min()} to {counts.max()} rows a run, with an effect of each run: "
            per_run += "yes" if "run" in fit.group else "no"
    smooth = [c for c in [about["source"], *about["assumptions"]] if any(w in c.lower() for w in _SMOOTHED)]
    converted = [a for a in about["assumptions"] if "loss" in a.lower() or "perplexity" in a.lower()]
    changed = "; ".join([*converted, *smooth]) or "Not converted, smoothed, interpolated or centred by bayescale."
    return [
        Item("3.1", "Are checkpoints open", known.get("checkpoints")),
        Item("3.2", "Checkpoints used per model", per_run),
        Item("3.3a", "Evaluation metric", f"{fit.law.responses[0].name} in {fit.info['loss_unit']}"),
        Item("3.3b", "Evaluation data", known.get("evaluation") or _evaluated_on(fit)),
        Item("3.4", "Is the metric modified", f"{changed} The likelihood is of the log of the loss."
             if fit.law.responses[0].support == "positive" else changed),
        Item("3.5", "Code for that", f"bayescale {fit.info['versions'].get('bayescale')}, reading; runs.csv holds the "
             "table as it was understood"),
    ]  # fmt: skip


def _fitting_items(fit: Fit, document: Mapping[str, Any]) -> list[Item]:
    about, settings = fit.info["runs"], fit.info["settings"]
    left = about["rows"] - about["used"]
    filters = [a for a in about["assumptions"] if a.startswith(("kept", "left out", "dropped", "subset"))]
    used = f"{about['used']} of {about['rows']} rows" + (f": {'; '.join(filters)}" if filters and left else "")
    held = document["report"]["held_out"]
    judged = [f"verdict {document['verdict']['status']} over {len(_findings(document))} checks"]
    if held:
        judged.append(
            f"{held['inside']} of {held['count']} held-out larger runs inside their {percent(held['prob'])} interval"
        )
    judged.append(f"{percent(fit.prob)} {fit.interval_kind()} intervals")
    attempts = fit.info.get("attempts") or [{}]
    last = attempts[-1]
    return [
        Item("4.1", "Objective", f"Posterior density: {fit.noise} likelihood of the log loss, group effects of "
             f"{', '.join(fit.group) or 'nothing'}, priors as listed"),
        Item("4.2", "Algorithm", f"{fit.info['sampler'].upper()} (NumPyro {fit.info['versions'].get('numpyro')})"),
        Item("4.3", "Its hyper-parameters", f"{settings['chains']} chains, {last.get('warmup', settings['warmup'])} "
             f"warm-up and {last.get('draws', settings['draws'])} draws each, target acceptance "
             f"{last.get('target_accept')}, seed {fit.info['seed']}, {len(attempts)} attempt(s)"),
        Item("4.4", "Initialisation", f"Chains start around {len(fit.info.get('modes') or [0])} mode(s) found by "
             "optimisation from draws of the prior"),
        Item("4.5", "Points used, outliers, subsets", used if left else f"all {about['used']} rows"),
        Item("4.6", "How correctness is judged", "; ".join(judged)),
    ]  # fmt: skip


def _findings(document: Mapping[str, Any]) -> list[Any]:
    return [*document["design"], *document["checks"], *document["audit"]]


def _counted(fit: Fit) -> str:
    """How many numbers the law has: one a parameter, or one a level."""
    levels = sum(map(len, fit.levels.values()))
    own = [p.name for p in fit.law.parameters if p.over]
    shared = len(fit.law.parameters) - len(own)
    return str(shared) if not own else f"{shared} shared, and {', '.join(own)} of each of {levels} levels"


def _sheet_items(fit: Fit, document: Mapping[str, Any], known: Mapping[str, str]) -> list[Item]:
    report, about = document["report"], fit.info["runs"]
    budgets = ", ".join(f"{e['flops']:.3g}" for e in document["allocation"])
    levels = None
    if fit.runs.sorts("budget"):
        levels = len(fit.runs.labels("budget")[1])
    elif made := isoflop_levels(fit.runs):
        levels = len(made.levels)
    purpose = f"Compute-optimal size and data at {budgets} FLOP" if budgets else "Prediction of the loss"
    compared = [e for e in report["approaches"] or [] if e["kind"] == "bootstrap"]
    boot = "; ".join(f"{', '.join([e['name'], *e.get('levels', {}).values()])}: a = {e['value']:.3f}" for e in compared)
    held = report["held_out"]
    return [
        Item("S1", "Domain", known.get("domain") or _domain(fit)),
        Item("S2", "Analysis code", "open: bayescale, with the versions in fit.json"),
        Item("S3", "Metric scores of the runs", "in this folder: runs.csv"),
        Item("S4", "Purpose", purpose),
        Item("S5", "Number of parameters of the law", _counted(fit)),
        Item("S6", "Number of laws", "1" + "".join(f", of {len(v)} levels of {c}" for c, v in fit.levels.items())),
        Item("S7", "Runs per law", str(about["used"]) + (f", in {levels} compute budgets" if levels else "")),
        Item("S8", "Largest compute", f"{compute_of(fit.runs).max():.3g} FLOP"  # type: ignore[union-attr]
             if compute_of(fit.runs) is not None else None),
        Item("S9", "Largest model", count_label(float(fit.runs.values("params").max()))
             if fit.runs.has("params") else None),
        Item("S10", "Most data", f"{count_label(float(fit.runs.values('tokens').max()))} tokens"
             if fit.runs.has("tokens") else None),
        Item("S11", "Bootstrapping", boot or "not used: intervals are of the posterior"),
        Item("S12", "Is the law validated", f"yes: {held['inside']} of {held['count']} larger runs"
             if held else "no held-out runs: " + report["left_out"].get("held_out", "not asked for")),
        Item("S13", "Definition of FLOP", _counting(fit)),
        Item("S14", "Uncertainty", f"{percent(fit.prob)} {fit.interval_kind()} intervals of every number; draws in "
             "posterior.nc of the fit"),
    ]  # fmt: skip
