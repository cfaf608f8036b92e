"""Which rows belong together: partitions that an answer is tried against by leaving their parts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayescale.model import Grouping, isoflop_levels, same_partition
from bayescale.model.grouping import AUTOMATIC
from bayescale.runs import Runs, compute_of

#: Fewer clusters than this say nothing about a spread.
FEWEST_CLUSTERS = 6
#: Bands along compute hold about this many rows, and there are at most so many.
_BAND_ROWS, _MOST_BANDS = 6, 15
ROW, BAND = "row", "band of compute"
_LABELS = {"row": "run", "params": "model size", "budget": "compute budget", "flops": "compute budget"}


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of the rows by what they share: a name, the cluster of every row, how many, and whether the model
    has an effect for them."""

    name: str
    index: np.ndarray
    count: int
    fitted: bool = False

    @property
    def label(self) -> str:
        """What one cluster is, in words."""
        return label_of(self.name)

    def rows(self) -> list[np.ndarray]:
        """The rows of every cluster."""
        return [np.flatnonzero(self.index == k) for k in range(self.count)]


def labels_of(column: str) -> str:
    """Several of what rows with one value of a column share, in words."""
    head, of, rest = label_of(column).partition(" of ")
    return f"{head}s{of}{rest}"


def label_of(column: str) -> str:
    """What rows with one value of a column share, in words."""
    return _LABELS.get(column, column)


def clusters_of(runs: Runs, fitted: Sequence[Grouping]) -> tuple[Clusters, ...]:
    """The partitions that the jackknife leaves out by: rows, every known grouping, bands along compute.

    Groupings with fewer than 6 clusters, and those that repeat another, are left out.
    """
    found = [Clusters(ROW, np.arange(len(runs)), len(runs))]

    def add(name: str, index: np.ndarray, has_effect: bool = False) -> None:
        index = np.unique(index, return_inverse=True)[1]
        count = int(index.max()) + 1
        if count >= FEWEST_CLUSTERS and not any(same_partition(index, c.index) for c in found):
            found.append(Clusters(name, index, count, has_effect))

    for g in fitted:
        add(g.column, g.index, True)
    for column in AUTOMATIC:
        if runs.sorts(column):
            add(column, runs.labels(column)[0])
    if not runs.has("budget") and (made := isoflop_levels(runs)):
        add("budget", made.index)
    if (C := compute_of(runs)) is not None:
        add(BAND, bands(C))
    return tuple(found)


def bands(x: np.ndarray) -> np.ndarray:
    """Bands of neighbours in x with about equally many rows; equal values share a band."""
    count = int(np.clip(len(x) // _BAND_ROWS, FEWEST_CLUSTERS, _MOST_BANDS))
    _, where = np.unique(x, return_inverse=True)
    below = np.concatenate([[0], np.cumsum(np.bincount(where))[:-1]])
    return np.unique(below * count // len(x), return_inverse=True)[1][where]


def halves(x: np.ndarray) -> np.ndarray:
    """Which rows are in the lower half by x: a cut between two values that leaves the halves as even as can be."""
    values, counts = np.unique(x, return_counts=True)
    below = np.cumsum(counts)[:-1]
    cut = int(np.argmin(np.abs(below - len(x) / 2))) if len(below) else 0
    return x <= values[cut]
