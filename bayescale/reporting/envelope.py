"""Approach 1 of Hoffmann et al.: the lower envelope of the runs' training curves, and a line through its minima."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.errors import NotFittedFor
from bayescale.posterior import Fit
from bayescale.runs import Runs, compute_of

_FEWEST_CHECKPOINTS, _FEWEST_SIZES, _COMPUTES, _REPLICATES = 3, 4, 400, 1000
#: A slope needs this many sizes that are best somewhere, and an interval this share of resamples that have one.
_FEWEST_BEST, _FEWEST_KEPT = 3, 0.9


@dataclass(frozen=True)
class Curves:
    """Losses of every run along common computes: log C shape (computes,), losses (runs, computes), sizes (runs,).

    A loss is NaN where the run has no checkpoints on both sides; `levels` numbers the distinct sizes from the smallest.
    """

    log_C: np.ndarray
    losses: np.ndarray
    log_N: np.ndarray
    levels: np.ndarray


def envelope_minima(runs: Runs, fit: Fit, seed: int = 0, prob: float | None = None) -> dict[str, Any]:
    """The exponent of N_opt in C from the lowest of the training curves at every compute.

    At each of 400 computes the best of the runs that were trained through it is a minimum, where a smaller and a larger
    size were there too; a line through log N of the minima in log C has the slope a. The interval is the percentile
    interval of resamples of whole runs: points of an envelope are hundreds from a few curves, so a regression or a
    posterior that takes each for a measurement would be far too narrow.

    Raises `NotFittedFor` where runs have no checkpoints, or too few sizes are ever best.
    """
    prob = fit.probability(prob)
    curves = training_curves(runs, fit.law.responses[0].source)
    everything = np.arange(len(curves.log_N))
    found = _slope(curves, everything)
    if found is None:
        raise NotFittedFor(
            f"approach 1 needs {_FEWEST_BEST} model sizes that are the best at some compute, with a smaller and a "
            "larger one trained through it"
        )
    rng = np.random.default_rng([seed, 22])
    made = [_slope(curves, np.unique(rng.choice(everything, len(everything)))) for _ in range(_REPLICATES)]
    kept = [m[0] for m in made if m is not None]
    ends = [(1 - prob) / 2, (1 + prob) / 2]
    low, high = np.quantile(kept, ends) if len(kept) >= _FEWEST_KEPT * _REPLICATES else (np.nan, np.nan)
    return {
        "name": f"envelope of training curves ({found[1]} sizes are best somewhere), resamples of runs",
        "value": found[0],
        "lower": float(low) if np.isfinite(low) else None,
        "upper": float(high) if np.isfinite(high) else None,
        "kind": "bootstrap",
        "runs": len(everything),
        "budgets": None,
    }


def training_curves(runs: Runs, response: str = "loss") -> Curves:
    """The curve of every run with checkpoints, its loss interpolated in log C; raises `NotFittedFor` for too few."""
    C = compute_of(runs)
    if C is None or not runs.has("params"):
        raise NotFittedFor("approach 1 needs model size and compute of every checkpoint")
    index = runs.labels("run")[0] if runs.has("run") else np.arange(len(runs))
    if np.bincount(index).max() < _FEWEST_CHECKPOINTS:
        which = "" if runs.has("run") else " and a column run that tells which rows are one run's"
        raise NotFittedFor(
            f"approach 1 (minima over training curves) needs runs with {_FEWEST_CHECKPOINTS} or more checkpoints"
            f"{which}; this table has fewer"
        )
    sizes, losses = runs.values("params"), runs.values(response)
    size_of = runs.labels("params")[0]
    parts = []
    for k in range(int(index.max()) + 1):
        rows = np.flatnonzero(index == k)
        rows = rows[np.argsort(C[rows], kind="stable")]
        rising = np.diff(C[rows]) > 0
        if len(rows) >= _FEWEST_CHECKPOINTS and rising.all() and len(set(size_of[rows])) == 1:
            parts.append(rows)
    if len({int(size_of[rows[0]]) for rows in parts}) < _FEWEST_SIZES:
        raise NotFittedFor(
            f"approach 1 needs training curves of {_FEWEST_SIZES} model sizes, each of one size with "
            f"{_FEWEST_CHECKPOINTS} or more checkpoints of rising compute"
        )
    log_C = np.log(C)
    grid = np.linspace(min(log_C[r[0]] for r in parts), max(log_C[r[-1]] for r in parts), _COMPUTES)
    along = [np.interp(grid, log_C[r], losses[r], left=np.nan, right=np.nan) for r in parts]
    firsts = np.array([rows[0] for rows in parts])
    order = np.unique(size_of[firsts], return_inverse=True)[1]
    return Curves(grid, np.array(along), np.log(sizes[firsts]), order)


def _slope(curves: Curves, chosen: np.ndarray) -> tuple[float, int] | None:
    """The slope of the minima of some curves in log C, and how many sizes are best somewhere."""
    losses, levels, log_N = curves.losses[chosen], curves.levels[chosen], curves.log_N[chosen]
    there = np.isfinite(losses)
    best = np.argmin(np.where(there, losses, np.inf), axis=0)
    least = np.where(there, levels[:, None], np.inf).min(axis=0)
    most = np.where(there, levels[:, None], -np.inf).max(axis=0)
    inside = (least < levels[best]) & (levels[best] < most)
    if len(np.unique(levels[best[inside]])) < _FEWEST_BEST:
        return None
    slope = np.polyfit(curves.log_C[inside], log_N[best[inside]], 1)[0]
    return float(slope), len(np.unique(levels[best[inside]]))
