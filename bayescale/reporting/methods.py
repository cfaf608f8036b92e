"""The methods paragraph: the model as it was fitted, how, and what the answer is conditional on."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from bayescale.datasets import DATASETS
from bayescale.law import PooledLaw
from bayescale.model import FEWEST_LEVELS
from bayescale.narrowness.clusters import label_of
from bayescale.noise import LINKS, NOISES
from bayescale.plots.style import percent
from bayescale.posterior import Fit
from bayescale.reporting.bibliography import MISFITTING, NUMPYRO, NUTS, R_HAT, Entry, cite
from bayescale.reporting.cells import Written, joined, say, symbol, text
from bayescale.reporting.sections import Document, name_of
from bayescale.tables.symbols import prior_of
from bayescale.verdicts import widened_by

#: What a prior is called in print.
_DISTRIBUTION = re.compile(r"^([\d.]+ \+ )?(\w+)\((.*)\)$")
#: Between a parameter and its prior: a line may break here, and does not stretch.
_IS_DRAWN_FROM = Written(r"\,$\sim$\,\allowbreak ", r" $\sim$ ", " ~ ", " ~ ")


def methods_paragraphs(fit: Fit, document: Document, entries: Sequence[Entry]) -> list[Written]:
    """The paragraphs: data, model, priors, computation, checks, and what is conditioned on."""
    return [
        _data(fit, entries),
        _model(fit, entries),
        _priors(fit),
        _computation(fit, document, entries),
        _intervals(fit, document),
        _conditions(fit),
    ]


def _data(fit: Fit, entries: Sequence[Entry]) -> Written:
    about = fit.info["runs"]
    dataset = DATASETS.get(about["source"])
    which = f"{about['used']} runs" if about["used"] == about["rows"] else (
        f"{about['used']} of the {about['rows']} rows"
    )  # fmt: skip
    pieces = {
        "which": text(which),
        "source": text(about["source"]),
        "cited": cite(entries, *(dataset.references if dataset else ())),
        "sha": text(f"SHA-256 {about['sha256'][:16]}… of the table" if about.get("sha256") else "no file"),
        "unit": text(fit.info["loss_unit"]),
    }
    said = "Data. We fit {which} of the table {source}{cited} ({sha}); the response is the loss in {unit}."
    notes = [a for a in about["assumptions"] if a]
    tail = text(" Read as follows: " + "; ".join(n.rstrip(".") for n in notes) + "." if notes else "")
    space = Written(" ", " ", " ", " ")
    return joined([say(said, **pieces), space, tail] if notes else [say(said, **pieces)])


def _model(fit: Fit, entries: Sequence[Entry]) -> Written:
    law = fit.law
    response = law.responses[0]
    inputs = ", ".join(f"{i.name} = {i.meaning} ({i.unit})" for i in law.inputs)
    law_part = say(
        "Model. The law is {title}{cited}, {equation}, with {inputs}.",
        title=text(f"the {law.title}" if not law.title.lower().startswith("the ") else law.title),
        cited=cite(entries, *law.references),
        equation=symbol(law.equation, law.equation),
        inputs=text(inputs),
    )
    law_part = joined([law_part, *_pooling(fit)])
    if law.likelihood is not None or response.support not in LINKS:
        return law_part
    noise = NOISES[fit.noise]
    link = {"log": r"\log ", "identity": "", "logit": r"\mathrm{logit}\,"}.get(LINKS[response.support].name, "")
    effects = "".join(rf" + u^{{({_letters(g['column'])})}}_{{i}}" for g in fit.info["groupings"])
    tail = NOISES[fit.noise].term
    likelihood = symbol(rf"{link}L_i = {link}\hat L_i{effects} + {tail}", "likelihood")
    parts = [law_part, say(" Run {i} has the response {likelihood}, noise: {noise}.", i=symbol("i", "i"),
                           likelihood=likelihood, noise=text(noise.title))]  # fmt: skip
    for g in fit.info["groupings"]:
        known = {
            "u": symbol(rf"u^{{({_letters(g['column'])})}}", "u"),
            "levels": text(g["levels"]),
            "column": text(label_of(g["column"])),
            "tau": name_of(fit, f"tau_{g['column']}"),
        }
        told = " The effects {u} of the {levels} levels of {column} are normal with mean 0 and spread {tau}"
        if g.get("spread"):  # too few levels to learn it from
            number, _, unit = g["spread"].partition(" ")
            told += ", which is fixed at {fixed}"
            known["fixed"] = symbol(rf"{number}\,\sigma", g["spread"]) if unit else text(number)
        parts.append(say(told + ".", **known))
    return joined(parts)


def _pooling(fit: Fit) -> list[Written]:
    """Which parameters differ by the level of a column, and how their levels are held together."""
    law = fit.law
    if not isinstance(law, PooledLaw):
        return []
    levels = fit.levels[law.column]
    parts = [
        say(
            " Parameters differ by {column} ({levels}): their levels scatter normally about a common centre, with "
            "deviations that add up to zero, by a standard deviation",
            column=text(law.column),
            levels=text(", ".join(levels)),
        )
    ]
    drawn = fit.tree["posterior"].data_vars
    for k, (name, spread) in enumerate((law.spreads or {}).items()):
        scale = {"log": "of the log of ", "value": "of ", "prior": "in standard deviations of the prior of "}[spread.on]
        fixed = spread.fixed(len(levels), FEWEST_LEVELS)
        learnt = f"{name}_spread" in drawn
        how = _distribution(str(spread.prior)) if learnt else text(f"{fixed:g}")
        said = "; {scale}{name} {learnt} {how}" if k else ": {scale}{name} {learnt} {how}"
        pieces = {
            "scale": joined([text(scale.rstrip()), Written(" ", " ", " ", " ")]),
            "name": name_of(fit, name),
            "learnt": text("with the prior" if learnt else "fixed at"),
            "how": how,
        }
        parts.append(say(said, **pieces))
    rest = ". What else the law has is shared by all levels."
    return [*parts, text(rest)]


def _letters(column: str) -> str:
    plain = "".join(re.findall(r"[A-Za-z0-9]+", column))
    return rf"\mathrm{{{plain or 'g'}}}"


def _priors(fit: Fit) -> Written:
    parts: list[Written] = [text("Priors.")]
    for k, name in enumerate(fit.info["priors"]):
        parts.append(Written(", " if k else " ", ", " if k else " ", ", " if k else " ", ", " if k else " "))
        parts.append(joined([name_of(fit, name), _IS_DRAWN_FROM, _distribution(prior_of(fit, name))]))
    at = ", ".join(f"{k} = {float(v):.4g}" for k, v in fit.references.items() if v.ndim == 0)
    tail = ". Amplitudes have their prior on what they contribute at the geometric middle of the design" if at else ""
    parts.append(say("{t}; no prior uses the losses.", t=text(tail + (f" ({at})" if at else ""))))
    options = fit.info["options"]
    if options["fix"] or options["tie"] or options["priors"]:
        told = [f"{k} fixed at {v}" for k, v in options["fix"].items()]
        told += [f"{a} tied to {b}" for a, b in options["tie"]]
        told += [f"the prior of {k} was given" for k in options["priors"]]
        parts.append(say(" By choice: {told}.", told=text("; ".join(told))))
    return joined(parts)


def _distribution(prior: str) -> Written:
    match = _DISTRIBUTION.match(prior)
    if match is None:
        return text(prior)
    return symbol(rf"{match[1] or ''}\mathrm{{{match[2]}}}({match[3]})", prior)


def _computation(fit: Fit, document: Document, entries: Sequence[Entry]) -> Written:
    settings, attempts = fit.info["settings"], fit.info.get("attempts") or [{}]
    last = attempts[-1]
    posterior = fit.tree["posterior"]
    worst = max((q["r_hat"] or 0 for q in document["parameters"].values()), default=float("nan"))
    bulk = min((q["ess_bulk"] or 0 for q in document["parameters"].values()), default=float("nan"))
    diverged = (
        int(np.asarray(fit.tree["sample_stats"]["diverging"]).sum()) if "sample_stats" in fit.tree.children else 0
    )
    versions = ", ".join(f"{k} {v}" for k, v in fit.info["versions"].items())
    return say(
        "Computation. The posterior was sampled with {sampler}{nuts} in NumPyro{numpyro}: {chains} chains of {draws} "
        "draws after {warmup} of warm-up, target acceptance {target}, seed {seed}, double precision, {attempts}. The "
        "largest rank-normalised {rhat}{cited} is {worst}, the smallest bulk effective sample size {bulk}, with "
        "{diverged} divergent transitions. Versions: {versions}.",
        sampler=text(fit.info["sampler"].upper()),
        nuts=cite(entries, NUTS),
        numpyro=cite(entries, NUMPYRO),
        chains=text(posterior.sizes["chain"]),
        draws=text(posterior.sizes["draw"]),
        warmup=text(last.get("warmup", settings["warmup"])),
        target=text(last.get("target_accept", "default")),
        seed=text(fit.info["seed"]),
        attempts=text("one attempt" if len(attempts) == 1 else f"{len(attempts)} attempts"),
        rhat=symbol(r"\hat R", "R-hat"),
        cited=cite(entries, R_HAT),
        worst=text(f"{worst:.4f}"),
        bulk=text(f"{bulk:.0f}"),
        diverged=text(diverged),
        versions=text(versions),
    )


def _intervals(fit: Fit, document: Document) -> Written:
    kind, prob = fit.interval_kind(), percent(fit.prob)
    said = f"Intervals. Intervals are equal-tailed and hold {prob}. The verdict of all checks is "
    said += f"{document['verdict']['status']}."
    if document["headline_source"] == "none":
        said += " No number is headlined: the checks do not back one."
    elif kind == "adjusted":
        said += (
            " Those printed are adjusted, not credible, because the posterior's own were not to be relied on: "
            f"{widened_by(fit.info['widening'])}."
        )
    else:
        said += " They are credible intervals of the posterior."
    said += (
        " Alarm levels of the examination come from tables simulated from the fit at the table's own design, so that a "
        "law that holds raises any of them one time in twenty."
    )
    return text(said)


def _conditions(fit: Fit) -> Written:
    groups = ", ".join(label_of(g) for g in fit.group)
    said = (
        f"Conditional on. Every interval is conditional on the law, on {fit.noise} noise, on "
        + (f"effects of {groups}" if groups else "rows that err independently")
        + ", on the inputs as recorded, and for allocations on compute counted as C = 6ND. It does not see an error "
        "that all runs share, nor a law that bends beyond the runs."
    )
    return text(said)


def checklist_source(entries: Sequence[Entry]) -> Written:
    """Where the checklist comes from."""
    return say("Checklist after{cited}, in our own words.", cited=cite(entries, MISFITTING))
