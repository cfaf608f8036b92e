"""How rows observe a response: scales that differ by row, checkpoints that are correlated, rounded and one-sided rows.

A noise says how one residual is distributed at a given scale. Here is what a table adds to it: measurement errors of
the response and of the inputs, growth of the scale with compute and tokens per parameter, the correlation of a run's
checkpoints, and rows of which only an interval is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayescale.errors import LawError, Note, RunsError
from bayescale.law import Beta, Input, Law, LogNormal, Normal, Parameter, Uniform
from bayescale.model.grouping import Grouping
from bayescale.noise import LINKS
from bayescale.runs import COLUMNS, Runs, compute_of

#: Growth of the scale never exceeds this factor, either way.
MOST_GROWTH = 10.0
#: Nodes of the quadrature over what a rounded row may have been, and where rows are one-sided.
ROUNDED_NODES, BOUNDED_NODES = 12, 24
#: In the quadrature's coordinate, residual = scale sinh(v): nothing beyond is looked at, a factor of 200 scales.
_REACH = 6.0
#: The correlation of checkpoints is estimated where runs have this many of them on average.
FEWEST_CHECKPOINTS = 3.0
#: A column of numbers with more values than this does not sort the rows of a run into kinds.
_MOST_KINDS = 30
#: A correlation's range in log tokens: a doubling is 0.7.
RANGE = Parameter(
    "ell", LogNormal(float(np.log(0.1)), 2.0), "range of the checkpoints' correlation in log tokens", symbol=r"\ell"
)
#: The same where there are several runs: what lasts beyond a factor e of tokens is the effect of the run. A longer
#: range would leave the levels of all runs open, and the law to fit nothing but how they fall.
RANGE_OF_RUNS = replace(RANGE, prior=Beta(1.0, 4.0))

#: Below a cut in compute rows may lie off the law, by this much of the loss an e-fold; the cut is where it may be.
EXCESS = Parameter("excess", Normal(0.0, 0.01), "what log loss exceeds the law by below the cut, an e-fold of compute")
CUT = Parameter("cut", Uniform(0.0, 1.0), "place of the cut between the least compute and that of 60 % of the rows")
#: The bend at the cut, in log compute: sharp beside the distance between budgets.
_BEND = 0.2
_MOST_BELOW = 0.6


@dataclass(frozen=True)
class Growth:
    """A slope of the log of the noise's scale: its parameter, and what it multiplies, as weights of log inputs."""

    parameter: Parameter
    weights: tuple[tuple[str, float], ...]


def growths_of(law: Law) -> tuple[Growth, ...]:
    """How the scale of a law's noise may grow: with C = 6ND and D/N where it has N and D, or with its first input.

    Raises `LawError` for a law without a positive input.
    """
    names = [i.name for i in law.inputs if i.centre == "ratio" and not i.dims]
    if {"N", "D"} <= {*names}:
        return (
            _growth("C", "C", (("N", 1.0), ("D", 1.0))),
            _growth("R", "D/N", (("N", -1.0), ("D", 1.0))),
        )
    if not names:
        raise LawError(
            f"law {law.name!r} has no positive input for the scale of the noise to grow with",
            code="BS-L002",
            remedy="Choose a noise of one scale: student_t, normal or laplace.",
        )
    return (_growth(names[0], names[0], ((names[0], 1.0),)),)


def _growth(suffix: str, what: str, weights: tuple[tuple[str, float], ...]) -> Growth:
    meaning = f"slope of log sigma in log {what}"
    return Growth(Parameter(f"growth_{suffix}", Normal(0.0, 0.15), meaning, symbol=rf"\kappa_{{{suffix}}}"), weights)


@dataclass(frozen=True)
class Observing:
    """What shapes the density of rows beyond the noise; the numbers are in a model's `data`.

    `error`: the response has standard errors. `moved`: columns with standard errors, and which of the law's log inputs
    each moves. `growth`: slopes of the noise's log scale. `nodes`: how many the intervals take, 0 where every row is
    exact. `serial`: the checkpoints of a run are correlated, `several` runs' or one's. `excess`: below a cut in compute
    rows may lie off the law.
    """

    error: bool = False
    moved: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()
    growth: tuple[Growth, ...] = ()
    nodes: int = 0
    serial: bool = False
    several: bool = False
    excess: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is sampled for it, beside the noise's own parameters."""
        serial = ((RANGE_OF_RUNS if self.several else RANGE),) if self.serial else ()
        excess = (EXCESS, CUT) if self.excess else ()
        return (*(g.parameter for g in self.growth), *serial, *excess)

    @property
    def key(self) -> tuple:
        """What a compiled program depends on."""
        return (self.error, self.moved, tuple(g.weights for g in self.growth), self.nodes, self.serial, self.excess)

    def growth_factor(self, values: Mapping[str, Any], logs: Mapping[str, Any], suffix: str, m: Any) -> Any:
        """What the noise's scale is multiplied by at rows of these log inputs, less those of the references.

        `m` is the module that computes it, NumPy or JAX's.
        """
        slope = 0.0
        for g in self.growth:
            slope = slope + values[f"{g.parameter.name}{suffix}"] * sum(w * logs[name] for name, w in g.weights)
        most = float(np.log(MOST_GROWTH))
        return m.exp(most * m.tanh(slope / most)) if self.growth else 1.0


