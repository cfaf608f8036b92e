"""Convergence of Markov chains, vectorised over quantities and data sets.

Rank-normalised split R-hat and effective sample sizes of Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021),
arXiv:1903.08008, with Geyer's initial monotone sequence. Arrays are `(..., chain, draw)`; the results drop the last two
axes. The numbers are those of arviz-stats; these run on thousands of quantities at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

#: The quantiles whose effective sample size is that of the tails.
TAILS = (0.05, 0.95)


def r_hat(x: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat: the larger of that of the bulk and that of the folded draws."""
    halves = _split(x)
    scores, ranked = _normal_scores(halves)
    return _where_finite(x, _shrinkage(halves, scores, ranked))


def ess_bulk(x: np.ndarray) -> np.ndarray:
    """Effective number of draws for the middle of a distribution."""
    return _where_finite(x, _effective(_normal_scores(_split(x))[0]))


def ess_tail(x: np.ndarray) -> np.ndarray:
    """Effective number of draws for the 5 % and 95 % quantiles: the smaller of the two."""
    halves, ends = _split(x), np.quantile(x, TAILS, axis=(-2, -1))
    return _where_finite(x, np.minimum(*(_effective(_below(halves, q)) for q in ends)))


def diagnose(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R-hat, bulk and tail effective sizes, each as its own function gives it; what they share is computed once."""
    halves = _split(x)
    scores, ranked = _normal_scores(halves)
    every = ranked if halves.size == x.size else np.sort(x.reshape(*x.shape[:-2], -1), axis=-1)
    tails = [_effective(_below(halves, quantile_of(every, q))) for q in TAILS]
    found = _shrinkage(halves, scores, ranked), _effective(scores), np.minimum(*tails)
    return tuple(_where_finite(x, numbers) for numbers in found)  # type: ignore[return-value]


def ess_mean(x: np.ndarray) -> np.ndarray:
    """Effective number of draws for the mean of the draws as they are, without ranks."""
    return _effective(_split(x))


def mcse_mean(x: np.ndarray) -> np.ndarray:
    """Monte Carlo standard error of the mean."""
    return np.std(x, axis=(-2, -1), ddof=1) / np.sqrt(ess_mean(x))


def mcse_quantile(x: np.ndarray, prob: float) -> np.ndarray:
    """Monte Carlo standard error of a quantile, from the order statistics around it."""
    from scipy.special import betaincinv

    q = np.quantile(x, prob, axis=(-2, -1))
    size = _effective(_split((x <= q[..., None, None]).astype(float)))
    ends = [betaincinv(size * prob + 1, size * (1 - prob) + 1, p) for p in (0.1586553, 0.8413447)]
    ranked = np.sort(x.reshape(*x.shape[:-2], -1), axis=-1)
    count = ranked.shape[-1]
    low = np.clip(np.floor(np.nan_to_num(ends[0]) * count - 1).astype(int), 0, count - 1)
    high = np.clip(np.ceil(np.nan_to_num(ends[1], nan=1.0) * count - 1).astype(int), 0, count - 1)
    take = np.take_along_axis
    width = take(ranked, high[..., None], -1)[..., 0] - take(ranked, low[..., None], -1)[..., 0]
    return np.where(np.isfinite(size), width / 2, np.nan)


def e_bfmi(energy: np.ndarray) -> np.ndarray:
    """Energy Bayesian fraction of missing information of every chain, from energies `(..., chain, draw)`."""
    change = np.mean(np.diff(energy, axis=-1) ** 2, axis=-1)
    return change / np.var(energy, axis=-1)


def _where_finite(x: np.ndarray, found: np.ndarray) -> np.ndarray:
    """What was found of quantities all of whose draws are finite; of others, whose ranks tell nothing, not-a-number."""
    return np.where(np.isfinite(x).all(axis=(-2, -1)), found, np.nan)


def _split(x: np.ndarray) -> np.ndarray:
    """Each chain cut into halves; the middle draw of an odd chain is left out."""
    x = np.asarray(x, float)
    half = x.shape[-1] // 2
    return np.concatenate([x[..., :half], x[..., -half:]], axis=-2)


def _below(halves: np.ndarray, end: np.ndarray) -> np.ndarray:
    """1 where a draw is at most so large, else 0."""
    return (halves <= end[..., None, None]).astype(float)


def quantile_of(ranked: Any, prob: float) -> Any:
    """A quantile of values that are sorted along the last axis, interpolated as NumPy does; of JAX's arrays too."""
    place = prob * (ranked.shape[-1] - 1)
    low = int(place)
    return ranked[..., low] + (ranked[..., min(low + 1, ranked.shape[-1] - 1)] - ranked[..., low]) * (place - low)


def _shrinkage(halves: np.ndarray, scores: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """R-hat from the halves of chains, their normal scores and all their draws in order."""
    folded, _ = _normal_scores(np.abs(halves - quantile_of(ranked, 0.5)[..., None, None]))
    return np.maximum(_potential_scale_reduction(scores), _potential_scale_reduction(folded))


def _normal_scores(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks over all chains as normal scores, ties averaged (Blom's offsets), and the draws in order."""
    flat = x.reshape(-1, x.shape[-2] * x.shape[-1])
    count = flat.shape[-1]
    place = np.argsort(flat, axis=-1) + count * np.arange(len(flat))[:, None]
    ranked = flat.ravel()[place]
    new = np.ones(ranked.shape, bool)
    np.not_equal(ranked[:, 1:], ranked[:, :-1], out=new[:, 1:])
    first = np.flatnonzero(new)  # draws that tie are one group, of mean rank (first + last) / 2
    length = np.diff(first, append=new.size)
    scores = np.empty(new.size)
    scores[place.ravel()] = np.repeat(_by_twice_rank(count)[2 * (first % count) + 1 + length], length)
    return scores.reshape(x.shape), ranked.reshape(*x.shape[:-2], count)


@cache
def _by_twice_rank(count: int) -> np.ndarray:
    """The normal score of every mean rank among so many, by twice that rank, a whole number."""
    from scipy.special import ndtri

    return ndtri((np.arange(2 * count + 1) / 2 - 3 / 8) / (count + 1 / 4))


def _potential_scale_reduction(x: np.ndarray) -> np.ndarray:
    draws = x.shape[-1]
    within = np.var(x, axis=-1, ddof=1).mean(axis=-1)
    between = draws * np.var(x.mean(axis=-1), axis=-1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((between / within + draws - 1) / draws)


def _effective(x: np.ndarray) -> np.ndarray:
    """Effective number of draws of `(..., chain, draw)`: Geyer's initial positive, then monotone, sequence."""
    lead, (chains, draws) = x.shape[:-2], x.shape[-2:]
    flat = x.reshape(-1, chains, draws)
    covariance = _autocovariance(flat)
    mean_variance = covariance[:, 0] * draws / (draws - 1)
    total = mean_variance * (draws - 1) / draws
    if chains > 1:
        total = total + np.var(flat.mean(axis=-1), axis=-1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1 - (mean_variance[:, None] - covariance) / total[:, None]
    rho[:, 0] = 1.0
    # Pairs (even, odd) lags: summed up to the first pair whose sum is not positive, of which the even part counts once.
    longest = max(0, -((4 - draws) // 2))
    even, odd = rho[:, 0 : 2 * longest + 1 : 2], rho[:, 1 : 2 * longest + 2 : 2]
    sums = even + odd
    over = np.concatenate([sums[:, :longest] <= 0, np.ones((len(sums), 1), bool)], axis=1)
    stop = np.argmax(over, axis=1)
    kept = np.arange(longest + 1) < stop[:, None]
    monotone = np.minimum.accumulate(np.where(kept, sums, np.inf), axis=1)
    last = np.take_along_axis(even, stop[:, None], 1)[:, 0]
    tau = -1 + 2 * np.where(kept, monotone, 0).sum(axis=1) + np.maximum(last, 0)
    size = chains * draws
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = size / np.maximum(tau, 1 / np.log10(size))
    constant = np.ptp(flat, axis=(1, 2)) < np.finfo(float).resolution
    effective = np.where(constant, size, np.where(np.isfinite(flat).all(axis=(1, 2)), effective, np.nan))
    return effective.reshape(lead)


def _autocovariance(x: np.ndarray) -> np.ndarray:
    """Autocovariances of `(…, chain, draw)` at every lag, the mean over chains."""
    from scipy.fft import irfft, next_fast_len, rfft

    draws = x.shape[-1]
    length = next_fast_len(2 * draws, real=True)
    spectrum = np.asarray(rfft(x - x.mean(axis=-1, keepdims=True), n=length, axis=-1))
    power = (np.real(spectrum) ** 2 + np.imag(spectrum) ** 2).mean(axis=-2)
    return np.asarray(irfft(power, n=length, axis=-1))[..., :draws] / draws
