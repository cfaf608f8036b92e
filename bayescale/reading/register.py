"""The register of checks: what is looked for in a table, each under a code of the list, in the order of writing.

A check refuses (raises), repairs and says so, or notes. To add one, write it under `@check(code, stage)`: those of
stage "cells" see the table as found, those of stage "runs" numbers in canonical columns, after filters, those of stage
"rows" the rows that are kept, for what they have in common. What the parsers settle while they read (encodings,
layouts, ragged rows, types) is raised where it is met; what needs a law is a finding before fitting, not a reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bayescale.errors import CODES
from bayescale.reading.draft import Draft

Stage = Literal["cells", "runs", "rows"]


@dataclass(frozen=True)
class Check:
    """A check: its code in `CODES`, when it runs, and the function that sees a draft."""

    code: str
    stage: Stage
    run: Callable[[Draft], None]

    @property
    def meaning(self) -> str:
        """What the code stands for."""
        return CODES[self.code]


#: Every check, in the order in which they run within their stage.
CHECKS: list[Check] = []


def check(code: str, stage: Stage) -> Callable[[Callable[[Draft], None]], Callable[[Draft], None]]:
    """Register a check under a code of `CODES`."""
    if code not in CODES:
        raise KeyError(f"{code} is not in CODES")

    def add(function: Callable[[Draft], None]) -> Callable[[Draft], None]:
        CHECKS.append(Check(code, stage, function))
        return function

    return add


def run_checks(draft: Draft, stage: Stage) -> None:
    """Run the checks of a stage in order; the first that refuses raises."""
    for each in CHECKS:
        if each.stage == stage:
            each.run(draft)


def plural(word: str, rows: list[int]) -> str:
    """A word for one row, or for several."""
    return f"{word}s" if len(rows) > 1 else word