def observing_of(
    law: Law, runs: Runs, checkpoints: tuple[np.ndarray, np.ndarray] | None, growth: bool, excess: bool
) -> Observing:
    """What a table adds to the noise of a law; nothing where the law has a likelihood of its own."""
    if law.likelihood is not None:
        return Observing()
    losses = any(r.source == "loss" for r in law.responses)
    one_sided = losses and bool(bounded_rows("loss", runs).any())
    rounded = losses and runs.has("loss_step")
    return Observing(
        error=any(runs.has(f"{r.source}_se") for r in law.responses),
        moved=_moved(law, runs),
        growth=growths_of(law) if growth else (),
        nodes=BOUNDED_NODES if one_sided else ROUNDED_NODES if rounded else 0,
        serial=checkpoints is not None,
        several=checkpoints is not None and len(runs.labels("run")[1]) > 1,
        excess=excess,
    )


def bounded_rows(source: str, runs: Runs) -> np.ndarray:
    """The rows that tell only a bound of a response: runs that were not tuned, below whose losses the law may lie."""
    if source != "loss" or not runs.has("undertuned"):
        return np.zeros(len(runs), bool)
    return runs.values("undertuned") > 0


def notes_on(o: Observing, law: Law, runs: Runs, checkpoints: tuple[np.ndarray, np.ndarray] | None) -> tuple[Note, ...]:
    """What the likelihood takes into account beyond one scale for all rows, as sentences."""
    notes = []
    if o.serial and checkpoints is not None:
        alike = "checkpoints of one run err alike: their correlation falls with the distance in log tokens"
        curves, count = int(checkpoints[0].max()) + 1, len(runs.labels("run")[1])
        several = f"; rows of one place or of another kind are another curve: {curves} of {count} runs"
        notes.append(Note("BS-R016", alike + (several if curves > count else "")))
    if o.nodes:
        if any(r.source == "loss" for r in law.responses) and runs.has("loss_step"):
            notes.append(Note("BS-R026", "a rounded loss stands for all that round to it (loss_step)"))
        if o.nodes == BOUNDED_NODES:
            count = int(bounded_rows("loss", runs).sum())
            notes.append(
                Note(
                    "BS-R061",
                    f"{count} of {len(runs)} runs were not tuned: the law may lie below their losses",
                )
            )
    if o.excess:
        notes.append(Note("BS-R062", "below a cut in compute, averaged over, rows may lie off the law (excess)"))
    if o.moved:
        columns = ", ".join(column for column, _ in o.moved)
        notes.append(Note("BS-R060", f"errors of {columns} count by the slope of the law along them"))
    return tuple(notes)


def _moved(law: Law, runs: Runs) -> tuple[tuple[str, tuple[tuple[str, float], ...]], ...]:
    """Which log inputs of the law an error of each column moves.

    A quantity that the table did not give follows from C = 6ND, and so does its error: where D = C / 6N, a larger N
    means a smaller D.
    """
    trio = ("params", "tokens", "flops")
    derived = [c for c in trio if runs.has(c) and runs.column_map and c not in runs.column_map]
    moved = []
    for name in dict.fromkeys((*trio, *(i.column for i in law.inputs))):
        if not runs.has(f"{name}_se"):
            continue
        change = {name: 1.0}
        if len(derived) == 1 and name in trio and name != derived[0]:
            change[derived[0]] = 1.0 if "flops" in (name, derived[0]) else -1.0
        change["tokens_per_param"] = change.get("tokens", 0.0) - change.get("params", 0.0)
        weights = tuple((i.name, change[i.column]) for i in law.inputs if _scalar(i) and change.get(i.column))
        if weights:
            moved.append((name, weights))
    return tuple(moved)


def _scalar(i: Input) -> bool:
    return i.centre == "ratio" and not i.dims


