"""Which recipe to scale up: compute multipliers between recipes, and whether their curves cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import FAR, caveats, default_budgets, require_given, require_headline
from bayescale.design.frontiers import WIDEST, Axis, axis_of, compare_curves, held_by_prior
from bayescale.errors import LawError, NotFittedFor, nearest
from bayescale.narrowness import PRIOR_HELD
from bayescale.posterior import Batch, Fit, finite, level_column, levels_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: Crossings are looked for up to this many times the largest run: beyond it nothing in the table bears on them.
HORIZON = 1e3
#: Where a crossing is, is told only if curves cross with at least this probability.
LIKELY = 0.9
#: Curves whose multiplier changes by less than this share over the runs cannot cross: what bends them apart is shared.
_PARALLEL = 1e-6


@dataclass(frozen=True)
class Crossing:
    """Whether the curves of a pair cross between the smallest run (`start`) and `horizon`, and where.

    `inside`, `beyond` and `never` are probabilities that add up to one: among the runs (up to `end`), above them, and
    nowhere in the range. `before` is the probability of a crossing below each compute asked about. `interval` (median,
    lower, upper; of those draws that cross) is None unless a crossing is likely. `impossible` says that what would
    bend the curves apart is shared, so `never` is an assumption.
    """

    start: float
    end: float
    horizon: float
    inside: float
    beyond: float
    never: float
    before: tuple[tuple[float, float], ...]
    interval: tuple[float, float, float] | None
    impossible: bool

    def to_json(self) -> dict[str, Any]:
        """The record as a document."""
        named = None if self.interval is None else dict(zip(("median", "lower", "upper"), self.interval, strict=True))
        return {
            **{k: v for k, v in self.__dict__.items() if k not in ("before", "interval")},
            "before": [{"at": at, "p": p} for at, p in self.before],
            "where": named,
            "told_above": LIKELY,
        }


@dataclass(frozen=True, eq=False)
class Multiplier:
    """By what factor of compute one recipe outdoes another, over the posterior.

    `dataset` has the dims (pair, flops, chain, draw) and the variables multiplier and better (whether y has the lower
    loss there), and (pair, chain, draw) for crossing. A multiplier m of y over x says that x reaches with m C what y
    reaches with C: above 1, y is the better recipe.
    """

    dataset: xr.Dataset
    pairs: tuple[tuple[str, str], ...]
    crossings: tuple[Crossing, ...]
    prior_share: tuple[Mapping[str, float], ...]
    axis: Axis
    largest: float
    prob: float
    law: str
    source: str
    notes: tuple[str, ...] = ()
    kind: str = "credible"

    @property
    def flops(self) -> np.ndarray:
        """Where the multipliers are judged: compute in FLOP, or values of the law's own input."""
        return np.asarray(self.dataset["flops"])

    def interval(self, pair: int) -> np.ndarray:
        """Median and ends of the equal-tailed interval of a pair's multiplier, shape (3, flops)."""
        ends = [0.5, (1 - self.prob) / 2, (1 + self.prob) / 2]
        draws = np.asarray(self.dataset["multiplier"])[pair].reshape(len(self.flops), -1)
        return np.quantile(draws, ends, axis=1, method="inverted_cdf")  # infinite where x never catches up

    def better(self, pair: int) -> np.ndarray:
        """The probability that y has the lower loss, shape (flops,)."""
        return np.asarray(self.dataset["better"])[pair].mean(axis=(1, 2))

    def frame(self) -> pd.DataFrame:
        """A tidy table: one row a pair and compute."""
        import pandas as pd

        rows = []
        for k, (x, y) in enumerate(self.pairs):
            for C, (median, lower, upper), p in zip(self.flops, self.interval(k).T, self.better(k), strict=True):
                row = {"x": x, "y": y, "flops": C, "extrapolation_ratio": C / self.largest}
                rows.append({**row, "median": median, "lower": lower, "upper": upper, "p_better": p})
        frame = pd.DataFrame(rows)
        frame.attrs["prob"] = self.prob
        return frame

    def to_json(self) -> dict[str, Any]:
        """The document that the command line prints; a multiplier without end is null."""
        found = []
        for k, (x, y) in enumerate(self.pairs):
            entries = [
                {
                    "flops": float(C),
                    "extrapolation_ratio": finite(C / self.largest),
                    **dict(zip(("median", "lower", "upper"), map(finite, ends), strict=True)),
                    "p_better": float(p),
                }
                for C, ends, p in zip(self.flops, self.interval(k).T, self.better(k), strict=True)
            ]
            share = {n: finite(v) for n, v in self.prior_share[k].items()}
            crossing = self.crossings[k].to_json()
            found.append({"between": [x, y], "multiplier": entries, "crossing": crossing, "prior_share": share})
        axis = {"name": self.axis.name, "unit": self.axis.unit, "meaning": self.axis.meaning}
        return {
            "schema": "bayescale.multiplier/1",
            "law": self.law,
            "source": self.source,
            "prob": self.prob,
            "axis": axis,
            "pairs": found,
            "notes": list(self.notes),
            "lines": self.lines(),
        }

    def lines(self) -> list[str]:
        """The answer in plain lines."""
        unit, said = self.axis.unit, []
        for k, (x, y) in enumerate(self.pairs):
            said.append(f"{y} over {x}: how many times the {self.axis.meaning} {x} needs to do as well")
            for C, (median, lower, upper), p in zip(self.flops, self.interval(k).T, self.better(k), strict=True):
                ratio = C / self.largest
                far = f"; {ratio:.3g}× the largest run" if ratio > 1.005 else ""
                said.append(
                    f"  {C:.3g} {unit}: {_factor(median)} ({_factor(lower)} to {_factor(upper)}); "
                    f"P({y} is better) {_chance(p)}{far}"
                )
            said += [f"  {line}" for line in _crossing_lines(self.crossings[k], unit, self.prob)]
            for name, share in self.prior_share[k].items():
                if share > PRIOR_HELD:
                    said.append(f"  {name} is held by the prior, not by the data: {share:.0%} of what is known of it")
        return [*said, *(f"note: {n}" for n in self.notes)]

    def __repr__(self) -> str:
        head = f"<Multiplier by {self.law} on {self.source}, {self.prob:.0%} {self.kind} intervals"
        return "\n".join([head, *(f"  {line}" for line in self.lines())]) + ">"

    def _repr_html_(self) -> str:
        import html

        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self.lines())
        head = f"<p>{self.prob:.0%} {self.kind} intervals</p>"
        return f"{head}{self.frame().to_html(float_format='%.4g', index=False)}<ul>{lines}</ul>"


