"""Tables in memory or in JSON: mappings of columns, and lists of records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bayescale.errors import Note, RunsError
from bayescale.reading.table import Table, make_table


def read_columns(columns: Mapping[Any, Any], source: str, notes: Sequence[Note] = ()) -> Table:
    """A table from a mapping of names to sequences of equal length."""
    columns = _aligned(columns, source)
    cells = {str(name): _column(name, column, source) for name, column in columns.items()}
    lengths = {name: len(c) for name, c in cells.items()}
    if not lengths:
        raise RunsError("the table has no columns", code="BS-R037", file=source)
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name!r} {n}" for name, n in lengths.items())
        raise RunsError(
            f"the columns have different lengths: {said}",
            code="BS-R033",
            file=source,
            remedy="Give one value a run in every column.",
        )
    lines = list(range(1, next(iter(lengths.values())) + 1))
    return make_table(list(cells), list(cells.values()), lines, source, notes)


def _aligned(columns: Mapping[Any, Any], source: str) -> Mapping[Any, Any]:
    """Columns as pandas writes them to JSON, {"params": {"0": 1e9, …}, …}, as sequences in one order."""
    nested = [c for c in columns.values() if isinstance(c, Mapping)]
    if not nested:
        return columns
    order = list(nested[0])
    if len(nested) < len(columns) or any(set(c) != set(order) for c in nested):
        raise RunsError(
            "the columns do not name the same rows",
            code="BS-R033",
            file=source,
            remedy="Give a list of records, or columns of equal length.",
        )
    return {name: [column[key] for key in order] for name, column in columns.items()}


def _column(name: Any, column: Any, source: str) -> Any:
    import numpy as np
    import pandas as pd

    if isinstance(column, pd.Series | pd.Index):
        return column.array.copy()  # by position: a dict of Series must not be aligned on its indices
    if not isinstance(column, np.ndarray | str | bytes) and hasattr(column, "__array__"):
        try:  # arrays of JAX, PyTorch and the like
            column = np.asarray(column)
        except Exception as error:  # the other library's own errors, of any type
            raise RunsError(
                f"cannot be made a NumPy array ({error})", code="BS-R039", column=str(name), file=source
            ) from None
    if not isinstance(column, str | bytes) and hasattr(column, "__len__") and hasattr(column, "__getitem__"):
        if isinstance(column, np.ndarray) and column.ndim != 1:
            raise RunsError(
                f"an array of {column.ndim} dimensions is no column",
                code="BS-R039",
                column=str(name),
                file=source,
                remedy="Give one value a run.",
            )
        return column.copy() if isinstance(column, np.ndarray) else list(column)
    raise RunsError(
        "is no sequence of values",
        code="BS-R039",
        column=str(name),
        file=source,
        remedy="Give a list with one value a run.",
    )


def read_json(text: str, source: str, notes: Sequence[Note], lines: bool) -> Table:
    """A table from JSON: records, columns, {"columns": …, "data": …}, or (with `lines`) one record a line.

    Raises `RunsError` (BS-R037) for what is no JSON, (BS-R033) for a line or a row that is no record.
    """
    if lines:
        return _read_lines(text, source, notes)
    try:
        document = _parsed(text)
    except ValueError as error:
        if "\n" in text.strip() and text.lstrip().startswith("{"):
            return _read_lines(text, source, notes)
        raise _not_json(source, error) from None
    return _from_document(document, source, notes)


def _read_lines(text: str, source: str, notes: Sequence[Note]) -> Table:
    numbered = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    records = []
    for n, line in numbered:
        try:
            records.append(_parsed(line))
        except ValueError as error:
            raise _not_json(source, error, n) from None
    return read_records(records, [n for n, _ in numbered], source, notes)


def _from_document(document: Any, source: str, notes: Sequence[Note]) -> Table:
    """A table from one JSON document, in any of the layouts that exporters write."""
    if isinstance(document, dict):
        names, rows = document.get("columns"), document.get("data")
        if isinstance(names, list) and isinstance(rows, list):
            if not all(isinstance(r, list) and len(r) == len(names) for r in rows):
                raise RunsError(
                    "a row has more or fewer values than there are columns",
                    code="BS-R033",
                    file=source,
                    rows=[k for k, r in enumerate(rows, 1) if not isinstance(r, list) or len(r) != len(names)],
                    remedy="Give one value a column in every row.",
                )
            document = [{str(n): v for n, v in zip(names, r, strict=True)} for r in rows]
        elif (wrapped := _only_list_of_records(document)) is not None:
            document = wrapped
        elif document and all(isinstance(v, list | dict) for v in document.values()):
            return read_columns(document, source, notes)
        else:
            document = [document]
    records = document if isinstance(document, list) else [document]
    return read_records(records, range(1, len(records) + 1), source, notes)


def _only_list_of_records(document: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The records of a document such as {"runs": [{…}, …]}."""
    inner = next(iter(document.values())) if len(document) == 1 else None
    return inner if isinstance(inner, list) and inner and isinstance(inner[0], dict) else None


def _parsed(text: str) -> Any:
    def settle(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({k for k, _ in pairs}) < len(pairs):
            raise ValueError("a name is given twice in one record")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=settle)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _not_json(source: str, error: ValueError, line: int | None = None) -> RunsError:
    return RunsError(
        f"this is not JSON ({error})" if line is None else f"line {line} is not JSON ({error})",
        code="BS-R037" if line is None else "BS-R033",
        file=source,
        rows=[] if line is None else [line],
        remedy="Give a list of records, or one record a line.",
    )


def read_records(records: list[Any], lines: Sequence[int], source: str, notes: Sequence[Note] = ()) -> Table:
    """A table from records, one a row; a name that a record lacks is a blank cell.

    Raises `RunsError` (BS-R033) for rows that are no records, (BS-R037) where there is none.
    """
    if odd := [n for n, r in zip(lines, records, strict=True) if not isinstance(r, Mapping)]:
        raise RunsError(
            "a row is not a record of named values",
            code="BS-R033",
            file=source,
            rows=odd,
            remedy='Give records such as {"params": 1e9, "tokens": 2e10, "loss": 2.9}.',
        )
    flat = [_flattened(r) for r in records]
    names = list(dict.fromkeys(name for r in flat for name in r))
    if not names:
        raise RunsError("the file holds no records", code="BS-R037", file=source, remedy="Give one record a run.")
    columns = [[r.get(name) for r in flat] for name in names]
    return make_table(names, columns, list(lines), source, notes)


def _flattened(record: Mapping[Any, Any], before: str = "") -> dict[str, Any]:
    """Nested records as exporters write them: {"config": {"params": …}} becomes `config.params`."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value
    return flat
