"""Errors, warnings and findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


class BayescaleError(Exception):
    """Base of bayescale's errors: what is wrong, where, and what to do.

    Attributes: `code` (a key of `CODES`), `rows` (line numbers as a person counts them in the file), `column`,
    `file`, `remedy`.
    """

    default_code = "BS-U001"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        rows: Sequence[int] = (),
        column: str | None = None,
        file: str | None = None,
        remedy: str | None = None,
    ):
        self.code = code or self.default_code
        self.message = message
        self.rows = tuple(int(r) for r in rows)
        self.column = column
        self.file = file
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        where = ", ".join(
            part
            for part in (
                self.file,
                f"column {self.column!r}" if self.column else None,
                f"row{'s' if len(self.rows) > 1 else ''} {shorten_rows(self.rows)}" if self.rows else None,
            )
            if part
        )
        text = f"{where}: {self.message}" if where else self.message
        if self.remedy:
            text = f"{text}{'' if text.endswith(('.', '?', '!')) else '.'} {self.remedy}"
        return f"{text} [{self.code}]"

    def to_json(self) -> dict:
        """The document that `--json` prints for this error."""
        return {
            "schema": "bayescale.error/1",
            "code": self.code,
            "message": self.message,
            "file": self.file,
            "column": self.column,
            "rows": list(self.rows),
            "remedy": self.remedy,
        }


class LawError(BayescaleError, ValueError):
    """A law's declaration, option, prior or name is wrong."""

    default_code = "BS-L001"


class RunsError(BayescaleError, ValueError):
    """A table of runs cannot be used as it is."""

    default_code = "BS-R001"


class UnitError(RunsError):
    """A unit is unknown, missing or contradicts the values."""

    default_code = "BS-R006"


class FitError(BayescaleError, RuntimeError):
    """A fit could not be made, saved or read."""

    default_code = "BS-F003"


class NotFittedFor(BayescaleError, ValueError):
    """The question is not one that this law, table or fit can answer; the message names what it can."""

    default_code = "BS-F001"


class BayescaleWarning(UserWarning):
    """Base of bayescale's warnings; `code` is a key of `CODES`."""

    def __init__(self, message: str, code: str = "BS-U001"):
        self.code = code
        super().__init__(message)


class NotConverged(BayescaleWarning):
    """The sampler's checks failed after every escalation; the numbers must not be used."""


class NarrowInterval(BayescaleWarning):
    """An interval is narrower than the data support."""


class Assumption(BayescaleWarning):
    """Something was assumed, filled in or left out while reading."""


@dataclass(frozen=True)
class Note:
    """One thing that was assumed or changed while reading: a code and a sentence.

    `column` names the column that it is about, where a model that uses that column makes it untrue.
    """

    code: str
    message: str
    column: str | None = None

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: its code and name, status, the number, its threshold and a sentence with the remedy.

    `status` is "pass", "warn" or "fail"; a finding that forbids fitting at all has `refuses` set.
    """

    code: str
    name: str
    status: str
    value: float | None
    threshold: float | None
    message: str
    refuses: bool = False

    def to_json(self) -> dict:
        """The six keys of the contract."""
        document = asdict(self)
        document.pop("refuses")
        return document

    def document(self) -> dict:
        """All of it for a file: numbers that are not finite are None."""
        document = dict(self.__dict__)
        for key in ("value", "threshold"):
            x = document[key]
            document[key] = None if x is None or not math.isfinite(x) else float(x)
        return document


def worst(findings: Sequence[Finding]) -> str:
    """The worst status among findings: "fail" before "warn" before "pass"."""
    statuses = {f.status for f in findings}
    return next((s for s in ("fail", "warn") if s in statuses), "pass")


def shorten_rows(rows: Sequence[int], most: int = 8) -> str:
    """Row numbers as a person would list them: `2, 5, 9 … (31 in all)`."""
    shown = ", ".join(str(r) for r in rows[:most])
    return shown if len(rows) <= most else f"{shown} … ({len(rows)} in all)"


#: So many names are listed where none is close.
_MOST = 20


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that offers the known names closest to a wrong one."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    shown = sorted(known)
    listed = ", ".join(shown[:_MOST]) + (f" and {len(shown) - _MOST} more" if len(shown) > _MOST else "")
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {listed}."


def cannot_be_written(error: OSError, place: str | None = None) -> FitError:
    """What the system said of a place, as an error that names it."""
    said = error.strerror or str(error)
    return FitError(
        f"cannot be written: {said[:1].lower()}{said[1:]}",
        code="BS-U003",
        file=place or (str(error.filename) if error.filename else "the output"),
        remedy="Name a place that exists, may be written to and has room.",
    )
