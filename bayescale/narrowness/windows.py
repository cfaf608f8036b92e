"""The answer from part of the runs: windows that end, or begin, at a compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayescale.narrowness.alarms import values_at
from bayescale.narrowness.clusters import halves
from bayescale.narrowness.linearised import Linearised
from bayescale.runs import compute_of

#: Windows of compute keep at least this share of the runs, and end at so many cuts.
_LEAST_SHARE, _CUTS = 0.25, 7


def windows_of(line: Linearised) -> list[tuple[str, float, np.ndarray]]:
    """Windows "up to" and "from" a compute with the rows in each (a mask); none for a table without compute."""
    runs = line.model.runs
    C = compute_of(runs)
    if C is None:
        return []
    own = C
    if runs.sorts("budget"):  # runs of one budget stay together, whatever exactly they took
        index, levels = runs.labels("budget")
        C = np.array([np.median(C[index == k]) for k in range(len(levels))])[index]
    least = max(2 * line.inner, int(np.ceil(_LEAST_SHARE * len(C))))
    windows = []
    for share in np.linspace(0, 1, _CUTS):
        cut = float(np.quantile(C, share))
        below, above = C <= cut * (1 + 1e-9), C >= cut * (1 - 1e-9)
        # The name is of the runs' own compute.
        windows += [("up to", float(own[below].max()), below), ("from", float(own[above].min()), above)]
    told: dict[tuple[str, float], np.ndarray] = {}
    for window, cut, kept in windows:
        known = told.get((window, cut))
        if kept.sum() >= (least if known is None else known.sum()):
            told[window, cut] = kept
    return [(window, cut, kept) for (window, cut), kept in told.items()]


def window_values(line: Linearised, names: Sequence[str]) -> list[dict[str, Any]]:
    """The law's numbers at the mode of every window, the two halves of the table first: what a file keeps of them."""
    C = compute_of(line.model.runs)
    if C is None or len(np.unique(C)) < 2:
        return []
    lower = halves(C)
    parts = [("lower half", float(C[lower].max()), lower), ("upper half", float(C[~lower].min()), ~lower)]
    parts += [w for w in windows_of(line) if not w[2].all()]
    if min(kept.sum() for _, _, kept in parts) < line.inner:
        return []
    found = values_at(line, [line.fitted_to(kept) for _, _, kept in parts])
    known = [n for n in names if n in found]
    return [
        {
            "window": window,
            "flops": cut,
            "runs": int(kept.sum()),
            "values": {n: float(found[n][k]) for n in known},
        }
        for k, (window, cut, kept) in enumerate(parts)
    ]
