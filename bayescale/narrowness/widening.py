"""Draws as wide as the table's own clusters show, where the posterior is narrower."""

from __future__ import annotations

import numpy as np

from bayescale.narrowness.clusters import Clusters
from bayescale.narrowness.jackknife import leave_out, modes_without
from bayescale.narrowness.linearised import Linearised

#: No draw is stretched farther from the prior's middle than this many of its standard deviations.
_FARTHEST = 6.0
#: More clusters than this are left out by one step each.
_MOST_REFITS = 300


def moves_without(line: Linearised, clusters: Clusters) -> np.ndarray:
    """How far the law's own coordinates move without each cluster: (coordinates, clusters).

    Each is the mode of the other rows; where clusters are many, one step from the mode of all.
    """
    if clusters.count > _MOST_REFITS:
        return -leave_out(line, line.table, [clusters], np.eye(len(line.x))[: line.inner])[0][0]
    return np.stack([(mode.x - line.x)[: line.inner] for mode in modes_without(line, clusters)], axis=1)


def widened(line: Linearised, flat: np.ndarray, clusters: Clusters, seed: int = 0) -> np.ndarray:
    """Draws of the flat vector, widened in the law's own coordinates to the leave-cluster-out covariance.

    About their mean, draws are stretched by the symmetric map that takes the posterior's covariance to the larger of
    it and the leave-cluster-out covariance, direction by direction, and by the tails of a Student-t with as many
    degrees of freedom as there are clusters but one. No direction becomes narrower. `flat` has the shape (samples,
    dimension).
    """
    own = flat[:, line.positions]
    centre, posterior = own.mean(axis=0), np.cov(own.T).reshape(line.inner, line.inner)
    moves = moves_without(line, clusters)
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
    made[:, line.positions] = np.clip(centre + tails[:, None] * ((own - centre) @ stretch.T), -_FARTHEST, _FARTHEST)
    return made
