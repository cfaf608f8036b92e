"""The tables that batches are measured on: simulated, with exponents that vary from table to table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import bayescale as bs

#: Rows and the scale of the noise on log loss; "grouped" has 40 model sizes with an effect each. Accuracy is asked of
#: these; speed also of longer tables.
CELLS = {
    "12": (12, 0.005),
    "24": (24, 0.01),
    "60": (60, 0.03),
    "240": (240, 0.01),
    "grouped": (240, 0.005),
}
LONGER = {"500": (500, 0.01), "1000": (1000, 0.01), "2000": (2000, 0.01)}
SIZES = 40


def table(cell: str, seed: int) -> bs.Runs:
    """One table of a cell: N and C over 2.5 and 3.5 decades, Student-t noise of 5 degrees of freedom."""
    rng = np.random.default_rng([(CELLS | LONGER)[cell][0], seed])
    N, D, size = _design(cell, rng)
    return bs.read_runs({"params": N, "tokens": D, "loss": _losses(cell, N, D, size, rng)})


def tables(cell: str, count: int, first: int, one_design: bool = False) -> Mapping[str, bs.Runs]:
    """Tables of a cell by name, each with a design of its own or all with that of the first."""
    if not one_design:
        return {str(s): table(cell, first + s) for s in range(count)}
    rng = np.random.default_rng([(CELLS | LONGER)[cell][0], first])
    N, D, size = _design(cell, rng)
    base = bs.read_runs({"params": N, "tokens": D, "loss": _losses(cell, N, D, size, rng)})
    losses = np.stack([_losses(cell, N, D, size, rng) for _ in range(count)])
    return bs.OneDesign(base, {"loss": losses}, tuple(map(str, range(count))))


def _design(cell: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, tokens and the number of the size of every row."""
    rows = (CELLS | LONGER)[cell][0]
    C = 10 ** rng.uniform(18, 21.5, 40 * rows)
    if cell == "grouped":
        sizes = 10 ** rng.uniform(7.6, 10.2, SIZES)
        size = rng.integers(0, SIZES, 40 * rows)
        N = sizes[size]
    else:
        size, N = np.zeros(40 * rows, int), 10 ** rng.uniform(7.6, 10.2, 40 * rows)
    D = C / (6 * N)
    kept = np.flatnonzero((D / N > 0.5) & (D / N < 1000) & (D > 2e8))[:rows]
    return N[kept], D[kept], size[kept]


def _losses(cell: str, N: np.ndarray, D: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, scale = (CELLS | LONGER)[cell]
    alpha, beta = rng.uniform(0.2, 0.6, 2)
    loss = rng.uniform(1.2, 2.2) + 0.35 * (N / 1e9) ** -alpha + 0.5 * (D / 2e10) ** -beta
    effect = (scale * rng.standard_normal(SIZES))[size] if cell == "grouped" else 0.0
    return loss * np.exp(effect + scale * rng.standard_t(5, rows))


def group(cell: str) -> str | list[str]:
    """The groups that are fitted to a cell's tables."""
    return ["params"] if cell == "grouped" else "none"
