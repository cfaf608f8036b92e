"""Lack of fit: what the law misses at repeated designs, against how far repeats differ among themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayescale.diagnostics.sweeps import design_cells, settings_of
from bayescale.errors import Finding
from bayescale.narrowness.alarms import LACK_ALARM, Bench, distinct_factors
from bayescale.noise import LINKS

#: Repeats say little of their own error below so many degrees of freedom; residuals beyond so many scales are cut.
_FEWEST, _CUT = 3, 4.0
#: Two runs, even of one seed on two machines, differ by more than this.
_COPIED = 1e-9


@dataclass(frozen=True, eq=False)
class Replicates:
    """The rows whose losses are seen, the cell of each (one design, recipe and settings), and the degrees of freedom
    between repeats."""

    rows: np.ndarray
    cells: np.ndarray
    free: int

    @property
    def count(self) -> int:
        """The number of designs."""
        return int(self.cells.max()) + 1


def replicates_of(bench: Bench) -> Replicates | None:
    """The repeats of a table, or None where they are too few, or designs no more than the law's coordinates."""
    model = bench.line.model
    runs, law = model.runs, model.law
    if len(law.responses) != 1 or any(i.per for i in law.inputs):
        return None
    cells = design_cells(runs, law, [*settings_of(runs, law), *(["run"] if _checkpoints(runs) else [])])
    rows = np.flatnonzero(~bench.line.rows.bounded)
    if not len(rows):
        return None
    cells = np.unique(cells[rows], return_inverse=True)[1]
    made = Replicates(rows, cells, len(cells) - int(cells.max()) - 1)
    return made if made.free >= _FEWEST and made.count > bench.line.inner + _FEWEST else None


def _checkpoints(runs) -> bool:
    """Whether runs have several rows: then rows of one run are no repeats of each other."""
    return runs.has("run") and len(runs.labels("run")[1]) < len(runs)


def lack_of_fit(bench: Bench, made: Replicates) -> Finding:
    """The mean square of the law's misses at designs over that between repeats, against tables that follow the law."""
    line = bench.line
    repeats = f"{made.free + _repeated(made)} runs repeat {_repeated(made)} designs"
    misses, between = _squares(line.residual[None] / line.rows.spread, made, line.inner)
    ratio = float(np.sqrt(misses[0] / between[0]))
    chance = np.sqrt(np.divide(*_squares(bench.fitted[0] / line.rows.spread, made, line.inner)))
    threshold = float(np.quantile(chance, 1 - LACK_ALARM))
    failed = ratio > threshold
    pure = float(np.sqrt(_within(line.residual[None], made)[0] / made.free))
    if failed and pure < _COPIED:  # where losses are rounded so far, simulated ones agree as well
        message = f"{repeats} and agree in every digit, as copies do: keep one row of each"
        return Finding("lack-of-fit", "lack of fit", "fail", None, None, message)
    link = LINKS[line.model.law.responses[0].support]
    size = f"{pure:.2%}" if link is LINKS["positive"] else f"{pure:.2g}"
    times, explained = distinct_factors(ratio, threshold)
    message = f"{repeats} and differ by {size}; the law misses designs by {times} times what that explains"
    if failed:
        message += f", where chance goes to {explained}: the law lacks a term, or inputs are in error"
    else:
        message += f", as chance may (up to {explained})"
    return Finding("lack-of-fit", "lack of fit", "fail" if failed else "pass", ratio, threshold, message)


def _repeated(made: Replicates) -> int:
    return int((np.bincount(made.cells) > 1).sum())


def _within(residual: np.ndarray, made: Replicates) -> np.ndarray:
    """The sum of squares of residuals about their cell's mean, for every table: (tables,)."""
    residual, sizes = residual[:, made.rows], np.bincount(made.cells)
    incidence = np.eye(made.count)[made.cells]
    means = residual @ incidence / sizes
    return ((residual - means[:, made.cells]) ** 2).sum(axis=1)


def _squares(scaled: np.ndarray, made: Replicates, parameters: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares of the cells' means and within cells, of residuals in units of the noise, for every table.

    Residuals far in the tails are cut, so that one bad seed does not hide what the law misses, or stand for it.
    """
    cut = np.clip(scaled[:, made.rows], -_CUT, _CUT)
    sizes = np.bincount(made.cells)
    means = cut @ np.eye(made.count)[made.cells] / sizes
    misses = (sizes * means**2).sum(axis=1) / (made.count - parameters)
    within = ((cut - means[:, made.cells]) ** 2).sum(axis=1) / made.free
    return misses, within + 1e-300
