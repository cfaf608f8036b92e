"""Point estimates of M1 to M4 and BNSL: least squares of log residuals from many starts, within the paper's bounds.

For M1 and M3 this is the objective of the code that Alabdulmohsin et al. (2022) released. For M2 and M4 theirs compares
log(y - e_inf) with the power law: minimised jointly that objective prefers e_inf = 0, where the logarithms vary least,
so their results rest on where their alternating descent stops. Here all five are judged by what they predict.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import least_squares

#: Shares with a ceiling of one: few-shot errors and BIG-Bench. Perplexities have none.
BOUNDED = ("IC", "BB")
STARTS = 8

Formula = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _m4(t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The root of log(y - e_inf) - a log(e0 - y) = log b - c t by bisection in the logit of the share of the way."""
    e_inf, gap, log_b, c, a = p
    low, high = np.full_like(t, -40.0), np.full_like(t, 40.0)
    goal = log_b - c * t - (1 - a) * np.log(gap)
    for _ in range(60):
        u = (low + high) / 2
        below = -np.logaddexp(0, -u) + a * np.logaddexp(0, u) < goal
        low, high = np.where(below, u, low), np.where(below, high, u)
    return np.log(e_inf + gap / (1 + np.exp(-u)))


def _bnsl(t: np.ndarray, p: np.ndarray) -> np.ndarray:
    a, log_b, c0, c1, log_d, f = p
    return np.log(a + np.exp(log_b - c0 * t - c1 * f * np.logaddexp(0, (t - log_d) / f)))


#: Log prediction at t = log(x / middle of the fitted scale).
FORMULAS: dict[str, Formula] = {
    "M1": lambda t, p: p[0] - p[1] * t,
    "M2": lambda t, p: np.log(p[0] + np.exp(p[1] - p[2] * t)),
    "M3": lambda t, p: p[0] + p[1] * np.logaddexp(-t, p[2]),
    "M4": _m4,
    "BNSL": _bnsl,
}


def bounds(law: str, t: np.ndarray, y: np.ndarray, domain: str) -> tuple[list[float], list[float]]:
    """The box of a law's parameters on one curve: floors below the least response, breaks within the fitted scale."""
    floor, level, top = y.min() - 1e-3, np.log(y), y.max()
    ceiling = 1.001 if domain in BOUNDED else 10 * top
    log_b = (level.min() - 10, level.max() + 10)
    box = {
        "M1": [log_b, (0, 5)],
        "M2": [(0, floor), log_b, (0, 5)],
        # Saturation from far beyond the data, where M3 is M1, to the middle of them.
        "M3": [log_b, (0, 5), (-t.max() - 12, 0)],
        "M4": [(0, floor), (top - floor, ceiling), log_b, (0, 5), (0, 5)],
        "BNSL": [(0, floor), log_b, (-1, 5), (-5, 5), (t.min(), t.max()), (0.05, 5)],
    }[law]
    return [low for low, _ in box], [high for _, high in box]


def estimate(law: str, x: np.ndarray, y: np.ndarray, domain: str, seed: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """The curve of least squares, as a function of x."""
    formula, middle = FORMULAS[law], np.log(x).mean()
    t, log_y = np.log(x) - middle, np.log(y)
    low, high = map(np.asarray, bounds(law, t, y, domain))
    rng = np.random.default_rng(seed)
    slope, level = np.polyfit(t, log_y, 1)
    found = []
    for _ in range(1 if law == "M1" else STARTS):
        start = low + (high - low) * rng.uniform(0.02, 0.98, len(low))
        for k in np.flatnonzero(high - low > 15):  # levels: near the curve's own
            start[k] = level + rng.normal(0, 1)
        exponents = [k for k in range(len(low)) if high[k] == 5]
        start[exponents] = np.clip(abs(slope) * rng.lognormal(0.5, 1.0, len(exponents)), low[exponents] + 0.01, 4.9)
        start = np.clip(start, low + 1e-6, high - 1e-6)
        with np.errstate(all="ignore"):
            try:
                found.append(
                    least_squares(lambda p: np.nan_to_num(formula(t, p) - log_y, nan=9.0), start, bounds=(low, high))
                )
            except ValueError:  # a start where the curve is not finite
                continue
    best = min(found, key=lambda r: r.cost).x
    return lambda at: np.exp(formula(np.log(at) - middle, best))
