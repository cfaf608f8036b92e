"""Crude, robust trends of a response with scale: enough to say that a row stands far off, never a fit."""

from __future__ import annotations

import numpy as np

#: The normal distribution's sd over its median absolute deviation.
_MAD_TO_SD = 1.4826


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation of two columns; NaN where one is constant."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else np.nan


def _ranks(x: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse]


def least_absolute_deviations(design: np.ndarray, y: np.ndarray, steps: int = 60) -> np.ndarray:
    """Coefficients of the plane that minimises the sum of absolute residuals, by reweighted least squares.

    It ends where no residual moves by a hundredth of their median.
    """
    basis, sizes, turned = np.linalg.svd(design, full_matrices=False)  # then a few numbers a step, well-conditioned
    kept = sizes > 1e-12 * sizes.max(initial=0)
    basis = basis[:, kept]
    found = basis.T @ y
    residuals = y - basis @ found
    for _ in range(steps):
        size = np.abs(residuals)
        middle = np.partition(size, len(size) // 2)[len(size) // 2]
        weighted = basis / np.maximum(size, 1e-6 + 1e-3 * middle)[:, None]
        found = np.linalg.solve(weighted.T @ basis, weighted.T @ y)
        before, residuals = residuals, y - basis @ found
        if np.abs(residuals - before).max(initial=0) <= 1e-2 * middle:
            break
    return turned[kept].T @ (found / sizes[kept])


def robust_scores(inputs: list[np.ndarray], response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Robust z-scores and residuals of log response above a quadratic trend in the logs of the inputs."""
    logs = [np.log(x) - np.median(np.log(x)) for x in inputs if np.ptp(np.log(x)) > 1e-6]
    y = np.log(response)
    terms = [np.ones_like(y), *logs]
    # Curvature needs rows enough to tell it from a diverged run.
    if len(y) >= 8 * (1 + 2 * len(logs)):
        terms += [a * b for k, a in enumerate(logs) for b in logs[k:]]
    design = np.stack(terms, axis=1)
    residuals = y - design @ least_absolute_deviations(design, y)
    residuals -= np.median(residuals)
    spread = _MAD_TO_SD * np.median(np.abs(residuals))
    return residuals / max(spread, 1e-9), residuals
