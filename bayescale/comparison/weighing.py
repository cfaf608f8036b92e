"""Stacking weights: the mixture of models that would have predicted the left-out folds best."""

from __future__ import annotations

import numpy as np

#: With fewer folds than this weights would follow chance: they are equal.
FEWEST_FOR_WEIGHTS = 8


def stacking_weights(densities: np.ndarray) -> np.ndarray:
    """Weights that maximise the mean log density of a mixture, from log densities of shape (folds, models).

    max over the simplex of Σ_k log Σ_m w_m p_km (Yao, Vehtari, Simpson and Gelman 2018, Bayesian Analysis 13): concave.
    Where models predict every fold alike the weights are not unique, and equal ones are kept as far as that goes.

    Example:
        >>> import numpy as np
        >>> stacking_weights(np.log([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8]])).round(3).tolist()
        [0.778, 0.222]
    """
    p = np.exp(densities - densities.max(axis=1, keepdims=True))
    w = np.full(p.shape[1], 1 / p.shape[1])
    for _ in range(200):  # never downhill, but slow near the end and towards an edge
        w = w * (p / (p @ w)[:, None]).mean(axis=0)
    return _newton(p, w)


def _newton(p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The maximum, by Newton's method on the face of the simplex that is not at zero (active sets)."""
    free = w > 1e-9
    for _ in range(100):
        w = np.where(free, w, 0.0) / w[free].sum()
        share = p / (p @ w)[:, None]
        slope = share.mean(axis=0)  # at the maximum 1 where a weight is positive, at most 1 where it is zero
        if not free.all() and slope[~free].max() > 1 + 1e-10:
            best = int(np.argmax(np.where(free, -np.inf, slope)))
            free[best], w[best] = True, 1e-6
            continue
        if np.abs(slope[free] - 1).max() < 1e-12:
            break
        inside = share[:, free]
        bend = inside.T @ inside / len(p)
        count = int(free.sum())
        system = np.block([[bend, np.ones((count, 1))], [np.ones((1, count)), np.zeros((1, 1))]])
        move = np.linalg.lstsq(system, np.append(slope[free], 0.0), rcond=1e-12)[0][:count]
        step, before = 1.0, np.log(p @ w).mean()
        down = move < 0
        if down.any():
            step = min(1.0, float((-w[free][down] / move[down]).min()))
        while True:
            tried = w.copy()
            tried[free] = np.maximum(w[free] + step * move, 0.0)
            if np.log(p @ (tried / tried.sum())).mean() >= before - 1e-15 or step < 1e-12:
                break
            step /= 2
        w = tried / tried.sum()
        free = free & (w > 1e-12)
    return np.where(w > 1e-12, w, 0.0) / w[w > 1e-12].sum()
