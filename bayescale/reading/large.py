"""Files too large to hold: read line by line, keeping of every run a few rows along its way and its last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bayescale.errors import Note, RunsError
from bayescale.reading.cells import parse_number
from bayescale.reading.curves import STEP
from bayescale.reading.delimited import read_delimited, sniff
from bayescale.reading.headers import normalise, recognise
from bayescale.reading.table import Table

#: A row is kept where its run has come this much further than at the last row kept.
_FURTHER = 1.25
_HEAD = 200
#: More runs than these are not curves but rows, and would not fit into memory either.
_MOST_RUNS = 200_000


def read_large(path: Path, name: str, suffix: str, columns: dict[str, str], size: int) -> Table:
    """A table from a delimited file of any length, in memory that grows with its runs, not with its rows.

    Raises `RunsError` (BS-R035) where no column tells the runs, or how far along a row is, and (BS-R032) for a file
    that is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            return _read(file, name, suffix, columns, size)
    except UnicodeDecodeError:
        raise RunsError(
            "a file read in pieces must be UTF-8", code="BS-R032", file=name, remedy="Save it as UTF-8."
        ) from None


def _read(file: Iterator[str], name: str, suffix: str, columns: dict[str, str], size: int) -> Table:
    numbered = ((n, line.rstrip("\r\n")) for n, line in enumerate(file, start=1))
    numbered = ((n, line) for n, line in numbered if line.strip() and not line.lstrip().startswith("#"))
    head = [pair for _, pair in zip(range(_HEAD), numbered, strict=False)]
    delimiter = sniff([line for _, line in head])
    headers = _cells(head[0][1], delimiter)
    width = len(headers)
    run, along = _column(headers, "run", columns), _along(headers, columns)
    if run is None or along is None:
        what = "which run a row belongs to" if run is None else "how far along its run a row is"
        raise RunsError(
            f"the file has {size / 2**30:.1f} GiB, and no column tells {what}: rows cannot be chosen while it is read",
            code="BS-R035",
            file=name,
            remedy="Name the run with --column run=HEADER, or keep the columns and rows you need.",
        )
    kept: dict[int, str] = {}
    reached: dict[str, float] = {}
    last: dict[str, tuple[float, int, str]] = {}
    read = 0
    for n, line in _rest(head[1:], numbered):
        read += 1
        cells = line.split(delimiter) if '"' not in line and delimiter != " " else _cells(line, delimiter)
        position = _number(cells[along]) if len(cells) == width else None
        if position is None:  # a row of units, or one that the whole reading should judge
            kept[n] = line
            continue
        key = cells[run].strip()
        before = reached.get(key)
        if before is None or position >= _FURTHER * before:
            reached[key] = position
            kept[n] = line
        if before is None or position >= last[key][0]:
            last[key] = (position, n, line)
        if len(reached) > _MOST_RUNS:
            raise RunsError(
                f"the file has {size / 2**30:.1f} GiB and more than {_MOST_RUNS:,} runs",
                code="BS-R035",
                file=name,
                remedy="Keep the columns and rows you need.",
            )
    kept |= {n: line for _, n, line in last.values()}
    order = sorted(kept)
    note = Note(
        "BS-R035",
        f"the file has {size / 2**30:.1f} GiB and was read in pieces: of {read:,} rows of {len(reached):,} runs, "
        f"{len(order):,} were kept, each run's last and those where {headers[along]!r} had grown by a quarter",
    )
    text = "\n".join([head[0][1], *(kept[n] for n in order)])
    table = read_delimited(text, name, suffix, (note,))
    lines = [order[i - 2] for i in table.cells.index]  # the header is line 1 of the text made here
    cells = table.cells.set_axis(lines, axis=0)
    return Table(cells, table.source, table.notes, table.delimiter, table.units, read)


def _rest(head: list[tuple[int, str]], numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield from head
    yield from numbered


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        found = parse_number(cell.strip())
        return found[0] if found else None


def _cells(line: str, delimiter: str) -> list[str]:
    import csv

    if delimiter == " ":
        return line.split()
    return [c.strip() for c in next(csv.reader([line], delimiter=delimiter, skipinitialspace=delimiter != "\t"), [])]


def _column(headers: list[str], name: str, columns: dict[str, str]) -> int | None:
    if wanted := columns.get(name):
        return next((k for k, h in enumerate(headers) if normalise(h) == normalise(wanted)), None)
    meant = [(m.rank, k) for k, h in enumerate(headers) if (m := recognise(h)) and m.column == name]
    return min(meant)[1] if meant else None


def _along(headers: list[str], columns: dict[str, str]) -> int | None:
    steps = [k for k, h in enumerate(headers) if STEP.fullmatch(normalise(h))]
    return steps[0] if steps else _column(headers, "tokens", columns)
