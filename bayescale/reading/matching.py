"""Which header is which canonical column, when the table has several candidates, and what is left as it is."""

from __future__ import annotations

import re

import numpy as np

from bayescale.errors import RunsError, nearest
from bayescale.reading.cells import NotQuantities, Numbers, is_missing, to_labels, to_numbers
from bayescale.reading.draft import Draft
from bayescale.reading.headers import (
    QUALIFIED,
    WEAK,
    Meaning,
    like_a_loss,
    meaning_as,
    normalise,
    recognise,
    with_unit,
)
from bayescale.runs import COLUMNS

_MOST_LISTED = 5
#: Of a longer header a message repeats so many characters.
_LONGEST = 80
_HELD_OUT = re.compile(r"val|test|heldout|eval|dev")


def match_columns(draft: Draft) -> None:
    """Settle `headers` and `meanings` of a draft: overrides first, then exact names, synonyms, and weak synonyms.

    Raises `RunsError` (BS-R030) where two different columns could be one quantity and where the response is missing.
    """
    _override(draft)
    draft.absent = _blank_columns(draft)
    free = [h for h in draft.cells.columns if h not in draft.headers.values() and h not in draft.absent]
    candidates: dict[str, list[tuple[Meaning, str]]] = {}
    for header in free:
        meaning = recognise(header)
        if meaning and meaning.column not in draft.headers and (meaning.rank != WEAK or _fits(draft, meaning, header)):
            candidates.setdefault(meaning.column, []).append((meaning, header))
    for name, found in candidates.items():
        if chosen := _choose(draft, name, found):
            draft.meanings[name], draft.headers[name] = chosen
    _units_row(draft)
    _say_what_was_left(draft, free)
    _require_response(draft, free)
    if "params" in draft.meanings:
        draft.convention = draft.meanings["params"].convention


def _override(draft: Draft) -> None:
    """Apply `columns={"loss": "final_loss"}`."""
    present = list(draft.cells.columns)
    for name, wanted in draft.options.columns.items():
        same = [h for h in present if h == wanted] or [h for h in present if normalise(h) == normalise(wanted)]
        if len(same) != 1:
            raise RunsError(
                f"no column {wanted!r}" if not same else f"{wanted!r} could be {_listed(same)}",
                code="BS-R030",
                column=wanted,
                file=draft.source,
                remedy=f"{nearest(wanted, present)} Give the header exactly, as in --column {name}=HEADER.",
            )
        if same[0] in draft.headers.values():
            raise RunsError(
                f"{same[0]!r} was named for two quantities", code="BS-R030", column=same[0], file=draft.source
            )
        draft.headers[name] = same[0]
        if name in COLUMNS:
            draft.meanings[name] = meaning_as(same[0], name)


def _blank_columns(draft: Draft) -> set[str]:
    blank = {h for h in draft.cells.columns if all(is_missing(c) for c in draft.column(h).tolist())}
    asked = [h for h in draft.headers.values() if h in blank]
    if asked:
        raise RunsError(
            "no cell holds a value", code="BS-R001", column=asked[0], file=draft.source, remedy="Name another column."
        )
    if known := [h for h in draft.cells.columns if h in blank and recognise(h)]:
        draft.note("BS-R030", f"{_listed(known)}: no cell holds a value, so the column was taken as absent")
    return set(known)


def _fits(draft: Draft, meaning: Meaning, header: str) -> bool:
    """Whether a column with a doubtful name holds what the name would mean: quantities are numbers, labels anything."""
    if COLUMNS[meaning.column].kind == "label":
        return True
    found = _as_numbers(draft, header, meaning.column)
    return found is not None and not found.unreadable


def _as_numbers(draft: Draft, header: str, name: str) -> Numbers | None:
    """A column as numbers, or None where its type or its separators do not allow it."""
    mark = draft.marks.get(header, ".")
    if mark == "?":
        return None
    try:
        return to_numbers(draft.column(header), mark, name)
    except NotQuantities:
        return None


