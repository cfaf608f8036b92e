"""Numbers in cells: missing marks, "70B", thousands separators, decimal commas, and the types of columns."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.reading.multiples import multiple

if TYPE_CHECKING:
    import pandas as pd

#: What people write for "no value", in lower case. Text other than these is a value that is not a number.
MISSING = frozenset(
    (
        *("", "-", "--", "---", "—", "–", ".", "..", "…", "?"),
        *("na", "n/a", "n.a.", "nan", "nat", "<na>", "null", "none", "nil", "missing", "tbd"),
        *("#n/a", "#na", "#value!", "#ref!", "#div/0!", "#num!"),
    )
)

_SPACES = dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f"), " ")
_SIGNS = str.maketrans({"−": "-", "×": "x", "·": "x", "⋅": "x", "’": "'"})
_POWER = re.compile(r"(?:(?P<lead>.+?)\s*[x*]\s*)?10\s*(?:\^|\*\*)\s*(?P<power>[+-]?\d{1,3})")
_BODY = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>[\d.,_ ']*\d[\d.,_ ']*?)(?P<exponent>[eE][+-]?\d{1,4})?\s*(?P<unit>[^\W\d_].*)?"
)
_PYTHON_DIGITS = re.compile(r"\d+(?:_\d+)*(?:\.(?:\d+(?:_\d+)*)?)?|\.\d+")
_GROUPS = {
    ".": re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d{1,3}(?: \d{3})+(?:\.\d*)?|\d{1,3}(?:'\d{3})+(?:\.\d*)?"),
    ",": re.compile(r"\d{1,3}(?:\.\d{3})+(?:,\d*)?|\d{1,3}(?: \d{3})+(?:,\d*)?|\d{1,3}(?:'\d{3})+(?:,\d*)?"),
}


def is_missing(cell: Any) -> bool:
    """Whether a cell holds no value: blank, NaN, or a mark such as "-", "N/A" and "null"."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    if cell is None:
        return True
    if isinstance(cell, float | np.floating):
        return bool(np.isnan(cell))
    return type(cell).__name__ in ("NAType", "NaTType")


def parse_number(text: str, decimal: str = ".", column: str | None = None) -> tuple[float, bool] | None:
    """The number that a cell's text stands for and whether it states its own multiple; None where it is no number.

    `decimal` is the decimal mark. With `column` (a canonical scale column) multiples are read: "70B", "1.4T", "12 k",
    "3.2 EFLOP". "7e9", "1,234", "1_000" and "2 × 10^9" are read everywhere.

    Example:
        >>> parse_number("1.4T", column="tokens"), parse_number("3,14", decimal=",")
        ((1400000000000.0, True), (3.14, False))
    """
    if decimal == ".":
        try:
            return float(text), False
        except ValueError:
            pass
    text = text.translate(_SPACES).translate(_SIGNS).strip()
    if text.lower().lstrip("+-") in ("inf", "infinity", "∞"):
        return (-math.inf if text.startswith("-") else math.inf), False
    if power := _POWER.fullmatch(text):
        lead = parse_number(power["lead"], decimal) if power["lead"] else (1.0, False)
        return None if lead is None else (_scaled(lead[0], float(f"1e{power['power']}")), False)
    body = _BODY.fullmatch(text)
    if body is None:
        return None
    digits = _plain_digits(body["digits"].strip(), decimal)
    if digits is None:
        return None
    value = float(f"{body['sign']}{digits}{body['exponent'] or ''}")
    if not body["unit"]:
        return value, False
    factor = multiple(body["unit"], column) if column else None
    return None if factor is None else (_scaled(value, factor), True)


def _scaled(value: float, factor: float) -> float:
    return float(scaled(np.array([value]), factor)[0])


def scaled(values: np.ndarray, factor: float) -> np.ndarray:
    """Values times a factor, to 15 digits: 0.07 billion is 70000000, not 70000000.00000001."""
    with np.errstate(over="ignore"):
        return np.array([float(f"{v:.15g}") for v in values * factor])


