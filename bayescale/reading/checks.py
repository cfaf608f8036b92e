"""The checks of the cells as found, and of the numbers in canonical columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from bayescale.errors import RunsError, shorten_rows
from bayescale.reading.draft import Draft
from bayescale.reading.headers import normalise, recognise
from bayescale.reading.magnitudes import QUANTITIES, SYMBOLS, question_magnitudes
from bayescale.reading.register import check, plural
from bayescale.reading.trends import rank_correlation, robust_scores
from bayescale.runs import COLUMNS, MOST_OF

#: Headers of what makes another run of the same setting.
TELLS_RUNS_APART = re.compile(r"seed|repeat|replicate|trial|run")


def _left_out(rows: list[int]) -> str:
    return f"left out ({plural('row', rows)} {shorten_rows(rows)})"


# The table as found.

_TOTALS = frozenset("total totals sum average mean avg median std sd stdev min max overall count summary".split())


@check("BS-R033", "cells")
def refuse_totals(draft: Draft) -> None:
    """A total, mean or the like under the table would pass for a run."""
    for header in draft.cells.columns:
        cells = draft.column(header).tolist()
        found = {
            k: c.strip() for k, c in enumerate(cells) if isinstance(c, str) and c.strip().rstrip(":").lower() in _TOTALS
        }
        # A word that stands above the foot of the table too is a kind of row, not a total.
        if found and len(found) < len(cells) and min(found) >= len(cells) - 3:
            rows = [int(draft.cells.index[k]) for k in found]
            label = next(iter(found.values()))
            raise draft.error(
                "BS-R033", f"row {rows[0]} is labelled {label!r}, not a run", rows=rows, remedy="Delete such rows."
            )


@check("BS-R014", "cells")
def drop_duplicates(draft: Draft) -> None:
    """Rows that repeat an earlier one in every column, but for one that only counts rows, are one run logged twice."""
    counting = [h for h in draft.cells.columns if _counts_rows(str(h), draft.cells[h].tolist())]
    cells = draft.cells.drop(columns=counting)
    try:
        if any(cells[h].is_unique for h in cells.columns):
            return
        repeated = cells.duplicated().to_numpy()
    except TypeError:  # cells that cannot be hashed
        repeated = cells.map(repr).duplicated().to_numpy()
    if repeated.any():
        rows = [int(n) for n in draft.cells.index[repeated]]
        many = f"{len(rows)} rows are exact copies of earlier ones"
        copies = many if len(rows) > 1 else "1 row is an exact copy of an earlier one"
        but = f" but for {counting[0]!r}, which only counts rows" if counting else ""
        draft.note("BS-R014", f"{copies}{but}, {_left_out(rows)}")
        draft.cells = draft.cells.loc[~repeated]


def _counts_rows(header: str, column: Sequence[Any]) -> bool:
    """Whether a column of no other meaning numbers the rows one by one, as an index that was written out does."""
    if len(column) < 2 or recognise(header) or TELLS_RUNS_APART.search(normalise(header)):
        return False
    try:
        return all(after - before == 1 for before, after in pairwise(int(str(cell)) for cell in column))
    except ValueError:
        return False


# Numbers in canonical columns.


@check("BS-R001", "runs")
def settle_missing(draft: Draft) -> None:
    """Rows without a value in a required column: refused, or left out where that was asked for."""
    required = [q for q in (*QUANTITIES, *([draft.response] if draft.response else ())) if q in draft.frame]
    missing = {q: draft.frame[q].isna().to_numpy() for q in required}
    missing = {q: bad for q, bad in missing.items() if bad.any()}
    if not missing:
        return
    # Where N is missing, so is what follows from it: name what the table itself lacks.
    named = {q: bad for q, bad in missing.items() if q in draft.given or q == draft.response} or missing
    if not draft.options.drop_missing:
        name, bad = next(iter(named.items()))
        raise _missing_error(draft, name, draft.rows(bad), list(named))
    anywhere = np.any(list(missing.values()), axis=0)
    rows = draft.rows(anywhere)
    columns = ", ".join(repr(draft.header(q)) for q in named)
    texts = sorted({t for q in missing for n, t in draft.unreadable.get(q, {}).items() if n in set(rows)})
    held = f"; some held {', '.join(map(repr, texts[:3]))}" if texts else ""
    draft.note(
        "BS-R052",
        f"{len(rows)} {plural('row', rows)} without a number in {columns}, {_left_out(rows)}{held}",
    )
    draft.frame = draft.frame.loc[~anywhere]


def _missing_error(draft: Draft, name: str, rows: list[int], columns: list[str]) -> RunsError:
    texts = draft.unreadable.get(name, {})
    shown = next((f" ({texts[n]!r} in row {n})" for n in rows if n in texts), "")
    cells = "1 cell is" if len(rows) == 1 else f"{len(rows)} cells are"
    more = [repr(draft.header(q)) for q in columns if q != name]
    also = f"; {' and '.join(more)} too" if more else ""
    return draft.error(
        "BS-R001",
        f"{cells} blank or not a number{shown}{also}",
        name=name,
        rows=rows,
        remedy="Fill them in, or leave such rows out with --drop-missing (in Python: drop_missing=True).",
    )


@check("BS-R037", "runs")
def refuse_empty(draft: Draft) -> None:
    """A table must have a row left."""
    if not len(draft.frame):
        raise draft.error("BS-R037", "no row is left", remedy="Loosen --where, or fill in what is missing.")


@check("BS-R003", "runs")
def refuse_impossible_scales(draft: Draft) -> None:
    """N, D and C, and the other scales, are positive and finite; standard errors are not negative."""
    others = [n for n in ("unique_tokens", "budget") if n in draft.frame]
    for name in (*sorted(draft.given), *others):
        values = draft.frame[name].to_numpy()
        if (bad := (values <= 0) | np.isinf(values)).any():
            rows = draft.rows(bad)
            raise draft.error(
                "BS-R003",
                f"{draft.cell(name, rows[0])} in row {rows[0]} is not a positive number",
                name=name,
                rows=rows,
                remedy=f'Correct it, or leave such rows out with --where "{name} > 0 and {name} < 1e35".',
            )
    for name in (c.name for c in COLUMNS.values() if c.kind == "error"):
        errors = draft.values(name)
        if errors is not None and (bad := (errors < 0) | np.isinf(errors)).any():
            raise draft.error(
                "BS-R003",
                "a standard error is negative or infinite",
                name=name,
                rows=draft.rows(bad),
                remedy="Correct it, or leave the cell blank.",
            )


@check("BS-R028", "runs")
def refuse_absurd_amounts(draft: Draft) -> None:
    """More compute, parameters or tokens than anyone will have point to a wrong unit or a broken cell."""
    for name, most in MOST_OF.items():
        values = draft.values(name)
        if values is not None and (bad := values > most).any():
            raise _absurd(draft, name, bad, values.max(), "is more than anyone could train")


@check("BS-R009", "runs")
def question_units_of_scales(draft: Draft) -> None:
    """N in millions, D in billions, C in PF-days: the numbers can show it, but not always which."""
    question_magnitudes(draft)


@check("BS-R028", "runs")
def refuse_less_than_one(draft: Draft) -> None:
    """Less than one parameter or token points to a broken cell, or, where C = 6ND says so, to one of the others."""
    for name in ("params", "tokens"):
        values = draft.values(name)
        if values is not None and (bad := values < 1).any():
            raise _absurd(draft, name, bad, values.min(), "is less than one")


def _absurd(draft: Draft, name: str, bad: np.ndarray, value: float, why: str) -> RunsError:
    follows = "" if name in draft.given else ", which follows from C = 6ND,"
    return draft.error(
        "BS-R028",
        f"{SYMBOLS[name]} = {value:.3g}{follows} {why}",
        name=name if name in draft.given else min(draft.given),
        rows=draft.rows(bad),
        remedy="Check the cells and the units of the table; units are stated with --unit params=, tokens= or flops=.",
    )


@check("BS-R007", "runs")
def refuse_accuracies(draft: Draft) -> None:
    """A loss falls with scale; what lies in [0, 1] or [0, 100] and rises is an accuracy."""
    loss = draft.values("loss")
    if draft.response != "loss" or loss is None or "loss" in draft.stated or len(loss) < 4:
        return
    share = (loss >= 0).all() and (loss <= 1).all()
    percent = (loss >= 0).all() and (loss <= 100).all() and loss.max() > 20
    if not (share or percent):
        return
    rising = [rank_correlation(v, loss) for q in QUANTITIES if (v := draft.values(q)) is not None]
    rising = [r for r in rising if np.isfinite(r)]
    if rising and max(rising, key=abs) > 0.3:
        raise draft.error(
            "BS-R007",
            f"values between {loss.min():.3g} and {loss.max():.3g} that rise with scale look like an accuracy, "
            "not a loss",
            name="loss",
            remedy="Name the loss with --column loss=HEADER, or use a law for accuracies "
            "(`bayescale laws` lists them). If these are losses, state their unit with --loss-unit.",
        )


@check("BS-R002", "runs")
def refuse_impossible_responses(draft: Draft) -> None:
    """A loss is positive and finite; any response is finite."""
    name = draft.response
    values = draft.values(name) if name else None
    if name is None or values is None:
        return
    bad = np.isinf(values) | ((values <= 0) if name == "loss" else False)
    if bad.any():
        rows = draft.rows(bad)
        value = draft.cell(name, rows[0])
        more = f" (and {len(rows) - 1} more like it)" if len(rows) > 1 else ""
        what = f"{name} {value} at row {rows[0]}{more}: diverged or unlogged?"
        if name == "loss" and draft.loss_unit == "ppl":
            what = f"perplexity {value} at row {rows[0]}{more}: a perplexity is above 1"
        condition = "loss > 0 and loss < 100" if name == "loss" else f"{name} < 1e300"
        raise draft.error(
            "BS-R002",
            what,
            name=name,
            rows=rows,
            remedy=f'Correct it, or leave such rows out with --where "{condition}".',
        )


@check("BS-R005", "runs")
def question_perplexities(draft: Draft) -> None:
    """A mean log loss stays below the log of any vocabulary; a perplexity does not."""
    loss = draft.values("loss")
    if draft.response != "loss" or loss is None or "loss" in draft.stated or not len(loss):
        return
    if (bad := loss > np.log(1e6)).any():
        rows = draft.rows(bad)
        raise draft.error(
            "BS-R005",
            f"a loss of {loss.max():.4g} looks like a perplexity",
            name="loss",
            rows=rows,
            remedy="State it with --loss-unit ppl, or --loss-unit nats/token if these are losses, diverged runs among "
            "them (in Python: loss_unit=).",
        )


@check("BS-R004", "runs")
def note_diverged_runs(draft: Draft) -> None:
    """Rows far above a robust trend of the others are kept, and named."""
    loss = draft.values("loss")
    inputs = [v for q in ("params", "tokens") if (v := draft.values(q)) is not None]
    inputs = inputs or [v for q in ("flops",) if (v := draft.values(q)) is not None]
    if draft.response != "loss" or loss is None or not inputs or len(loss) < 4 * (1 + len(inputs)):
        return
    scores, residuals = robust_scores(inputs, loss)
    above = (scores > 8) & (residuals > np.log(1.1))
    if above.any():
        rows = draft.rows(above)
        many = f"{len(rows)} losses are" if len(rows) > 1 else "1 loss is"
        draft.note(
            "BS-R004",
            f"{many} far above the trend of the others ({plural('row', rows)} {shorten_rows(rows)}): "
            "diverged? kept, because heavy-tailed noise can bear them",
        )
