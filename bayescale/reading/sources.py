"""Where a table comes from: a file of any known format, a data frame, or columns in memory."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from bayescale.errors import Note, RunsError
from bayescale.reading.delimited import decode, read_delimited
from bayescale.reading.large import read_large
from bayescale.reading.records import read_columns, read_json, read_records
from bayescale.reading.table import Table, make_table

if TYPE_CHECKING:
    import pandas as pd

#: Text larger than this is not read into memory.
MOST_BYTES = 2**30

_DELIMITED = (".csv", ".tsv", ".tab", ".psv", ".txt")
_EXPORT = "Export the table as CSV, JSON or Parquet."
_PICKLES = (".pkl", ".pickle", ".p", ".joblib", ".pt", ".pth", ".dill")
_PICKLE = re.compile(
    rb"\x80[\x02-\x05]|\([ldt]p?\d*\n"
    rb"|c(?:copy_reg|copyreg|pandas|numpy|builtins|__builtin__|collections|os|posix|nt)\b"
)
#: How files that are no tables begin.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a spreadsheet or a zip archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"),
    (b"\x89HDF", "an HDF5 or netCDF file"),
    (b"CDF", "a netCDF file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"ARROW1", "an Arrow file"),
    (b"%PDF", "a PDF document"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"version https://git-lfs", "a pointer to a file in Git LFS, not the file itself"),
)
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)


def open_table(source: Any, columns: Mapping[str, str] | None = None) -> Table:
    """A table from a path, a data frame, anything that offers the Arrow or data frame interchange, or columns.

    `columns` are the headers that a person named, which decide what is kept of a file too large to hold. Raises
    `RunsError` (BS-R037) for anything else, and for files that are missing, empty or no tables.
    """
    import pandas as pd

    if isinstance(source, str | os.PathLike):
        return _from_path(source, dict(columns or {}))
    if isinstance(source, pd.DataFrame):
        return from_pandas(source, "DataFrame")
    if isinstance(source, Mapping):
        return _from_mapping(source)
    if isinstance(source, list | tuple) and source and all(isinstance(r, Mapping) for r in source):
        return read_records(list(source), range(1, len(source) + 1), "records")
    if _is_dataset(source):
        return read_columns(cast(Any, source).to_dict(), type(source).__name__)
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__"):
        return from_pandas(_interchanged(source), type(source).__name__)
    raise RunsError(
        f"cannot read a table from an object of type {type(source).__name__}",
        code="BS-R037",
        remedy="Give a path, a data frame, or a dict of columns.",
    )


def _is_dataset(source: Any) -> bool:
    """Whether an object is a data set of named columns that gives itself as a dict, as those of Hugging Face do."""
    return isinstance(getattr(source, "column_names", None), list) and callable(getattr(source, "to_dict", None))


def _from_mapping(source: Mapping[Any, Any]) -> Table:
    splits = {str(name): part for name, part in source.items() if _is_dataset(part)}
    if not splits or len(splits) < len(source):
        return read_columns(source, "dict")
    if len(splits) > 1:
        first = next(iter(splits))
        raise RunsError(
            f"this is a data set of {len(splits)} splits: {', '.join(map(repr, splits))}",
            code="BS-R037",
            remedy=f"Give one of them, as in dataset[{first!r}].",
        )
    return open_table(next(iter(splits.values())))


def _from_path(source: str | os.PathLike, columns: dict[str, str]) -> Table:
    name = os.fspath(source)
    name = os.fsdecode(name) if isinstance(name, bytes) else name

    def refuse(what: str, remedy: str) -> NoReturn:
        raise RunsError(what, code="BS-R037", file=name, remedy=remedy)

    if not name.strip():
        refuse("no file was named", "Give the path of a CSV, TSV, JSON or Parquet file, or a data set's name.")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
        refuse("this is an address, not a file", "Download it and give the path.")
    path = Path(name)
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    pickled = f"Pickles are never loaded, because they can run code. {_EXPORT}"
    try:
        if path.is_dir():
            refuse("this is a folder, not a file", "Give the path of one table.")
        if not path.exists():
            refuse("no such file", "Check the path; `bayescale datasets` lists the tables that need no file.")
        if not (path.is_file() or path.is_fifo()):
            refuse("this is not a regular file", _EXPORT)
        if any(s in _PICKLES for s in suffixes):
            refuse("this is a pickle", pickled)
        if path.is_file() and (size := path.stat().st_size) > MOST_BYTES:
            if suffix in _DELIMITED and suffixes and path.suffix.lower() != ".gz":
                return read_large(path, name, suffix, columns, size)
            raise RunsError(
                "the file is larger than 1 GiB",
                code="BS-R035",
                file=name,
                remedy="Keep the columns and rows you need, such as each run's last row, or give it as CSV.",
            )
        content = path.read_bytes()
    except OSError as error:
        refuse(f"the file cannot be opened ({error.strerror or error})", "Check the path and its permissions.")
    content = _unzipped(content, name)
    if not content.strip():
        refuse("the file is empty", "Give a table with a header and one row a training run.")
    if content.startswith(b"PAR1") or suffix in (".parquet", ".pq"):
        return _from_parquet(content, name)
    if _PICKLE.match(content):
        refuse("this is a pickle", pickled)
    for start, what in _OTHERS:
        if content.startswith(start):
            refuse(f"this is {what}", _EXPORT)
    if _WEB_PAGE.match(content):
        refuse("this is a web page", "Download the raw file.")
    text, notes = decode(content, name)
    if suffix in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "["):
        return read_json(text, name, notes, lines=suffix in (".jsonl", ".ndjson"))
    return read_delimited(text, name, suffix, notes)


def _unzipped(content: bytes, name: str) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.open(io.BytesIO(content)) as file:
            plain = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RunsError(
            f"the file is compressed with gzip but damaged ({error})",
            code="BS-R037",
            file=name,
            remedy="Download or compress it again.",
        ) from None
    if len(plain) > MOST_BYTES:
        raise RunsError(
            "the file unpacks to more than 1 GiB",
            code="BS-R035",
            file=name,
            remedy="Keep the columns and rows you need, such as each run's last row.",
        )
    return plain


def _from_parquet(content: bytes, name: str) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise RunsError(
            "Parquet files need pyarrow, which is not installed",
            code="BS-R037",
            file=name,
            remedy="Install it with: pip install 'bayescale[parquet]'",
        ) from None
    try:
        frame = pq.read_table(pa.BufferReader(content)).to_pandas()
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunsError(
            f"the Parquet file is damaged or of an unknown kind ({reason})",
            code="BS-R037",
            file=name,
            remedy="Write it again.",
        ) from None
    return from_pandas(frame, name)


def _interchanged(source: Any) -> pd.DataFrame:
    import pandas as pd

    kind = type(source).__name__
    try:
        import pyarrow as pa
    except ImportError:
        pa = None
    try:
        if pa is not None and hasattr(source, "__arrow_c_stream__"):
            return pa.table(source).to_pandas()
        if hasattr(source, "__dataframe__"):
            return pd.api.interchange.from_dataframe(source)
    except Exception as error:  # the other library's own errors, of any type
        raise RunsError(
            f"a {kind} could not be read as a table ({error})",
            code="BS-R037",
            remedy="Convert it to a pandas data frame or a dict of columns.",
        ) from None
    raise RunsError(
        f"reading a {kind} needs pyarrow, which is not installed",
        code="BS-R037",
        remedy="Install it with: pip install 'bayescale[parquet]', or give a dict of columns.",
    )


def from_pandas(frame: pd.DataFrame, source: str) -> Table:
    """A table from a pandas frame; rows are numbered from 1, and a named index counts as columns."""
    notes: list[Note] = []
    if any(name is not None for name in frame.index.names) or not _plain_index(frame):
        fallback = ["index"] if frame.index.nlevels == 1 else [f"index_{k}" for k in range(frame.index.nlevels)]
        taken = [str(n) if n is not None else f for n, f in zip(frame.index.names, fallback, strict=True)]
        notes.append(Note("BS-R031", f"the index of the frame was read as column {', '.join(map(repr, taken))}"))
        index = [frame.index.get_level_values(k) for k in range(frame.index.nlevels)]
    else:
        taken, index = [], []
    labels = [".".join(str(p) for p in c if str(p)) if isinstance(c, tuple) else c for c in frame.columns]
    columns = [i.to_series() for i in index] + [frame.iloc[:, k] for k in range(frame.shape[1])]
    if not labels:
        raise RunsError("the table has no columns", code="BS-R037", file=source)
    lines = list(range(1, len(frame) + 1))
    return make_table([*taken, *labels], [c.array.copy() for c in columns], lines, source, notes)


def _plain_index(frame: pd.DataFrame) -> bool:
    import pandas as pd

    return (frame.index.nlevels == 1 and pd.api.types.is_integer_dtype(frame.index.dtype)) or len(frame) == 0
