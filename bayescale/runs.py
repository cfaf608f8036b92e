"""A validated table of training runs: canonical columns, units, and every assumption made on the way."""

from __future__ import annotations

import ast
import hashlib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bayescale.errors import Note, RunsError, nearest

if TYPE_CHECKING:
    import pandas as pd

#: FLOPs of one training step per parameter and token: forward 2, backward 4.
FLOPS_PER_PARAM_TOKEN = 6.0
#: More than these is more than there will be: parameters, tokens and FLOP, by column.
MOST_OF = {"params": 1e30, "tokens": 1e30, "flops": 1e35}

#: Values of a numeric column closer than this (relative) are one level: digitised tables repeat a size to ~0.1 %.
LEVEL_TOLERANCE = 0.005
#: A gap of this share of the widest is as wide: evenly spaced values are cut where a level may first end.
_AS_WIDE = 0.98


@dataclass(frozen=True)
class Column:
    """A canonical column: its name, kind ("scale", "response", "error", "label" or "flag"), unit and meaning."""

    name: str
    kind: str
    unit: str
    meaning: str


#: The canonical columns of a runs table. A law may ask for others by name.
COLUMNS: dict[str, Column] = {
    c.name: c
    for c in (
        Column("params", "scale", "parameters", "model size N"),
        Column("tokens", "scale", "tokens", "training tokens D"),
        Column("flops", "scale", "FLOP", "training compute C"),
        Column("loss", "response", "nats/token", "held-out loss L"),
        Column("unique_tokens", "scale", "tokens", "distinct training tokens U"),
        Column("run", "label", "", "which run a row belongs to"),
        Column("group", "label", "", "rows that share an unexplained effect"),
        Column("recipe", "label", "", "data, architecture and optimiser recipe, or model family"),
        Column("budget", "scale", "FLOP", "nominal compute budget of an IsoFLOP ladder"),
        Column("loss_se", "error", "as the loss", "standard error of the loss, independent between rows"),
        Column("params_se", "error", "parameters", "standard error of the model size"),
        Column("tokens_se", "error", "tokens", "standard error of the training tokens"),
        Column("flops_se", "error", "FLOP", "standard error of the compute"),
        Column("loss_step", "error", "as the loss", "what the loss was rounded to, such as 0.01"),
        Column("undertuned", "flag", "", "1 where hyper-parameters were not tuned: a tuned run's loss is at most this"),
    )
}


