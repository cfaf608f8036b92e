"""A table on its way to becoming `Runs`: what every step of the reading sees and changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from bayescale.errors import Note, RunsError, UnitError
from bayescale.reading.headers import Meaning
from bayescale.reading.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from bayescale.reading.curves import Curves


@dataclass(frozen=True)
class Options:
    """What the caller of `read_runs` said about the table."""

    where: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    loss_unit: str | None = None
    units: Mapping[str, str | float] = field(default_factory=dict)
    drop_missing: bool = False
    response: str | None = "loss"
    rows_per_run: str | int | None = None
    learning_rates: str | None = None


@dataclass
class Draft:
    """The state of a reading.

    `cells` are the cells as found; `headers` maps canonical names to headers, `meanings` to what those headers say;
    `frame` holds numbers once they are converted; `unreadable` the text of cells that should have been numbers, by
    canonical name and row; `stated` the scale columns whose unit is known and must not be questioned; `given` the
    quantities that the table itself holds (the others follow from C = 6ND); `absent` headers without any value;
    `curves` which rows are one run, where a run has several, and `recorded` the same before most rows were left out.
    """

    table: Table
    cells: pd.DataFrame
    options: Options
    frame: pd.DataFrame
    notes: list[Note]
    rows_read: int
    marks: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    meanings: dict[str, Meaning] = field(default_factory=dict)
    unreadable: dict[str, dict[int, str]] = field(default_factory=dict)
    stated: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    loss_unit: str | None = None
    convention: str | None = None
    curves: Curves | None = None
    recorded: Curves | None = None

    @property
    def source(self) -> str:
        """The name of the table."""
        return self.table.source

    @property
    def response(self) -> str | None:
        """The column that the caller wants to explain."""
        return self.options.response

    def note(self, code: str, message: str, unused: str | None = None) -> None:
        """Remember something that was assumed, changed or left out; the same sentence is said once.

        `unused` names a column of which it holds only while no model uses it.
        """
        if (made := Note(code, message, unused)) not in self.notes:
            self.notes.append(made)

    def column(self, header: str) -> pd.Series:
        """A column of the cells as found."""
        return cast("pd.Series", self.cells[header])

    def header(self, name: str) -> str:
        """The header of a canonical column, as the person who made the table knows it."""
        return self.headers.get(name, name)

    def rows(self, bad: np.ndarray | Sequence[bool]) -> list[int]:
        """The numbers of the rows where `bad` holds."""
        return [int(n) for n in self.frame.index[np.asarray(bad, bool)]]

    def values(self, name: str) -> np.ndarray | None:
        """A numeric column, or None where it is absent."""
        return self.frame[name].to_numpy(dtype=np.float64, copy=True) if name in self.frame.columns else None

    def error(
        self, code: str, message: str, *, name: str | None = None, rows: Sequence[int] = (), remedy: str | None = None
    ) -> RunsError:
        """An error about this table; `name` is the canonical column that it is about."""
        kind = UnitError if code in ("BS-R005", "BS-R006", "BS-R008", "BS-R009", "BS-R010") else RunsError
        column = self.header(name) if name else None
        return kind(message, code=code, rows=rows, column=column, file=self.source, remedy=remedy)

    def cell(self, name: str, row: int) -> str:
        """A cell as it was written, for messages."""
        if name not in self.headers:
            return f"{self.frame.at[row, name]:g}"
        found = self.cells.at[row, self.headers[name]]
        text = found.strip() if isinstance(found, str) else f"{found:g}" if isinstance(found, float) else str(found)
        return text if len(text) <= 24 else f"{text[:20]}…"
