"""Rows at one design: repeats of a run, or a sweep of settings that the law knows nothing of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayescale.errors import Finding, Note
from bayescale.law import Law
from bayescale.laws import find_law
from bayescale.runs import Runs, numeric_levels

#: Columns of settings that training is swept over; what a law takes as an input is none of them.
_SETTING = re.compile(
    r"(^|[\s_.-])(lr|learning[\s_.-]rate|eta|min_lr|batch|bs|warm_?up|wd|momentum|beta_?[12]|schedule|decay|optimi[sz]er"
    r"|dropout)([\s_.-]|$)",
    re.IGNORECASE,
)
#: Sweeps whose losses lie this far above their cell's best (median over cells, of the log of the worst) are told; those
#: farther than the second are no scatter about a law.
SWEPT, BAD_SWEPT = 0.01, 0.03


def settings_of(runs: Runs, law: Law) -> tuple[str, ...]:
    """Columns of training settings that vary in a table and are no input of the law."""
    inputs = {c for i in law.inputs for c in i.columns(runs.columns)}
    levels = {runs.resolve(p.over) for p in (*law.parameters, *law.sampled) if p.over}
    named = [c for c in runs.columns if _SETTING.search(c) and c not in inputs | levels]
    return tuple(c for c in named if len(set(runs.frame[c].tolist())) > 1)


def design_cells(runs: Runs, law: Law, more: Sequence[str] = ()) -> np.ndarray:
    """The cell of every row: rows of one cell share every input of the law, the recipe and the columns of `more`."""
    columns = [c for i in law.inputs for c in i.columns(runs.columns)]
    columns += [runs.resolve(p.over) for p in (*law.parameters, *law.sampled) if p.over]
    columns += [c for c in ("recipe", "response") if runs.has(c)]
    index = np.zeros(len(runs), int)
    for column in dict.fromkeys([*columns, *more]):
        if column in more:
            levels = runs.frame[column].astype("string").fillna("").factorize()[0]
        elif column in runs.columns:
            levels = runs.labels(column)[0]
        else:  # computed from others, as tokens a parameter
            levels = numeric_levels(runs.values(column))[0]
        index = np.unique(index * (int(levels.max()) + 1) + levels, return_inverse=True)[1]
    return index


@dataclass(frozen=True, eq=False)
class Sweeps:
    """Sweeps of settings in a table: the columns, the cell of every row, how many rows and cells are swept, and the
    log of the worst loss over the best, the median over swept cells."""

    settings: tuple[str, ...]
    cells: np.ndarray
    rows: int
    count: int
    spread: float


def sweeps_of(runs: Runs, law: Law) -> Sweeps | None:
    """The sweeps of a table whose response is a positive loss, or None."""
    response = law.responses[0]
    settings = settings_of(runs, law)
    if not settings or response.support != "positive" or law.likelihood is not None or not runs.has(response.source):
        return None
    y, cells = np.log(runs.values(response.source)), design_cells(runs, law)
    tried = design_cells(runs, law, settings)
    spreads, rows = [], 0
    for k in range(int(cells.max()) + 1):
        members = np.flatnonzero(cells == k)
        if len(np.unique(tried[members])) > 1:
            spreads.append(float(np.ptp(y[members])))
            rows += len(members)
    return Sweeps(settings, cells, rows, len(spreads), float(np.median(spreads))) if spreads else None


def sweep_finding(runs: Runs, law: Law) -> list[Finding]:
    """Whether rows at one design differ by settings, and how far their losses are above the best of their cell."""
    found = sweeps_of(runs, law)
    if found is None:
        return []
    worst = f"{np.expm1(found.spread):.1%}"
    told = f"{found.rows} of {len(runs)} rows sweep {' and '.join(found.settings[:3])} within {found.count} designs"
    message = f"{told}; the worst of a design is {worst} above its best (median)"
    bad = found.spread > BAD_SWEPT and found.rows > len(runs) / 4
    status = "fail" if bad else "warn" if found.spread > SWEPT else "pass"
    if status != "pass":
        message += ": badly set runs are no scatter about a law → Keep the best run of each design with --best."
    return [Finding("setting-sweeps", "sweeps of settings", status, found.spread, BAD_SWEPT, message)]


def best_runs(runs: Runs, law: str | Law = "chinchilla") -> Runs:
    """The run of least loss at each design, where settings were swept; other rows as they are.

    A design is one value of every input of the law and one recipe. The least of several is a little below what one run
    would reach, by about the spread of seeds: it favours designs with more settings tried.

    Example:
        >>> import bayescale as bs
        >>> len(bs.best_runs(bs.load_runs("byte-ladder", subset="all")))
        30
    """
    law = find_law(law)
    found = sweeps_of(runs, law)
    if found is None:
        return runs
    y = runs.values(law.responses[0].source)
    order = np.lexsort((y, found.cells))
    first = np.concatenate([[True], np.diff(found.cells[order]) > 0])
    keep = np.zeros(len(runs), bool)
    keep[order[first]] = True
    sizes = np.bincount(found.cells)
    tried = f"{sizes.min()} to {sizes.max()}" if np.ptp(sizes) else str(sizes.min())
    note = Note(
        "BS-R052",
        f"kept the run of least loss at each of {int(keep.sum())} designs ({tried} runs each, {len(runs)} rows): "
        "the least of several is a little below what one run would reach",
    )
    return runs.take(keep, note)
