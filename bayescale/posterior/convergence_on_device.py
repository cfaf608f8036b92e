"""The numbers of `convergence` as JAX computes them: for thousands of tables whose draws lie on an accelerator.

Arrays are `(..., chain, draw)`, with an even number of draws; call it in double precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bayescale.posterior.convergence import TAILS, quantile_of


def diagnose(x: Any) -> tuple[Any, Any, Any]:
    """R-hat, bulk and tail effective sizes."""
    import jax.numpy as jnp

    halves = _split(x)
    scores, ranked = _normal_scores(halves)
    folded, _ = _normal_scores(jnp.abs(halves - quantile_of(ranked, 0.5)[..., None, None]))
    shrinkage = jnp.maximum(_potential_scale_reduction(scores), _potential_scale_reduction(folded))
    tails = [_effective((halves <= quantile_of(ranked, q)[..., None, None]).astype(x.dtype)) for q in TAILS]
    finite = jnp.isfinite(x).all(axis=(-2, -1))
    found = shrinkage, _effective(scores), jnp.minimum(*tails)
    return tuple(jnp.where(finite, numbers, jnp.nan) for numbers in found)  # type: ignore[return-value]


def _split(x: Any) -> Any:
    import jax.numpy as jnp

    half = x.shape[-1] // 2
    return jnp.concatenate([x[..., :half], x[..., half:]], axis=-2)


def _normal_scores(x: Any) -> tuple[Any, Any]:
    """Ranks over all chains as normal scores, ties averaged (Blom's offsets), and the sorted values."""
    import jax
    import jax.numpy as jnp
    from scipy.special import ndtri

    flat = x.reshape(*x.shape[:-2], -1)
    count = flat.shape[-1]
    position = jax.lax.broadcasted_iota(np.int32, flat.shape, flat.ndim - 1)
    ranked, order = jax.lax.sort((flat, position), num_keys=1)
    edge = jnp.ones((*ranked.shape[:-1], 1), bool)
    new = jnp.concatenate([edge, ranked[..., 1:] != ranked[..., :-1]], axis=-1)
    last_axis = ranked.ndim - 1
    first = jax.lax.cummax(jnp.where(new, position + 1, 0), axis=last_axis)
    ends = jnp.concatenate([new[..., 1:], edge], axis=-1)
    last = jax.lax.cummin(jnp.where(ends, position + 1, count + 1), axis=last_axis, reverse=True)
    by_twice_rank = jnp.asarray(ndtri((np.arange(2 * count + 1) / 2 - 3 / 8) / (count + 1 / 4)))
    _, scores = jax.lax.sort((order, by_twice_rank[first + last]), num_keys=1)
    return scores.reshape(x.shape), ranked


def _potential_scale_reduction(x: Any) -> Any:
    import jax.numpy as jnp

    draws = x.shape[-1]
    within = jnp.var(x, axis=-1, ddof=1).mean(axis=-1)
    between = draws * jnp.var(x.mean(axis=-1), axis=-1, ddof=1)
    return jnp.sqrt((between / within + draws - 1) / draws)


def _effective(x: Any) -> Any:
    """Effective number of draws of `(..., chain, draw)`: Geyer's initial positive, then monotone, sequence."""
    import jax
    import jax.numpy as jnp

    chains, draws = x.shape[-2:]
    spectrum = jnp.fft.rfft(x - x.mean(axis=-1, keepdims=True), n=2 * draws, axis=-1)
    covariance = jnp.fft.irfft((spectrum * jnp.conj(spectrum)).mean(axis=-2), n=2 * draws, axis=-1)[..., :draws] / draws
    mean_variance = covariance[..., :1] * draws / (draws - 1)
    total = covariance[..., :1] + jnp.var(x.mean(axis=-1), axis=-1, ddof=1)[..., None]
    rho = (1 - (mean_variance - covariance) / total).at[..., 0].set(1.0)
    longest = max(0, -((4 - draws) // 2))
    even, odd = rho[..., 0 : 2 * longest + 1 : 2], rho[..., 1 : 2 * longest + 2 : 2]
    sums = even + odd
    over = (sums <= 0).at[..., longest].set(True)
    stop = jnp.argmax(over, axis=-1, keepdims=True)
    kept = jnp.arange(longest + 1) < stop
    monotone = jax.lax.cummin(jnp.where(kept, sums, jnp.inf), axis=sums.ndim - 1)
    last = jnp.take_along_axis(even, stop, -1)[..., 0]
    tau = -1 + 2 * jnp.where(kept, monotone, 0).sum(axis=-1) + jnp.maximum(last, 0)
    size = chains * draws
    effective = size / jnp.maximum(tau, 1 / np.log10(size))
    spread = x.max(axis=(-2, -1)) - x.min(axis=(-2, -1))
    return jnp.where(spread < np.finfo(float).resolution, size, effective)
