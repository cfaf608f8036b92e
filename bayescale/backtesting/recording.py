"""What a backtest found: by cut, the error of forecasts, what intervals held, and how far the answer moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.posterior import finite
from bayescale.runs import short

if TYPE_CHECKING:
    import pandas as pd

#: Predictive intervals whose share of held-out runs is told.
COVERED = (0.5, 0.8, 0.9)


@dataclass(frozen=True, eq=False)
class Origin:
    """One cut: what was fitted below it, and every forecast above it.

    `forecast` holds median, lower and upper of the run itself, shape (3, runs); `below` the share of predictive draws
    below what was observed; `inside` whether it lies in the interval of a probability. `log_score` is the log density
    of all held-out responses together, None where it is not known. `answer` has median, lower and upper of "quantity"
    and "params". `baseline` is the least-squares forecast and `spread` the sd of its residuals on the link scale.
    `one_sided` numbers the runs above the cut of whose losses only a bound is known: they count in the log score alone.
    """

    cut: float
    kept: int
    ratio: float
    rows: np.ndarray
    positions: np.ndarray
    scale: np.ndarray
    observed: np.ndarray
    forecast: np.ndarray
    below: np.ndarray
    inside: Mapping[float, np.ndarray]
    log_score: float | None
    answer: Mapping[str, tuple[float, float, float]]
    baseline: np.ndarray | None = None
    spread: float | None = None
    baseline_quantity: float | None = None
    one_sided: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    def with_baseline(self, found: tuple[np.ndarray, float, float | None] | None) -> Origin:
        """The origin with a least-squares fit beside it."""
        if found is None:
            return self
        return replace(self, baseline=found[0], spread=found[1], baseline_quantity=found[2])

    @property
    def held(self) -> int:
        """How many runs were forecast and judged."""
        return len(self.observed)


@dataclass(frozen=True, eq=False)
class Backtest:
    """Forecasts of runs above several cuts by the law fitted below each.

    `final` holds what the fit to all runs answers, where it is certified; `complete` says whether every refit is.
    Errors are forecast median less observed: a positive one is a loss that was forecast too high. In percent of the
    observed where the response is positive.
    """

    origins: tuple[Origin, ...]
    final: Mapping[str, tuple[float, float, float]] | None
    quantity: str | None
    budget: float | None
    scale: str
    scale_unit: str
    prob: float
    law: str
    noise: str
    group: tuple[str, ...]
    source: str
    unit: str
    positive: bool
    notes: tuple[str, ...] = ()
    complete: bool = True

    def error(self, origin: Origin, forecast: np.ndarray | None = None) -> np.ndarray:
        """Forecast less observed for every run above a cut: in percent, or in its unit where it may be ≤ 0."""
        made = origin.forecast[0] if forecast is None else forecast
        return 100 * (made / origin.observed - 1) if self.positive else made - origin.observed

    def frame(self) -> pd.DataFrame:
        """A tidy table: one row a cut.

        `error` is the mean over the runs above it in the response's unit, `error_pct` in percent, `rms` the root mean
        square (in percent where positive), and so for the least-squares baseline; `one_sided` counts the runs above it
        that have no error, since their losses are bounds; `quantity` is what `self.quantity` names, `params` the best
        size at the budget.
        """
        import pandas as pd

        rows = []
        for o in self.origins:
            error = self.error(o)
            row: dict[str, Any] = {"cut": o.cut, "kept": o.kept, "held_out": o.held, "extrapolation_ratio": o.ratio}
            row["one_sided"] = len(o.one_sided)
            row |= {"error": float(np.mean(o.forecast[0] - o.observed)), "rms": _rms(error)}
            row["error_pct"] = float(error.mean()) if self.positive else np.nan
            row |= {f"inside_{round(100 * p)}": float(o.inside[p].mean()) for p in COVERED}
            row["log_score"] = np.nan if o.log_score is None else o.log_score
            for name, key in (("quantity", "quantity"), ("params", "params")):
                known = o.answer.get(key, (np.nan,) * 3)
                row |= dict(zip((name, f"{name}_lower", f"{name}_upper"), known, strict=True))
            apart = None if o.baseline is None else self.error(o, o.baseline)
            row["baseline_error"] = np.nan if apart is None else float(apart.mean())
            row["baseline_rms"] = np.nan if apart is None else _rms(apart)
            row["baseline_quantity"] = np.nan if o.baseline_quantity is None else o.baseline_quantity
            rows.append(row)
        frame = pd.DataFrame(rows)
        frame.attrs |= {"prob": self.prob, "flops": self.budget}
        return frame

    def runs(self) -> pd.DataFrame:
        """One row a cut and run above it: what was observed and forecast, and the least-squares forecast."""
        import pandas as pd

        rows = []
        for o in self.origins:
            for k in range(o.held):
                row: dict[str, Any] = {"cut": o.cut, "row": int(o.rows[k]), self.scale: o.scale[k]}
                row |= {"ratio": o.scale[k] / o.cut, "observed": o.observed[k]}
                row |= dict(zip(("median", "lower", "upper"), o.forecast[:, k], strict=True))
                row |= {"below": o.below[k], "error": self.error(o)[k]}
                row["baseline"] = np.nan if o.baseline is None else o.baseline[k]
                rows.append(row)
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """The document that the command line prints."""
        table = self.frame().astype(object)
        records = table.where(table.notna(), None).to_dict("records")
        keys = ("median", "lower", "upper")
        runs = [
            {k: int(v) if k == "row" else finite(v) for k, v in row.items()} for row in self.runs().to_dict("records")
        ]
        return {
            "schema": "bayescale.backtest/1",
            "law": self.law,
            "noise": self.noise,
            "group": list(self.group),
            "source": self.source,
            "unit": self.unit,
            "error_unit": "percent" if self.positive else self.unit,
            "prob": self.prob,
            "scale": self.scale,
            "quantity": self.quantity,
            "flops": self.budget,
            "origins": records,
            "final": {k: dict(zip(keys, v, strict=True)) for k, v in self.final.items()} if self.final else None,
            "runs": runs,
            "lines": self.lines(),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The answer in plain lines: how wrong, how sure, and how far the answer moved."""
        every = np.concatenate([self.error(o) for o in self.origins])
        means = [float(self.error(o).mean()) for o in self.origins]
        unit, count = " %" if self.positive else f" {self.unit}", len(self.origins)
        reach = max(o.ratio for o in self.origins)
        side = "too high" if np.mean(means) > 0 else "too low"
        said = (
            f"Forecasts from below {_count(count, 'cut')}, up to {reach:.2g}× beyond it, err by "
            f"{_rms(every):.2g}{unit} (root mean square)"
        )
        if count > 1:
            said += f"; on average over a cut's runs {min(means):+.2g} to {max(means):+.2g}{unit}"
            if min(means) > 0 or max(means) < 0:
                said += f", {side} at every cut"
        lines = [f"{said}."]
        inside = [(p, np.concatenate([o.inside[p] for o in self.origins])) for p in COVERED]
        shares = ", ".join(f"{x.mean():.0%} in {p:.0%}" for p, x in inside)
        lines.append(
            f"Of {len(every)} forecasts {shares} predictive intervals; runs above one cut err together, so these are "
            f"about {_count(count, 'trial')}, not {len(every)}."
        )
        if bounds := len({int(r) for o in self.origins for r in o.one_sided}):
            lines.append(
                f"{_count(bounds, 'run')} above the cuts {'was' if bounds == 1 else 'were'} not tuned: the law may lie "
                "below such a loss, so no error or share counts it."
            )
        based = [o for o in self.origins if o.baseline is not None]
        if based:
            point = np.concatenate([self.error(o, o.baseline) for o in based])
            own = np.concatenate([self.error(o) for o in based])
            lines.append(
                f"Least squares on the same runs errs by {_rms(point):.2g}{unit}, the posterior median by "
                f"{_rms(own):.2g}{unit}."
            )
        return [*lines, *self._moved()]

    def _moved(self) -> list[str]:
        lines = []
        for name, key, show in ((self.quantity, "quantity", lambda v: f"{v:.3g}"), ("the best size", "params", short)):
            path = [o.answer[key] for o in self.origins if key in o.answer]
            if name is None or not path:
                continue
            at = f" at {self.budget:.3g} FLOP" if key == "params" else ""
            told = " → ".join(show(m) for m, _, _ in path)
            said = f"{name[0].upper()}{name[1:]}{at}" if key == "params" else name
            said = f"{said} by cut: {told}"
            if self.final and key in self.final:
                last = self.final[key][0]
                held = sum(low <= last <= high for _, low, high in path)
                said += f"; all runs say {show(last)}, which {held} of {len(path)} {self.prob:.0%} intervals held"
            lines.append(f"{said}.")
        return lines

    def table_lines(self) -> list[str]:
        """The cuts as lines of text."""
        wanted = "cut kept held_out extrapolation_ratio error_pct rms inside_90 log_score baseline_rms quantity".split()
        told = {"extrapolation_ratio": "ratio", "quantity": self.quantity or "quantity"}
        frame = self.frame()[wanted].dropna(axis=1, how="all")
        frame = frame.set_axis([told.get(c, c) for c in frame.columns], axis=1)
        return frame.to_string(index=False, float_format="%.3g", na_rep="").splitlines()

    def __repr__(self) -> str:
        head = f"<Backtest of {self.law} on {self.source}, {len(self.origins)} cuts along {self.scale}"
        body = [*self.table_lines(), *self.lines(), *(f"note: {n}" for n in self.notes)]
        return "\n".join([head, *(f"  {line}" for line in body)]) + ">"

    def _repr_html_(self) -> str:
        import html

        lines = "".join(f"<li>{html.escape(x)}</li>" for x in (*self.lines(), *self.notes))
        return f"{self.frame().to_html(float_format='%.3g', index=False, na_rep='')}<ul>{lines}</ul>"


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("s" if n != 1 else "")