def _plain_digits(digits: str, decimal: str) -> str | None:
    """Digits as Python reads them, or None where the separators make no number."""
    if _GROUPS[decimal].fullmatch(digits):
        other = "," if decimal == "." else "."
        return digits.replace(other, "").replace(" ", "").replace("'", "").replace(decimal, ".")
    if decimal == ",":
        if "." not in digits:
            digits = digits.replace(",", ".", 1)
        elif "," in digits:
            return None
    return digits if _PYTHON_DIGITS.fullmatch(digits) else None


_COMMA_OR_POINT = re.compile(
    r"[+-]?(\d*(?:[.,]\d+)+)(?:[eE][+-]?\d+)?\s*(?:[A-Za-z]?|[x×*·⋅]\s*10\s*(?:\^|\*\*)\s*[+-]?\d+)"
)


@dataclass
class Marks:
    """What the separators in some cells give away.

    Counts of cells where "," or "." can only mark decimals or only groups of thousands, and an example of a cell where
    it could be either.
    """

    comma_decimal: int = 0
    comma_groups: int = 0
    point_decimal: int = 0
    point_groups: int = 0
    comma_unclear: str = ""
    point_unclear: str = ""

    @classmethod
    def of(cls, cells: Iterable[Any]) -> Marks:
        """Read the evidence off cells."""
        marks = cls()
        for cell in cells:
            if isinstance(cell, str) and (found := _COMMA_OR_POINT.fullmatch(cell.strip())):
                marks._add(found[1], cell.strip())
        return marks

    def _add(self, digits: str, cell: str) -> None:
        commas, points = digits.count(","), digits.count(".")
        if commas and points:
            last_comma = digits.rfind(",") > digits.rfind(".")
            self.comma_decimal += last_comma and commas == 1
            self.point_decimal += not last_comma and points == 1
        elif commas > 1:
            self.comma_groups += 1
        elif points > 1:
            self.point_groups += 1
        else:
            head, tail = re.split(r"[.,]", digits)
            unclear = len(tail) == 3 and 1 <= len(head) <= 3 and not head.startswith("0")
            if commas:
                self.comma_decimal += not unclear
                self.comma_unclear = self.comma_unclear or (cell if unclear else "")
            else:
                self.point_decimal += not unclear
                self.point_unclear = self.point_unclear or (cell if unclear else "")


def decimal_marks(columns: Mapping[str, Iterable[Any]], delimiter: str | None) -> dict[str, str]:
    """The decimal mark of every column of text: ".", "," or "?" where its cells could be read both ways.

    A column's own cells decide; where they do not, the other columns and the delimiter do: "1,234" between semicolons
    in a file that writes "3,14" elsewhere is 1.234, between commas (quoted) it is 1234.
    """
    columns = {name: [c for c in cells if isinstance(c, str)] for name, cells in columns.items()}
    if not any("," in cell or cell.count(".") > 1 for cells in columns.values() for cell in cells):
        return dict.fromkeys(columns, ".")  # without a comma anywhere, a single point can only mark decimals
    evidence = {name: Marks.of(cells) for name, cells in columns.items()}
    any_comma = any(m.comma_decimal for m in evidence.values())
    any_point = any(m.point_decimal for m in evidence.values())
    return {name: _mark(m, delimiter, any_comma, any_point) for name, m in evidence.items()}


def _mark(m: Marks, delimiter: str | None, any_comma: bool, any_point: bool) -> str:
    as_comma, as_point = m.comma_decimal or m.point_groups, m.point_decimal or m.comma_groups
    if as_comma and as_point:
        return "?"
    if as_comma:
        return ","
    if as_point:
        return "."
    if m.comma_unclear:
        if delimiter in (",", None):
            return "?" if any_comma else "."
        return "," if any_comma and not any_point else "." if any_point and not any_comma else "?"
    if m.point_unclear and any_comma and not any_point:
        return "?"
    return "."


@dataclass
class Numbers:
    """A column read as numbers: float64 values (NaN where missing or unreadable), and what was met on the way.

    `stated` marks cells that name their own multiple ("70B"); `unreadable` holds the cells that are text but no number,
    by position; `stored` is the type of the column as it came.
    """

    values: np.ndarray
    stated: np.ndarray
    unreadable: dict[int, str] = field(default_factory=dict)
    stored: str = "float64"
    example: str = ""


class NotQuantities(Exception):
    """A column's type cannot hold quantities; carries what it holds and the positions of such cells."""

    def __init__(self, holds: str, positions: Iterable[int] = ()):
        self.holds = holds
        self.positions = tuple(positions)
        super().__init__(holds)


