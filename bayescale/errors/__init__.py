"""Errors, warnings and findings, and the one list of their codes."""

from bayescale.errors.arguments import SEEDS, require_positive, require_prob, require_seed, require_workers
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
    cannot_be_written,
    nearest,
    shorten_rows,
    worst,
)

__all__ = [
    "CODES",
    "MESSAGES",
    "SEEDS",
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
    "cannot_be_written",
    "nearest",
    "require_positive",
    "require_prob",
    "require_seed",
    "require_workers",
    "shorten_rows",
    "worst",
]