def multiplier(
    fit: Fit,
    between: tuple[str, str] | None = None,
    flops: Sequence[float] | float = (),
    *,
    given: Mapping[str, float] | None = None,
    prob: float | None = None,
    draws: str = "headline",
) -> Any:
    """The compute multiplier between recipes, who is better at a compute, and whether their curves cross.

    For `between=("x", "y")` the multiplier m(C) solves L_x(m C) = L_y(C) for every draw, along each recipe's own
    compute-optimal frontier (C = 6ND) where the law has N and D, along its input where it has one: x needs m times as
    much as y. `fit` compares levels: fitted with `pool="recipe"`, or by a law of methods; or it is a batch with one
    table a recipe, whose posteriors are independent. Without `between`, all pairs. `flops` are values of compute (or of
    the law's input), by default the largest run and the fit's budgets.

    Ratios of weak slopes have no mean: quantiles only. Crossings are looked for from the smallest run to a thousand
    times the largest, and where they lie is told only if they are 90 % likely. What the prior holds, as exponents that
    few runs hardly tell apart, is named. A batch of pooled fits gives one answer a table.

    Raises `NotFittedFor` (BS-F001) for a fit without levels or a law without a frontier, (BS-F002) where nothing may be
    headlined, `LawError` (BS-L002) for a level that it does not have.

    Example:
        >>> fit = bs.fit("chinchilla", runs, pool="recipe")  # doctest: +SKIP
        >>> bs.multiplier(fit, between=("c4", "refinedweb"), flops=[1e21]).frame()  # doctest: +SKIP
    """
    import xarray as xr

    options = dict(given=given, prob=prob, draws=draws)
    if isinstance(fit, Batch) and level_column(fit.law) is not None:
        return fit.each(multiplier, between, flops, **options)
    known = list(fit.certified) if isinstance(fit, Batch) else list(levels_of(fit))
    pairs = _pairs(fit, known, between)
    given, prob = dict(given or {}), fit.probability(prob)
    names = list(dict.fromkeys(n for pair in pairs for n in pair))
    column = None if isinstance(fit, Batch) else next(iter(fit.levels))
    sides = {n: fit[n] if isinstance(fit, Batch) else fit.at(**{str(column): n}) for n in names}
    for side in sides.values():
        require_headline(side, draws)
    first = next(iter(sides.values()))
    units = {n: side.info["loss_unit"] for n, side in sides.items()}
    if len({*units.values()}) > 1:
        raise NotFittedFor(
            f"losses in different units cannot be compared: {', '.join(f'{n} in {u}' for n, u in units.items())}",
            remedy="Convert the tables to one unit, or name recipes of one unit with between=.",
        )
    require_given(first.law, given)
    axis = axis_of(first.law, given)
    runs = {n: axis.values(side.runs, side.law) for n, side in sides.items()}
    largest = max(float(v.max()) for v in runs.values())
    at = np.atleast_1d(np.asarray(flops, float))
    if not at.size:
        budgets = first.info.get("budgets") or (default_budgets(first.runs) if axis.unit == "FLOP" else (10 * largest,))
        at = np.unique([largest, *(b for b in budgets if b >= largest)])
    if at.ndim != 1 or not (np.isfinite(at) & (at > 0)).all():
        raise NotFittedFor(f"{axis.name} must be positive numbers", remedy="For example --flops 1e21.")
    horizon = max(HORIZON * largest, float(at.max()))
    taken = first.tree[draws].to_dataset()
    shape = (taken.sizes["chain"], taken.sizes["draw"])
    variables: dict[str, list[np.ndarray]] = {"multiplier": [], "better": [], "crossing": []}
    crossings, shares = [], []
    for x, y in pairs:
        start, end = max(runs[x].min(), runs[y].min()), min(runs[x].max(), runs[y].max())
        if not start < end:  # no common range: between the smallest and the largest run of either
            start, end = min(runs[x].min(), runs[y].min()), max(runs[x].max(), runs[y].max())
        points, ends = np.asarray([*at, start, end]), (float(start), horizon)
        found = compare_curves(sides[x], sides[y], axis, points, ends, given, draws)
        gap, factor, crossing = found["gap"], found["log_factor"], found["crossing"]
        with np.errstate(invalid="ignore"):
            drift = factor[-1] - factor[-2]
        parallel = bool(np.nanmax(np.abs(np.where(np.isfinite(drift), drift, 1.0))) < _PARALLEL)
        crossings.append(_crossing(crossing, float(start), float(end), horizon, at, prob, parallel))
        shares.append(
            {} if isinstance(fit, Batch) else _shares(fit, sides, (x, y), axis, points, ends, given, parallel)
        )
        variables["multiplier"].append(np.exp(factor[: len(at)]).reshape(-1, *shape))
        variables["better"].append((gap[: len(at)] > 0).reshape(-1, *shape))
        variables["crossing"].append(np.exp(crossing).reshape(shape))
    dims = {"multiplier": ("pair", "flops", "chain", "draw"), "crossing": ("pair", "chain", "draw")}
    dims["better"] = dims["multiplier"]
    dataset = xr.Dataset(
        {n: (dims[n], np.stack(v)) for n, v in variables.items()},
        coords={
            "flops": at,
            "x": ("pair", [x for x, _ in pairs]),
            "y": ("pair", [y for _, y in pairs]),
            "chain": taken["chain"],
            "draw": taken["draw"],
        },
        attrs={"law": fit.law.spec, "axis": axis.name, "draws": draws},
    )
    whole = [fit] if column is not None else [*sides.values()]
    notes = [*dict.fromkeys(n for one in whole for n in caveats(one, draws))]
    if at.max() > FAR * largest:
        notes.append(f"up to {at.max() / largest:.3g} times beyond the largest run: mostly the law's form")
    if isinstance(fit, Batch):
        notes.append("the recipes were fitted apart: their posteriors are independent")
    source = ", ".join(names) if isinstance(fit, Batch) else fit.info["runs"]["source"]
    law, kind = fit.law.spec, first.interval_kind(draws)
    return Multiplier(
        dataset, pairs, tuple(crossings), tuple(shares), axis, largest, prob, law, source, tuple(notes), kind
    )


