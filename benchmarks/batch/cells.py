"""The tables that batches are measured on: simulated, with exponents that vary from table to table."""

from __future__ import annotations

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
    rows, scale = (CELLS | LONGER)[cell]
    rng = np.random.default_rng([rows, seed])
    C = 10 ** rng.uniform(18, 21.5, 40 * rows)
    if cell == "grouped":
        sizes = 10 ** rng.uniform(7.6, 10.2, SIZES)
        size = rng.integers(0, SIZES, 40 * rows)
        N = sizes[size]
    else:
        size, N = np.zeros(40 * rows, int), 10 ** rng.uniform(7.6, 10.2, 40 * rows)
    D = C / (6 * N)
    kept = np.flatnonzero((D / N > 0.5) & (D / N < 1000) & (D > 2e8))[:rows]
    N, D, size = N[kept], D[kept], size[kept]
    alpha, beta = rng.uniform(0.2, 0.6, 2)
    loss = rng.uniform(1.2, 2.2) + 0.35 * (N / 1e9) ** -alpha + 0.5 * (D / 2e10) ** -beta
    effect = (scale * rng.standard_normal(SIZES))[size] if cell == "grouped" else 0.0
    loss = loss * np.exp(effect + scale * rng.standard_t(5, rows))
    return bs.read_runs({"params": N, "tokens": D, "loss": loss})


def group(cell: str) -> str | list[str]:
    """The groups that are fitted to a cell's tables."""
    return ["params"] if cell == "grouped" else "none"
