"""What a table answers where it cannot tell size from data: the one scale along which each recipe varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayescale.runs import Runs, distinct, short

#: Logs of tokens and sizes within this of a line lie on it; fewer runs or levels than these show no law.
_WIDTH, FEWEST = 0.05, 4


@dataclass(frozen=True, eq=False)
class Ladder:
    """Runs of one recipe (None: the table has one) along a scale: `axis` is the column, None where both vary apart.

    `tie` says what is constant ("D = 300B"), `rows` which rows they are (positions).
    """

    recipe: str | None
    axis: str | None
    tie: str
    rows: np.ndarray

    @property
    def symbol(self) -> str:
        """The axis as papers write it."""
        return {"params": "N", "tokens": "D", "flops": "C"}[self.axis] if self.axis else "N and D"


def ladders_of(runs: Runs) -> tuple[Ladder, ...]:
    """Every recipe with at least 4 runs of different scale, the largest first, and the scale along which it varies."""
    if not (runs.has("params") and runs.has("tokens")):
        return ()
    N, D = np.log(runs.values("params")), np.log(runs.values("tokens"))
    index, names = runs.labels("recipe") if runs.has("recipe") else (np.zeros(len(runs), int), ("",))
    found = []
    for k in np.argsort(-np.bincount(index), kind="stable"):
        rows = np.flatnonzero(index == k)
        x, y = N[rows], D[rows]
        if max(distinct(np.exp(x)), distinct(np.exp(y))) < FEWEST:
            continue
        found.append(Ladder(names[k] if len(names) > 1 else None, *_axis(x, y), rows))
    return tuple(found)


def _axis(x: np.ndarray, y: np.ndarray) -> tuple[str | None, str]:
    """The column along which runs vary and what ties the others, from the logs of N and D."""
    if np.std(y) < _WIDTH:
        return "params", f"D = {short(float(np.exp(np.median(y))))}"
    if np.std(x) < _WIDTH:
        return "tokens", f"N = {short(float(np.exp(np.median(x))))}"
    slope, level = np.polyfit(x, y, 1)
    if np.std(y - slope * x - level) >= _WIDTH:
        return None, ""
    if abs(slope + 1) < 0.1:
        return "params", f"C = {6 * np.exp(np.median(x + y)):.2g}"
    if abs(slope - 1) < 0.05:
        return "flops", f"D = {np.exp(np.median(y - x)):.3g} N"
    return "flops", f"D ∝ N^{slope:.2g}"