@dataclass(frozen=True, eq=False)
class Runs:
    """A table of training runs, checked: one row a run (or checkpoint), float64, canonical columns.

    The index of `frame` numbers the rows as a person counts them in the source. `notes` lists everything that was
    assumed, converted or left out; `rows_read` counts the rows before anything was left out.

    Example:
        >>> import bayescale as bs
        >>> runs = bs.load_runs("byte-ladder")
        >>> len(runs), runs.source
        (30, 'byte-ladder')
    """

    frame: pd.DataFrame
    source: str
    loss_unit: str = "nats/token"
    notes: tuple[Note, ...] = ()
    rows_read: int = 0
    column_map: Mapping[str, str] = field(default_factory=dict)
    convention: str | None = None

    def __post_init__(self):
        if not self.frame.index.is_unique:
            raise RunsError("row numbers repeat", file=self.source)
        object.__setattr__(self, "rows_read", self.rows_read or len(self.frame))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(str(c) for c in self.frame.columns)

    @property
    def rows(self) -> tuple[int, ...]:
        """The numbers of the rows in the source."""
        return tuple(int(i) for i in self.frame.index)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Everything assumed or changed while reading, as sentences, the map of columns first."""
        renamed = {k: v for k, v in self.column_map.items() if k != v}
        first = (f"columns: {', '.join(f'{k} = {v!r}' for k, v in renamed.items())}",) if renamed else ()
        return (*first, *(n.message for n in self.notes))

    def resolve(self, column: str) -> str:
        """The name under which a column is kept: its own, or the one it was given if the name was its header."""
        if column in self.frame.columns or column in COLUMNS:
            return column
        canonical = (name for name, header in self.column_map.items() if header == column and name in self.frame)
        return next(canonical, column)

    def has(self, column: str) -> bool:
        """Whether a column is there, under its name or its header, or can be computed from those that are."""
        if column == "tokens_per_param":
            return {"params", "tokens"} <= set(self.columns)
        return self.resolve(column) in self.frame.columns

    def values(self, column: str) -> np.ndarray:
        """A numeric column as float64, shape (rows,); `tokens_per_param` is computed.

        Raises `RunsError` (BS-R030) when the column is missing, (BS-R039) when it is not numeric.
        """
        if column == "tokens_per_param" and self.has(column):
            return self.values("tokens") / self.values("params")
        column = self._require(column)
        try:
            return self.frame[column].to_numpy(dtype=np.float64, copy=True)
        except (TypeError, ValueError):
            raise RunsError(
                "holds text where numbers are needed", code="BS-R039", column=column, file=self.source
            ) from None

    def labels(self, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """The level of every row and the names of the levels; numbers within 0.5 % of a level's least are of it."""
        import pandas as pd

        column = self._require(column)
        series = self.frame[column]
        if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series):
            values = self.values(column)
            if np.isnan(values).any():
                raise RunsError(
                    "has blank cells, so rows cannot be grouped by it",
                    column=column,
                    file=self.source,
                    rows=[r for r, v in zip(self.rows, values, strict=True) if np.isnan(v)],
                    remedy="Fill them in, leave those rows out with --where, or choose the groups with --group.",
                )
            return numeric_levels(values)
        index, names = pd.factorize(series.astype("string").fillna("(blank)"), sort=True)
        return index.astype(np.int32), tuple(str(n) for n in names)

    def sorts(self, column: str) -> bool:
        """Whether rows can be grouped by a column: it is there, and where it holds numbers no cell is blank."""
        return self.has(column) and not (
            self.frame[self.resolve(column)].dtype.kind == "f" and np.isnan(self.values(column)).any()
        )

    def _require(self, column: str) -> str:
        name = self.resolve(column)
        if name not in self.frame.columns:
            raise RunsError(
                f"no column {column!r}",
                code="BS-R030",
                file=self.source,
                remedy=f"{nearest(column, self.columns)} Name it with --column {column}=HEADER.",
            )
        return name

    def take(self, keep: np.ndarray, note: Note | None = None) -> Runs:
        """The rows where `keep` holds, with a note that says so."""
        notes = (*self.notes, note) if note else self.notes
        return replace(self, frame=self.frame.loc[np.asarray(keep, bool)], notes=notes)

    def using(self, columns: Iterable[str]) -> Runs:
        """The same runs without what was noted of columns that a model now uses."""
        used = {self.resolve(c) for c in columns if self.has(c)}
        kept = tuple(n for n in self.notes if n.column is None or n.column not in used)
        return self if len(kept) == len(self.notes) else replace(self, notes=kept)

    def where(self, expression: str) -> Runs:
        """The rows for which an expression over the columns holds, such as `"params < 1e9 and recipe == 'A'"`.

        Raises `RunsError` (BS-R054) for an expression that cannot be understood or that leaves no row.
        """
        keep = select(self.frame, expression, self.source, self.column_map)
        note = Note("BS-R052", f"kept the {int(keep.sum())} of {len(self)} rows where {expression}")
        return self.take(keep, note)

    def above(self, flops: float) -> Runs:
        """The runs of at least that much compute, with a note.

        Raises `RunsError` (BS-R030) where the table tells no compute, (BS-R054) where no run is left.
        """
        compute = compute_of(self)
        if compute is None:
            raise RunsError("the table tells no compute", code="BS-R030", file=self.source, remedy="Give flops.")
        if not (keep := compute >= flops).any():
            raise RunsError(
                f"no run has {flops:.4g} FLOP or more", code="BS-R054", file=self.source, remedy="Ask for fewer."
            )
        message = f"kept the {int(keep.sum())} of {len(self)} runs from {flops:.4g} FLOP on"
        return self.take(keep, Note("BS-R052", message))

    def as_now(self) -> Runs:
        """The same runs, whatever is written into the frame later; nothing is copied until something is."""
        return replace(self, frame=self.frame.copy(deep=False))

    def with_columns(self, columns: Mapping[str, Any], note: Note | None = None) -> Runs:
        """The same runs with columns added or replaced."""
        notes = (*self.notes, note) if note else self.notes
        return replace(self, frame=self.frame.assign(**columns), notes=notes)

    @property
    def sha256(self) -> str:
        """A hash of the rows as understood: the same runs in another file hash the same."""
        digest = hashlib.sha256(self.loss_unit.encode())
        for name in sorted(self.columns):
            digest.update(name.encode() + b"\0")
            column = self.frame[name]
            known = column.dtype == np.float64
            digest.update(_float_text(column.to_numpy().tobytes()) if known else _text(column.tolist()))
        return digest.hexdigest()

    def __repr__(self) -> str:
        left = f" of {self.rows_read}" if self.rows_read != len(self) else ""
        return f"<Runs {self.source}: {len(self)}{left} rows; {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        import html

        notes = "".join(f"<li>{html.escape(a)}</li>" for a in self.assumptions)
        return f"<p>{html.escape(repr(self)[1:-1])}</p><ul>{notes}</ul>{self.frame.head(10).to_html(escape=True)}"


