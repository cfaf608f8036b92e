"""Delimited text: encoding, delimiter, comments, header, a row of units, ragged rows."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bayescale.errors import Note, RunsError, shorten_rows
from bayescale.reading.cells import is_missing, parse_number
from bayescale.reading.headers import named_loss_unit, recognise, with_unit
from bayescale.reading.table import Table, make_table

#: Delimiters in the order in which ties are settled, with the name a person gives them.
DELIMITERS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar", " ": "spaces"}
_EXPECTED = {".tsv": "\t", ".tab": "\t", ".psv": "|"}
_SNIFFED_LINES = 200
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte-order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")


def decode(content: bytes, source: str) -> tuple[str, tuple[Note, ...]]:
    """Bytes as text, and a note that names the encoding where it is not plain UTF-8.

    Raises `RunsError` (BS-R037) when the bytes are no text.
    """
    text, encoding = _decode(content, source)
    if _CONTROL.search(text):
        raise RunsError("this is not text", code="BS-R037", file=source, remedy="Export the table as CSV.")
    said = (Note("BS-R032", f"the file is encoded as {encoding}"),) if encoding else ()
    return text.replace("\r\n", "\n").replace("\r", "\n"), said


def _decode(content: bytes, source: str) -> tuple[str, str]:
    for mark, codec, name in _BOMS:
        if content.startswith(mark):
            try:
                return content.decode(codec).removeprefix("\ufeff"), name
            except UnicodeDecodeError:
                raise RunsError(
                    f"the file claims to be {name} but is damaged",
                    code="BS-R032",
                    file=source,
                    remedy="Save it again as UTF-8.",
                ) from None
    head = content[:2000]
    for codec, zeros, others in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if len(head) > 3 and zeros.count(0) > 0.8 * len(zeros) and others.count(0) < 0.2 * len(others):
            try:
                return content.decode(codec), "UTF-16 without a byte-order mark"
            except UnicodeDecodeError:
                break
    try:
        return content.decode("utf-8"), ""
    except UnicodeDecodeError:
        pass
    # Bytes 0x80-0x9f are control characters in Latin-1 but quotes and dashes in Windows-1252.
    if any(0x80 <= b <= 0x9F for b in content):
        try:
            return content.decode("cp1252"), "Windows-1252, not UTF-8"
        except UnicodeDecodeError:
            pass
    return content.decode("latin-1"), "Latin-1, not UTF-8"


@dataclass(frozen=True)
class Record:
    """One row of a text file: the line on which it starts, and its cells."""

    line: int
    cells: list[str]

    @property
    def blank(self) -> bool:
        """Whether no cell holds anything."""
        return not any(self.cells)


def read_delimited(text: str, source: str, suffix: str = "", notes: Sequence[Note] = ()) -> Table:
    """A table from delimited text.

    Comment lines, blank lines and a row of units are recognised, and said. Raises `RunsError` (BS-R031) without a
    header, (BS-R033) for ragged rows, (BS-R037) for an empty file.
    """
    said = list(notes)
    numbered = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not numbered:
        raise RunsError("the file is empty", code="BS-R037", file=source, remedy="Give a table with a header.")
    comments = [(n, line) for n, line in numbered if line.lstrip().startswith("#")]
    lines = [(n, line) for n, line in numbered if not line.lstrip().startswith("#")]
    if len(lines) <= 1 < len(comments):  # every row starts with '#': a column of colours, not comments
        lines, comments = numbered, []
    if not lines:
        raise RunsError(
            "the file holds only comments", code="BS-R037", file=source, remedy="Give a table with a header."
        )
    with _long_cells():
        delimiter = sniff([line for _, line in lines[:_SNIFFED_LINES]])
        records = _records(lines, delimiter, source)
    if header := _commented_header(records, comments, delimiter, source):
        said.append(Note("BS-R031", f"the header was taken from the comment on line {header.line}"))
        comments = [c for c in comments if c[0] != header.line]
    else:
        header, records = records[0], records[1:]
    _require_names(header, source)
    if comments:
        said.append(Note("BS-R031", f"{_lines(comments)}, starting with '#', {_was(comments)} skipped as comments"))
    if delimiter != _EXPECTED.get(suffix, ","):
        said.append(Note("BS-R031", f"the columns are separated by {DELIMITERS[delimiter]}"))
    if empty := [(r.line, "") for r in records if r.blank]:
        said.append(Note("BS-R031", f"{_lines(empty)} held no value and {_was(empty)} skipped"))
    records = _rectangular(header, [r for r in records if not r.blank], delimiter, source)
    units: dict[str, str] = {}
    if records and (units := units_row(header.cells, records[0].cells)):
        said.append(Note("BS-R031", f"line {records[0].line} was read as a row of units"))
        records = records[1:]
    columns = list(zip(*(r.cells for r in records), strict=True)) if records else [()] * len(header.cells)
    return make_table(header.cells, columns, [r.line for r in records], source, said, delimiter, units)


@contextmanager
def _long_cells() -> Iterator[None]:
    """Cells longer than Python's reader takes by default: an export may hold a whole configuration in one."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _lines(found: Sequence[tuple[int, str]]) -> str:
    return f"line{'s' if len(found) > 1 else ''} {shorten_rows([n for n, _ in found])}"


