"""Errors, warnings and findings, and the one list of their codes."""

from bayescale.errors.codes import CODES, MESSAGES, Code
from bayescale.errors.raising import (
    Assumption,
    BayescaleError,
    BayescaleWarning,
    Finding,
    FitError,
    LawError,
    NarrowInterval,
    NotConverged,
    Note,
    NotFittedFor,
    RunsError,
    UnitError,
    nearest,
    shorten_rows,
    worst,
)

__all__ = [
    "CODES",
    "MESSAGES",
    "Assumption",
    "BayescaleError",
    "BayescaleWarning",
    "Code",
    "Finding",
    "FitError",
    "LawError",
    "NarrowInterval",
    "NotConverged",
    "NotFittedFor",
    "Note",
    "RunsError",
    "UnitError",
    "nearest",
    "shorten_rows",
    "worst",
]
