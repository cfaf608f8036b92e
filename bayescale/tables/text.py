"""What a person reads in a terminal: short lines first, tables behind `--details`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayescale.allocation import FAR, Allocation, allocate_levels, answered, largest_compute
from bayescale.auditing import Audit, Specifications, Stability
from bayescale.errors import Finding
from bayescale.forecasting import KINDS, Forecast
from bayescale.law import LOSS_UNITS, Law, PooledLaw, argument_names
from bayescale.narrowness.clusters import ROW, label_of
from bayescale.posterior import Fit
from bayescale.runs import short
from bayescale.tables.document import beyond_reach
from bayescale.verdicts import widened_by


def interval(median: float, lower: float, upper: float, digits: int = 2) -> str:
    """`2.9M (2.1M to 4.1M)`."""
    return f"{short(median, digits)} ({short(lower, digits)} to {short(upper, digits)})"


def decimals_for(error: float) -> int:
    """How many decimals a Monte Carlo error supports."""
    return int(np.clip(np.floor(-np.log10(error)), 0, 6)) if error > 0 else 3


def fit_lines(fit: Fit, allocation: Allocation | None, baseline: Finding | None = None) -> list[str]:
    """The short report: which rows, the verdict, exponents and allocation with intervals, what to do next."""
    groups = ", ".join(f"{g['column']} ({g['levels']})" for g in fit.info["groupings"])
    units = [(r.name, fit.info["loss_unit"] if r.unit in LOSS_UNITS else r.unit) for r in fit.law.responses]
    predicted = ", ".join(name if unit == "1" else f"{name} in {unit}" for name, unit in units)
    noise = f"{fit.noise} noise" if fit.law.likelihood is None else "exact likelihood"
    lines = [
        *str(fit.verdict).splitlines(),
        "",
        f"{fit.law.title} · {predicted}, {noise}, " + (f"group effects of {groups}" if groups else "no group effects"),
        "",
    ]
    if fit.headline_source == "none":
        lines.append("No number is headlined: the checks above do not back one. --details shows the model's own.")
        return lines
    quantities = fit.quantities()
    lines.append(f"{fit.prob:.0%} {fit.interval_kind()} intervals (equal-tailed)")
    shown_names = [(n, name) for name in headlined(fit) for n in quantities if n.partition("[")[0] == name]
    wide = max([6, *(len(n) for n, _ in shown_names)])
    for n, name in shown_names:
        q, d = quantities[n], fit.law.derived.get(name)
        digits = max(3, decimals_for(q.mcse_mean))
        meaning = d.meaning if d else fit.law.parameter(name).meaning
        shown = f"{q.median:.{digits}f} ({q.lower:.{digits}f} to {q.upper:.{digits}f})"
        lines.append(f"  {n:{wide}} {shown:28} {meaning}")
    if allocation is not None:
        lines += ["", *allocation_lines(allocation), *level_lines(fit, allocation)]
    if far := beyond_reach(fit):
        lines += ["", *_left_out(fit, far)]
    if baseline is not None:
        lines += ["", f"Cross-check: {baseline.message}."]
    return lines


def _left_out(fit: Fit, budgets: Sequence[float]) -> list[str]:
    """Which budgets were left out, why, and how to ask all the same."""
    largest = largest_compute(fit.runs)
    told = [f"note: {C:.3g} FLOP is {C / largest:.3g} times the largest run: left out" for C in budgets]
    asked = " ".join(f"--flops {C:.3g}" for C in budgets)
    return [
        *told,
        "  nothing in the table bears on it; "
        f"`bayescale allocate DIR {asked} --far-ok` answers from the law's form alone",
    ]


def headlined(fit: Fit) -> list[str]:
    """The derived exponents where the law has them, else its parameters."""
    known = fit.tree["headline"].data_vars
    names = [n for n in ("a",) if n in fit.law.derived and n in known]
    if names:
        return [*names, *(p.name for p in fit.law.parameters if p.name == fit.law.floor)]
    pooled = isinstance(fit.law, PooledLaw)
    return [p.name for p in fit.law.parameters if p.name in known and not p.dims and (pooled or not p.over)]


def allocation_lines(allocation: Allocation) -> list[str]:
    """One line a budget: what to train, on how much, how sure, and what else would do as well."""
    if allocation.choices or "loss" not in allocation.dataset:
        return choice_lines(allocation)
    lines = [f"Compute-optimal allocation ({allocation.cost})"]
    for entry in allocation.to_json():
        n, d, t, loss, near = (entry[k] for k in ("params", "tokens", "tokens_per_param", "loss", "near_optimal"))
        ratio = entry["extrapolation_ratio"]
        far = f"  {ratio:.3g}× the largest run" + (": mostly the law's form" if ratio > FAR else "")
        lines += [
            f"  {entry['flops']:.3g} FLOP{far}",
            f"    parameters  {interval(n['median'], n['lower'], n['upper'])}; "
            f"within 0.1 % of the best loss: {short(near['lower'])} to {short(near['upper'])}",
            f"    tokens      {interval(d['median'], d['lower'], d['upper'])}, "
            f"{interval(t['median'], t['lower'], t['upper'])} a parameter",
            f"    loss        {loss['median']:.3f} ({loss['lower']:.3f} to {loss['upper']:.3f}) {allocation.loss_unit}",
        ]
    return [*lines, *(f"  note: {note}" for note in allocation.notes)]


def choice_lines(allocation: Allocation) -> list[str]:
    """What a law's users choose, budget by budget: how sure, what else would do, and whether the runs reach there."""
    spent = np.isfinite(allocation.flops).all()
    lines = [f"Best choice ({allocation.cost})" if spent else "Best choice"]
    units = {"params": "parameters", "tokens": "tokens", "tokens_per_param": "tokens/parameter"}
    for entry in allocation.to_json():
        rows = [[f"    {n}", interval(**entry[n]), u] for n, u in units.items() if entry[n]]
        if (size := entry.get("params_taken")) is not None and rows:
            rows[0][-1] += f"; take {short(size)}"
        for name, c in (entry.get("choices") or {}).items():
            told = [] if c["unit"] == "1" else [c["unit"]]
            if c["taken"] is not None:
                told.append(f"take {short(c['taken'])}")
            if near := c["near_optimal"]:
                told.append(f"within 0.1 % of the best loss: {short(near['lower'])} to {short(near['upper'])}")
            if c["inside_data"] is not None and c["inside_data"] < 1:
                told.append(f"{c['inside_data']:.0%} of the draws within the runs")
            rows.append([f"    {name}", interval(c["median"], c["lower"], c["upper"]), "; ".join(told)])
        if loss := entry["loss"]:
            said = f"{loss['median']:.3f} ({loss['lower']:.3f} to {loss['upper']:.3f})"
            rows.append(["    loss", said, allocation.loss_unit])
        if lost := entry.get("regret"):
            said = f"{lost['median']:.2%} ({lost['lower']:.2%} to {lost['upper']:.2%})"
            rows.append(["    regret", said, "of the loss, by taking what has the least mean loss"])
        if spent:
            lines.append(f"  {entry['flops']:.3g} FLOP  {entry['extrapolation_ratio']:.3g}× the largest run")
        lines += aligned(rows)
    return [*lines, *(f"  note: {note}" for note in allocation.notes)]