def to_numbers(column: pd.Series, decimal: str = ".", scale: str | None = None) -> Numbers:
    """A column as float64. `scale` names the canonical scale column whose multiples ("70B") may appear.

    Raises `NotQuantities` for booleans, complex numbers, dates and other objects.
    """
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return to_numbers(column.astype(dtype.categories.dtype), decimal, scale)
    if pd.api.types.is_bool_dtype(dtype):
        raise NotQuantities("true/false values")
    if pd.api.types.is_complex_dtype(dtype):
        raise NotQuantities("complex numbers")
    if dtype.kind in "mM" or isinstance(dtype, pd.PeriodDtype | pd.DatetimeTZDtype | pd.IntervalDtype):
        raise NotQuantities("dates or times")
    if dtype.kind in "iuf":
        values = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        return Numbers(values, np.zeros(len(values), bool), stored=str(dtype).lower())
    return _from_objects(column.tolist(), decimal, scale)


def _from_objects(cells: list[Any], decimal: str, scale: str | None) -> Numbers:
    found = Numbers(np.full(len(cells), np.nan), np.zeros(len(cells), bool), stored="text")
    if decimal == "." and all(type(c) is str for c in cells):
        try:
            found.values[:] = [float(c) for c in cells]  # the usual case, fast
            return found
        except ValueError:
            pass
    odd: dict[str, list[int]] = {}
    for k, cell in enumerate(cells):
        if is_missing(cell):
            continue
        if isinstance(cell, str):
            if (parsed := parse_number(cell, decimal, scale)) is None:
                found.unreadable[k] = cell.strip()
            else:
                found.values[k], found.stated[k] = parsed
                found.example = found.example or (cell.strip() if parsed[1] else "")
        elif holds := _not_a_quantity(cell):
            odd.setdefault(holds, []).append(k)
        else:
            found.values[k] = _as_float(cell)
    if odd:
        raise NotQuantities(" and ".join(odd), sorted(k for ks in odd.values() for k in ks))
    return found


def _not_a_quantity(cell: Any) -> str:
    if isinstance(cell, bool | np.bool_):
        return "true/false values"
    if isinstance(cell, numbers.Real) or hasattr(cell, "as_tuple"):  # Decimal is no numbers.Real
        return ""
    if isinstance(cell, numbers.Complex):
        return "complex numbers"
    if hasattr(cell, "isoformat") or isinstance(cell, np.datetime64 | np.timedelta64):
        return "dates or times"
    return f"cells of type {type(cell).__name__}"


def _as_float(cell: Any) -> float:
    try:
        return float(cell)
    except OverflowError:
        return math.inf if cell > 0 else -math.inf


def to_labels(column: pd.Series) -> pd.Series:
    """A column as text labels: whole numbers without a decimal point, NaN where blank."""
    import pandas as pd

    def label(cell: Any) -> Any:
        if isinstance(cell, str):
            return cell.strip() or np.nan
        if is_missing(cell):
            return np.nan
        if isinstance(cell, float | np.floating) and float(cell).is_integer() and abs(cell) < 2**53:
            return str(int(cell))
        return str(cell)

    return pd.Series([label(c) for c in column.tolist()], index=column.index, dtype=object).infer_objects()


def to_plain(column: pd.Series, decimal: str) -> pd.Series:
    """A column that bayescale gives no meaning: numbers where every cell is one, else truth values, else text."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column.dtype) and not column.isna().any():
        return column.astype(bool)
    texts = [c for c in column.tolist() if isinstance(c, str) and c.strip()]
    if texts and all(c.strip().lower() in ("true", "false") for c in texts) and len(texts) == len(column):
        return pd.Series([c.strip().lower() == "true" for c in texts], index=column.index)
    identifiers = any(re.fullmatch(r"0\d+", c.strip()) for c in texts)
    if not identifiers and decimal != "?":
        try:
            found = to_numbers(column, decimal)
        except NotQuantities:
            found = None
        if found is not None and not found.unreadable and (len(found.values) == 0 or not np.isnan(found.values).all()):
            return pd.Series(found.values, index=column.index)
    return to_labels(column)
