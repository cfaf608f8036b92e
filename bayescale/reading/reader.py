"""Reading a table of training runs: from any source to `Runs`, with every assumption noted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayescale.errors import RunsError, UnitError, nearest
from bayescale.law.units import loss_unit as known_loss_unit
from bayescale.reading.cells import (
    NotQuantities,
    Numbers,
    decimal_marks,
    parse_number,
    scaled,
    to_labels,
    to_numbers,
    to_plain,
)
from bayescale.reading.checks import settle_missing  # noqa: F401  registers the checks of numbers
from bayescale.reading.curves import keep_rows_per_run
from bayescale.reading.draft import Draft, Options
from bayescale.reading.exports import understood
from bayescale.reading.headers import named_loss_unit
from bayescale.reading.magnitudes import complete, repair_magnitudes
from bayescale.reading.matching import match_columns, release_weak_runs
from bayescale.reading.multiples import PF_DAY, scale_unit
from bayescale.reading.register import run_checks
from bayescale.reading.sources import open_table
from bayescale.reading.tuning import summarise_learning_rates
from bayescale.runs import COLUMNS, Runs, select

#: Bare numbers above this, among cells that name their multiple, are taken as written out.
_WRITTEN_OUT = 1e5
_UNIT_CODES = {"params": "BS-R008", "tokens": "BS-R009", "unique_tokens": "BS-R009"}
_LOW_PRECISION = {"float16": 3, "float32": 7}


def read_runs(
    source: Any,
    where: str | None = None,
    columns: Mapping[str, str] | None = None,
    loss_unit: str | None = None,
    units: Mapping[str, str | float] | None = None,
    drop_missing: bool = False,
    response: str | None = "loss",
    rows_per_run: str | int | None = None,
    learning_rates: str | None = None,
) -> Runs:
    """Read a table of training runs into canonical columns, float64, with a note for everything assumed.

    Args:
        source: a path to CSV, TSV or other delimited text, JSON, JSON Lines or Parquet (text may be gzipped); a pandas
            frame; anything with the Arrow or data frame interchange, such as a Polars frame; or a dict of columns.
        where: keep the rows for which this holds, such as `"params < 1e9 and recipe == 'A'"`; canonical names and
            units, back-quotes around other names.
        columns: canonical name → header, where the table's own names do not tell: `{"loss": "final_loss"}`.
        loss_unit: nats/token, bits/token, nats/byte, bits/byte, or ppl (the log is taken). Without it the header
            decides, else nats/token is assumed.
        units: scale column → "thousands", "millions", "billions", "trillions" or a number: `{"params": "millions"}`.
        drop_missing: leave out rows with a blank in a required column instead of refusing the table.
        response: the column to explain; it must be there. "loss" is also checked as a loss; None requires nothing.
        rows_per_run: of a table of training curves: "last" keeps the end of every run, "knots" eight of its rows, a
            number that many, evenly in the log of its tokens or steps; "all" keeps every row. So does None, and says
            so, up to 1,000 rows; of more it keeps about 1,000, at least 6 a run, unless a learning rate varies along
            the runs.
        learning_rates: of a table with several learning rates a cell of N and D: "best" keeps the lowest loss of a
            cell, "surface" the minimum of a parabola in the log of the learning rate (and of the batch size, where that
            varies too) with its standard error as `loss_se`; "all" and None keep every row, None says so.

    Returns:
        `Runs`. Its rows carry line numbers of a text file (the header is line 1), else positions from 1; a missing one
        of N, D and C follows from C = 6ND; columns without a canonical meaning are kept under their own names.

    Raises:
        RunsError: the table cannot be read, or something must be said about it first; `code`, `rows`, `column` and
            `remedy` tell what, where, and which flag to add.
        UnitError: the same, about a unit.

    Example:
        >>> runs = read_runs({"N": ["70M", "160M"], "D": [3e11, 3e11], "val_loss": [2.5, 2.19]})
        >>> runs.columns, runs.notes[-1].message
        (('params', 'tokens', 'flops', 'loss'), 'flops is not in the table: C = 6ND was used')
    """
    options = Options(
        where, dict(columns or {}), loss_unit, dict(units or {}), drop_missing, response, rows_per_run, learning_rates
    )
    table = understood(open_table(source, options.columns))
    draft = Draft(
        table, table.cells, options, table.cells.iloc[:, :0], list(table.notes), table.rows_read or len(table.cells)
    )
    run_checks(draft, "cells")
    _check_options(draft)
    draft.marks = decimal_marks({h: draft.column(h).tolist() for h in draft.cells.columns}, table.delimiter)
    match_columns(draft)
    _convert(draft)
    release_weak_runs(draft)
    repair_magnitudes(draft)
    complete(draft)
    if where is not None:
        _filter(draft, where)
    run_checks(draft, "runs")
    keep_rows_per_run(draft)
    summarise_learning_rates(draft)
    run_checks(draft, "rows")
    return _finish(draft)


def _check_options(draft: Draft) -> None:
    """Settle the options that need no table, before anything else can fail."""
    options = draft.options
    if options.loss_unit is not None and named_loss_unit(options.loss_unit) is None:
        known_loss_unit(options.loss_unit)
    for name, unit in options.units.items():
        if COLUMNS.get(name) is None or COLUMNS[name].kind != "scale":
            scales = [c.name for c in COLUMNS.values() if c.kind == "scale"]
            raise UnitError(
                f"--unit is for the columns {', '.join(scales)}, not {name!r}",
                remedy=f"{nearest(name, scales)} A loss takes --loss-unit.",
            )
        scale_unit(unit, name)
    kept, tuned = options.rows_per_run, options.learning_rates
    if kept not in (None, "all", "last", "knots") and not (str(kept).isdigit() and int(kept) > 0):
        raise _unknown("--rows-per-run", kept, "all, last, knots or a number of rows")
    if tuned not in (None, "all", "best", "surface"):
        raise _unknown("--learning-rates", tuned, "all, best or surface")


def _unknown(option: str, value: Any, known: str) -> RunsError:
    return RunsError(f"unknown value {value!r} of {option}", code="BS-U001", remedy=f"Give {known}.")


def _convert(draft: Draft) -> None:
    """Make the frame: canonical columns as float64 or labels in their units, then the others under their names."""
    import pandas as pd

    frame = {}
    for name in (*(c for c in COLUMNS if c in draft.headers), *(n for n in draft.headers if n not in COLUMNS)):
        column = draft.column(draft.headers[name])
        kind = COLUMNS[name].kind if name in COLUMNS else "number" if name == draft.response else "other"
        if kind == "label":
            frame[name] = to_labels(column)
        elif kind == "flag":
            frame[name] = _flags(draft, name)
        elif kind == "other":
            frame[name] = to_plain(column, draft.marks.get(draft.headers[name], "."))
        else:
            frame[name] = _numbers(draft, name, kind)
    if "loss" in frame:
        frame["loss"] = _in_loss_unit(draft, frame["loss"])
    used = set(draft.headers.values())
    for header in draft.cells.columns:
        if header in used or header in draft.absent:
            continue
        name = header
        if name in frame:
            name = f"{header}_as_read"
            draft.note("BS-R030", f"the table's own column {header!r} is kept as {name!r}")
        frame[name] = to_plain(draft.column(header), draft.marks.get(header, "."))
    draft.frame = pd.DataFrame(frame, index=draft.cells.index)
    draft.frame.columns = pd.Index([*frame], dtype=object)  # looked up faster than pandas' own texts
    commas = sorted(h for h, mark in draft.marks.items() if mark == ",")
    if commas:
        draft.note("BS-R031", f"commas were read as decimal marks in {', '.join(map(repr, commas))}")


_FLAGS = {"": 0.0, "0": 0.0, "no": 0.0, "false": 0.0, "1": 1.0, "yes": 1.0, "true": 1.0}


def _flags(draft: Draft, name: str) -> np.ndarray:
    """One column of yes and no as 1 and 0; a blank cell is no."""
    column = draft.column(draft.headers[name])
    words = ["" if cell is None or cell != cell else str(cell).strip().lower() for cell in column.tolist()]
    found = [_FLAGS.get(word.removesuffix(".0"), np.nan) for word in words]
    if bad := [k for k, value in enumerate(found) if np.isnan(value)]:
        raise draft.error(
            "BS-R039",
            f"holds {words[bad[0]]!r} where yes or no is needed",
            name=name,
            rows=[int(column.index[k]) for k in bad],
            remedy="Write true or false.",
        )
    return np.asarray(found)


def _numbers(draft: Draft, name: str, kind: str) -> np.ndarray:
    """One column as float64, its multiples applied."""
    header = draft.headers[name]
    column = draft.column(header)
    mark = draft.marks.get(header, ".")
    if mark == "?":
        unclear = next(c for c in column.tolist() if isinstance(c, str) and ("," in c or "." in c))
        raise draft.error(
            "BS-R031",
            f"the separator in {unclear.strip()!r} may mark decimals or thousands",
            name=name,
            remedy="Write numbers without thousands separators and with a decimal point.",
        )
    scale = name if kind == "scale" else None
    try:
        found = to_numbers(column, mark, scale)
    except NotQuantities as refusal:
        raise draft.error(
            "BS-R039",
            f"holds {refusal.holds} where numbers are needed",
            name=name,
            rows=[int(column.index[k]) for k in refusal.positions],
            remedy=f"Convert the column to numbers, or name another with --column {name}=HEADER.",
        ) from None
    draft.unreadable[name] = {int(column.index[k]): text for k, text in found.unreadable.items()}
    _question_spreadsheets(draft, name, column)
    if found.unreadable and np.isnan(found.values).all():
        rows = list(draft.unreadable[name])
        raise draft.error(
            "BS-R039",
            f"holds text such as {draft.unreadable[name][rows[0]]!r} where numbers are needed",
            name=name,
            rows=rows,
            remedy=f"Name another column with --column {name}=HEADER.",
        )
    if digits := _LOW_PRECISION.get(found.stored):
        only = f": only {digits} digits were kept when it was stored" if digits < 7 else ""
        draft.note("BS-R029", f"{header!r} came as {found.stored} and was converted to float64{only}")
    if found.stated.any():
        example = parse_number(found.example, mark, name)
        value = f" as {example[0]:g}" if example else ""
        draft.note(_UNIT_CODES.get(name, "BS-R056"), f"{header!r} holds multiples: {found.example!r} was read{value}")
    factor = _factor(draft, name, bool(found.stated.all()))
    values = found.values if factor == 1.0 else np.where(found.stated, found.values, scaled(found.values, factor))
    if found.stated.any() and name in _UNIT_CODES:
        _require_multiples_throughout(draft, name, values, found)
    return values


def _require_multiples_throughout(draft: Draft, name: str, values: np.ndarray, found: Numbers) -> None:
    """Among cells like "100M" a bare "100" may be another hundred million: it is asked, not guessed."""
    bare = ~found.stated & (values < min(_WRITTEN_OUT, values[found.stated].min() / 1e3))
    if bare.any():
        raise draft.error(
            _UNIT_CODES[name],
            f"cells such as {found.example!r} name their multiple; {values[bare].min():g} does not, and would be less "
            "than a thousandth of all that do",
            name=name,
            rows=draft.rows(bare),
            remedy=f"Write these cells as the others, or state what bare numbers count with --unit {name}=millions.",
        )


_DATE = re.compile(
    r"\d{1,2}[-/. ](jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*([-/. ]\d{2,4})?"
    r"|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-/. ]\d{1,4}"
    r"|\d{4}-\d{2}-\d{2}([ t]\d{2}:\d{2}(:\d{2})?)?|\d{1,2}/\d{1,2}/\d{2,4}|#{3,}",
    re.IGNORECASE,
)
_CUT = re.compile(r"\d\.\d\dE[+-]\d\d")


def _question_spreadsheets(draft: Draft, name: str, column: Any) -> None:
    """A spreadsheet turns numbers into dates, and exports them as it shows them: "1.00E+09"."""
    dates = {n: t for n, t in draft.unreadable[name].items() if _DATE.fullmatch(t)}
    if dates:
        first = next(iter(dates))
        raise draft.error(
            "BS-R034",
            f"{dates[first]!r} in row {first} is a date or a cell too narrow to show, as spreadsheets make of numbers",
            name=name,
            rows=list(dates),
            remedy="Format the column as numbers in the spreadsheet, correct such cells, and export again.",
        )
    texts = [c.strip() for c in column.tolist() if isinstance(c, str) and c.strip()]
    if len(texts) >= 3 and all(_CUT.fullmatch(t) for t in texts):
        draft.note(
            "BS-R034",
            f"every cell of {draft.headers[name]!r} has three digits, as {texts[0]!r}: a spreadsheet exports what it "
            "shows, not what it holds; format the column with all digits and export again",
        )


def _factor(draft: Draft, name: str, all_stated: bool) -> float:
    """The multiple that a flag or the header states; remembers that the unit is known."""
    meaning = draft.meanings.get(name)
    header = meaning.factor if meaning else None
    if name in draft.options.units:
        factor, said = scale_unit(draft.options.units[name], name), "as stated"
    elif header is not None:
        factor, said = header, "as its unit says"
    else:
        if all_stated:
            draft.stated.add(name)
        return 1.0
    draft.stated.add(name)
    if factor != 1.0 and not all_stated:
        code = "BS-R010" if factor == PF_DAY else _UNIT_CODES.get(name, "BS-R056")
        draft.note(code, f"{draft.headers[name]!r} was multiplied by {factor:g}, {said}")
    return factor


def _in_loss_unit(draft: Draft, loss: np.ndarray) -> np.ndarray:
    """The loss with its unit settled; of a perplexity the log is taken."""
    meaning = draft.meanings.get("loss")
    header, asked = meaning.unit if meaning else None, draft.options.loss_unit
    unit = named_loss_unit(asked) if asked else header
    if asked and header and unit != header:
        draft.note("BS-R053", f"{draft.header('loss')!r} was read in {unit}, as stated; its name says {header}")
    elif not asked and header and header != "ppl":
        draft.note("BS-R053", f"the loss is in {header}, as {draft.header('loss')!r} says")
    if unit is None:
        draft.note("BS-R053", "the loss was taken to be in nats/token (state another unit with --loss-unit)")
        draft.loss_unit = "nats/token"
        return loss
    draft.stated.add("loss")
    draft.loss_unit = unit
    if unit != "ppl":
        return loss
    draft.note("BS-R053", f"the loss is the log of the perplexity {draft.header('loss')!r}, in nats/token")
    with np.errstate(all="ignore"):
        logs = np.log(loss)
    # A perplexity of 1 or less is no perplexity: minus infinity makes the check of losses name the row.
    return np.where(np.isnan(loss) | (loss > 1), logs, -np.inf)


def _filter(draft: Draft, where: str) -> None:
    before = len(draft.frame)
    keep = select(draft.frame, where, draft.source, draft.headers)
    draft.frame = draft.frame.loc[keep]
    draft.note("BS-R052", f"kept the {int(keep.sum())} of {before} rows where {where}")


def _finish(draft: Draft) -> Runs:
    named = [c for c in COLUMNS if c in draft.frame]
    frame = draft.frame.reindex(columns=[*named, *(c for c in draft.frame if c not in named)]).copy()
    unit = "nats/token" if draft.loss_unit in (None, "ppl") else draft.loss_unit
    return Runs(
        frame,
        draft.source,
        loss_unit=unit,
        notes=tuple(draft.notes),
        rows_read=draft.rows_read,
        column_map=dict(draft.headers),
        convention=draft.convention,
    )
