"""The tables of a report, made from its document alone: what is printed is what the document says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bayescale.narrowness.clusters import label_of
from bayescale.plots.style import percent
from bayescale.posterior import Fit
from bayescale.reporting.cells import Cell, Column, Table, Written, heading, interval, number, power, say, symbol, text
from bayescale.reporting.columns import (
    BEYOND_NOTE,
    DIGITS_NOTE,
    beyond,
    kind_of,
    level_column,
    level_of,
    levels_note,
)
from bayescale.reporting.recipes import crossings, multipliers
from bayescale.tables.symbols import named, prior_of

Document = Mapping[str, Any]
#: Tables in print hold at most so many runs; the document holds all.
_MOST_RUNS = 30


def tables_of(fit: Fit, document: Document) -> list[Table]:
    """Every table that the document has the numbers for, in the order of the report."""
    report = document["report"]
    made: list[Table] = []
    if document["headline_source"] != "none":
        made += [coefficients(fit, document), medians(fit, document)]
    if report["budgets"]:
        made += [budgets(fit, report["budgets"]), near_optimal(fit, report["budgets"])]
    if report.get("multiplier"):
        made += [multipliers(fit, report["multiplier"]), crossings(report["multiplier"])]
    if report["sizes"]:
        made.append(sizes(fit, report["sizes"]))
    if report["approaches"]:
        made.append(approaches(fit, report))
    if report["stability"]:
        made.append(stability_table(fit, report["stability"]))
    if report["held_out"]:
        made.append(held_out(fit, report["held_out"]))
    return [*made, priors(fit), checks(document)]


def name_of(fit: Fit, name: str) -> Written:
    """A quantity's symbol, or its name where it has none."""
    about = named(fit, name)
    if not about.symbol:
        return text(name)
    made = symbol(about.symbol, name)
    return say("{s}{e}", s=made, e=text(f" [{about.element}]")) if about.element else made


def coefficients(fit: Fit, document: Document) -> Table:
    """Every parameter and derived quantity with its interval and what it rests on."""
    quantities = {**document["derived"], **document["parameters"]}
    errors = document["report"]["mcse"]
    rows: list[tuple[Cell, ...]] = []
    for name in _ordered(fit, quantities):
        q, about = quantities[name], named(fit, name)
        rows.append(
            (
                name_of(fit, name),
                text(about.meaning + (f" ({about.unit})" if about.unit else "")),
                interval({**q, "mcse": errors.get(name)}),
                number(q["sd"], digits=2),
                _share(q["prior_share"]),
                number(q["ess_bulk"], digits=_whole(q["ess_bulk"])),
                number(q["r_hat"], 1e-4),
            )
        )
    notes = [f"Median with its equal-tailed {kind_of(fit)} interval. {DIGITS_NOTE}"]
    notes.append(
        "prior: share of what is known about a number that comes from its prior; ESS: effective draws in the bulk."
    )
    if fit.interval_kind() == "adjusted":
        notes.append("Adjusted: wider than the posterior's own intervals, which the checks do not back.")
        notes.append("They are widened to what leaving out groups of runs shows.")
    return Table(
        "coefficients",
        say(
            "Coefficients of {law} ({groups}), with {kind} intervals.",
            law=symbol(fit.law.equation, fit.law.name),
            groups=text(f"{fit.noise} noise, {_groups_said(fit)}"),
            kind=text(kind_of(fit)),
        ),
        (
            Column("quantity", heading("")),
            Column("meaning", heading("meaning")),
            Column("value", heading(f"median ({kind_of(fit)})"), interval=True),
            Column("sd", heading("sd")),
            Column("prior_share", heading("prior")),
            Column("ess_bulk", heading("ESS")),
            Column("r_hat", symbol(r"\hat R", "r_hat")),
        ),
        tuple(rows),
        tuple(map(text, notes)),
    )