def _choose(draft: Draft, name: str, found: list[tuple[Meaning, str]]) -> tuple[Meaning, str] | None:
    best = min(m.rank for m, _ in found)
    chosen = [c for c in found if c[0].rank == best]
    if name == "params":
        _ask_which_experts(draft, chosen, found)
    if len(chosen) == 1 or _all_equal(draft, name, chosen):
        _say_chosen(draft, name, chosen[0], [c for c in found if c is not chosen[0]])
        return chosen[0]
    if name == "loss" and (agreed := _loss_and_perplexity(draft, chosen)):
        return agreed
    optional = COLUMNS[name].kind == "error" or (best == WEAK and COLUMNS[name].kind == "label")
    if optional or (name == "loss" and draft.response != "loss"):
        draft.note("BS-R030", f"{_listed([h for _, h in chosen])} could each be the {name}: none was taken for it")
        return None
    raise RunsError(
        f"{_listed([h for _, h in chosen])} could each be the column {name!r} ({COLUMNS[name].meaning})"
        + _one_in_bits(draft, name, chosen),
        code="BS-R030",
        column=chosen[0][1],
        file=draft.source,
        remedy=_flag(name, [h for _, h in chosen]),
    )


def _loss_and_perplexity(draft: Draft, chosen: list[tuple[Meaning, str]]) -> tuple[Meaning, str] | None:
    """The loss of a loss and its perplexity, which is its exponential in every row."""
    losses, others = [c for c in chosen if c[0].unit != "ppl"], [c for c in chosen if c[0].unit == "ppl"]
    if len(losses) != 1 or len(others) != 1:
        return None
    loss, other = (_as_numbers(draft, h, "loss") for _, h in (losses[0], others[0]))
    if loss is None or other is None:
        return None
    with np.errstate(all="ignore"):
        same = np.allclose(np.log(other.values), loss.values, rtol=2e-2, atol=2e-2, equal_nan=True)
    if not same:
        return None
    draft.note("BS-R030", f"the loss is {losses[0][1]!r}; {others[0][1]!r} is its perplexity")
    return losses[0]


def _one_in_bits(draft: Draft, name: str, chosen: list[tuple[Meaning, str]]) -> str:
    """What to add where two losses differ by 1/ln 2 throughout: the same loss in bits and in nats."""
    read = [_as_numbers(draft, h, name) for _, h in chosen[:2]]
    if name != "loss" or len(chosen) != 2 or any(r is None for r in read):
        return ""
    with np.errstate(all="ignore"):
        ratio = read[0].values / read[1].values  # pyright: ignore[reportOptionalMemberAccess]
    if not np.allclose(np.abs(np.log(ratio)), -np.log(np.log(2)), atol=5e-3, equal_nan=True):
        return ""
    return ": they differ by 1/ln 2 throughout, so they are one loss, the larger in bits and the other in nats"


def _ask_which_experts(draft: Draft, chosen: list[tuple[Meaning, str]], found: list[tuple[Meaning, str]]) -> None:
    """Where the table holds the active parameters beside another count, N could be either: a mixture of experts."""
    active = [h for m, h in found if m.convention == "active"]
    # A count that leaves out embeddings is less than the active one and no rival of it.
    others = [h for m, h in chosen if m.convention not in ("active", "non-embedding")]
    others = others or [h for m, h in found if m.convention == "total"]
    if not active or not others:
        return
    one, other = (_as_numbers(draft, h, "params") for h in (active[0], others[0]))
    if one is None or other is None or np.allclose(one.values, other.values, rtol=0.05, atol=0, equal_nan=True):
        return
    raise draft.error(
        "BS-R012",
        f"{others[0]!r} and {active[0]!r} (active) differ: a mixture of experts, and N could be either",
        name=None,
        remedy=f"Laws of dense models and C = 6ND take the active ones: --column params={active[0]}; for the others "
        f"--column params={others[0]} (in Python: columns=).",
    )


def _flag(name: str, headers: list[str]) -> str:
    quoted = f'"{name}={headers[0]}"' if " " in headers[0] else f"{name}={headers[0]}"
    return f"Say which with --column {quoted} (in Python: columns={{{name!r}: {headers[0]!r}}})."


def _all_equal(draft: Draft, name: str, chosen: list[tuple[Meaning, str]]) -> bool:
    """Whether candidates hold the same numbers, or label the rows in the same way."""
    if COLUMNS[name].kind == "label":
        labels = [to_labels(draft.column(h)).tolist() for _, h in chosen]
        return all(len({*zip(labels[0], other, strict=True)}) == len({*labels[0]}) == len({*other}) for other in labels)
    if len({(m.factor, m.unit, m.convention) for m, _ in chosen}) > 1:
        return False
    read = [found.values for _, h in chosen if (found := _as_numbers(draft, h, name)) is not None]
    if len(read) < len(chosen):
        return False
    return all(np.allclose(read[0], other, rtol=1e-9, atol=0, equal_nan=True) for other in read)


