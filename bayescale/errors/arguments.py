"""Checks of arguments that many verbs take, so that what is no argument is refused alike everywhere."""

from __future__ import annotations

import math
import operator
from typing import Any

from bayescale.errors.raising import LawError

#: Seeds are below this: every generator of random numbers takes them, whatever the width of its words.
SEEDS = 2**32


def require_seed(seed: Any) -> int:
    """A seed as an integer; raises `LawError` (BS-U001) for what is none, or none of every generator's."""
    try:
        made = operator.index(seed)
    except TypeError:
        made = -1
    if not 0 <= made < SEEDS:
        raise LawError(
            f"a seed is a whole number from 0 to {SEEDS - 1}, got {seed!r}", code="BS-U001", remedy="For example 0."
        )
    return made


def require_prob(prob: float) -> float:
    """The probability of an interval; raises `LawError` (BS-U001) for what is none."""
    if not 0 < prob < 1:
        raise LawError(f"prob must lie between 0 and 1, got {prob:g}", code="BS-U001", remedy="For example 0.9.")
    return float(prob)


def require_positive(name: str, value: Any) -> float:
    """A positive number; raises `LawError` (BS-U001), under the name that it was asked by, for what is none."""
    try:
        made = float(value)
    except (TypeError, ValueError):
        made = math.nan
    if not (math.isfinite(made) and made > 0):
        raise LawError(f"{name} must be a positive number, got {value}", code="BS-U001", remedy="For example 1e9.")
    return made


def require_workers(workers: int | None) -> int | None:
    """A number of threads, or None for the usual; raises `LawError` (BS-U001) for less than one."""
    if workers is not None and workers < 1:
        raise LawError(f"workers must be at least 1, got {workers}", code="BS-U001", remedy="Leave it out.")
    return workers