def _groups_said(fit: Fit) -> str:
    groups = ", ".join(f"{g['levels']} {label_of(g['column'])}s" for g in fit.info["groupings"])
    return f"effects of {groups}" if groups else "no group effects"


def _whole(x: float | None) -> int | None:
    return None if x is None else max(1, len(str(int(x))))


def _share(share: float | None) -> Written:
    if share is None:
        return text("–")
    made = text(f"{100 * share:.0f}%")
    return Written(made.latex, made.markdown, made.html, float(share))


def _ordered(fit: Fit, names: Mapping[str, Any]) -> list[str]:
    """Derived quantities first, then the law's parameters, then contributions, noise and spreads."""
    order = [*fit.law.derived, *(p.name for p in fit.law.parameters), *(p.name for p in fit.law.coordinates())]
    place = {n: k for k, n in enumerate(dict.fromkeys(order))}
    return sorted(names, key=lambda n: place.get(n.partition("[")[0], len(place)))


def medians(fit: Fit, document: Document) -> Table:
    """The medians of the law's parameters, with the digits that computing with them takes."""
    found = document["report"]["medians"]
    rows = tuple((name_of(fit, n), number(v, digits=found["digits"])) for n, v in found["values"].items())
    return Table(
        "medians",
        text("Medians of the parameters, for computing with the law."),
        (Column("parameter", heading("")), Column("median", heading("median"))),
        rows,
        (
            text(
                f"{found['digits']} digits: rounded further, N_opt or the loss would move by more than a tenth of its "
                "standard deviation. They are not digits that are known."
            ),
            text(f"bayescale.evaluate('fit.json', {_called(fit)}) computes the loss and N_opt at these medians."),
        ),
    )


def _called(fit: Fit) -> str:
    """How a document is evaluated."""
    return "N=…, D=…" + "".join(f", levels={{{column!r}: …}}" for column in fit.levels)


def budgets(fit: Fit, entries: Sequence[Mapping[str, Any]]) -> Table:
    """N_opt, D_opt, D/N and the loss at every budget."""
    rows = tuple(
        (
            *level_of(e),
            power(e["flops"]),
            beyond(e["extrapolation_ratio"]),
            interval(e["params"], count=True),
            interval(e["tokens"], count=True),
            interval(e["tokens_per_param"]),
            interval(e["loss"]),
        )
        for e in entries
    )
    return Table(
        "budgets",
        text(f"Compute-optimal allocation by budget (C = 6ND): medians with {kind_of(fit)} intervals."),
        (
            *level_column(fit),
            Column("flops", heading("C", "FLOP")),
            Column("extrapolation_ratio", heading("× largest run")),
            Column("params", symbol(r"N_\mathrm{opt}", "params"), interval=True),
            Column("tokens", symbol(r"D_\mathrm{opt}", "tokens"), interval=True),
            Column("tokens_per_param", symbol("D/N", "tokens_per_param"), interval=True),
            Column("loss", heading("loss", fit.info["loss_unit"]), interval=True),
        ),
        rows,
        tuple(map(text, (*levels_note(fit), BEYOND_NOTE, DIGITS_NOTE))),
    )


def near_optimal(fit: Fit, entries: Sequence[Mapping[str, Any]]) -> Table:
    """The near-optimal set of sizes at every budget, and the law at the medians of its parameters."""
    digits = 4
    rows = tuple(
        (
            *level_of(e),
            power(e["flops"]),
            number(e["near_optimal"]["lower"], digits=2, count=True),
            number(e["near_optimal"]["upper"], digits=2, count=True),
            number(e["at_medians"]["params"], digits=digits, count=True),
            number(e["at_medians"]["tokens"], digits=digits, count=True),
            number(e["at_medians"]["loss"], digits=digits + 1),
        )
        for e in entries
    )
    return Table(
        "near_optimal",
        text("Model sizes within 0.1 % of the best loss at a budget, and the law at the medians of its parameters."),
        (
            *level_column(fit),
            Column("flops", heading("C", "FLOP")),
            Column("near_lower", heading("N from")),
            Column("near_upper", heading("N to")),
            Column("params_at_medians", heading("N_opt at medians")),
            Column("tokens_at_medians", heading("D_opt at medians")),
            Column("loss_at_medians", heading("loss at medians", fit.info["loss_unit"])),
        ),
        rows,
        (
            text(
                "The last three columns are what bayescale.evaluate computes from fit.json: the law at the medians of "
                "its parameters."
            ),
            text("The posterior's medians of N_opt and of the loss, in the table by budget, are other numbers."),
        ),
    )


