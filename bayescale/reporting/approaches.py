"""The exponents by the ways that the field knows: minima of curves and of budgets, least squares, the posterior."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayescale.baseline import least_squares
from bayescale.errors import BayescaleError, NotFittedFor
from bayescale.model import isoflop_levels
from bayescale.posterior import Fit
from bayescale.reporting.envelope import envelope_minima
from bayescale.runs import Runs, compute_of

#: Runs belong to a budget when their compute is within this factor of the budget's median.
_NEAR = 1.1
_FEWEST_SIZES, _FEWEST_BUDGETS, _REPLICATES = 4, 3, 1000
#: An interval needs this share of replicates to have a minimum at enough budgets.
_FEWEST_KEPT = 0.9
#: The exponent that is compared.
_QUANTITY = "a"


def approaches_of(fit: Fit, *, bootstrap: int, seed: int, left_out: dict[str, str]) -> list[dict[str, Any]]:
    """The exponent a of N_opt in C by every approach that the table supports; `left_out` receives why others are not.

    Each entry has approach, name, quantity, value, lower, upper, prob, kind and how many runs (and budgets) it used.
    Where parameters differ by the level of a column, minima and least squares are of the runs of every level alone, and
    the entry names it under `levels`; a posterior that all levels share stands once.
    """
    if _QUANTITY not in fit.law.derived:
        left_out["approaches"] = f"the law {fit.law.name} has no exponent of N_opt in C of its own"
        return []
    entries: list[dict[str, Any]] = []
    shared = not fit.levels or _QUANTITY in fit.quantities()
    sides = [({c: level}, fit.at(**{c: level})) for c, levels in fit.levels.items() for level in levels]
    for levels, side in sides or [({}, fit)]:
        missing: dict[str, str] = {}
        found = _by_minima(side, bootstrap, seed, missing)
        if not shared:
            found.append(_posterior(side))
        named = "".join(f" [{level}]" for level in levels.values())
        left_out |= {f"{key}{named}": why for key, why in missing.items()}
        entries += [{"levels": levels, **e} if levels else e for e in found]
    if shared:
        entries.append(_posterior(fit))
    return [{"quantity": _QUANTITY, "prob": fit.prob, **e} for e in entries]


def _by_minima(fit: Fit, bootstrap: int, seed: int, left_out: dict[str, str]) -> list[dict[str, Any]]:
    """Approaches 1, 2, and 3 by least squares, of the runs of one law."""
    entries: list[dict[str, Any]] = []
    try:
        entries.append({**envelope_minima(fit.runs, fit, seed), "approach": "1"})
    except BayescaleError as error:
        left_out["approach_1"] = error.message
    try:
        entries.append({**isoflop_minima(fit.runs, fit, seed), "approach": "2"})
    except BayescaleError as error:
        left_out["approach_2"] = error.message
    options = fit.info["options"]
    try:
        point = least_squares(
            fit.law,
            fit.runs,
            starts=8,
            bootstrap=bootstrap,
            fix=options["fix"],
            tie=[(a, b) for a, b in options["tie"]],
            references=fit.references,
            prob=fit.prob,
            seed=seed,
        )
        draws = point.draws("posterior")[_QUANTITY]
        low, high = np.quantile(draws[1:], _ends(fit.prob)) if bootstrap else (np.nan, np.nan)
        entries.append(
            {
                "approach": "3",
                "name": f"least squares (Huber), {bootstrap} resamples of runs",
                "value": float(draws[0]),
                "lower": _finite(low),
                "upper": _finite(high),
                "kind": "bootstrap",
                "runs": len(point.runs),
                "budgets": None,
            }
        )
    except BayescaleError as error:
        left_out["approach_3_least_squares"] = error.message
    return entries


def _posterior(fit: Fit) -> dict[str, Any]:
    """Approach 3 as a posterior."""
    q = fit.quantities()[_QUANTITY]
    return {
        "approach": "3",
        "name": "posterior",
        "value": q.median,
        "lower": q.lower,
        "upper": q.upper,
        "kind": fit.interval_kind(),
        "runs": len(fit.runs),
        "budgets": None,
    }


def _ends(prob: float) -> list[float]:
    return [(1 - prob) / 2, (1 + prob) / 2]


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def isoflop_minima(runs: Runs, fit: Fit, seed: int = 0) -> dict[str, Any]:
    """Approach 2: a parabola of the loss in log N at every budget, and a line through the minima in log C.

    The interval is the percentile interval of resamples of the runs within their budgets. It is a diagnostic: parabolas
    are biased where the exponents of size and data differ or the sizes are far apart.

    Raises `NotFittedFor` where fewer than three budgets have four sizes and a minimum inside them.
    """
    groups = _budgets(runs)
    if len(groups) < _FEWEST_BUDGETS:
        raise NotFittedFor(
            f"approach 2 needs {_FEWEST_BUDGETS} budgets with {_FEWEST_SIZES} model sizes each; the table has "
            f"{len(groups)}"
        )
    C = compute_of(runs)
    assert C is not None
    logs = np.log(runs.values("params"))
    response = fit.law.responses[0]
    loss = runs.values(response.source)
    found = _slope(groups, logs, loss, np.log(C))
    if found is None:
        raise NotFittedFor(f"approach 2 found a minimum inside the sizes at fewer than {_FEWEST_BUDGETS} budgets")
    rng = np.random.default_rng([seed, 21])
    replicates = [_slope([rng.choice(g, len(g)) for g in groups], logs, loss, np.log(C)) for _ in range(_REPLICATES)]
    kept = [r[0] for r in replicates if r is not None]
    low, high = np.quantile(kept, _ends(fit.prob)) if len(kept) >= _FEWEST_KEPT * _REPLICATES else (np.nan, np.nan)
    return {
        "name": "parabolas at IsoFLOP budgets",
        "value": found[0],
        "lower": _finite(low),
        "upper": _finite(high),
        "kind": "bootstrap",
        "runs": int(sum(map(len, groups))),
        "budgets": found[1],
    }


def _budgets(runs: Runs) -> list[np.ndarray]:
    """The rows of every budget that has enough sizes, without those far from its median compute."""
    C = compute_of(runs)
    if C is None or not runs.has("params"):
        return []
    if runs.sorts("budget"):
        index = runs.labels("budget")[0]
    elif made := isoflop_levels(runs):
        index = made.index
    else:
        return []
    sizes = runs.labels("params")[0]
    groups = []
    for k in range(int(index.max()) + 1):
        rows = np.flatnonzero(index == k)
        rows = rows[np.abs(np.log(C[rows] / np.median(C[rows]))) <= np.log(_NEAR)]
        if len(set(sizes[rows].tolist())) >= _FEWEST_SIZES:
            groups.append(rows)
    return groups


def _slope(groups: list[np.ndarray], logs: np.ndarray, loss: np.ndarray, log_C: np.ndarray) -> tuple[float, int] | None:
    """The slope of the minima in log C and how many budgets have one inside their sizes."""
    minima, computes = [], []
    for rows in groups:
        x = logs[rows]
        if len(np.unique(np.round(x, 3))) < 3:
            continue
        centre = x.mean()
        curvature, slope, _ = np.polyfit(x - centre, loss[rows], 2)
        at = centre - slope / (2 * curvature) if curvature > 0 else np.nan
        if x.min() <= at <= x.max():
            minima.append(at)
            computes.append(log_C[rows].mean())
    if len(minima) < _FEWEST_BUDGETS:
        return None
    return float(np.polyfit(computes, minima, 1)[0]), len(minima)
