"""Magnitudes of N, D and C: completion by C = 6ND, columns in millions or billions, compute in PF-days."""

from __future__ import annotations

from itertools import product

import numpy as np

from bayescale.errors import RunsError, UnitError
from bayescale.reading.draft import Draft
from bayescale.reading.multiples import PF_DAY, unit_word
from bayescale.runs import FLOPS_PER_PARAM_TOKEN

QUANTITIES = ("params", "tokens", "flops")
SYMBOLS = {"params": "N", "tokens": "D", "flops": "C"}
_CODES = {"params": "BS-R008", "tokens": "BS-R009", "flops": "BS-R056"}
#: What a column may be counted in, where only the numbers can tell.
_COUNTED_IN = (1.0, 1e3, 1e6, 1e9, 1e12)
_COMPUTE_IN = (1.0, 1e12, 1e15, 1e18, 1e21, PF_DAY)
#: How far C / (6ND) may be from a constant power of ten, as a factor, for the power to be taken for a unit.
_AGREEMENT = 1.5
#: C further from 6ND than this, as a factor, is in another unit, however compute was counted.
_FAR_OFF = 100.0
#: Between these lie all language models so far, medians over a table: parameters, tokens, tokens a parameter, FLOP.
_SIZES, _TOKENS, _RATIOS, _COMPUTES = (1e3, 1e14), (1e4, 1e17), (1e-2, 1e5), (1e6, 1e30)


def repair_magnitudes(draft: Draft) -> None:
    """Multiply N, D or C by the power of ten that makes C = 6ND hold in every row, where only one choice is sensible.

    Raises `UnitError` (BS-R009) when several choices are.
    """
    if not all(q in draft.frame for q in QUANTITIES):
        return
    trio = np.stack([draft.frame[q].to_numpy(float) for q in QUANTITIES])
    usable = np.isfinite(trio).all(0) & (trio > 0).all(0)
    if not usable.any():
        return
    n, d, c = np.log10(trio[:, usable])
    excess = c - n - d - np.log10(FLOPS_PER_PARAM_TOKEN)
    if abs(np.median(excess)) < np.log10(30) or np.ptp(excess) > 2 * np.log10(_AGREEMENT):
        return
    middle = 10 ** float(np.median(excess))
    choices = _choices(10 ** np.median(n), 10 ** np.median(d), 10 ** np.median(c), excess, draft.stated)
    if not choices:
        return
    fewest = min(sum(f != 1 for f in choice) for choice in choices)
    choices = [choice for choice in choices if sum(f != 1 for f in choice) == fewest]
    if len(choices) > 1:
        flags = " or ".join(" ".join(_flags(choice)) for choice in choices[:3])
        raise UnitError(
            f"C is about {middle:.3g} times 6ND in every row: a column is not in parameters, tokens or FLOP",
            code="BS-R009",
            column=draft.header("tokens"),
            file=draft.source,
            remedy=f"Say which with {flags} (in Python: units=).",
        )
    for name, factor in zip(QUANTITIES, choices[0], strict=True):
        if factor != 1:
            draft.frame[name] = draft.frame[name] * factor
            draft.stated.add(name)
            code = "BS-R010" if factor == PF_DAY else _CODES[name]
            draft.note(
                code,
                f"{draft.header(name)!r} was multiplied by {factor:g}: as it stands, C is {middle:.2g} times 6ND in "
                f"every row (state another unit with --unit {name}=)",
            )


def _choices(n: float, d: float, c: float, excess: np.ndarray, stated: set[str]) -> list[tuple[float, float, float]]:
    def within(value: float, limits: tuple[float, float]) -> bool:
        return limits[0] <= value <= limits[1]

    options: list[tuple[float, ...]] = [(1.0,) if q in stated else _COUNTED_IN for q in ("params", "tokens")]
    options.append((1.0,) if "flops" in stated else _COMPUTE_IN)
    return [
        (un, ud, uc)
        for un, ud, uc in product(*options)
        if np.abs(excess + np.log10(uc / (un * ud))).max() <= np.log10(_AGREEMENT)
        and within(n * un, _SIZES)
        and within(d * ud, _TOKENS)
        and within(d * ud / (n * un), _RATIOS)
        and within(c * uc, _COMPUTES)
    ]


