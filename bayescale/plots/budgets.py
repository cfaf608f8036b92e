"""The numbers of figures over compute budgets: IsoFLOP curves, the frontier, the loss over sizes and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import (
    Allocation,
    Cost,
    allocate,
    cost_named,
    default_budgets,
    require_headline,
    require_optimum,
)
from bayescale.datasets.registry import ON_BUDGET_FLAG
from bayescale.errors import NotFittedFor
from bayescale.forecasting import forecast
from bayescale.model import isoflop_levels
from bayescale.plots.draws import MEDIAN_DRAWS, compute_by, ends, thinned, within
from bayescale.posterior import Fit
from bayescale.runs import Runs

if TYPE_CHECKING:
    import pandas as pd

#: Runs belong to a budget that no column of theirs names when their compute is within this factor of it.
NEAR_BUDGET = 1.1
_POINTS = 60
_BUDGETS = 17


@dataclass(frozen=True, eq=False)
class IsoFlop:
    """IsoFLOP curves: `curves` (budget, params, tokens, median, lower, upper), the `optimum` of each budget with its
    interval, and `runs` (budget, params, observed) with the budget each belongs to, nan where it belongs to none.
    `beyond` are the budgets that are smaller or larger than any run."""

    curves: pd.DataFrame
    optimum: pd.DataFrame
    runs: pd.DataFrame
    cost: Cost
    beyond: frozenset[float]


def isoflop_curves(
    fit: Fit,
    budgets: Sequence[float] | None = None,
    *,
    cost: str | None = None,
    given: Mapping[str, float] | None = None,
    prob: float | None = None,
    draws: str = "headline",
) -> IsoFlop:
    """The posterior of the loss along each IsoFLOP budget, with the runs that spent it.

    Raises `NotFittedFor` for a law without an optimum and (BS-F002) where the table has no budgets and none is given.
    """
    import pandas as pd

    require_optimum(fit.law, given or {})
    require_headline(fit, draws)
    fit, prob, runs = thinned(fit), fit.probability(prob), fit.runs
    if not runs.has("params"):
        raise NotFittedFor("the table has no model sizes to draw the loss against", code="BS-F002")
    own = all(runs.has(c) for c in ("params", "tokens", "flops"))
    name = cost or ("table" if own else "6nd")
    rule = cost_named(name, runs)
    C, N = compute_by(name, runs), runs.values("params")
    asked, member = _budgets(runs, C, budgets)
    best = allocate(fit, asked, prob=prob, cost=name, given=given, draws=draws, far_ok=True)
    optimum = pd.DataFrame({"budget": asked})
    for quantity in ("params", "loss"):
        for end, values in zip(("median", "lower", "upper"), best.interval(quantity), strict=True):
            optimum[f"{quantity}_{end}"] = values
    parts = []
    for k, budget in enumerate(asked):
        sizes = N[member == k]
        middle, lower, upper = best.interval("params")[:, k]
        if not len(sizes):
            sizes = np.asarray([middle / 3, middle * 3])
        # The whole interval of the optimum, unless it lies far beyond the runs.
        low = max(min(sizes.min(), lower), sizes.min() / 5) / 1.2
        high = min(max(sizes.max(), upper), sizes.max() * 5) * 1.2
        grid = np.geomspace(low, high, _POINTS)
        tokens = np.exp(rule.log_tokens(np.log(grid), np.log(budget)))
        at = {"N": grid, "D": tokens, "C": np.full(_POINTS, budget), **(given or {})}
        made = forecast(fit, inputs=at, prob=prob, draws=draws).interval("mean")
        parts.append(
            pd.DataFrame(dict(budget=budget, params=grid, tokens=tokens, median=made[0], lower=made[1], upper=made[2]))
        )
    label = np.where(member >= 0, np.asarray(asked)[member], np.nan)
    observed = runs.values(fit.law.responses[0].source)
    table = pd.DataFrame({"budget": label, "params": N, "observed": observed}, index=runs.frame.index)
    beyond = frozenset(b for b, seen in zip(asked, within(np.asarray(asked), C), strict=True) if not seen)
    return IsoFlop(pd.concat(parts, ignore_index=True), optimum, table, rule, beyond)


def _positive(flops: Sequence[float] | float) -> list[float]:
    budgets = np.atleast_1d(np.asarray(flops, float))
    if budgets.ndim != 1 or not len(budgets) or not (np.isfinite(budgets) & (budgets > 0)).all():
        raise NotFittedFor("budgets must be positive numbers of FLOP", remedy="For example [1e21].")
    return [float(f) for f in budgets]


def _budgets(runs: Runs, C: np.ndarray, given: Sequence[float] | None) -> tuple[list[float], np.ndarray]:
    """The budgets, increasing, and the position of every run's budget, -1 where it has none."""
    if given is not None:
        asked = sorted(set(_positive(given)))
        distance = np.abs(np.log(C[:, None] / np.asarray(asked)[None, :]))
        nearest = distance.argmin(axis=1)
        return asked, np.where(distance.min(axis=1) <= np.log(NEAR_BUDGET), nearest, -1)
    sizes, _ = runs.labels("params")
    on: np.ndarray = np.full(len(C), True)
    if named := runs.sorts("budget"):
        index, fewest = runs.labels("budget")[0], 2
        if runs.has(ON_BUDGET_FLAG):
            # The column was made from the runs' compute: it names a budget for every run, near it or not.
            named, on = False, runs.values(ON_BUDGET_FLAG) == 1
    elif found := isoflop_levels(runs):
        index, fewest = found.index, 3
    else:
        raise NotFittedFor(
            "the table has no IsoFLOP budgets: no compute that at least 3 model sizes share",
            code="BS-F002",
            remedy="Name the budgets, as budgets=[1e20, 1e21], or add a column budget.",
        )
    levels = [np.flatnonzero((index == k) & on) for k in range(int(index.max()) + 1)]
    if not named:
        levels = [rows[_near(C[rows])] for rows in levels]
    levels = [rows for rows in levels if len(set(sizes[rows].tolist())) >= fewest]
    levels.sort(key=lambda rows: float(np.median(C[rows])))
    member = np.full(len(C), -1)
    for k, rows in enumerate(levels):
        member[rows] = k
    if not levels:
        raise NotFittedFor("no budget of the table has two model sizes", code="BS-F002")
    return [float(np.median(C[rows])) for rows in levels], member


