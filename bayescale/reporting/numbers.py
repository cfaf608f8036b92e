"""The numbers of a report: the document of the fit, and under `report` everything else that is printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bayescale.allocation import allocate, require_optimum
from bayescale.auditing import stability
from bayescale.design import multiplier
from bayescale.errors import BayescaleError, NotFittedFor
from bayescale.law import PooledLaw
from bayescale.posterior import Fit, convergence, finite, flattened
from bayescale.reporting.approaches import approaches_of
from bayescale.reporting.evaluation import evaluate
from bayescale.reporting.held_out import held_out_runs
from bayescale.reporting.sizes import optimal_tokens
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, compute_of
from bayescale.tables import fit_document

REPORT_SCHEMA = "bayescale.report/1"
#: Rounding the printed parameters may move an answer by at most this share of its standard deviation.
_ROUNDING = 0.1
_MOST_BUDGETS, _MOST_SIZES = 10, 10
#: Where parameters differ by level, tables hold about so many rows, and at least so many a level.
_MOST_ROWS, _FEWEST_ROWS = 30, 4
#: More pairs of recipes than this are not tabulated: `bayescale multiplier` answers for one.
_MOST_PAIRS = 15


def kit_document(
    fit: Fit,
    *,
    hold_out: bool = True,
    bootstrap: int = 200,
    seed: int = 0,
    told: Callable[[str], None] = lambda doing: None,
) -> dict[str, Any]:
    """The document of a fit with the key `report`: every number that tables and text of a kit print.

    `left_out` says of every part that is missing why it is. Where parameters differ by the level of a column (a fit
    with `pool`), budgets, sizes and approaches have one entry a level, which they name under `levels`.
    """
    told("allocations")
    document = fit_document(fit)
    left_out: dict[str, str] = {}
    made: dict[str, Any] = {"schema": REPORT_SCHEMA, "mcse": _errors(fit)}
    headlined = fit.headline_source != "none"

    def part(name: str, compute: Callable[[], Any], *, headline: bool = True) -> None:
        made[name] = None
        if headline and not headlined:
            left_out[name] = "no number of this fit may be headlined"
            return
        try:
            made[name] = compute()
        except BayescaleError as error:
            left_out[name] = error.message

    part("budgets", lambda: _budgets(fit, document))
    part("sizes", lambda: _sizes(fit))
    part("medians", lambda: _medians(fit, document))
    if fit.levels:
        part("multiplier", lambda: _multipliers(fit))
    part("stability", lambda: _stability(fit), headline=False)
    told("approaches 1, 2 and 3")
    part("approaches", lambda: approaches_of(fit, bootstrap=bootstrap, seed=seed, left_out=left_out))
    if hold_out:
        told("refit without the largest runs")
        part("held_out", lambda: held_out_runs(fit))
    else:
        made["held_out"], left_out["held_out"] = None, "not asked for"
    return {**document, "report": {**made, "left_out": left_out}}


def _ends(prob: float) -> tuple[tuple[str, float], ...]:
    return (("median", 0.5), ("lower", (1 - prob) / 2), ("upper", (1 + prob) / 2))


def summarised(draws: np.ndarray, prob: float) -> dict[str, Any]:
    """Median and interval of draws (chain, draw) with the Monte Carlo error of each."""
    return {
        **{name: finite(float(np.quantile(draws, p))) for name, p in _ends(prob)},
        "mcse": {name: _error(draws, p) for name, p in _ends(prob)},
    }


def _error(draws: np.ndarray, prob: float) -> float | None:
    if draws.shape[-1] < 8 or not np.isfinite(draws).all() or np.ptp(draws) == 0:
        return None
    return finite(float(convergence.mcse_quantile(draws[None], prob)[0]))


def _errors(fit: Fit) -> dict[str, dict[str, float | None]]:
    """Monte Carlo errors of the median and of both ends of every parameter and derived quantity."""
    return {
        name: {end: _error(x, p) for end, p in _ends(fit.prob)}
        for name, x in flattened(fit.tree["headline"].to_dataset())
    }


def sides_of(fit: Fit) -> list[tuple[dict[str, str], Fit]]:
    """The fit, or the fit of every level whose parameters differ, with the level named."""
    sides = [({column: level}, fit.at(**{column: level})) for column, levels in fit.levels.items() for level in levels]
    return sides or [({}, fit)]


def _most(usual: int, levels: int) -> int:
    """How many rows a level has in a table that holds all levels."""
    return usual if levels == 1 else min(usual, max(_FEWEST_ROWS, _MOST_ROWS // levels))


def _budgets(fit: Fit, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The allocation at the fit's own budgets and at powers of ten from the smallest run on, of every level."""
    require_optimum(fit.law, {})
    sides = sides_of(fit)
    asked = [e["flops"] for e in document["allocation"] if e["params"]["median"] is not None]
    C = compute_of(fit.runs)
    if C is None:
        raise NotFittedFor("the table has no compute")
    first, last = np.ceil(np.log10(C.min()) - 1e-9), np.floor(np.log10(max([*asked, 10 * C.max()])) + 1e-9)
    powers = [float(f"1e{k}") for k in range(int(first), int(last) + 1)][-_most(_MOST_BUDGETS, len(sides)) :]
    flops = sorted({*asked, *(p for p in powers if not np.isclose(p, asked, rtol=1e-9).any())})
    entries = []
    for levels, side in sides:
        made = allocate(side, flops, far_ok=True)
        for k, entry in enumerate(made.to_json()):
            for name in ("params", "tokens", "tokens_per_param", "loss"):
                draws = np.asarray(made.dataset[name])[k]
                entry[name] = {**entry[name], "mcse": {end: _error(draws, p) for end, p in _ends(fit.prob)}}
            point = evaluate(document, C=entry["flops"], law=fit.law, levels=levels or None)
            entry["at_medians"] = {
                "params": point.params,
                "tokens": point.tokens,
                "tokens_per_param": point.tokens_per_param,
                "loss": point.best_loss,
            }
            entries.append({"levels": levels, **entry} if levels else entry)
    return entries


