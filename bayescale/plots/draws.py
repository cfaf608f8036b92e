"""What figures are computed from: few enough draws, the ends of intervals, the compute of runs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from bayescale.errors import NotFittedFor
from bayescale.plots.style import column_label
from bayescale.posterior import Fit
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, Runs, compute_of

#: A figure needs no more draws than this: the ends of a 90 % interval then have a Monte Carlo error of 0.3 %.
DRAWS = 4000
#: Where only a median is drawn.
MEDIAN_DRAWS = 500
#: What lies within 5 % of the runs' range counts as within it.
LEEWAY = 1.05


def thinned(fit: Fit, most: int = DRAWS) -> Fit:
    """The fit with at most that many draws, evenly spaced, and only the groups that answers are computed from."""
    import xarray as xr

    posterior = fit.tree["posterior"]
    step = -(-posterior.sizes["chain"] * posterior.sizes["draw"] // most)
    groups = {name: fit.tree[name].to_dataset() for name in ("posterior", "headline", "constant_data")}
    kept = {
        name: dataset.isel(draw=slice(None, None, step)) if "draw" in dataset.dims else dataset
        for name, dataset in groups.items()
    }
    return replace(fit, tree=xr.DataTree.from_dict(kept))


def ends(prob: float) -> list[float]:
    """The median and the two ends of an equal-tailed interval, as probabilities."""
    return [0.5, (1 - prob) / 2, (1 + prob) / 2]


def compute_by(cost: str, runs: Runs) -> np.ndarray:
    """The compute of every run as a cost counts it: 6ND, or the table's own."""
    if cost.lower() == "6nd" and runs.has("params") and runs.has("tokens"):
        return FLOPS_PER_PARAM_TOKEN * runs.values("params") * runs.values("tokens")
    C = compute_of(runs)
    if C is None:
        raise NotFittedFor("the table tells neither compute nor N and D", code="BS-F002")
    return C


def compute_label(cost: str, runs: Runs) -> str:
    """What an axis of compute is called: how it is counted, where the table's own compute is another."""
    own = all(runs.has(c) for c in ("params", "tokens", "flops"))
    if cost.lower() == "6nd" and own and not within(runs.values("flops") / compute_by(cost, runs), np.ones(1)).all():
        return "training compute 6ND (FLOP)"
    return column_label("flops")[0]


def within(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Which values lie in the range of those seen, to 5 %."""
    return (values >= seen.min() / LEEWAY) & (values <= seen.max() * LEEWAY)


def stretches(inside: np.ndarray) -> list[tuple[bool, slice]]:
    """The parts of a curve that lie within the runs, and beyond, in turn; neighbours share the point between them."""
    between = inside[:-1] & inside[1:]
    edges = [0, *(np.flatnonzero(np.diff(between)) + 1).tolist(), len(between)]
    return [(bool(between[a]), slice(a, b + 1)) for a, b in pairwise(edges) if b > a]