def _say_chosen(draft: Draft, name: str, chosen: tuple[Meaning, str], others: list[tuple[Meaning, str]]) -> None:
    others = [(m, h) for m, h in others if len(h) > 1 or m.rank != WEAK]
    if not others:
        return
    if name == "params" and any(m.convention for m, _ in others):
        listed = ", ".join(f"{h!r}" + (f" ({m.convention})" if m.convention else "") for m, h in others)
        draft.note("BS-R051", f"N is {chosen[1]!r}; other counts are in the table, left as they are: {listed}")
    else:
        draft.note("BS-R030", f"{name} is {chosen[1]!r}; left as they are: {_listed([h for _, h in others])}")


def release_weak_runs(draft: Draft) -> None:
    """A column called `experiment` or `name` is no run where models of several sizes share its labels."""
    meaning = draft.meanings.get("run")
    if meaning is None or meaning.rank != WEAK or "run" not in draft.frame or "params" not in draft.frame:
        return
    sizes = draft.frame.groupby("run", dropna=False)["params"].agg(["min", "max"])
    if bool(np.any(np.asarray(sizes["max"]) > 1.01 * np.asarray(sizes["min"]))):
        header = draft.headers.pop("run")
        del draft.meanings["run"]
        draft.frame = draft.frame.rename(columns={"run": header})
        draft.note("BS-R030", f"{header!r} holds models of several sizes under one name: not taken for the run")


def _units_row(draft: Draft) -> None:
    """Add the units of a row under the header to what the headers say."""
    for name, header in draft.headers.items():
        unit = draft.table.units.get(header)
        meaning = draft.meanings.get(name)
        if unit is None or meaning is None or name in draft.options.units:
            continue
        if understood := with_unit(meaning, unit):
            draft.meanings[name] = understood
        elif name == "loss" and draft.options.loss_unit is None:
            raise draft.error(
                "BS-R006",
                f"unknown unit {unit!r} under the header",
                name=name,
                remedy="State it with --loss-unit (in Python: loss_unit=).",
            )
        elif COLUMNS[name].kind == "scale":
            raise draft.error(
                "BS-R006",
                f"unknown unit {unit!r} under the header",
                name=name,
                remedy=f"State it with --unit {name}=millions, or --unit {name}=1 (in Python: units=).",
            )


def _say_what_was_left(draft: Draft, free: list[str]) -> None:
    """Name other columns that speak of a loss: a reader should know which one was used."""
    used = draft.headers.get("loss")
    others = [h for h in free if h not in draft.headers.values() and like_a_loss(h) and not recognise(h)]
    if used and others and draft.response == "loss":
        draft.note("BS-R030", f"the loss is {used!r}; left as they are: {_listed(others)}")
    convention = draft.meanings["params"].convention if "params" in draft.meanings else None
    if convention and draft.meanings["params"].rank == QUALIFIED:
        draft.note("BS-R051", f"N is the {convention} count of parameters ({draft.headers['params']!r})")


def _require_response(draft: Draft, free: list[str]) -> None:
    wanted = draft.response
    if wanted is None or wanted in draft.headers:
        return
    if wanted in free:
        draft.headers[wanted] = wanted
        return
    if same := [h for h in free if normalise(h) == normalise(wanted) and h not in draft.headers.values()]:
        draft.headers[wanted] = same[0]
        return
    like = [h for h in free if like_a_loss(h)] if wanted == "loss" else []
    like.sort(key=lambda h: not _HELD_OUT.search(normalise(h)))  # offer a held-out loss before others
    held_out = [h for h in like if _HELD_OUT.search(normalise(h))]
    if len(like) == len(held_out) == 1 and _as_numbers(draft, like[0], "loss") is not None:
        draft.headers[wanted], draft.meanings[wanted] = like[0], meaning_as(like[0], wanted)
        draft.note("BS-R030", f"the loss is {like[0]!r}, the only held-out loss in the table")
        return
    if like:
        raise RunsError(
            f"no column is plainly the loss; it could be {_listed(like)}",
            code="BS-R030",
            column=like[0],
            file=draft.source,
            remedy=_flag("loss", like),
        )
    raise RunsError(
        f"no column for the {wanted}",
        code="BS-R030",
        file=draft.source,
        remedy=f"Name it with --column {wanted}=HEADER (in Python: columns=); "
        f"the columns are {_listed(list(draft.cells.columns), 20)}.",
    )


def _listed(headers: list[str], most: int = _MOST_LISTED) -> str:
    shown = ", ".join(repr(h if len(h) <= _LONGEST else f"{h[:_LONGEST]}…") for h in headers[:most])
    return shown if len(headers) <= most else f"{shown} and {len(headers) - most} more"