def _sizes(fit: Fit) -> list[dict[str, Any]]:
    """For round model sizes around the frontier, the compute and data for which each is optimal, of every level."""
    require_optimum(fit.law, {})
    sides, entries = sides_of(fit), []
    for levels, side in sides:
        C = compute_of(side.runs)
        if C is None:
            raise NotFittedFor("the table has no compute")
        ends = allocate(side, [C.min(), 100 * C.max()], far_ok=True).interval("params")[0]
        sizes = round_numbers(*ends, most=_most(_MOST_SIZES, len(sides)))
        tokens = optimal_tokens(side, sizes) if sizes else ()
        for N, D in zip(sizes, tokens, strict=True):
            if not np.isfinite(D).all():
                continue
            entry = {
                "params": N,
                "flops": summarised(FLOPS_PER_PARAM_TOKEN * N * D, fit.prob),
                "tokens": summarised(D, fit.prob),
                "tokens_per_param": summarised(D / N, fit.prob),
                "extrapolation_ratio": float(np.median(FLOPS_PER_PARAM_TOKEN * N * D) / C.max()),
            }
            entries.append({"levels": levels, **entry} if levels else entry)
    return entries


def _multipliers(fit: Fit) -> dict[str, Any]:
    """The compute multiplier of every pair of recipes, with the Monte Carlo errors of its ends."""
    ((column, levels),) = fit.levels.items()
    if not isinstance(fit.law, PooledLaw):
        raise NotFittedFor(f"the law compares levels of {column}, which are no recipes of one loss")
    if (pairs := len(levels) * (len(levels) - 1) // 2) > _MOST_PAIRS:
        raise NotFittedFor(f"{pairs} pairs of {column}: `bayescale multiplier --between X,Y` answers for one")
    made = multiplier(fit)
    found = made.to_json()
    draws = np.asarray(made.dataset["multiplier"])
    for k, pair in enumerate(found["pairs"]):
        for j, entry in enumerate(pair["multiplier"]):
            entry["mcse"] = {end: _error(draws[k, j], p) for end, p in _ends(fit.prob)}
    return {**found, "column": column}


def round_numbers(low: float, high: float, most: int = _MOST_SIZES) -> list[float]:
    """Round numbers between two: 1, 2, 5 times powers of ten, or 1, 3, or 1 where they would be too many."""
    for steps in ((1, 2, 5), (1, 3), (1,)):
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        found = [float(f"{p * s:.3g}") for p in powers for s in steps if low <= p * s <= high]
        if len(found) <= most:
            break
    return found


def _medians(fit: Fit, document: dict[str, Any]) -> dict[str, Any]:
    """The medians of the law's parameters, and how many digits of them give the same answers."""
    names = [n for p in fit.law.parameters for n in document["parameters"] if n.partition("[")[0] == p.name]
    values = {n: document["parameters"][n]["median"] for n in names}
    return {"values": values, "digits": _digits_needed(fit, document, names)}


def _digits_needed(fit: Fit, document: dict[str, Any], names: Sequence[str]) -> int:
    """The fewest significant digits whose rounding moves loss and N_opt by less than a tenth of their sd."""
    flops = [e["flops"] for e in document["allocation"] if e["params"]["median"] is not None]
    if not flops:
        return 6
    needed = 3
    for levels, side in sides_of(fit):
        made = allocate(side, flops, far_ok=True)
        spreads = [
            (
                float(np.std(np.log(np.asarray(made.dataset["params"])[k]))),
                float(np.std(np.asarray(made.dataset["loss"])[k])),
            )
            for k in range(len(flops))
        ]

        def at(printed: dict[str, Any], levels: dict[str, str] = levels) -> list[tuple[float, float]]:
            found = [evaluate(printed, C=C, law=fit.law, levels=levels or None) for C in flops]
            return [(float(np.log(e.params or 1)), e.best_loss or 0.0) for e in found]

        exact = at(document)
        while needed < 12:
            short = {
                n: {**document["parameters"][n], "median": _significant(document["parameters"][n]["median"], needed)}
                for n in names
            }
            rounded = at({**document, "parameters": {**document["parameters"], **short}})
            if all(
                abs(u - v) < _ROUNDING * s and abs(x - y) < _ROUNDING * t
                for (u, x), (v, y), (s, t) in zip(rounded, exact, spreads, strict=True)
            ):
                break
            needed += 1
    return needed


def _significant(x: float, digits: int) -> float:
    return float(f"{x:.{digits - 1}e}")


def _stability(fit: Fit) -> list[dict[str, Any]]:
    """The first derived quantity (else every parameter), and what a check found to differ, by window of compute."""
    made, named = stability(fit), unstable_quantity(fit)
    if named is not None and named not in made.quantities:
        made = stability(fit, [*made.quantities, named])
    return [
        {k: (v if isinstance(v, str) else int(v) if k == "runs" else finite(v)) for k, v in record.items()}
        for record in made.to_json()
    ]


def unstable_quantity(fit: Fit) -> str | None:
    """The quantity that the halves of the table by compute do not agree on, where that check failed."""
    failed = next((f for f in fit.audit if f.code == "law-unstable-in-compute" and f.status == "fail"), None)
    if failed is None or failed.value is None:
        return None
    known = (fit.info.get("windows") or {}).get("quantities", {})
    free = fit.draws("posterior")
    return next((n for n, q in known.items() if n in free and np.isclose(abs(q["z"]), failed.value, rtol=1e-9)), None)
