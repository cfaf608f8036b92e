"""What a chosen model size loses against the best one for its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import (
    NEAR_OPTIMAL,
    allocate,
    cost_named,
    loss_on_budget,
    parameter_draws,
    require_amount,
    require_budgets,
)
from bayescale.errors import NotFittedFor
from bayescale.posterior import Fit, finite, for_each_table, one_level
from bayescale.runs import short

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: Smaller budgets, down to this share, among which the one is sought whose best loss is that of the chosen size.
_LEAST_SHARE, _BUDGETS = 1e-3, 31


@dataclass(frozen=True, eq=False)
class Regret:
    """What model sizes lose at a budget, over the posterior.

    `dataset` has the dims (params, chain, draw) and the variables loss (of the chosen size), best (of the best size),
    regret (their difference, in the loss's unit), share (the difference over the best loss) and wasted (the share of
    the budget that the best size would have saved at the same loss; 1 where a thousandth of it would do).
    """

    dataset: xr.Dataset
    flops: float
    tokens: np.ndarray
    prob: float
    largest: float
    law: str
    source: str
    cost: str
    loss_unit: str
    kind: str = "credible"
    notes: tuple[str, ...] = ()

    @property
    def params(self) -> np.ndarray:
        """The model sizes that were asked about."""
        return np.asarray(self.dataset["params"])

    @property
    def near_optimal(self) -> np.ndarray:
        """The probability that a size is within 0.1 % of the best loss, by size."""
        return (np.asarray(self.dataset["share"]) <= NEAR_OPTIMAL).mean(axis=(1, 2))

    def interval(self, name: str) -> np.ndarray:
        """Median and ends of the equal-tailed interval of a variable, shape (3, sizes)."""
        ends = [0.5, (1 - self.prob) / 2, (1 + self.prob) / 2]
        return np.quantile(np.asarray(self.dataset[name]), ends, axis=(1, 2))

    def frame(self) -> pd.DataFrame:
        """A tidy table: one row a size and quantity, with median and interval."""
        import pandas as pd

        rows = [
            dict(params=N, flops=self.flops, quantity=name, median=median, lower=lower, upper=upper)
            for name in map(str, self.dataset.data_vars)
            for N, (median, lower, upper) in zip(self.params, self.interval(name).T, strict=True)
        ]
        frame = pd.DataFrame(rows)
        frame.attrs["prob"] = self.prob
        return frame

    def to_json(self) -> dict[str, Any]:
        """The document that the command line prints."""
        told = {str(n): self.interval(str(n)) for n in self.dataset.data_vars}
        return {
            "schema": "bayescale.regret/1",
            "law": self.law,
            "source": self.source,
            "cost": self.cost,
            "prob": self.prob,
            "intervals": self.kind,
            "loss_unit": self.loss_unit,
            "flops": self.flops,
            "extrapolation_ratio": self.flops / self.largest,
            "sizes": [
                {
                    "params": float(N),
                    "tokens": float(self.tokens[k]),
                    **{
                        n: dict(zip(("median", "lower", "upper"), (finite(x) for x in v[:, k]), strict=True))
                        for n, v in told.items()
                    },
                    "near_optimal": float(self.near_optimal[k]),
                }
                for k, N in enumerate(self.params)
            ],
            "notes": list(self.notes),
            "lines": self.lines(),
        }

    def lines(self) -> list[str]:
        """One sentence a size, and what is to be noted."""
        share, wasted = (np.vectorize(_percent)(100 * self.interval(n)) for n in ("share", "wasted"))
        told = [
            f"{short(N)} on {short(self.tokens[k])} tokens ({self.flops:.3g} FLOP) loses {share[0, k]} % of the "
            f"best loss ({self.prob:.0%}: {share[1, k]} to {share[2, k]} %), as if {wasted[0, k]} % of the compute was "
            f"wasted ({wasted[1, k]} to {wasted[2, k]} %); within {100 * NEAR_OPTIMAL:g} % of the best with "
            f"probability {self.near_optimal[k]:.2f}."
            for k, N in enumerate(self.params)
        ]
        return [*told, *(f"note: {n}" for n in self.notes)]

    def __repr__(self) -> str:
        return "\n".join([f"<Regret by {self.law}, {self.prob:.0%} {self.kind} intervals", *self.lines()]) + ">"

    def _repr_html_(self) -> str:
        return f"<p>{self.prob:.0%} {self.kind} intervals</p>{self.frame().to_html(float_format='%.4g', index=False)}"


def _percent(x: float) -> str:
    """A share in percent, with two digits."""
    return f"{x:.0f}" if x >= 10 else f"{x:.2g}"


@for_each_table
def regret(
    fit: Fit,
    N: Sequence[float] | float,
    flops: float,
    *,
    prob: float | None = None,
    cost: str = "6nd",
    levels: Mapping[str, str] | None = None,
    draws: str = "headline",
    far_ok: bool = False,
) -> Regret:
    """What training a model of size N with a budget C loses, for every draw, against the best size at that budget.

        regret(N) = L(N, D(N, C)) - min over N' of L(N', D(N', C)),

    with D(N, C) the tokens that the budget buys (C = 6ND, or the table's own cost with `cost="table"`), in the loss's
    unit, as a share of the best loss, and as the share of the budget that the best size would have saved. A choice can
    be safe where the optimum is not known: the loss is flat about it. `levels`, `draws` and `far_ok` are as in
    `allocate`.

    Raises `NotFittedFor` (BS-F001) for a law without an optimum at a budget, (BS-F002) where the fit may not be
    headlined, (BS-R027) for a budget that nothing in the table bears on, and for a size that the budget cannot train
    on one token.

    Example:
        >>> bs.regret(fit, N=[3e6, 10e6], flops=1e15).frame()  # doctest: +SKIP
    """
    import xarray as xr

    sizes = np.atleast_1d(np.asarray(N, float))
    if sizes.ndim != 1 or not len(sizes) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise NotFittedFor("model sizes must be positive numbers of parameters", remedy="For example --params 7e9.")
    require_amount(sizes, "parameters")
    flops = float(require_budgets(flops)[0])
    budgets = flops * np.geomspace(_LEAST_SHARE, 1.0, _BUDGETS)
    if fit.law.decides is not None and fit.law.decides.sizes:
        raise NotFittedFor(
            f"users of {fit.law.name!r} decide more than a size, so none has a regret of its own",
            remedy="`allocate` tells the near-optimal range of each choice, and what one choice for all draws loses.",
        )
    if fit.law.decides is not None and fit.law.decides.reads:
        raise NotFittedFor(
            f"the law {fit.law.name!r} predicts what is best and no loss, so nothing says what another choice loses",
            remedy="Fit a law of the loss, as chinchilla.",
        )
    made = allocate(fit, budgets, prob=prob, cost=cost, levels=levels, draws=draws, far_ok=far_ok)
    one, named, _ = one_level(fit, levels)
    rule, values = cost_named(cost, one.runs), parameter_draws(one, draws, named)
    tokens = np.exp(rule.log_tokens(np.log(sizes), np.log(flops)))
    if (tokens < 1).any():
        raise NotFittedFor(
            f"{flops:.3g} FLOP do not train {short(float(sizes[tokens < 1][0]))} parameters on one token",
            remedy="Ask for smaller models, or a larger budget.",
        )
    best_at = np.asarray(made.dataset["loss"])
    best, shape = best_at[-1], best_at.shape[1:]
    loss = np.stack([loss_on_budget(one.law, values, one.references, flops, n, rule).reshape(shape) for n in sizes])
    loss = np.maximum(loss, best)  # a search ends a rounding error above the best
    # The best loss falls with compute, so that a loss has one budget: between two of the grid, by its log.
    order = np.log(budgets)
    flat = best_at.reshape(len(budgets), -1)
    needed = np.stack(
        [[np.interp(-x, -flat[:, k], order) for k, x in enumerate(row.reshape(-1))] for row in loss]
    ).reshape(loss.shape)
    wasted = np.where(needed <= order[0], 1.0, 1 - np.exp(needed - order[-1]))
    dims = ("params", "chain", "draw")
    dataset = xr.Dataset(
        {
            "loss": (dims, loss),
            "best": (dims, np.broadcast_to(best, loss.shape)),
            "regret": (dims, loss - best),
            "share": (dims, loss / best - 1),
            "wasted": (dims, np.clip(wasted, 0.0, 1.0)),
        },
        coords={"params": sizes, "chain": made.dataset["chain"], "draw": made.dataset["draw"]},
        attrs={"law": one.law.spec, "cost": made.cost, "draws": draws, "flops": flops},
    )
    return Regret(
        dataset,
        flops,
        tokens,
        made.prob,
        made.largest,
        made.law,
        made.source,
        made.cost,
        made.loss_unit,
        made.kind,
        made.notes,
    )
