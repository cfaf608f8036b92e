"""A table as it was found: cells, line numbers, and what had to be adapted to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bayescale.errors import Note, RunsError
from bayescale.reading.cells import is_missing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Table:
    """Cells as read, before any of them has a meaning.

    The index of `cells` numbers the rows as a person counts them: lines of a text file (the header is line 1), else
    positions from 1. `delimiter` is that of a text file (None otherwise); `units` is a row of units under the header;
    `rows_read` counts the rows of a file of which only some were kept (0: all were).
    """

    cells: pd.DataFrame
    source: str
    notes: tuple[Note, ...] = ()
    delimiter: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    rows_read: int = 0


def make_table(
    names: Sequence[Any],
    columns: Sequence[Any],
    lines: Sequence[int],
    source: str,
    notes: Sequence[Note] = (),
    delimiter: str | None = None,
    units: Mapping[str, str] | None = None,
) -> Table:
    """A table from headers, columns and row numbers; nameless and repeated headers are settled here.

    Raises `RunsError` (BS-R030) for two different columns of one name, (BS-R037) for a table without rows.
    """
    import pandas as pd

    if not lines:
        raise RunsError(
            "there is a header but no row under it",
            code="BS-R037",
            file=source,
            remedy="Give a table with one row a training run.",
        )
    kept: dict[str, Any] = {}
    said: list[Note] = list(notes)
    for position, (raw, column) in enumerate(zip(names, columns, strict=True), start=1):
        series = _series(column, pd.Index(lines, dtype="int64"))
        name = "" if raw is None else str(raw).strip()
        if not name or name.startswith("Unnamed: "):
            if _counts_rows(series):
                said.append(Note("BS-R031", "the first column has no name and only counts the rows: it was left out"))
                continue
            if not name and all(is_missing(c) for c in series.tolist()):
                continue
            name = name or f"column_{position}"
            said.append(Note("BS-R030", f"column {position} has no name: it is called {name!r}"))
        if name in kept:
            if not _same(kept[name], series):
                raise RunsError(
                    f"two different columns are called {name!r}",
                    code="BS-R030",
                    column=name,
                    file=source,
                    remedy="Rename one of them.",
                )
            said.append(Note("BS-R030", f"column {name!r} is there twice with the same cells: one was kept"))
            continue
        kept[name] = series
    return Table(pd.DataFrame(kept, index=pd.Index(lines, dtype="int64")), source, tuple(said), delimiter, units or {})


def _series(column: Any, index: pd.Index) -> pd.Series:
    """A copy of a column; a list, or an array of objects, gets a type only where its cells share one."""
    import pandas as pd

    if not isinstance(column, list | tuple) and column.dtype.kind != "O":
        return pd.Series(column, index=index, copy=True)
    series = pd.Series(list(column), index=index, dtype=object)
    try:
        return series.infer_objects()
    except OverflowError:  # integers beyond int64
        return series


def _counts_rows(series: pd.Series) -> bool:
    try:
        values = [float(c) for c in series.tolist()]
    except (TypeError, ValueError, OverflowError):
        return False
    return any(values == [float(k) for k in range(start, start + len(values))] for start in (0, 1))


def _same(one: pd.Series, other: pd.Series) -> bool:
    return [str(c) for c in one.tolist()] == [str(c) for c in other.tolist()]
