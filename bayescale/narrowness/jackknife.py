"""How far answers move when groups of rows are left out.

The posterior's spread says what rows that are independent given the model would leave open. The jackknife says what
the rows themselves show: leave out a model size, a budget, a band of compute, and see how far the answer moves. Both
agree when the model holds; how well they agree by chance depends on the design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bayescale.narrowness.clusters import Clusters
from bayescale.narrowness.linearised import Linearised, Tables


def leave_out(
    line: Linearised, tables: Tables, partitions: Sequence[Clusters], gradients: np.ndarray
) -> list[np.ndarray]:
    """How far quantities move as each cluster of rows is left out: (tables, quantities, clusters) for every partition.

    Without cluster g the estimate moves by (P + J - J_g)^-1 s_g, with s the rows' scores and J their information: by
    Woodbury's identity a small system a cluster. `gradients` has the shape (quantities, dimension).
    """
    spread = line.slopes @ tables.covariance  # (tables, rows, dimension): dear, and shared by all partitions
    reach = spread @ gradients.T
    moves = []
    for clusters in partitions:
        if clusters.count == len(reach[0]):  # single rows: the small systems are numbers
            order = np.argsort(clusters.index)
            leverage = np.einsum("trd,rd->tr", spread, line.slopes) * tables.information
            moves.append((reach * (tables.score / (1 - leverage))[:, :, None]).transpose(0, 2, 1)[:, :, order])
            continue
        found = np.empty((len(tables.score), len(gradients), clusters.count))  # a noise with a kink has one spread
        for k, rows in enumerate(clusters.rows()):
            inside = spread[:, rows] @ line.slopes[rows].T
            mixed = np.eye(len(rows)) - inside * tables.information[:, None, rows]
            found[:, :, k] = (tables.score[:, None, rows] @ np.linalg.solve(mixed, reach[:, rows]))[:, 0]
        moves.append(found)
    return moves


def modes_without(line: Linearised, clusters: Clusters) -> list[Linearised]:
    """The mode without each cluster of rows, searched anew."""
    every, modes = np.ones(len(line.residual), bool), []
    for members in clusters.rows():
        rest = every.copy()
        rest[members] = False
        modes.append(line.fitted_to(rest))
    return modes


def spread_of(moves: np.ndarray) -> np.ndarray:
    """The leave-cluster-out standard deviation from moves whose last axis is the clusters."""
    count = moves.shape[-1]
    return np.sqrt((count - 1) / count * ((moves - moves.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1))


def model_spread(tables: Tables, gradients: np.ndarray) -> np.ndarray:
    """The posterior's own standard deviation of quantities, shape (tables, quantities)."""
    return np.sqrt(np.einsum("qi,tij,qj->tq", gradients, tables.covariance, gradients))


def narrowness_of(
    line: Linearised, tables: Tables, partitions: Sequence[Clusters], gradients: np.ndarray
) -> np.ndarray:
    """The leave-cluster-out standard deviation over the posterior's, shape (tables, partitions, quantities)."""
    spreads = [spread_of(moves) for moves in leave_out(line, tables, partitions, gradients)]
    return np.stack(spreads, axis=1) / model_spread(tables, gradients)[:, None]


def gradients_of(z: np.ndarray, quantities: Mapping[str, np.ndarray], line: Linearised) -> tuple[list[str], np.ndarray]:
    """The mean slope of each quantity (its log where positive) in the law's coordinates, by regression on the draws.

    Quantities that the coordinates do not explain (noise, or without a smooth dependence) are left out.
    """
    own = z[:, line.positions] - z[:, line.positions].mean(axis=0)
    names, slopes = [], []
    for name, x in quantities.items():
        y = np.log(x) if (x > 0).all() else np.asarray(x, float)
        y = y - y.mean()
        if not np.isfinite(y).all() or np.ptp(y) < 1e-12:
            continue
        g, *_ = np.linalg.lstsq(own, y, rcond=None)
        if 1 - np.var(y - own @ g) / np.var(y) >= 0.5:
            names.append(name)
            slopes.append(np.concatenate([g, np.zeros(len(line.x) - line.inner)]))
    return names, np.asarray(slopes).reshape(len(names), len(line.x))