def checkpoints_of(
    law: Law, runs: Runs, group: str | Sequence[str], groupings: Sequence[Grouping]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The curve of every row and how far along it the row is, where rows are checkpoints of runs; else None.

    They are where runs have an effect of their own, or where `group` is "auto" and the table names runs whose effect is
    left out, as of a single one. A row's place is the log of its tokens, or of the law's one input without them.
    """
    index = next((g.index for g in groupings if g.kind == "run"), None)
    if index is None and group == "auto" and runs.has("run"):
        index = runs.labels("run")[0]
    column = place_column(law, runs)
    if index is None or column is None:
        return None
    curve = curves_of(runs, index, place := np.log(runs.values(column)))
    met = (np.bincount(curve) ** 2).sum() / len(curve)  # how many rows the curve of a row has, on average
    return (curve, place) if met >= FEWEST_CHECKPOINTS else None


def curves_of(runs: Runs, index: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Which curve every row is on: those of a run that a column sorts into kinds, or that share a place, are several.

    Kinds are phases, or sets that a checkpoint was evaluated on: a column of text sorts where more curves of three rows
    come of it, one of numbers (seeds) where rows share a place as well. Rows of different responses are always on
    different curves. What is left at one place goes to a first curve, a second and so on, in the order of the rows.
    """
    import pandas as pd

    curve = np.unique(index, return_inverse=True)[1]
    named = [h for h in runs.frame.columns if isinstance(h, str)]
    text = [h for h in named if not pd.api.types.is_numeric_dtype(runs.frame[h])]
    numbers = [h for h in named if h not in text and h not in COLUMNS and _counts(runs.values(h))]
    for header in (*text, *numbers):
        if header in numbers and not _copies(curve, place).any():
            break
        kind = runs.labels(header)[0].astype(np.int64)
        finer = np.unique(curve * (kind.max() + 1) + kind, return_inverse=True)[1]
        long = [(np.bincount(c) >= FEWEST_CHECKPOINTS).sum() for c in (curve, finer)]
        if long[1] > long[0] or header == "response":
            curve = finer
    copy = _copies(curve, place)
    return np.unique(curve * (copy.max() + 1) + copy, return_inverse=True)[1]


def _counts(values: np.ndarray) -> bool:
    """Whether a column holds a few whole numbers, as seeds do."""
    return bool((np.isfinite(values) & (values == np.round(values))).all()) and len(np.unique(values)) <= _MOST_KINDS


def _copies(curve: np.ndarray, place: np.ndarray) -> np.ndarray:
    """How many rows of the same curve and place stand before each."""
    import pandas as pd

    return pd.DataFrame({"a": curve, "b": place}).groupby([*"ab"], dropna=False).cumcount().to_numpy()


def place_column(law: Law, runs: Runs) -> str | None:
    """The column whose logarithm tells how far along its run a checkpoint is; None where there is none."""
    scales = [i.column for i in law.inputs if _scalar(i)]
    return "tokens" if runs.has("tokens") else scales[0] if len(scales) == len(law.inputs) == 1 else None


def observing_data(
    o: Observing, runs: Runs, checkpoints: tuple[np.ndarray, np.ndarray] | None, held: np.ndarray
) -> dict[str, Any]:
    """The numbers behind `o` that belong to rows whatever the response, unpadded.

    Rows `held` out are no neighbours, nor are those of which only a bound is known: their residuals are not seen.
    """
    data: dict[str, Any] = {}
    if o.moved:
        data["input_error"] = {column: _relative_error(runs, column) for column, _ in o.moved}
    if checkpoints is not None and o.serial:
        unseen = held | bounded_rows("loss", runs) if o.nodes == BOUNDED_NODES else held
        previous, gap = _neighbours(*checkpoints, unseen)
        data["serial"] = {"previous": previous, "gap": gap}
    if o.excess:
        log_flops = _log_flops(runs)
        ends = np.quantile(log_flops, [0.0, _MOST_BELOW])
        low, high = (np.full(len(runs), end) for end in ends)
        data["below"] = {"log_flops": log_flops, "low": low, "high": high}
    return data


def _log_flops(runs: Runs) -> np.ndarray:
    flops = compute_of(runs)
    if flops is None:
        raise RunsError(
            "a cut in compute needs the compute of every run, and the table tells neither C nor N and D",
            code="BS-R030",
            file=runs.source,
            remedy="Leave out --min-flops.",
        )
    return np.log(flops)


def excess_of(values: Mapping[str, Any], below: Mapping[str, Any], suffix: str, m: Any) -> Any:
    """What rows exceed the law by on the link scale: nothing above the cut, linear in log compute below.

    `m` is the module that computes it, NumPy or JAX's.
    """
    cut = below["low"] + values[f"{CUT.name}{suffix}"] * (below["high"] - below["low"])
    return values[f"{EXCESS.name}{suffix}"] * _BEND * m.logaddexp(0.0, (cut - below["log_flops"]) / _BEND)


def _relative_error(runs: Runs, column: str) -> np.ndarray:
    """The standard errors of a column's logarithm; none where a cell is blank."""
    error = np.nan_to_num(runs.values(f"{column}_se") / runs.values(column), nan=0.0)
    if (bad := ~np.isfinite(error) | (error < 0)).any():
        raise RunsError(
            "a standard error must be zero or positive",
            code="BS-R003",
            column=f"{column}_se",
            file=runs.source,
            rows=[runs.rows[k] for k in np.flatnonzero(bad)],
        )
    return error


def _neighbours(index: np.ndarray, place: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every row the seen checkpoint of its run before it (itself for the first) and how far that is (-1)."""
    order = np.lexsort((place, index))
    order = order[~held[order]]
    previous, gap = np.arange(len(place), dtype=np.int32), np.full(len(place), -1.0)
    same = index[order[1:]] == index[order[:-1]]
    later, before = order[1:][same], order[:-1][same]
    previous[later], gap[later] = before, place[later] - place[before]
    return previous, gap


def interval_data(o: Observing, source: str, support: str, runs: Runs) -> dict[str, np.ndarray]:
    """By how much the response may differ from what the table says, on the link scale: `low` to `high`, unpadded.

    A rounded row was within half a step; a run that was not tuned shows only what a tuned one does not exceed. Both are
    zero for a row that is exact.
    """
    if not o.nodes:
        return {}
    y, link = runs.values(source), LINKS[support]
    half = np.zeros_like(y)
    if source == "loss" and runs.has("loss_step"):
        half = np.nan_to_num(runs.values("loss_step"), nan=0.0) / 2
    if support == "positive":
        half = np.minimum(half, 0.9 * y)
    low, high = link.forward(y - half) - link.forward(y), link.forward(y + half) - link.forward(y)
    low = np.where(bounded_rows(source, runs), -np.inf, low)
    return {"low": np.asarray(low, float), "high": np.asarray(high, float)}


def correlation(values: Mapping[str, Any], serial: Mapping[str, Any], suffix: str) -> Any:
    """The correlation of every row's residual with that of the checkpoint before it; 0 for a run's first."""
    import jax.numpy as jnp

    gap = serial["gap"]
    return jnp.where(gap >= 0, jnp.exp(-jnp.maximum(gap, 0.0) / values[f"{RANGE.name}{suffix}"]), 0.0)


def innovations(residual: Any, scale: Any, rho: Any, previous: Any) -> tuple[Any, Any]:
    """What is new in every residual given the checkpoint before it, and its scale; linear in the residuals."""
    import jax.numpy as jnp

    scale = jnp.broadcast_to(scale, residual.shape)
    new = residual - rho * scale / scale[previous] * residual[previous]
    return new, scale * jnp.sqrt(1 - rho**2)


def interval_log_density(
    density: Callable[[Any, Any], Any], residual: Any, scale: Any, low: Any, high: Any, nodes: int
) -> Any:
    """The log-density of rows of which an interval is known: its mean over a rounded row's, the mass below a bound.

    Gauss and Legendre's rule in v, where residual = scale sinh(v): it resolves intervals far narrower and far wider
    than the noise. `density(residual, scale)` gives log-densities; a row with `low == high` is exact.
    """
    import jax
    import jax.numpy as jnp

    exact, bounded = low == high, low == -np.inf
    top = jnp.clip(jnp.arcsinh((residual + high) / scale), None, _REACH)
    narrow = jnp.arcsinh((residual + jnp.where(bounded | exact, -1.0, low)) / scale)
    bottom = jnp.where(bounded, top - 2 * _REACH, narrow)
    top = jnp.where(exact, bottom + 1.0, jnp.where(bounded, top, jnp.arcsinh((residual + high) / scale)))
    at, weights = np.polynomial.legendre.leggauss(nodes)
    half = (top - bottom) / 2
    v = (top + bottom) / 2 + half * at[:, None]
    terms = density(scale * jnp.sinh(v), scale) + jnp.log(scale * jnp.cosh(v)) + jnp.log(weights)[:, None]
    mass = jax.nn.logsumexp(terms, axis=0) + jnp.log(half)
    width = jnp.where(exact | bounded, 1.0, high - jnp.where(bounded, 0.0, low))
    return jnp.where(exact, density(residual, scale), mass - jnp.log(width))