def _near(C: np.ndarray) -> np.ndarray:
    """Which runs of a budget that was read off their compute are within 10 % of their median."""
    return np.abs(np.log(C / np.median(C))) <= np.log(NEAR_BUDGET) if len(C) else np.empty(0, bool)


def _smoothed(table: pd.DataFrame, between: int = 6) -> pd.DataFrame:
    """The table with rows interpolated between its own: smooth on logarithmic axes, without overshoot."""
    import pandas as pd
    from scipy.interpolate import PchipInterpolator

    values = table.to_numpy()
    if not np.isfinite(values).all():
        return table
    # A response that may be negative is drawn on a linear axis.
    carry, back = (np.log, np.exp) if (values > 0).all() else (np.asarray, np.asarray)
    known, rows = np.log(values[:, 0]), len(table)
    steps = np.concatenate([k + np.arange(between) / between for k in range(rows - 1)] + [[rows - 1]])
    at = np.interp(steps, np.arange(rows), known)
    rest = back(PchipInterpolator(known, carry(values[:, 1:]))(at))
    return pd.DataFrame(np.column_stack([np.exp(at), rest]), columns=table.columns)


#: What an allocation can be drawn of.
QUANTITIES = ("params", "tokens", "tokens_per_param", "loss")
_OPTIMUM = ("params", "tokens")


@dataclass(frozen=True, eq=False)
class Frontier:
    """The frontier: `bands` (flops, median, lower50, upper50, lower, upper, near_lower, near_upper, within), the same
    at the `asked` budgets, and the compute of the smallest and the largest run as the cost counts it.

    `within` says whether the compute, and the median optimum by its size and its data, lie in the range of the runs.
    """

    bands: pd.DataFrame
    asked: pd.DataFrame
    smallest: float
    largest: float
    prob: float


def frontier_bands(
    fit: Fit,
    flops: Sequence[float] | float | None = None,
    quantity: str = "params",
    *,
    cost: str = "6nd",
    given: Mapping[str, float] | None = None,
    prob: float | None = None,
    draws: str = "headline",
) -> Frontier:
    """A quantity of the compute-optimal allocation from the smallest run's compute to the largest budget asked for.

    Raises `NotFittedFor` where `allocate` does, and for a quantity that it does not give.
    """
    if quantity not in QUANTITIES:
        raise NotFittedFor(f"an allocation has no {quantity!r}", remedy=f"It gives {', '.join(QUANTITIES)}.")
    require_optimum(fit.law, given or {})
    require_headline(fit, draws)
    prob = fit.probability(prob)
    runs = fit.runs
    rule, C = cost_named(cost, runs), compute_by(cost, runs)
    asked = _positive(flops if flops is not None else fit.info.get("budgets") or default_budgets(runs))
    grid = np.geomspace(min(*asked, C.min()), max(*asked, 1.5 * C.max()), _BUDGETS)
    # The largest run is a point of the curve, so that the part beyond it starts there.
    largest = float(C.max())
    grid = np.unique(np.concatenate([grid, [largest]]))
    found = allocate(thinned(fit), [*grid, *asked], cost=cost, given=given, draws=draws, far_ok=True)
    table = _frontier_table(found, quantity, prob, rule)
    return Frontier(
        _told_within(_smoothed(table.iloc[: len(grid)]), runs, C),
        _told_within(table.iloc[len(grid) :].reset_index(drop=True), runs, C),
        float(C.min()),
        largest,
        prob,
    )