def _flags(choice: tuple[float, float, float]) -> list[str]:
    return [f"--unit {q}={unit_word(f)}" for q, f in zip(QUANTITIES, choice, strict=True) if f != 1]


def complete(draft: Draft) -> None:
    """Fill the missing one of N, D and C, as a column or in single cells, by C = 6ND."""
    draft.given = {q for q in QUANTITIES if q in draft.frame}
    if len(draft.given) < 2:
        _compute_from_budget(draft)
    if len(draft.given) < 2:
        return
    n, d, c = (draft.values(q) for q in QUANTITIES)
    with np.errstate(all="ignore"):
        by_rule = {
            "params": None if d is None or c is None else c / (FLOPS_PER_PARAM_TOKEN * d),
            "tokens": None if n is None or c is None else c / (FLOPS_PER_PARAM_TOKEN * n),
            "flops": None if n is None or d is None else FLOPS_PER_PARAM_TOKEN * n * d,
        }
    absent = [q for q in QUANTITIES if q not in draft.given]
    if absent:
        name = absent[0]
        draft.frame[name] = by_rule[name]
        formula = {"params": "N = C / (6D)", "tokens": "D = C / (6N)", "flops": "C = 6ND"}[name]
        draft.note("BS-R050", f"{name} is not in the table: {formula} was used")
        return
    _fill_cells(draft, {q: v for q, v in by_rule.items() if v is not None})


def _compute_from_budget(draft: Draft) -> None:
    if "flops" not in draft.given and "budget" in draft.frame and draft.given:
        draft.frame["flops"] = draft.frame["budget"].to_numpy(copy=True)
        draft.headers.setdefault("flops", draft.headers["budget"])
        draft.given.add("flops")
        draft.note("BS-R050", f"compute was taken to be the budget {draft.header('budget')!r}")


def _fill_cells(draft: Draft, by_rule: dict[str, np.ndarray]) -> None:
    """Fill blank cells of one quantity where the other two are there and the rest of the table obeys C = 6ND."""
    trio = np.stack([draft.frame[q].to_numpy(float) for q in QUANTITIES])
    blank = np.isnan(trio)
    whole = ~blank.any(0)
    if not blank.any() or not whole.any():
        return
    with np.errstate(all="ignore"):
        ratio = trio[2] / (FLOPS_PER_PARAM_TOKEN * trio[0] * trio[1])
    if not (np.abs(ratio[whole] - 1) < 0.05).all():
        return
    for k, name in enumerate(QUANTITIES):
        # A cell with text in it is a mistake to report, not a blank to fill.
        wrong = np.isin(draft.frame.index, list(draft.unreadable.get(name, ())))
        fill = blank[k] & (blank.sum(0) == 1) & ~wrong
        if fill.any():
            draft.frame.loc[fill, name] = by_rule[name][fill]
            cells = "1 blank cell" if fill.sum() == 1 else f"{int(fill.sum())} blank cells"
            draft.note("BS-R050", f"{cells} of {name} filled by C = 6ND, which the other rows obey")


def question_magnitudes(draft: Draft) -> None:
    """Ask for a unit where the numbers cannot be parameters, tokens or FLOP.

    Small models are legitimate: only numbers that no model could have, alone or beside the others, are questioned.
    Raises `UnitError` (BS-R008, BS-R009, BS-R010) that names the flag.
    """
    n, d = draft.values("params"), draft.values("tokens")
    open_n = "params" in draft.given and "params" not in draft.stated
    open_d = "tokens" in draft.given and "tokens" not in draft.stated
    with np.errstate(all="ignore"):
        ratio = _median(d / n) if n is not None and d is not None else None
    many, few = ratio is not None and ratio > 1e4, ratio is not None and ratio < 1e-2
    if open_n and n is not None and (_median(n) < 1e3 or (np.nanmax(n) < 1e6 and many) or _in_parts(n, ratio)):
        raise _question(draft, "params", n, ratio)
    if open_d and d is not None and (_median(d) < 1e3 or (np.nanmax(d) < 1e6 and few) or _in_parts(d, ratio)):
        raise _question(draft, "tokens", d, ratio)
    for name, values, open_ in (("params", n, open_n), ("tokens", d, open_d)):
        if open_ and values is not None and _decimals(values) and _median(values) < 1e9:
            draft.note(
                _CODES[name],
                f"{draft.header(name)!r} has decimals, which counts have not, and was read as it stands: if it is in "
                f"thousands or millions, say --unit {name}=thousands",
            )
    if len(draft.given) == 3:
        _question_all_three(draft)
    if "flops" in draft.stated or "flops" not in draft.given:
        return
    c = draft.frame["flops"].to_numpy(float)
    if len(draft.given) == 1 and c.max() < _COMPUTES[0]:
        raise draft.error(
            "BS-R010",
            f"C between {c.min():.3g} and {c.max():.3g} cannot be FLOP",
            name="flops",
            remedy="State the unit, such as --unit flops=pf-days or --unit flops=1e18 (in Python: units=).",
        )
    if ratio is None or len(draft.given) != 2:
        return
    too_small = ratio < 1e-6 if "params" in draft.given else ratio > 1e9
    if too_small:
        raise draft.error(
            "BS-R010",
            f"C between {c.min():.3g} and {c.max():.3g} cannot be FLOP beside the other columns: "
            f"C = 6ND would mean {ratio:.2g} tokens a parameter",
            name="flops",
            remedy="State the unit, such as --unit flops=pf-days or --unit flops=1e18 (in Python: units=).",
        )


