"""Which runs are left out together: every level of the axis that is asked about, and the runs of largest scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from bayescale.errors import NotFittedFor, RunsError, nearest
from bayescale.law import Law
from bayescale.model import isoflop_levels
from bayescale.narrowness.clusters import BAND, bands, label_of
from bayescale.runs import Runs, compute_of

#: The name of the table with nothing left out, and of the one without the later runs: no fold has it.
ALL, LATER = "all runs", "later runs"
#: An axis needs so many levels; of more than the most, neighbours are left out together.
FEWEST_FOLDS, MOST_FOLDS = 3, 15
#: Names under which bands of compute are asked for.
_BANDS = ("flops", "compute", BAND)
#: Runs are later runs above this share of the largest compute, or the largest tenth of them if that is more; but not
#: more of them than the last share.
TOP, LEAST, MOST = 0.4, 0.1, 0.4


@dataclass(frozen=True, eq=False)
class Folds:
    """Parts of a table that are left out one at a time: the axis, what one is called, names, and the fold of every row.

    Example:
        >>> folds_of(bs.load_runs("byte-ladder")).names
        ('3e+12', '1e+13', '3e+13', '1e+14', '3e+14')
    """

    over: str
    label: str
    names: tuple[str, ...]
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def held(self) -> dict[str, np.ndarray]:
        """Which rows each fold leaves out, by its name."""
        return {name: self.index == k for k, name in enumerate(self.names)}


def folds_of(runs: Runs, over: str | None = None, law: Law | None = None) -> Folds:
    """The folds along an axis: a column, "budget", or "compute" for bands of it.

    Without a name: compute budgets where the table has them, else model sizes, else bands of compute, else bands of the
    law's first input. Raises `RunsError` (BS-R030) for an axis that the table lacks, `NotFittedFor` (BS-F002) for one
    with fewer than 3 levels.
    """
    if over is not None:
        found = _along(runs, over)
        if len(found) < FEWEST_FOLDS:
            raise NotFittedFor(
                f"{over!r} has {len(found)} levels: too few to leave one out",
                code="BS-F002",
                remedy="Name another axis: budget, params or compute.",
            )
        return found
    for axis in ("budget", "params", "compute"):
        try:
            found = _along(runs, axis)
        except RunsError:
            continue
        if len(found) >= FEWEST_FOLDS:
            return found
    if law is not None and (scale := scale_of(runs, law)) is not None:
        index = bands(scale.values)
        return _merged(scale.column, f"band of {scale.name}", index, _ranges(scale.values, index))
    raise NotFittedFor("the table has no axis to leave parts of it out along", code="BS-F002", remedy="Name a column.")


def _along(runs: Runs, over: str) -> Folds:
    C = compute_of(runs)
    if over in _BANDS:
        if C is None:
            raise RunsError("the table tells no compute", code="BS-R030", file=runs.source, remedy="Name another axis.")
        index = bands(C)
        return _merged("compute", BAND, index, _ranges(C, index))
    if over == "budget" and not runs.has("budget"):
        if (made := isoflop_levels(runs)) is None:
            raise RunsError("the table has no budgets", code="BS-R030", file=runs.source, remedy="Name another axis.")
        return _merged("budget", label_of("budget"), made.index, made.levels)
    if not runs.has(over):
        remedy = nearest(over, ["budget", "compute", *runs.columns])
        raise RunsError(f"no column {over!r} to leave parts out along", code="BS-R030", file=runs.source, remedy=remedy)
    return _merged(over, label_of(over), *runs.labels(over))


def _ranges(values: np.ndarray, index: np.ndarray) -> tuple[str, ...]:
    """What the values of each band are, in digits that tell apart those that differ."""
    members = [values[index == k] for k in range(int(index.max()) + 1)]
    ends = np.asarray([(m.min(), m.max()) for m in members])
    told = dict(zip(ends.ravel().tolist(), distinct_names(ends.ravel()), strict=True))
    return tuple(told[low] if low == high else f"{told[low]} to {told[high]}" for low, high in ends.tolist())


def distinct_names(values: np.ndarray) -> list[str]:
    """Numbers as text: in three digits, and in as many more as it takes for different numbers to have different names.

    Only those that share a name get more digits.

    Example:
        >>> distinct_names(np.array([1e18, 3.161e18, 3.164e18]))
        ['1e+18', '3.161e+18', '3.164e+18']
    """
    names = {v: f"{v:.3g}" for v in np.asarray(values, float).tolist()}
    for digits in range(4, 18):
        counts = Counter(names.values())
        names = {v: n if counts[n] == 1 else f"{v:.{digits}g}" for v, n in names.items()}
    return [names[v] for v in np.asarray(values, float).tolist()]


def _unique(names: Sequence[str], taken: Iterable[str] = (ALL, LATER)) -> tuple[str, ...]:
    """Names as they are, those that are taken with a number behind them."""
    made, taken = [], {*taken}
    for name in names:
        free = (f"{name} #{k}" if k > 1 else name for k in count(1))
        made.append(next(n for n in free if n not in taken))
        taken.add(made[-1])
    return tuple(made)


def _merged(over: str, label: str, index: np.ndarray, names: tuple[str, ...]) -> Folds:
    """At most `MOST_FOLDS` folds: neighbouring levels together, as evenly by rows as whole levels allow."""
    there, index = np.unique(index, return_inverse=True)
    names = tuple(names[k] for k in there)
    if len(names) > MOST_FOLDS:
        below = np.concatenate([[0], np.cumsum(np.bincount(index))[:-1]])
        band = np.unique(below * MOST_FOLDS // len(index), return_inverse=True)[1]
        groups = [[n for n, b in zip(names, band, strict=True) if b == k] for k in range(int(band.max()) + 1)]
        names = tuple(g[0] if len(g) == 1 else f"{g[0]} to {g[-1]}" for g in groups)
        index = band[index]
    return Folds(over, label, _unique(names), index)


@dataclass(frozen=True, eq=False)
class Scale:
    """What runs are ordered by: compute, or a law's own input; its symbol, column, unit and the value of every row."""

    name: str
    column: str
    unit: str
    values: np.ndarray


def scale_of(runs: Runs, law: Law) -> Scale | None:
    """Compute where the law's size, data or compute are what it takes, else the law's first positive input."""
    positive = [i for i in law.inputs if i.centre == "ratio" and not i.dims and i.per != "run"]
    C = compute_of(runs)
    if C is not None and ({i.name for i in positive} & {"N", "D", "C", "M"} or not positive):
        return Scale("C", "flops", "FLOP", C)
    if positive:
        first = positive[0]
        column = first.columns(runs.columns)[0]
        return Scale(first.name, column, first.unit, runs.values(column))
    return None


def later_runs(x: np.ndarray, cut: float | None = None) -> tuple[float, np.ndarray]:
    """The cut along a scale, and which runs lie above it: by default above 0.4 of the largest, or the largest tenth.

    Raises `NotFittedFor` (BS-F002) where that leaves too few runs on either side.
    """
    most = MOST if cut is None else 1.0
    where = min(TOP * float(x.max()), float(np.quantile(x, 1 - LEAST))) if cut is None else float(cut)
    later = x > where * (1 + 1e-9)
    if not 0 < later.sum() <= most * len(x) or later.all():
        raise NotFittedFor("no cut of the compute leaves enough runs to fit and some to forecast", code="BS-F002")
    return where, later