def _told_within(table: pd.DataFrame, runs: Runs, C: np.ndarray) -> pd.DataFrame:
    """The table with what lies within the runs, instead of the optimum that tells it."""
    flops = table["flops"].to_numpy()
    inside = (flops >= C.min() * (1 - 1e-9)) & (flops <= C.max() * (1 + 1e-9))
    for column in _OPTIMUM:
        if runs.has(column):
            inside &= within(table[f"best_{column}"].to_numpy(), runs.values(column))
    return table.drop(columns=[f"best_{c}" for c in _OPTIMUM]).assign(within=inside)


def _frontier_table(found: Allocation, quantity: str, prob: float, rule: Cost) -> pd.DataFrame:
    import pandas as pd

    values = np.asarray(found.dataset[quantity])
    names = ("median", "lower50", "upper50", "lower", "upper")
    quantiles = np.quantile(values, [0.5, 0.25, 0.75, *ends(prob)[1:]], axis=(1, 2))
    table = pd.DataFrame({"flops": found.flops, **dict(zip(names, quantiles, strict=True))})
    for column in _OPTIMUM:
        table[f"best_{column}"] = np.median(np.asarray(found.dataset[column]), axis=(1, 2))
    if quantity != "loss":
        sides = [np.asarray(found.dataset[n]) for n in ("near_lower", "near_upper")]
        tokens = [np.exp(rule.log_tokens(np.log(N), np.log(found.flops)[:, None, None])) for N in sides]
        shown = {
            "params": sides,
            "tokens": tokens,
            "tokens_per_param": [d / n for d, n in zip(tokens, sides, strict=True)],
        }
        medians = np.sort([np.median(side, axis=(1, 2)) for side in shown[quantity]], axis=0)
        table["near_lower"], table["near_upper"] = medians
    return table


@dataclass(frozen=True, eq=False)
class Surface:
    """The median loss on a grid of model sizes and tokens, and the frontier through it."""

    params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    frontier: pd.DataFrame

    def in_view(self, lower: str, upper: str) -> bool:
        """Whether anything between two ends of the frontier's interval lies on the grid."""
        path, rows = self.frontier, np.arange(len(self.frontier))
        at = np.linspace(0, rows[-1], 20 * len(rows))
        inside: Any = True
        for column, grid in (("params", self.params), ("tokens_at", self.tokens)):
            low, high = (np.interp(at, rows, np.log(path[f"{column}_{end}"])) for end in (lower, upper))
            between = np.linspace(low, high, 41)
            inside = inside & (between > np.log(grid[0])) & (between < np.log(grid[-1]))
        return bool(inside.any())


def loss_surface(
    fit: Fit,
    *,
    cost: str = "6nd",
    given: Mapping[str, float] | None = None,
    prob: float | None = None,
    draws: str = "headline",
    points: int = 60,
) -> Surface:
    """The median loss over the runs' range of N and D, shape (tokens, params), and N_opt and D_opt through it."""
    import pandas as pd

    require_optimum(fit.law, given or {})
    require_headline(fit, draws)
    runs, prob = fit.runs, fit.probability(prob)
    if not (runs.has("params") and runs.has("tokens")):
        raise NotFittedFor("the table lacks model sizes or tokens", code="BS-F002")
    N, D = (np.geomspace(v.min() / 1.3, v.max() * 1.3, points) for v in (runs.values("params"), runs.values("tokens")))
    sizes, tokens = (g.ravel() for g in np.meshgrid(N, D))
    rule = cost_named(cost, runs)
    at = {"N": sizes, "D": tokens, "C": rule.flops(sizes, tokens), **(given or {})}
    few = thinned(fit, MEDIAN_DRAWS)
    loss = forecast(few, inputs=at, prob=prob, draws=draws).interval("mean")[0]
    budgets = np.geomspace(rule.flops(N[0], D[0]), rule.flops(N[-1], D[-1]), _BUDGETS)
    best = allocate(thinned(fit), budgets, prob=prob, cost=cost, given=given, draws=draws, far_ok=True)
    table = pd.DataFrame({"flops": budgets})
    for end, values in zip(("median", "lower", "upper"), best.interval("params"), strict=True):
        table[f"params_{end}"] = values
        # At one budget, more parameters are fewer tokens: the ends of the band swap.
        table[f"tokens_at_{end}"] = np.exp(rule.log_tokens(np.log(values), np.log(budgets)))
    return Surface(N, D, loss.reshape(points, points), table)