def _text(values: list[Any]) -> bytes:
    return "\0".join(map(repr, values)).encode()


@lru_cache(maxsize=64)
def _float_text(values: bytes) -> bytes:
    """Numbers as text; remembered, since simulated tables share all columns but one."""
    return _text(np.frombuffer(values).tolist())


def require_runs(runs: Any) -> Runs:
    """The runs themselves; raises `RunsError` (BS-U001) for what is not read yet, such as a data frame or a path."""
    if isinstance(runs, Runs):
        return runs
    kind = type(runs).__name__
    raise RunsError(
        f"runs are wanted as `read_runs` returns them, not {'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}",
        code="BS-U001",
        remedy="Give bayescale.read_runs(...) of it, which checks columns and units, or load_runs(name) of a data set.",
    )


def compute_of(runs: Runs) -> np.ndarray | None:
    """The compute of every run: its own figure, 6ND, or None where the table tells neither."""
    if runs.has("flops"):
        return runs.values("flops")
    if runs.has("params") and runs.has("tokens"):
        return FLOPS_PER_PARAM_TOKEN * runs.values("params") * runs.values("tokens")
    return None


def numeric_levels(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Levels of a numeric column: a new one where sorted values leap by more than 0.5 %, none wider than 1 %."""
    values = np.asarray(values, float)
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    gaps = _gaps(ranked)
    level = np.concatenate([[0], np.cumsum(gaps)])
    index = np.empty(len(values), np.int32)
    index[order] = level
    if not len(values):
        return index, ()
    starts = np.flatnonzero(np.concatenate([[True], gaps]))
    sizes = np.diff(np.append(starts, len(values)))
    medians = (ranked[starts + (sizes - 1) // 2] + ranked[starts + sizes // 2]) / 2
    return index, tuple(f"{m:.6g}" for m in medians.tolist())


def _gaps(ranked: np.ndarray) -> np.ndarray:
    """Where, in sorted values, a new level begins: at leaps, and within chains of values that are no one level."""
    gaps = np.diff(ranked) > LEVEL_TOLERANCE * np.maximum(np.abs(ranked[1:]), np.abs(ranked[:-1]))
    leaps = np.flatnonzero(gaps)
    firsts, lasts = np.append(0, leaps + 1), np.append(leaps, len(ranked) - 1)
    if not len(ranked) or not (long := ranked[lasts] > _within(ranked[firsts], 2 * LEVEL_TOLERANCE)).any():
        return gaps
    for first, last in zip(firsts[long].tolist(), lasts[long].tolist(), strict=True):
        while ranked[last] > (most := _within(ranked[first], 2 * LEVEL_TOLERANCE)):
            # Cut at the first of the widest gaps between once and twice the tolerance: rounded values stay together.
            near, far = np.searchsorted(ranked, [_within(ranked[first], LEVEL_TOLERANCE), most], side="right")
            wide = np.diff(ranked[near - 1 : far + 1])
            first = near + int(np.argmax(wide >= _AS_WIDE * wide.max()))
            gaps[first - 1] = True
    return gaps


def _within(value: Any, tolerance: float) -> Any:
    """The largest number that differs from a value by at most a share of the larger of both."""
    return np.where(value > 0, value / (1 - tolerance), value * (1 - tolerance))


def select(
    frame: pd.DataFrame, expression: str, source: str = "the table", headers: Mapping[str, str] | None = None
) -> np.ndarray:
    """Which rows of a frame satisfy an expression; only column names, numbers, text, arithmetic and comparisons.

    Back-quotes hold names that are no Python names: `` `in_hot_100b+` == 1 ``. `headers` maps canonical columns to
    the headers they had: a label goes by either name, a quantity only by its canonical one, in its canonical unit.
    Raises `RunsError` (BS-R054) when the expression is not of that form, names no column, or leaves no row.
    """
    keep = _Filter(frame, expression, source, headers or {}).rows()
    if not keep.any():
        raise RunsError(
            f"no row satisfies {expression!r}",
            code="BS-R054",
            file=source,
            remedy="Loosen the condition; `bayescale doctor` shows the ranges of the columns.",
        )
    return keep


#: A number with its multiple, which expressions have not.
_SUFFIXED = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([kKmMbBtT])\b")
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISON: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
#: Text in quotes, which is passed over, or a name in back-quotes.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`(?P<name>[^`]+)`")


@dataclass(frozen=True)
class _Filter:
    """A condition on the rows of a frame, evaluated node by node: nothing of it is ever run as code."""

    frame: pd.DataFrame
    expression: str
    source: str
    headers: Mapping[str, str]
    quoted: dict[str, str] = field(default_factory=dict)

    def rows(self) -> np.ndarray:
        """One truth value a row."""
        try:
            tree = ast.parse(_QUOTED.sub(self._unquote, self.expression).strip(), mode="eval").body
            with np.errstate(all="ignore"):
                keep = self._truth(self._value(tree))
        except RunsError:
            raise
        except SyntaxError as error:
            remedy = "Put names with spaces or signs in back-quotes: `loss (C4)` < 3."
            if suffixed := _SUFFIXED.search(self.expression):
                power = {"k": 3, "m": 6, "b": 9, "t": 12}[suffixed[2].lower()]
                remedy = f"Write {suffixed[1]}e{power} for {suffixed[0]}."
            raise self._fault(error.msg, remedy) from None
        except (RecursionError, MemoryError):
            raise self._fault("it is nested too deeply") from None
        except OverflowError:
            raise self._fault("a number in it is too large") from None
        except (TypeError, ValueError, ArithmeticError) as error:
            raise self._fault(str(error)) from None
        return np.broadcast_to(keep, len(self.frame)).copy()

    def _unquote(self, found: re.Match[str]) -> str:
        if found["name"] is None:
            return found[0]
        stand_in = f"column_in_quotes_{len(self.quoted)}"
        self.quoted[stand_in] = found["name"]
        return stand_in

    def _fault(self, what: str, remedy: str = "") -> RunsError:
        example = "Write something like \"params < 1e9 and recipe == 'A'\"."
        return RunsError(
            f"cannot use the filter {self.expression!r}: {what}",
            code="BS-R054",
            file=self.source,
            remedy=remedy or example,
        )

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | str() as constant):
                return constant
            case ast.Constant(value=int() | float() as number):
                return float(number)  # so that 9**9**9 overflows at once instead of growing
            case ast.Name(id=name):
                return self._column(self.quoted.get(name, name))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return +self._value(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self._truth(self._value(operand))
            case ast.BoolOp(op=op, values=parts):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return join.reduce(np.broadcast_arrays(*(self._truth(self._value(p)) for p in parts)))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](self._value(left), self._value(right))
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [left, *others]
                truths = [self._compare(*each) for each in zip(sides, ops, others, strict=False)]
                return np.logical_and.reduce(np.broadcast_arrays(*truths))
        raise self._fault(f"{self._text(node)!r} is not a column, number, text, comparison or arithmetic")

    def _column(self, name: str) -> pd.Series:
        if name in self.frame.columns:
            return cast("pd.Series", self.frame[name])
        for canonical, header in self.headers.items():
            if header == name and canonical in self.frame.columns:
                if canonical in COLUMNS and COLUMNS[canonical].kind != "label":
                    raise self._fault(f"{name!r} was read as {canonical!r}", f"Filter on {canonical!r}, in its unit.")
                return cast("pd.Series", self.frame[canonical])
        raise self._fault(f"no column {name!r}", nearest(name, [str(c) for c in self.frame.columns]))

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> np.ndarray:
        value = self._value(left)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not hasattr(value, "isin"):
                raise self._fault("'in' needs a column before it and a list of values after it")
            inside = value.isin([self._value(e) for e in right.elts]).to_numpy(bool)
            return inside if isinstance(op, ast.In) else ~inside
        if type(op) not in _COMPARISON:
            raise self._fault(f"{type(op).__name__} is not a comparison of values")
        return self._truth(_COMPARISON[type(op)](value, self._value(right)))

    def _truth(self, value: Any) -> np.ndarray:
        truth = np.asarray(value)
        if truth.dtype != bool:
            raise self._fault("'and', 'or' and 'not' join comparisons, and the whole must be one")
        return truth

    def _text(self, node: ast.expr) -> str:
        text = ast.unparse(node)
        for stand_in, name in self.quoted.items():
            text = text.replace(stand_in, f"`{name}`")
        return text


def distinct(values: Sequence[float] | np.ndarray) -> int:
    """How many levels a numeric column has (values within 0.5 % of a level's least count as one)."""
    ranked = np.sort(np.asarray(values, float))
    return int(_gaps(ranked).sum()) + 1 if len(ranked) else 0


#: Letters for large counts.
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def short(x: float, digits: int = 2) -> str:
    """A count as people write it: 2.9M, 73B, 18."""
    if not np.isfinite(x):
        return "?"
    for size, letter in _UNITS:
        if abs(float(f"{x:.{digits - 1}e}")) >= size:  # 999,900 is 1.0M
            return f"{_significant(x / size, digits)}{letter}"
    return _significant(x, digits)


def _significant(x: float, digits: int) -> str:
    if x == 0:
        return "0"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(x)))))
    return f"{x:.{decimals}f}"
