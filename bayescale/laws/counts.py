"""Exact likelihoods of counts: successes among trials, with or without a spread of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bayescale.law import argument_names, call


def betaln(a, b):
    """The logarithm of the beta function."""
    from jax.scipy.special import gammaln

    return gammaln(a) + gammaln(b) - gammaln(a + b)


def log_choose(n, k):
    """The logarithm of the binomial coefficient."""
    import jax.numpy as jnp

    return -betaln(k + 1.0, n - k + 1.0) - jnp.log(n + 1.0)


def binomial(successes, n, p):
    """log Binomial(successes; n, p)."""
    import jax.numpy as jnp

    return log_choose(n, successes) + successes * jnp.log(p) + (n - successes) * jnp.log1p(-p)


def beta_binomial(successes, n, a, b):
    """log BetaBinomial(successes; n, a, b)."""
    return log_choose(n, successes) + betaln(a + successes, b + n - successes) - betaln(a, b)


class Counted:
    """The likelihood of `successes` among `trials` where a law's mean is the probability of one.

    With `phi` the probability of a row has a beta distribution around the mean, of that concentration: rows differ by
    more than their items. `sampler` draws the counts in NumPy.
    """

    def __init__(self, mean: Callable[..., Any], successes: str, trials: str, phi: str | None = None):
        self.mean, self.successes, self.trials, self.phi = mean, successes, trials, phi
        others = (trials, *((phi,) if phi else ()))
        self.argument_names = (successes, *others, *(n for n in argument_names(mean) if n not in others))
        self.sampler = _Sampler(trials, phi)

    def __call__(self, **values):
        """The log-probability of one row."""
        p = call(self.mean, values)
        s, n = values[self.successes], values[self.trials]
        if self.phi is None:
            return binomial(s, n, p)
        return beta_binomial(s, n, p * values[self.phi], (1 - p) * values[self.phi])


class _Sampler:
    def __init__(self, trials: str, phi: str | None):
        self.trials, self.phi = trials, phi
        self.argument_names = ("rng", "mean", trials, *((phi,) if phi else ()))

    def __call__(self, rng, mean, **values):
        p, n = mean, np.rint(values[self.trials]).astype(int)
        if self.phi is not None:
            p = rng.beta(mean * values[self.phi], (1 - mean) * values[self.phi])
        return rng.binomial(n, p).astype(float)