def level_lines(fit: Fit, allocation: Allocation) -> list[str]:
    """What every level whose parameters differ would train, one line a level and budget."""
    made = allocate_levels(fit, allocation.flops.tolist(), far_ok=True)  # the budgets were asked of all runs
    if not made:
        return []
    rows = [
        [
            f"  {level}",
            f"{entry['flops']:.3g} FLOP",
            f"parameters {interval(**entry['params'])}",
            f"tokens {interval(**entry['tokens'])}",
            f"loss {entry['loss']['median']:.3f} ({entry['loss']['lower']:.3f} to {entry['loss']['upper']:.3f})",
        ]
        for level, a in made.items()
        for entry in a.to_json()
    ]
    return [f"By {next(iter(fit.levels))}", *aligned(rows)]


def summary_lines(fit: Fit) -> list[str]:
    """Every reported quantity with its Monte Carlo quality, aligned."""
    frame = fit.summary()
    head = ["", "median", f"{fit.prob:.0%} interval", "mean", "sd", "MCSE", "bulk", "tail", "R-hat"]
    rows = [
        [
            str(name),
            f"{r['median']:.4g}",
            f"{r['lower']:.4g} to {r['upper']:.4g}",
            f"{r['mean']:.4g}",
            f"{r['sd']:.2g}",
            f"{r['mcse_mean']:.1g}",
            f"{r['ess_bulk']:.0f}",
            f"{r['ess_tail']:.0f}",
            f"{r['r_hat']:.4f}",
        ]
        for name, r in frame.iterrows()
    ]
    return aligned([head, *rows])