def sizes(fit: Fit, entries: Sequence[Mapping[str, Any]]) -> Table:
    """The compute and data for which each model size is optimal."""
    rows = tuple(
        (
            *level_of(e),
            number(e["params"], digits=_round(e["params"]), count=True),
            beyond(e["extrapolation_ratio"]),
            interval(e["flops"]),
            interval(e["tokens"], count=True),
            interval(e["tokens_per_param"]),
        )
        for e in entries
    )
    return Table(
        "sizes",
        text(f"Compute and data for which a model size is the optimal one (C = 6ND), with {kind_of(fit)} intervals."),
        (
            *level_column(fit),
            Column("params", symbol("N", "params")),
            Column("extrapolation_ratio", heading("× largest run")),
            Column("flops", heading("C", "FLOP"), interval=True),
            Column("tokens", symbol("D", "tokens"), interval=True),
            Column("tokens_per_param", symbol("D/N", "tokens_per_param"), interval=True),
        ),
        rows,
        tuple(map(text, (*levels_note(fit), BEYOND_NOTE, DIGITS_NOTE))),
    )


def _round(x: float) -> int:
    """The digits of a round number."""
    return max(1, len(f"{x:.6e}".split("e")[0].rstrip("0").replace(".", "")))


def approaches(fit: Fit, report: Mapping[str, Any]) -> Table:
    """The exponent of N_opt by every approach."""
    entries = report["approaches"]
    rows = []
    for e in entries:
        digits = 3
        ends = {k: number(e[k], digits=digits) for k in ("value", "lower", "upper")}
        rows.append(
            (
                *((level_of(e) or (text("all"),)) if fit.levels else ()),
                text(e["approach"]),
                text(e["name"]),
                ends["value"],
                ends["lower"],
                ends["upper"],
                text(e["kind"]),
                number(e["runs"], digits=_whole(e["runs"])),
            )
        )
    missing: dict[str, list[str]] = {}
    for key, why in report["left_out"].items():
        if key.startswith("approach_"):
            missing.setdefault(why, []).extend(filter(None, [key.partition(" [")[2].removesuffix("]")]))
    notes = [f"Intervals hold {percent(fit.prob)}: those of resamples are bootstrap intervals, not credible ones."]
    notes += [f"Left out{' for ' + ', '.join(named) if named else ''}: {why}." for why, named in missing.items()]
    if any(e["approach"] == "1" for e in entries):
        notes.append(
            "Approach 1 takes a checkpoint for a run that ended there, whose loss is too high where the learning rate "
            "had not yet come down."
        )
        notes.append("The lowest of noisy curves is a lucky one.")
    if any(e["approach"] == "2" for e in entries):
        notes.append(
            "Approach 2 is a diagnostic: parabolas are biased where exponents of size and data differ or sizes are far "
            "apart."
        )
    return Table(
        "approaches",
        say("The exponent {a} of the optimal model size in compute, by approach.", a=symbol("a", "a")),
        (
            *level_column(fit),
            Column("approach", heading("approach")),
            Column("name", heading("what")),
            Column("a", symbol("a", "a")),
            Column("lower", heading("from")),
            Column("upper", heading("to")),
            Column("kind", heading("interval")),
            Column("runs", heading("runs")),
        ),
        tuple(rows),
        tuple(map(text, notes)),
    )


