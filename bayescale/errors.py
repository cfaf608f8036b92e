"""Errors, warnings and findings, and the one list of their codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

#: Every code that bayescale prints, with what it means. `BS-R0nn` are readings of a table, `BS-Fnnn` questions
#: that a fit or a table cannot answer, `BS-Lnnn` faults of a law's declaration, `BS-Unnn` wrong usage.
CODES: dict[str, str] = {
    # Reading a table. The numbers are those of the documented list of bad inputs.
    "BS-R001": "a required cell is blank or not a number",
    "BS-R002": "the response is infinite, zero or negative",
    "BS-R003": "N, D or C is zero or negative",
    "BS-R004": "a run looks diverged",
    "BS-R005": "the loss looks like a perplexity",
    "BS-R006": "the unit of the loss is unknown or ambiguous",
    "BS-R007": "the response looks like an accuracy, not a loss",
    "BS-R008": "parameters look like millions or billions",
    "BS-R009": "tokens look like millions or billions",
    "BS-R010": "compute is given in PF-days",
    "BS-R011": "compute disagrees with 6ND",
    "BS-R013": "training data is repeated",
    "BS-R014": "rows are exact duplicates",
    "BS-R015": "the same configuration was run more than once",
    "BS-R016": "rows look like checkpoints of one run",
    "BS-R017": "one distinct value of an input",
    "BS-R018": "two inputs move together (D = kN)",
    "BS-R019": "all runs share one compute budget",
    "BS-R020": "too few rows for the law's parameters",
    "BS-R021": "the range of compute is narrow",
    "BS-R023": "recipes are mixed",
    "BS-R026": "values are rounded or quantised",
    "BS-R027": "a question far outside the data",
    "BS-R028": "an absurd amount of compute",
    "BS-R029": "a column was stored at too low a precision",
    "BS-R030": "a column is missing, ambiguous or was renamed",
    "BS-R031": "the layout of the file was adapted",
    "BS-R032": "the encoding of the file was adapted",
    "BS-R033": "rows are ragged, or totals follow the table",
    "BS-R037": "the source is empty, missing or not a table",
    "BS-R039": "a column has a type that cannot hold quantities",
    "BS-R040": "one data set of a batch failed",
    "BS-R050": "compute, tokens or parameters completed by C = 6ND",
    "BS-R051": "which count of parameters N is",
    "BS-R052": "rows left out",
    "BS-R053": "the unit of the loss was assumed or converted",
    "BS-R054": "a filter expression cannot be understood",
    "BS-R055": "a data set cannot be fetched or fails its checksum",
    "BS-R056": "compute is given in a multiple of FLOP",
    "BS-R057": "a column was reconstructed, not recorded",
    "BS-R060": "inputs were measured with error",
    "BS-R061": "runs were not tuned",
    # Questions that this table or fit cannot answer.
    "BS-F001": "the law cannot answer this question",
    "BS-F002": "the design cannot answer this question",
    "BS-F003": "the posterior could not be started",
    "BS-F004": "the file is not a fit, or of another law",
    # Declarations of laws.
    "BS-L001": "a law's declaration contradicts itself",
    "BS-L002": "an unknown law, option, noise, sampler, cost or parameter",
    "BS-L003": "a prior that cannot be understood or used",
    # Wrong usage of the command line.
    "BS-U001": "wrong usage",
    "BS-U002": "the output folder exists",
    # Findings before sampling.
    "rows": "rows against parameters",
    "distinct-inputs": "distinct values of every input",
    "design-ray": "inputs that move together",
    "one-isoflop": "a single compute budget",
    "compute-range": "decades of compute",
    "identified": "how far the design shrinks the prior",
    "recipe-confounded": "recipe and design told apart",
    "extrapolation": "distance of the asked budgets from the data",
    "flops-convention": "the table's compute against 6ND",
    # Findings after sampling.
    "r-hat": "agreement of the chains",
    "ess-bulk": "effective draws in the bulk",
    "ess-tail": "effective draws in the tails",
    "divergences": "divergent transitions",
    "e-bfmi": "energy mixing",
    "precision": "whether single precision resolves the residuals",
    # Findings of the audit.
    "effective-runs": "how many independent rows the rows of a group amount to",
    "narrow-interval": "the interval against what leaving out groups of rows shows",
    "law-unstable-in-compute": "whether both halves of the table by compute tell one law",
    "unmodelled-groups": "residuals that share an effect which the model has none for",
    "prior-held": "the prior's share in what is known",
    "influence": "how far one run moves the answer",
    "model-choice": "what the choice of noise and groups does to the answer",
    "early-stop": "whether the least-squares optimiser stopped early",
    "multi-start": "agreement of the least-squares starts",
    "baseline-agreement": "posterior against the least-squares cross-check",
    "converged": "every check of the sampler",
    # Findings of a calibration.
    "ranks-uniform": "whether truths are as likely at any rank among the draws",
    "certified": "how many simulated tables were sampled to be trusted",
}


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
    """One thing that was assumed or changed while reading: a code and a sentence."""

    code: str
    message: str

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
        document = asdict(self)
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


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that offers the known names closest to a wrong one."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    listed = ", ".join(sorted(known)[:20])
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {listed}."
