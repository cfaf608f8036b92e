"""Multiples of parameters, tokens and FLOPs: "70B", "params_M", `--unit tokens=billions`."""

from __future__ import annotations

import re

from bayescale.errors import UnitError

#: One PF-day: 1e15 FLOP/s for a day.
PF_DAY = 8.64e19

_WORDS = {
    1.0: "1 one ones unit units count counts number # raw",
    1e3: "k thousand thousands 1e3 10^3 x1e3 x10^3",
    1e6: "m mm mil mio mn million millions 1e6 10^6 x1e6 x10^6",
    1e9: "b g bn bln bil billion billions 1e9 10^9 x1e9 x10^9",
    1e12: "t tn trn tril trillion trillions 1e12 10^12 x1e12 x10^12",
    1e15: "quadrillion quadrillions 1e15 10^15 x1e15 x10^15",
    1e18: "quintillion quintillions 1e18 10^18 x1e18 x10^18",
    1e21: "sextillion sextillions 1e21 10^21 x1e21 x10^21",
    1e24: "septillion septillions 1e24 10^24 x1e24 x10^24",
}
_MULTIPLES = {word: factor for factor, words in _WORDS.items() for word in words.split()}
_PREFIXES = {
    prefix: factor
    for prefixes, factor in (
        ("k kilo", 1e3),
        ("m mega", 1e6),
        ("g giga", 1e9),
        ("t tera", 1e12),
        ("p peta", 1e15),
        ("e exa", 1e18),
        ("z zetta", 1e21),
        ("y yotta", 1e24),
    )
    for prefix in prefixes.split()
}
_NOUNS = {
    "params": r"(?:model )?param(?:eter)?s?",
    "tokens": r"(?:train(?:ing)? )?tok(?:en)?s?",
    "unique_tokens": r"(?:unique |distinct )?tok(?:en)?s?",
}
_FLOP_COLUMNS = ("flops", "budget", "flops_se")
_FLOP = re.compile(rf"({'|'.join(sorted(_PREFIXES, key=len, reverse=True))})?[ -]?flops?")
_PF_DAY = re.compile(r"(?:pf|petaflops?)(?:[ /_-]?s)?[ _-]?d(?:ays?)?")


def multiple(text: str, column: str) -> float | None:
    """How many parameters, tokens or FLOP a unit of a canonical column stands for; None where it is not understood.

    Example:
        >>> multiple("B", "params"), multiple("million tokens", "tokens"), multiple("PF-days", "flops")
        (1000000000.0, 1000000.0, 8.64e+19)
    """
    unit = re.sub(r"^in\s+", "", re.sub(r"\s+", " ", text.strip().lower())).replace(" of ", " ")
    if column in _FLOP_COLUMNS:
        if _PF_DAY.fullmatch(unit):
            return PF_DAY
        if found := _FLOP.fullmatch(unit):
            return _PREFIXES.get(found[1] or "", 1.0)
        noun = r"flops?"
    else:
        noun = _NOUNS.get(column)
    if noun:
        unit = re.sub(rf"(?:^| ){noun}$", "", unit) or "1"
    return _MULTIPLES.get(unit)


def scale_unit(value: str | float, column: str) -> float:
    """The factor of a unit that was given with `--unit COLUMN=UNIT`: a word such as "millions", or a number.

    Raises `UnitError` (BS-R006) when it is neither.
    """
    if isinstance(value, str):
        try:
            factor = float(value)
        except ValueError:
            factor = multiple(value, column)
    else:
        factor = float(value)
    if factor is None or not 0 < factor < float("inf"):
        raise UnitError(
            f"unknown unit {value!r} for {column!r}",
            remedy="Give thousands, millions, billions, trillions or a number, as in "
            f"--unit {column}=millions "
            f"(in Python: units={{{column!r}: 'millions'}}).",
        )
    return factor


def unit_word(factor: float) -> str:
    """A factor as `--unit` takes it: "millions" for 1e6."""
    words = {1.0: "1", 1e3: "thousands", 1e6: "millions", 1e9: "billions", 1e12: "trillions", PF_DAY: "pf-days"}
    return words.get(factor, f"{factor:g}")