def _pairs(fit: Fit, known: Sequence[str], between: tuple[str, str] | None) -> tuple[tuple[str, str], ...]:
    """The pairs asked for: the named one, or all."""
    if len(known) < 2 and isinstance(fit, Batch):
        raise NotFittedFor(
            f"fewer than two tables of this batch are certified: {', '.join(known) or 'none'}",
            code="BS-F002",
            remedy="batch.status says why; pool='recipe' fits the recipes together.",
        )
    if len(known) < 2:
        raise NotFittedFor(
            "this fit compares no recipes: its parameters do not differ by level",
            remedy="Fit with pool='recipe' (--pool recipe), or a law of methods.",
        )
    if between is None:
        return tuple(combinations(known, 2))
    if len(between) != 2 or between[0] == between[1]:
        raise LawError("between names two recipes", code="BS-U001", remedy=f"Of {', '.join(known)}.")
    for name in between:
        if str(name) not in known:
            raise LawError(f"no recipe {name!r} in this fit", code="BS-L002", remedy=nearest(str(name), list(known)))
    return ((str(between[0]), str(between[1])),)


def _crossing(
    crossing: np.ndarray, start: float, end: float, horizon: float, at: np.ndarray, prob: float, parallel: bool
) -> Crossing:
    there = np.exp(crossing)
    crosses = np.isfinite(there)
    inside, beyond = float((there <= end).mean()), float((there > end).mean())
    interval = None
    if crosses.mean() >= LIKELY:
        ends = np.quantile(there[crosses], [0.5, (1 - prob) / 2, (1 + prob) / 2])
        interval = (float(ends[0]), float(ends[1]), float(ends[2]))
    before = tuple((float(C), float((there <= C).mean())) for C in at)
    return Crossing(start, end, horizon, inside, beyond, float(1 - crosses.mean()), before, interval, parallel)