def adjusted_lines(fit: Fit) -> list[str]:
    """What is headlined of an adjusted fit, beside the posterior's own intervals."""
    made = fit.quantities()
    rows = [
        [
            f"  {name}",
            f"{q.median:.4g}",
            f"{q.lower:.4g} to {q.upper:.4g}",
            f"posterior {q.model_lower:.4g} to {q.model_upper:.4g}",
        ]
        for name, q in ((n, made[n]) for n in headlined(fit) if n in made)
    ]
    return [f"{fit.prob:.0%} intervals, {fit.interval_kind()}: {widened_by(fit.info['widening'])}", *aligned(rows)]


def findings_lines(findings: Sequence[Finding]) -> list[str]:
    """One line a finding: status, name, sentence."""
    return aligned([[f.status, f.name, f.message] for f in findings])


def audit_lines(found: Audit, windows: Stability | None) -> list[str]:
    """The findings, then each quantity by window of compute and without each group of runs."""
    lines = str(found.verdict).splitlines() if found.verdict else [f"{found.status.upper()} {found.source}"]
    lines += ["", *findings_lines(found.findings)]
    if windows is not None:
        for name, part in windows.frame().groupby("quantity", sort=False):
            lines += ["", f"{name} from part of the runs (mode ± sd, given noise and group effects)"]
            rows = part.to_dict("records")
            digits = 1 + decimals_for(min(r["sd"] for r in rows))
            said = [f"{r['value']:.{digits}f} ± {r['sd']:.{digits}f}" for r in rows]
            lines += aligned(
                [
                    [f"  {r['window']}", f"{r['flops']:.2g} FLOP", f"{r['runs']} runs", told]
                    for r, told in zip(rows, said, strict=True)
                ]
            )
    lines.append("")
    grouped: dict[tuple[str, str], list[dict]] = {}
    for r in found.left_out.to_dict("records"):
        if r["grouping"] != "row":
            grouped.setdefault((r["quantity"], r["grouping"]), []).append(r)
    for (name, grouping), moves in grouped.items():
        most = sorted(moves, key=lambda r: -abs(r["sds"]))[:3]
        told = "; ".join(f"{r['cluster']} {r['sds']:+.1f}" for r in most)
        lines.append(f"{name} without one {label_of(grouping)}, in posterior sds: {told}")
    lines += [line for name in dict.fromkeys(found.left_out["quantity"]) for line in _rows_lines(found, name)]
    return lines + (specification_lines(found.specifications) if found.specifications else [])


def _rows_lines(found: Audit, name: str) -> list[str]:
    """The rows that move a quantity most, and what it is without the runs of highest loss."""
    rows = [r for r in found.left_out.to_dict("records") if r["grouping"] == ROW and r["quantity"] == name]
    most = sorted(rows, key=lambda r: -abs(r["sds"]))[:5]
    told = "; ".join(f"row {r['cluster']} {r['sds']:+.1f}" for r in most)
    lines = [f"{name} without one row, in posterior sds: {told}"]
    dropped = found.dropped.query("quantity == @name")
    for direction, part in dropped.groupby("direction", sort=False):
        picked = [r for r in part.to_dict("records") if r["k"] in (1, 2, 3, 5, 10, 20)]
        steps = ", ".join(f"{r['k']}: {r['value']:.3f}" for r in picked)
        lines.append(f"{name} without the k rows that move it {direction} most: {steps}")
    if found.highest is not None and len(part := found.highest.query("quantity == @name")):
        steps = ", ".join(f"{r['k']}: {r['value']:.3f}" for r in part.to_dict("records"))
        lines.append(f"{name} without the k runs of highest loss (mode): {steps}")
    return lines


def specification_lines(made: Specifications) -> list[str]:
    """Every model's answer, the fit's own marked, with how far its predictions are behind the best's."""
    lines = []
    for name, part in made.frame().groupby("quantity", sort=False):
        rows = []
        for r in part.to_dict("records"):
            behind = "best" if r["behind"] == 0 else f"{r['behind']:.1f} ± {r['error']:.1f} nats behind"
            doubt = "" if r["certified"] else ", not certified"
            told = f"{r['median']:.3f} ({r['lower']:.3f} to {r['upper']:.3f})"
            mark = "*" if r["fitted"] else " "
            rows.append([f"{mark} {r['noise']}", r["group"], told, behind + doubt])
        lines += ["", f"{name} under other models of the same runs (* this fit), with their predictions compared"]
        lines += aligned(rows)
    return lines


