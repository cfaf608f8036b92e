"""Tables as trackers export them: curves of several runs side by side, or one curve named by its file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, cast

from bayescale.errors import Note
from bayescale.reading.cells import is_missing
from bayescale.reading.headers import normalise
from bayescale.reading.table import Table

if TYPE_CHECKING:
    import pandas as pd

#: "silver-sun-12 - val/loss", beside which Weights & Biases puts the ends of the bin, "… - val/loss__MIN".
_SIDE_BY_SIDE = re.compile(r"(?P<run>.+?) - (?P<metric>[^\s].*?)(?P<end>__(?:MIN|MAX))?")
_AXES = frozenset("step _step globalstep trainerglobalstep tokens epoch time relativetime(process) walltime".split())
#: TensorBoard names the file of a curve "run-NAME-tag-TAG.csv", or "NAME-tag-TAG.csv".
_TAGGED = re.compile(r"(?:run-)?(?P<run>.+?)-tag-(?P<tag>.+)")


def understood(table: Table) -> Table:
    """The table with the layout of a tracker undone, and said; any other table as it is."""
    return _tensorboard(table) or _side_by_side(table) or table


def _tensorboard(table: Table) -> Table | None:
    """One curve: `Wall time, Step, Value`, whose name and metric only the file's name tells."""
    if [normalise(h) for h in table.cells.columns] != ["walltime", "step", "value"]:
        return None
    found = _TAGGED.fullmatch(PurePath(table.source).stem)
    if found is None:
        return None
    value = table.cells.columns[2]
    cells = table.cells.rename(columns={value: found["tag"]})
    cells.insert(0, "run", found["run"])
    note = Note(
        "BS-R031",
        f"a TensorBoard curve: {value!r} is called {found['tag']!r} and the run {found['run']!r}, as the file's name "
        "says; N is not in such a file",
    )
    return replace(table, cells=cells, notes=(*table.notes, note))


def _side_by_side(table: Table) -> Table | None:
    """Curves of several runs in columns "run - metric": one row a run and step instead."""
    import pandas as pd

    first = table.cells.columns[0]
    if str(first).strip().lower().replace(" ", "") not in _AXES:
        return None
    pairs = {h: m for h in table.cells.columns[1:] if (m := _SIDE_BY_SIDE.fullmatch(str(h)))}
    if not pairs or len(pairs) < len(table.cells.columns) - 1:
        return None
    kept = {h: m for h, m in pairs.items() if not m["end"]}
    if not kept:
        return None
    runs = list(dict.fromkeys(m["run"] for m in kept.values()))
    metrics = list(dict.fromkeys(m["metric"] for m in kept.values()))
    blocks = []
    for run in runs:
        columns = {m["metric"]: table.cells[h] for h, m in kept.items() if m["run"] == run}
        block = pd.DataFrame({"run": run, first: table.cells[first], **columns})
        there = [any(not is_missing(c) for c in row) for row in block[list(columns)].itertuples(index=False)]
        blocks.append(block.loc[there])
    long = cast("pd.DataFrame", pd.concat(blocks)).reindex(columns=["run", first, *metrics])
    lines = pd.Index(range(1, len(long) + 1), dtype="int64")
    ends = len(pairs) - len(kept)
    note = Note(
        "BS-R031",
        f"a Weights & Biases history: the curves of {len(runs)} runs, side by side under {first!r}, were put one under "
        "the other and their rows numbered anew from 1"
        + (f"; {ends} columns of __MIN and __MAX left out" if ends else ""),
    )
    return replace(table, cells=long.set_axis(lines, axis=0), notes=(*table.notes, note))