def _in_parts(values: np.ndarray, ratio: float | None) -> bool:
    """Whether counts have decimals and do not fit the other scale: 129912.621 thousand parameters, not parameters."""
    return _decimals(values) and _median(values) < 1e8 and ratio is not None and not 0.1 < ratio < 1e4


def _decimals(values: np.ndarray) -> bool:
    values = values[np.isfinite(values)]
    return bool((np.abs(values - np.round(values)) > 1e-12 * values.clip(1)).any())


def _question_all_three(draft: Draft) -> None:
    """C a hundred times off 6ND is in another unit, even where no single multiple explains it."""
    n, d, c = (draft.frame[q].to_numpy(float) for q in QUANTITIES)
    with np.errstate(all="ignore"):
        ratio = _median(c / (FLOPS_PER_PARAM_TOKEN * n * d))
    unsure = [q for q in reversed(QUANTITIES) if q not in draft.stated]
    if not unsure or not np.isfinite(ratio) or 1 / _FAR_OFF < ratio < _FAR_OFF:
        return
    raise draft.error(
        "BS-R009" if unsure[0] != "flops" else "BS-R056",
        f"C is about {ratio:.2g} times 6ND: a column is not in parameters, tokens or FLOP",
        name=unsure[0],
        remedy=f"State the units with {' '.join(f'--unit {q}=' for q in unsure)} (a word such as millions, or a "
        "number; in Python: units=).",
    )


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values) & (values > 0)]
    return float(np.median(values)) if len(values) else np.nan


def _question(draft: Draft, name: str, values: np.ndarray, ratio: float | None) -> RunsError:
    guess = _guess(name, _median(values), ratio)
    what = {"params": "parameters", "tokens": "tokens"}[name]
    also = ""
    if name == "params" and "tokens" in draft.given - draft.stated and _median(draft.frame["tokens"].to_numpy()) < 1e3:
        also = " --unit tokens=billions"
    beside = f", {ratio:.2g} tokens a parameter" if ratio is not None else ""
    return draft.error(
        _CODES[name],
        f"{SYMBOLS[name]} between {np.nanmin(values):.3g} and {np.nanmax(values):.3g} looks like {guess} of {what}, "
        f"not {what}{beside}",
        name=name,
        remedy=f"State the unit with --unit {name}={guess}{also}, or --unit {name}=1 if these are {what} "
        f"(in Python: units={{{name!r}: {guess!r}}}).",
    )


def _guess(name: str, middle: float, ratio: float | None) -> str:
    """The multiple that brings tokens a parameter nearest to 20, or N near 1e9 and D near 2e10 without them."""
    factors = np.array(_COUNTED_IN[1:])
    if ratio is not None and np.isfinite(ratio) and not 1e-2 <= ratio <= 1e4:
        after = ratio / factors if name == "params" else ratio * factors
        return unit_word(float(factors[np.abs(np.log(after / 20)).argmin()]))
    typical = 1e9 if name == "params" else 2e10
    return unit_word(float(factors[np.abs(np.log(middle * factors / typical)).argmin()]))
