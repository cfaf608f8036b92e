"""The record of an allocation: what to choose at each budget, how sure that is, and what else would do as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.posterior import convergence, finite

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: What is told of a budget, where the law has it.
TOLD = ("params", "tokens", "tokens_per_param", "loss")


@dataclass(frozen=True, eq=False)
class Allocation:
    """The compute-optimal allocation at each budget, over the posterior.

    `dataset` has the dims (flops, chain, draw) and the variables params, tokens, tokens_per_param, loss, near_lower
    and near_upper (the ends of the near-optimal set of model sizes). `largest` is the compute of the largest run.

    Where a law's users decide more, or something else, `choices` names it with its unit: every name is a variable of
    `dataset`, its near-optimal set `NAME_near_lower` to `NAME_near_upper`. `NAME_inside` and `NAME_edge` (by budget)
    are the shares of draws whose optimum lies within the table's runs, and at an end of where it was looked for. One
    choice must be taken for all draws: `NAME_taken` has the least mean loss, and `regret` is the share of the best loss
    that it loses, draw by draw. What a budget does not bear on (a mixture, a learning rate) stands at one budget that
    is not a number, and has no params or tokens.
    """

    dataset: xr.Dataset
    prob: float
    largest: float
    law: str
    cost: str
    loss_unit: str
    source: str
    notes: tuple[str, ...] = ()
    kind: str = "credible"
    choices: Mapping[str, str] = field(default_factory=dict)

    @property
    def flops(self) -> np.ndarray:
        """The budgets, in FLOP."""
        return np.asarray(self.dataset["flops"])

    @property
    def told(self) -> tuple[str, ...]:
        """The quantities that it holds, of those of a budget and then the choices."""
        return (*(n for n in TOLD if n in self.dataset), *self.choices)

    def interval(self, name: str) -> np.ndarray:
        """Median and ends of the equal-tailed interval of a variable, shape (3, budgets)."""
        ends = [0.5, (1 - self.prob) / 2, (1 + self.prob) / 2]
        return np.quantile(np.asarray(self.dataset[name]), ends, axis=(1, 2))

    def frame(self) -> pd.DataFrame:
        """A tidy table: one row a budget and quantity, with median and interval."""
        import pandas as pd

        rows = []
        for name in self.told:
            for C, ratio, (median, lower, upper) in zip(
                self.flops, self.flops / self.largest, self.interval(name).T, strict=True
            ):
                rows.append(
                    dict(flops=C, extrapolation_ratio=ratio, quantity=name, median=median, lower=lower, upper=upper)
                )
        frame = pd.DataFrame(rows)
        frame.attrs["prob"] = self.prob
        return frame

    def to_json(self) -> list[dict[str, Any]]:
        """One entry a budget, as `fit.json` holds them."""
        return [
            {
                "flops": finite(float(C)),
                "extrapolation_ratio": finite(float(C / self.largest)),
                **{n: self._interval(n, k) if n in self.dataset else None for n in TOLD},
                "near_optimal": self._near("near", k),
                **({"choices": self._choices(k)} if self.choices else {}),
                **({"params_taken": finite(self._taken(k))} if "params_taken" in self.dataset else {}),
                **({"regret": self._interval("regret", k)} if "regret" in self.dataset else {}),
            }
            for k, C in enumerate(self.flops)
        ]

    def _taken(self, k: int) -> float:
        return float(np.asarray(self.dataset["params_taken"])[k])

    def _interval(self, name: str, k: int) -> dict[str, float | None]:
        return dict(zip(("median", "lower", "upper"), (finite(x) for x in self.interval(name)[:, k]), strict=True))

    def _near(self, prefix: str, k: int) -> dict[str, float | None] | None:
        names = {end: f"{prefix}_{end}" for end in ("lower", "upper")}
        if names["lower"] not in self.dataset:
            return None
        # Those of a mixture are found in some draws alone, and not a number in the others.
        return {end: finite(np.nanmedian(np.asarray(self.dataset[n])[k])) for end, n in names.items()}

    def _choices(self, k: int) -> dict[str, Any]:
        made = {}
        for name, unit in self.choices.items():
            made[name] = {
                **self._interval(name, k),
                "unit": unit,
                "near_optimal": self._near(f"{name}_near", k),
                **{
                    key: finite(np.asarray(self.dataset[f"{name}_{short}"])[k])
                    if f"{name}_{short}" in self.dataset
                    else None
                    for key, short in (("taken", "taken"), ("inside_data", "inside"), ("at_edge", "edge"))
                },
            }
        return made

    def ess(self) -> tuple[float, float, float]:
        """Largest R-hat, smallest bulk and smallest tail ESS over log N_opt, log D/N and loss at all budgets.

        Of an allocation without them, over the logs of what is chosen.
        """
        names = [n for n in ("params", "tokens_per_param") if n in self.dataset] or [*self.choices]
        logs = [np.log(np.maximum(np.asarray(self.dataset[n]), np.finfo(float).tiny)) for n in names]
        losses = [np.asarray(self.dataset["loss"])] if "loss" in self.dataset else []
        draws = np.concatenate([*logs, *losses])
        if draws.shape[-2] * draws.shape[-1] < 8:
            return np.nan, np.nan, np.nan
        return (
            float(np.max(convergence.r_hat(draws))),
            float(np.min(convergence.ess_bulk(draws))),
            float(np.min(convergence.ess_tail(draws))),
        )

    def __repr__(self) -> str:
        lines = [f"<Allocation by {self.law}, {self.cost}, {self.prob:.0%} {self.kind} intervals"]
        for entry in self.to_json():
            named = {"params": "N", "tokens_per_param": "D/N"}
            told = {named[n]: entry[n] for n in named if entry[n]} | entry.get("choices", {})
            said = ", ".join(f"{n} {v['median']:.3g} ({v['lower']:.3g} to {v['upper']:.3g})" for n, v in told.items())
            lines.append(f"  {entry['flops']:.3g} FLOP: {said}" if entry["flops"] is not None else f"  {said}")
        return "\n".join(lines) + ">"

    def _repr_html_(self) -> str:
        return f"<p>{self.prob:.0%} {self.kind} intervals</p>{self.frame().to_html(float_format='%.4g', index=False)}"