def _was(found: Sequence[object]) -> str:
    return "were" if len(found) > 1 else "was"


def sniff(lines: Sequence[str]) -> str:
    """The delimiter under which most rows have as many cells as the header; a comma where there is a single column."""
    best, score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        if delimiter == " " and score[0] > 0:
            break
        widths = [len(r) for r in _split(lines, delimiter)]
        if not widths or widths[0] < 2:
            continue
        agreement = widths.count(widths[0]) / len(widths) if len(widths) > 1 else 1.0
        if delimiter == " " and agreement < 0.9:
            continue
        if (agreement, widths[0]) > score:
            best, score = delimiter, (agreement, widths[0])
    return best


def _split(lines: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    if delimiter == " ":
        return (line.split() for line in lines)
    rows = csv.reader(iter(lines), delimiter=delimiter, skipinitialspace=delimiter != "\t")
    return (_outer_bars(r) if delimiter == "|" else r for r in rows if r)


def _outer_bars(cells: list[str]) -> list[str]:
    """A row of a Markdown table without its outer bars."""
    return cells[1:-1] if len(cells) > 2 and not cells[0].strip() and not cells[-1].strip() else cells


def _records(lines: list[tuple[int, str]], delimiter: str, source: str) -> list[Record]:
    if delimiter == " ":
        return [Record(n, line.split()) for n, line in lines]
    read: list[int] = []
    # Strict parsing keeps an open quotation mark from swallowing rows; spaces after a closed one are harmless.
    after_quote = re.compile(rf'"[ \u00a0]+(?={re.escape(delimiter)}|$)')

    def feed() -> Iterator[str]:
        for n, line in lines:
            read.append(n)
            yield after_quote.sub('"', line) + "\n"

    rows = csv.reader(feed(), delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)
    records = []
    while True:
        seen = len(read)
        try:
            cells = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            raise RunsError(
                f"the row cannot be split into cells ({error})",
                code="BS-R033",
                file=source,
                rows=read[seen : seen + 1],
                remedy="Close every quotation mark that opens a cell.",
            ) from None
        cells = [c.strip() for c in (_outer_bars(cells) if delimiter == "|" else cells)]
        records.append(Record(read[seen], cells))
    if delimiter == "|" and len(records) > 1 and all(re.fullmatch(r":?-{2,}:?", c) for c in records[1].cells):
        del records[1]  # the rule under the header of a Markdown table
    return records


def _commented_header(
    records: list[Record], comments: list[tuple[int, str]], delimiter: str, source: str
) -> Record | None:
    """The header, where numbers start at once and the comment above them has as many words."""
    first = records[0]
    above = [c for c in comments if c[0] < first.line]
    if not above or not _mostly_numbers(first.cells):
        return None
    line, text = above[-1]
    cells = _records([(line, text.lstrip().lstrip("#").strip())], delimiter, source)[0].cells
    return Record(line, cells) if len(cells) == len(first.cells) and not _mostly_numbers(cells) else None


def _mostly_numbers(cells: Sequence[str]) -> bool:
    filled = [c for c in cells if c]
    return bool(filled) and sum(parse_number(c) is not None for c in filled) * 2 >= len(filled)


def _require_names(header: Record, source: str) -> None:
    if _mostly_numbers(header.cells):
        raise RunsError(
            "the first line holds numbers, not the names of the columns",
            code="BS-R031",
            file=source,
            rows=[header.line],
            remedy="Add a header line such as `params,tokens,loss`.",
        )


def _rectangular(header: Record, records: list[Record], delimiter: str, source: str) -> list[Record]:
    """The rows, all as wide as the header; one blank cell at the end of every row is a trailing delimiter."""
    width = len(header.cells)
    if records and all(len(r.cells) == width + 1 and not r.cells[-1] for r in records):
        records = [Record(r.line, r.cells[:-1]) for r in records]
    ragged = [r for r in records if len(r.cells) != width]
    if not ragged:
        return records
    first = ragged[0]
    many = f" ({len(ragged)} such rows)" if len(ragged) > 1 else ""
    remedy = "Make every row as long as the header; delete titles and totals."
    if delimiter == "," and len(ragged) == len(records) and all(len(r.cells) > width for r in ragged):
        remedy = "If commas mark decimals, separate the columns with semicolons or quote the numbers."
    elif delimiter == "," and any(len(r.cells) > width for r in ragged):
        remedy = "Quote cells that contain a comma, and delete titles and totals."
    raise RunsError(
        f"line {first.line} has {len(first.cells)} cells where the header has {width}{many}",
        code="BS-R033",
        file=source,
        rows=[r.line for r in ragged],
        remedy=remedy,
    )


def units_row(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """The units under a header, by column, where the row under it holds nothing but words and one is a unit."""
    filled = {n: c for n, c in zip(names, cells, strict=True) if not is_missing(c)}
    if not filled or any(parse_number(c) is not None for c in filled.values()):
        return {}
    units = {n: c.strip("()[] ") for n, c in filled.items()}
    return units if any(_is_unit(n, u) for n, u in units.items()) else {}


def _is_unit(name: str, unit: str) -> bool:
    meaning = recognise(name)
    if meaning is None:
        return False
    return named_loss_unit(unit) is not None if meaning.column == "loss" else with_unit(meaning, unit) is not None
