"""Whether ranks are uniform: simultaneous bands around their empirical distribution.

Säilynoja, Bürkner and Vehtari (2022), arXiv:2103.10522: the pointwise binomial band is widened until all points of the
curve lie inside together, with the wanted probability; the level is found by simulation.
"""

from __future__ import annotations

from functools import cache

import numpy as np

#: Uniform samples that the level of the band is found from.
_SAMPLES = 20_000


def curve(ranks: np.ndarray, draws: int) -> np.ndarray:
    """The share of ranks at most 0, 1, …, draws - 1; ranks lie in 0..draws."""
    counts = np.bincount(ranks, minlength=draws + 1)
    return np.cumsum(counts)[:draws] / len(ranks)


def band(simulations: int, draws: int, prob: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends that the whole curve of uniform ranks stays within, with this probability."""
    from scipy.stats import binom

    z = np.arange(1, draws + 1) / (draws + 1)
    level = _level(simulations, draws, 1 - prob)
    return binom.ppf(level / 2, simulations, z) / simulations, binom.ppf(1 - level / 2, simulations, z) / simulations


@cache
def _level(simulations: int, draws: int, miss: float) -> float:
    """The pointwise level for which a whole curve leaves the band with probability `miss`."""
    return float(np.quantile(smallest_tails(simulations, draws, _SAMPLES), miss))


def smallest_tails(simulations: int, draws: int, samples: int) -> np.ndarray:
    """The smallest two-sided tail probability along each of many curves of uniform ranks."""
    from scipy.stats import binom

    rng = np.random.default_rng(0)
    z = np.arange(1, draws + 1) / (draws + 1)
    counts = np.arange(simulations + 1)[:, None]
    tails = 2 * np.minimum(binom.cdf(counts, simulations, z), binom.sf(counts - 1, simulations, z))
    found = np.empty(samples)
    for k in range(0, samples, 1000):
        size = min(1000, samples - k)
        drawn = rng.multinomial(simulations, np.full(draws + 1, 1 / (draws + 1)), size=size)
        below = np.cumsum(drawn, axis=1)[:, :draws]
        found[k : k + size] = tails[below, np.arange(draws)].min(axis=1)
    return found
