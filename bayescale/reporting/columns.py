"""What tables of a report share: the column of levels, how far beyond the runs an answer is, and notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bayescale.allocation import FAR
from bayescale.plots.style import percent
from bayescale.posterior import Fit
from bayescale.reporting.cells import Column, Written, heading, number, say, text

#: A share of a few thousand draws says no more than this of what is nearly certain.
_CERTAIN = 0.999

DIGITS_NOTE = "Numbers have as many digits as their Monte Carlo errors support; the CSV file holds them in full."


def kind_of(fit: Fit) -> str:
    """ "90% credible", or "90% adjusted" where the headline was widened."""
    return f"{percent(fit.prob)} {fit.interval_kind()}"


def beyond(ratio: float) -> Written:
    """How many times the largest run's compute a budget is, with a mark where it lies beyond."""
    mark = "" if ratio <= 1 else " *" if ratio <= FAR else " **"
    made = number(ratio, digits=2)
    shown = say("{x}{m}", x=made, m=text(mark.strip())) if mark else made
    return Written(shown.latex, shown.markdown, shown.html, float(ratio))


BEYOND_NOTE = f"* beyond the largest run; ** more than {FAR:.0f} times beyond it: mostly the law's form."


def chance(p: float) -> Written:
    """A probability from a few thousand draws: its ends are never reached."""
    if 1 - _CERTAIN <= p <= _CERTAIN:
        made = text(f"{p:.3f}")
        return Written(made.latex, made.markdown, made.html, float(p))
    shown = text("> 0.999" if p > _CERTAIN else "< 0.001")
    return Written(shown.latex, shown.markdown, shown.html, float(p))


def reasons(left_out: Mapping[str, str]) -> list[str]:
    """What was left out and why, one line a reason."""
    named: dict[str, list[str]] = {}
    for name, why in left_out.items():
        named.setdefault(why, []).append(name.replace("_", " "))
    return [f"{', '.join(names)}: {why}" for why, names in named.items()]


def level_column(fit: Fit) -> tuple[Column, ...]:
    """The first column of a table by level."""
    return tuple(Column(column, heading(column)) for column in fit.levels)


def level_of(entry: Mapping[str, Any]) -> tuple[Written, ...]:
    """The cell of that column, of an entry that names its level."""
    return tuple(text(level) for level in entry.get("levels", {}).values())


def levels_note(fit: Fit) -> list[str]:
    """Which runs an answer of a level is compared with."""
    return [f"The largest run is that of the same {column}." for column in fit.levels]