def _shares(
    fit: Fit,
    sides: Mapping[str, Fit],
    pair: tuple[str, str],
    axis: Axis,
    points: np.ndarray,
    ends: tuple[float, float],
    given: Mapping[str, float],
    parallel: bool,
) -> dict[str, float]:
    """The prior's share in the multiplier at the largest common run, and in how it changes over the runs."""
    factor = compare_curves(sides[pair[0]], sides[pair[1]], axis, points, ends, given, "posterior")["log_factor"]
    asked = {"the multiplier among the runs": np.exp(np.clip(factor[-1], -50, 50))}
    if not parallel:
        asked["its change with compute"] = np.clip(factor[-1], -50, 50) - np.clip(factor[-2], -50, 50)
    return held_by_prior(fit, asked)


def _factor(x: float) -> str:
    if np.isinf(x):
        return f"over {WIDEST:.0e}"
    return f"{x:.2f}" if 0.01 <= x < 100 else f"{x:.2g}"


def _chance(p: float) -> str:
    """A probability from a few thousand draws: its ends are never reached."""
    return "> 0.999" if p > 0.999 else "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _crossing_lines(c: Crossing, unit: str, prob: float) -> list[str]:
    if c.impossible:
        return ["the curves cannot cross: what would bend them apart is shared (pool the exponents too to ask)"]
    lines = [
        f"crossing: P(among the runs) {_chance(c.inside)}, P(above them, up to {c.horizon:.3g} {unit}) "
        f"{_chance(c.beyond)}, P(never) {_chance(c.never)}",
    ]
    lines.append("; ".join(f"P(before {C:.3g}) {_chance(p)}" for C, p in c.before))
    if c.interval is not None:
        median, lower, upper = c.interval
        lines.append(
            f"where they cross: {median:.2g} ({lower:.2g} to {upper:.2g}) {unit}, {prob:.0%} of draws that cross"
        )
    return lines
