"""Draws as wide as the table's own clusters show, where the posterior is narrower."""

from __future__ import annotations

import numpy as np

from bayescale.narrowness.clusters import Clusters
from bayescale.narrowness.jackknife import leave_out
from bayescale.narrowness.linearised import Linearised


def widened(line: Linearised, flat: np.ndarray, clusters: Clusters, seed: int = 0) -> np.ndarray:
    """Draws of the flat vector, widened in the law's own coordinates to the leave-cluster-out covariance.

    About their mean, draws are stretched by the symmetric map that takes the posterior's covariance to the larger of
    it and the leave-cluster-out covariance, direction by direction, and by the tails of a Student-t with as many
    degrees of freedom as there are clusters but one. No direction becomes narrower. `flat` has the shape (samples,
    dimension).
    """
    own = flat[:, line.positions]
    centre, posterior = own.mean(axis=0), np.cov(own.T).reshape(line.inner, line.inner)
    unit = np.eye(len(line.x))[: line.inner]
    moves = leave_out(line, line.table, clusters, unit)[0]
    moves = moves - moves.mean(axis=1, keepdims=True)
    count = clusters.count
    shown = (count - 1) / count * moves @ moves.T
    values, vectors = np.linalg.eigh(posterior)
    root, back = (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T
    ratios, axes = np.linalg.eigh(back @ shown @ back)
    stretch = root @ (axes * np.sqrt(np.maximum(ratios, 1.0))) @ axes.T @ back
    rng = np.random.default_rng([seed, 13])
    tails = np.sqrt((count - 1) / rng.chisquare(count - 1, len(flat)))
    made = flat.copy()
    made[:, line.positions] = centre + tails[:, None] * ((own - centre) @ stretch.T)
    return made
