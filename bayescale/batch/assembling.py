"""The batch of the tables that were sampled: its arrays, its status, and what every table's fit says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import splits_budgets
from bayescale.batch.certifying import DIVERGENT, ESS
from bayescale.batch.gathering import Part, gathered
from bayescale.batch.ladder import Outcome
from bayescale.batch.preparing import Task, effect_columns
from bayescale.errors import worst
from bayescale.inference import fit_info, runs_info
from bayescale.law import Law, PooledLaw
from bayescale.posterior import (
    CERTIFIED,
    FAILED,
    POSITION,
    UNCERTIFIED,
    Batch,
    axis_labels,
    variable_dims,
)
from bayescale.sampling import Settings
from bayescale.sampling.ensemble import CHAINS, DRAWS
from bayescale.verdicts import finding_lines

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "bayescale.batch/1"
#: What a table is certified by, where that differs from a single fit.
BARS = {"ess": ESS, "divergent": DIVERGENT}
_UNEXAMINED = "The intervals were not examined: --examine, or bayescale.examined(fit), does."


class OnDemand(Mapping[str, Any]):
    """A mapping whose values are made when they are asked for, and kept; copies and pickles are plain dictionaries."""

    def __init__(self, names: Sequence[str], make: Callable[[str], Any]):
        self._names, self._make = dict.fromkeys(names), make
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, [*self._names][:5])) + (", …" if len(self) > 5 else "")
        return f"<{len(self)} by name: {shown}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def assemble(
    law: Law,
    tasks: Sequence[Task],
    outcomes: Mapping[str, Outcome],
    spent: Mapping[str, tuple[float, int]],
    failures: Mapping[str, str],
    *,
    seed: int,
    prob: float,
    noise: str,
    budgets: Mapping[str, Sequence[float]],
) -> Batch:
    """The batch of the tables that were sampled; by name their last outcomes, the seconds and gradients they took in
    all, and why others have none.
    """
    import xarray as xr

    sampled = [t for t in tasks if t.name in outcomes]
    names, found = [t.name for t in sampled], [outcomes[t.name] for t in sampled]
    designs: dict[tuple[int, str], dict[str, Any]] = {}
    kinds = {(id(o.task.design), o.rung): o for o in found}
    variables, z, stats = _arrays(found, {k: o for (k, _), o in kinds.items()})
    for kind, outcome in kinds.items():
        designs[kind] = _design_info(outcome, [*variables], seed=seed, prob=prob)
    width = z[1].shape[-1]
    coords = {"dataset": names, "chain": np.arange(CHAINS), "draw": np.arange(DRAWS)}
    posterior = xr.Dataset(variables, coords=coords)
    posterior = posterior.assign_coords({d: np.arange(n) for d, n in posterior.sizes.items() if d not in coords})
    shared = {n for info in designs.values() for n in info["reported"]}
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "headline": posterior[[n for n in variables if n in shared]],
            "unconstrained_posterior": xr.Dataset({"z": z}, coords={**coords, "coordinate": np.arange(width)}),
            "sample_stats": xr.Dataset(stats, coords=coords),
        }
    )
    places = {n: (o.task, o.rung, o.drawn.certificates, o.place) for n, o in zip(names, found, strict=True)}

    def told(name: str) -> dict[str, Any]:
        task, rung, certificates, k = places[name]
        own = _own_info(task, certificates.findings(k), bool(certificates.passed[k]), budgets[name])
        return designs[id(task.design), rung] | own

    info = {
        "schema": SCHEMA,
        "law": law.name,
        "law_options": dict(law.options),
        "law_digest": law.digest(),
        "options": {"pool": law.pool if isinstance(law, PooledLaw) else None},
        "noise": noise,
        "group": sorted({c for i in designs.values() for c in i["group"]}),
        "seed": seed,
        "prob": prob,
        "sampler": "ladder",
        "settings": {"chains": CHAINS, "draws": DRAWS, **BARS},
        "interrupted": False,
        "headline_source": "posterior",
        "datasets": OnDemand(names, told),
    }
    status = _status([t.name for t in tasks], outcomes, spent, failures)
    return Batch(tree, law, info, status, OnDemand(names, lambda name: places[name][0].model.runs))


def _arrays(found: Sequence[Outcome], designs: Mapping[int, Outcome]) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """The variables of the posterior, the flat vectors without effects, and the sampler's numbers, over all tables.

    What a table lacks, or has fewer levels of, is not-a-number. Effects of groups, which are many, are kept in single
    precision: that is far below their Monte Carlo error. `designs` holds an outcome of every design.
    """
    groups: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for k, o in enumerate(found):
        places, lanes = groups.setdefault((id(o.drawn), id(o.task.design)), ([], []))
        places.append(k)
        lanes.append(o.place)
    dims: dict[str, tuple[str, ...]] = {}
    effects, widths = {}, {}
    for key, o in designs.items():
        model = o.task.design.model
        effects[key] = effect_columns(o.task.design)
        widths[key] = slice(0, model.structure.coordinates.dimension)
        for name in (*o.drawn.values, *effects[key]):
            own = variable_dims(model, name)
            dims.setdefault(name, tuple(d.replace("level_", POSITION) if d.startswith("level_") else d for d in own))
    parts: dict[tuple[str, str], list[Part]] = {}
    for (_, key), (places, lanes) in groups.items():
        drawn = found[places[0]].drawn
        at = (np.asarray(places), np.asarray(lanes))
        for name, array in drawn.values.items():
            parts.setdefault(("values", name), []).append(Part(array, *at))
        for name, columns in effects[key].items():
            parts.setdefault(("values", name), []).append(Part(drawn.flat, *at, columns))
        parts.setdefault(("flat", "z"), []).append(Part(drawn.flat, *at, widths[key]))
        for name, array in drawn.stats.items():
            parts.setdefault(("stats", name), []).append(Part(array, *at))
    lead, count = ("dataset", "chain", "draw"), len(found)
    variables = {
        name: ((*lead, *dims[name]), gathered(p, count, np.float32 if name.startswith("u_") else np.float64))
        for (kind, name), p in parts.items()
        if kind == "values"
    }
    stats = {name: (lead, gathered(p, count)) for (kind, name), p in parts.items() if kind == "stats"}
    flat = gathered(parts[("flat", "z")], count, np.float64) if found else np.empty((0, CHAINS, DRAWS, 0))
    return variables, ((*lead, "coordinate"), flat), stats


def _status(
    names: Sequence[str],
    outcomes: Mapping[str, Outcome],
    spent: Mapping[str, tuple[float, int]],
    failures: Mapping[str, str],
) -> pd.DataFrame:
    """One row a table: what became of it, in a word, in a sentence and in numbers; its verdict, its headline."""
    import pandas as pd

    sampled = [n for n in names if n in outcomes]
    found = [outcomes[n] for n in sampled]
    designs: dict[int, tuple[str, bool]] = {}
    sentences, verdicts, headlines = [], [], []
    for o in found:
        findings = o.task.design.findings
        if (key := id(o.task.design)) not in designs:
            designs[key] = (worst(findings), _answers(o.task))
        told, answers = designs[key]
        if not o.certified:
            checks = o.checks
            bad = "; ".join(f.message for f in checks if f.status != "pass")
            told, answers = worst((*findings, *checks)), False
        sentences.append(f"certified by {o.rung}" if o.certified else f"not certified: {bad}")
        verdicts.append(told)
        headlines.append("posterior" if answers else "none")
    codes = dict.fromkeys(c for o in found for c in o.drawn.certificates.numbers)
    columns: dict[str, Any] = {
        "status": [CERTIFIED if o.certified else UNCERTIFIED for o in found],
        "rung": [o.rung for o in found],
        "sentence": sentences,
    }
    if found:
        columns["rows"] = [len(o.task.design.model.runs) for o in found]
        for code in codes:
            own = [o.drawn.certificates.numbers.get(code) for o in found]
            values = [np.nan if v is None else v[o.place] for v, o in zip(own, found, strict=True)]
            columns[code.replace("-", "_")] = np.asarray(values)
        columns["gradients"] = [spent[n][1] for n in sampled]
        columns["seconds"] = [spent[n][0] for n in sampled]
    columns |= {"verdict": verdicts, "alarms": [None] * len(found), "headline": headlines}
    status = pd.DataFrame(columns, index=pd.Index(sampled, name="dataset", dtype=object))
    return completed(status if found else status.astype("str"), names, failures)


def completed(status: pd.DataFrame, names: Sequence[str], why: Mapping[str, str]) -> pd.DataFrame:
    """The status of all these tables, in their order: those that it lacks failed, for the reason that is known."""
    import pandas as pd

    if status.index.tolist() == list(names):
        return status
    there = {*status.index}
    status = status.reindex(pd.Index(names, name="dataset", dtype=object))
    left = [n for n in names if n not in there]
    status.loc[left, "status"] = FAILED
    status.loc[left, "sentence"] = [why.get(n, "interrupted before it") for n in left]
    return status


def _answers(task: Task) -> bool:
    """Whether the design backs a headline."""
    return all(f.status != "fail" or f.code == "extrapolation" for f in task.design.findings)


def _design_info(outcome: Outcome, every: Sequence[str], *, seed: int, prob: float) -> dict[str, Any]:
    """What the fits of all tables of one design say of themselves."""
    task = outcome.task
    model, runs, values = task.model, task.model.runs, outcome.drawn.values
    settings = Settings(CHAINS, DRAWS, seed=seed)
    info = fit_info(model, task.design.findings, prob=prob, sampler=outcome.rung, settings=settings)
    info["settings"] |= {**BARS, "warmup": None}  # what is kept may come from several runs
    hidden = {i.ratio for i in model.structure.intercepts} | {i.site for i in model.structure.intercepts}
    own = [*values, *(i.site for i in model.structure.intercepts)]
    return info | {
        "reported": [n for n in values if n not in hidden],
        "absent": [n for n in every if n not in own],
        "levels": {g.column: list(g.levels) for g in model.groupings}
        | {c: list(runs.labels(c)[1]) for c in sorted({p.over for p in model.law.parameters if p.over})},
        "axes": {d: list(labels) for d, labels in axis_labels(model).items() if not d.startswith("level_")},
        "coordinates": _coordinate_labels(task),
        "columns": [*runs.columns],
    }


def _own_info(task: Task, checks: Sequence[Any], certified: bool, budgets: Sequence[float]) -> dict[str, Any]:
    """What the table's own fit says beside it."""
    findings = (*task.design.findings, *checks)
    return {
        "runs": runs_info(task.model, task.sha256),
        "checks": [f.document() for f in checks],
        "headline_source": "posterior" if _answers(task) and certified else "none",
        "verdict": {"status": worst(findings), "lines": [*finding_lines(findings), _UNEXAMINED]},
        "budgets": list(budgets) if splits_budgets(task.model.law) else [],
        "fingerprint": task.fingerprint,
    }


def _coordinate_labels(task: Task) -> list[str]:
    slots = task.model.structure.coordinates.slots
    return [s.parameter.name if s.size == 1 else f"{s.parameter.name}[{k}]" for s in slots for k in range(s.size)]