def stability_table(fit: Fit, records: Sequence[Mapping[str, Any]]) -> Table:
    """Answers from the runs up to a compute, and from a compute on."""
    rows = tuple(
        (
            name_of(fit, r["quantity"]),
            text(f"{r['window']} C"),
            power(r["flops"]),
            number(r["runs"], digits=_whole(r["runs"])),
            number(r["value"], r["sd"] / 10),
            number(r["sd"], digits=2),
        )
        for r in records
    )
    return Table(
        "stability",
        text("The answer by window of compute: mode and standard deviation, given noise and group effects."),
        (
            Column("quantity", heading("quantity")),
            Column("window", heading("runs")),
            Column("flops", heading("C", "FLOP")),
            Column("runs", heading("how many")),
            Column("value", heading("value")),
            Column("sd", heading("sd")),
        ),
        rows,
        (text("Where one law holds, windows agree within their errors; they share runs."),),
    )


def held_out(fit: Fit, found: Mapping[str, Any]) -> Table:
    """The forecasts of the largest runs from a fit without them."""
    shown = sorted(found["runs"], key=lambda r: r["flops"])[-_MOST_RUNS:]
    rows = tuple(
        (
            number(r["row"], digits=_whole(r["row"])),
            power(r["flops"]),
            number(r["observed"], digits=4),
            number(r["median"], digits=4),
            number(r["lower"], digits=4),
            number(r["upper"], digits=4),
            text("yes" if r["inside"] else "no"),
        )
        for r in shown
    )
    notes = [
        f"{found['inside']} of {found['count']} held-out runs lie inside their {percent(found['prob'])} "
        f"{found['kind']} interval of one run.",
        "Runs that share a size or a budget err together: this is no count of independent trials.",
    ]
    if found["draws"] == "posterior":
        notes.append("No number of the refit may be headlined: these are the model's own intervals.")
    if len(shown) < found["count"]:
        notes.append(f"The {len(shown)} largest are shown; fit.json holds all.")
    return Table(
        "held_out",
        text(
            f"The {found['count']} largest runs, forecast from the {found['kept']} others (up to {found['reach']:.3g} "
            "times their compute)."
        ),
        (
            Column("row", heading("row")),
            Column("flops", heading("C", "FLOP")),
            Column("observed", heading("observed", fit.info["loss_unit"])),
            Column("median", heading("forecast")),
            Column("lower", heading("from")),
            Column("upper", heading("to")),
            Column("inside", heading("inside")),
        ),
        rows,
        tuple(map(text, notes)),
    )


def priors(fit: Fit) -> Table:
    """Every prior that was used."""
    rows = tuple(
        (name_of(fit, name), text(named(fit, name).meaning), text(prior_of(fit, name))) for name in fit.info["priors"]
    )
    at = ", ".join(f"{k} = {float(v):.4g}" for k, v in fit.references.items() if v.ndim == 0)
    return Table(
        "priors",
        text("Priors" + (f", contributions judged at {at}" if at else "") + "."),
        (
            Column("parameter", heading("")),
            Column("meaning", heading("meaning")),
            Column("prior", heading("prior")),
        ),
        rows,
        (text("None of them has seen a loss. A spread of group effects is in units of the noise's scale (ratio)."),),
    )


def checks(document: Document) -> Table:
    """Every check with its outcome, the ones that did not pass first."""
    order = {"fail": 0, "warn": 1, "pass": 2}
    found = [
        (stage, f)
        for stage, key in (("before", "design"), ("sampler", "checks"), ("interval", "audit"))
        for f in document[key]
    ]
    rows = tuple(
        (text(f["status"]), text(stage), text(f["name"]), text(f["message"]))
        for stage, f in sorted(found, key=lambda pair: order[pair[1]["status"]])
    )
    return Table(
        "checks",
        text(f"What was checked: {document['verdict']['status']}."),
        (
            Column("status", heading("status")),
            Column("stage", heading("stage")),
            Column("check", heading("check")),
            Column("finding", heading("finding")),
        ),
        rows,
        wide=True,
    )