def law_lines(law: Law) -> list[str]:
    """A law for the terminal: equation, inputs, parameters with priors, what it gives, what it cannot."""
    lines = [f"{law.spec}: {law.title}", f"  {law.equation}", "", "Inputs"]
    lines += aligned([["  " + i.name, i.unit, i.meaning, f"column {i.column}"] for i in law.inputs])
    lines += ["", "Predicts"]
    lines += aligned([["  " + r.name, r.unit, r.meaning, f"column {r.source}"] for r in law.responses])
    lines += ["", "Parameters and priors"]
    rows = []
    for p in (*law.parameters, *law.sampled):
        at = "".join(f" at {axis} = {axis}0" for axis in (p.at or {}))
        prior = f"{p.prior.described}{f', of its contribution{at}' if at else ''}" if p.prior else "computed"
        unit = {"response": law.responses[0].unit, "1/response": f"1/({law.responses[0].unit})"}.get(p.unit, p.unit)
        rows.append(["  " + p.name, p.meaning, unit, prior])
    lines += aligned(rows)
    if law.derived:
        lines += ["", "Derived", *aligned([["  " + n, d.meaning] for n, d in law.derived.items()])]
    sections = (
        ("Decides", law.decisions),
        ("`allocate` answers", (found[1],) if (found := answered(law))[0] else ()),
        ("Nested with", law.relations),
        ("Not identified", law.unidentified),
        ("Not checked against its source", (law.unverified,) if law.unverified else ()),
        ("Example", law_example(law)),
    )
    for title, items in sections:
        if items:
            lines += ["", title, *(f"  {i}" for i in items)]
    lines += ["", f"Valid for: {law.validity}", "Source: " + "; ".join(map(str, law.references))]
    return lines


def law_example(law: Law) -> tuple[str, ...]:
    """Python that evaluates a law's first check of a formula, and what it prints; nothing for a law without one."""
    formulas = law.formulas()
    for check in law.checks:
        name = law.responses[0].name if check.of == "mean" else check.of
        if name not in formulas:
            continue
        names = argument_names(formulas[name])
        given = ", ".join(f"{k}={_python(v)}" for k, v in check.at.items() if k in names)
        formula = "mean" if len(formulas) == 1 else f'formulas()["{name}"]'
        needs = ["import numpy as np"] if "np." in given else []
        return (
            *needs,
            "import bayescale as bs",
            f'y = bs.find_law("{law.spec}").{formula}({given})',
            f'print(f"{{float(y):.6g}}")  # {check.value:.6g}: {check.meaning}',
        )
    return ()


def _python(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"np.array([{', '.join(_python(v) for v in value)}])"
    text = f"{value:.10g}" if isinstance(value, float) else repr(value)
    # A whole number beyond 32 bits must not reach JAX as an integer.
    return f"{text}.0" if text.lstrip("-").isdigit() and abs(value) >= 2**31 else text


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as columns of equal width, the last one ragged."""
    if not rows:
        return []
    widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]) - 1)]
    return ["  ".join([*(c.ljust(w) for c, w in zip(r, widths, strict=False)), r[-1]]).rstrip() for r in rows]


def forecast_lines(made: Forecast) -> list[str]:
    """One block a point: the law's curve, and what one run would reach; then what is to be noted."""
    lines = [f"{made.law} · {made.prob:.0%} {made.kind} intervals · {made.unit}"]
    for entry in made.to_json():
        at = ", ".join(f"{k} = {v:.3g}" if k == "C" else f"{k} = {short(v, 3)}" for k, v in entry["inputs"].items())
        lines.append(f"  {at} ({entry['extrapolation_ratio']:.3g}× the largest run)")
        lines += aligned(
            [
                [f"    {kind}", f"{e['median']:.3f} ({e['lower']:.3f} to {e['upper']:.3f})", KINDS[kind]]
                for kind in KINDS
                if (e := entry.get(kind)) is not None
            ]
        )
    return [*lines, *(f"  note: {n}" for n in made.notes if n.partition(":")[0] not in KINDS)]
