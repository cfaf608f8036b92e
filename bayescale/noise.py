"""Observation models on the response's link scale, and group effects shared by rows.

A noise is one declaration: its parameters with priors, its log-density and its sampler. A response's support picks
the link (log where positive, identity where real, logit where in (0, 1)); measurement errors of the response add to
the noise's scale in quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from bayescale.errors import LawError, nearest
from bayescale.law import HalfNormal, LogNormal, Parameter, Prior


@dataclass(frozen=True)
class Link:
    """A link: response → the scale on which noise is symmetric, back, and the log of the slope."""

    name: str
    forward: Callable[[Any], Any]
    inverse: Callable[[Any], Any]
    log_slope: Callable[[Any], Any]


def _numpy_of(x):
    import jax
    import numpy as np

    if isinstance(x, jax.Array):
        import jax.numpy as jnp

        return jnp
    return np


def _log(x):
    return _numpy_of(x).log(x)


def _exp(x):
    import numpy as np

    with np.errstate(over="ignore"):  # a heavy tail may reach beyond the largest float: it is infinite
        return _numpy_of(x).exp(x)


def _logit(x):
    m = _numpy_of(x)
    return m.log(x) - m.log1p(-x)


def _expit(x):
    m = _numpy_of(x)
    return 0.5 * (1 + m.tanh(x / 2))


LINKS: dict[str, Link] = {
    "positive": Link("log", _log, _exp, lambda y: -_log(y)),
    "real": Link("identity", lambda y: y, lambda y: y, lambda y: 0 * y),
    "unit": Link("logit", _logit, _expit, lambda y: -_log(y) - _log(1 - y)),
}


#: Least degrees of freedom of checkpoints that err alike: what is new from one to the next adds up to the level of a
#: run. With heavier tails a whole run's level, off by however much, would pass as one outlier that no law need meet.
TAILS_OF_RUNS = 4.0


@dataclass(frozen=True)
class Noise:
    """A symmetric observation model: parameters, log-density of a residual, and draws of it.

    `log_density(residual, scale, **shape)` works on the link scale in JAX; `scale` is the noise's own scale with
    measurement error added, a scalar or one value a row, and shape parameters are scalars. `sample(rng, size, **shape)`
    draws at unit scale and `cdf(residual, scale, **shape)` integrates, both in NumPy with any shapes that broadcast.
    `smooth`, where given, is a twice differentiable stand-in from which samplers take the curvature. The scale of one
    that `grows` differs by row: its log is linear in the logs of compute and tokens per parameter.
    """

    name: str
    title: str
    equation: str
    shape: tuple[Parameter, ...]
    log_density: Callable[..., Any]
    sample: Callable[..., Any]
    cdf: Callable[..., Any]
    smooth: Callable[..., Any] | None = None
    grows: bool = False

    @property
    def term(self) -> str:
        """What the noise adds to a row's location, in LaTeX."""
        return self.equation.partition(" + ")[2]

    def parameters(self, typical_scale: float, *, of_runs: bool = False) -> tuple[Parameter, ...]:
        """The scale `sigma`, with its prior around a typical value, and the shape parameters.

        `of_runs`: rows are checkpoints of several runs that err alike, and tails are no heavier than `TAILS_OF_RUNS`.
        """
        scale = Parameter("sigma", LogNormal(math.log(typical_scale), 1.5), "scale of the noise on the link scale")
        shape = self.shape
        if of_runs:
            shape = tuple(replace(p, above=TAILS_OF_RUNS) for p in shape)
        return (scale, *shape)


#: log Gamma(y + 1/2) - log Gamma(y) - log(y) / 2 = c1 / y + c3 / y³ + …, exact to rounding for y >= 10.
_FAR_SERIES = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224)
_FAR = 10


@cache
def _log_gamma_step() -> Callable[[Any], Any]:
    """The function log Gamma(x + 1/2) - log Gamma(x) of x > 0: from ten steps up, by the series in 1/x there.

    Two general log-gammas and their slopes cost as much as all the rows. The slope is written out: differentiated, each
    of the steps would be a kernel by itself.
    """
    import jax
    import jax.numpy as jnp

    def steps(x, r):  # (x + k) r and (x + k + 1/2) r, all within (0, 1): nothing overflows
        return [(1 - (_FAR - k) * r if k else x * r, 1 - (_FAR - k - 0.5) * r) for k in range(_FAR)]

    def value(x):
        r = 1 / (x + _FAR)
        above = below = 1.0
        for whole, half in steps(x, r):
            above, below = above * whole, below * half
        return jnp.log(above / below) - 0.5 * jnp.log(r) + r * _horner(_FAR_SERIES, r * r)

    def slope(x):
        r = 1 / (x + _FAR)
        top, bottom = 0.0, 1.0  # the sum of 1 / (whole * half), as one fraction
        for whole, half in steps(x, r):
            top, bottom = top * whole * half + bottom, bottom * whole * half
        odd = tuple((2 * k + 1) * c for k, c in enumerate(_FAR_SERIES))
        return 0.5 * r * r * (top / bottom) + 0.5 * r - r * r * _horner(odd, r * r)

    made = jax.custom_jvp(value)
    made.defjvps(lambda t, _, x: t * slope(x))
    return made


@cache
def _inverse_of() -> Callable[[Any, Any], tuple[Any, Any]]:
    import jax

    @jax.custom_jvp
    def made(x, log):
        return 1 / x, -log

    @made.defjvp
    def slopes(primals, tangents):
        inverse, minus_log = made(*primals)
        moved = -tangents[0] * inverse
        return (inverse, minus_log), (moved * inverse, moved)

    return made


def inverse_and_log(x: Any) -> tuple[Any, Any]:
    """1 / x and its logarithm, whose slopes are products of the first: every other division would be a kernel more."""
    import jax.numpy as jnp

    return _inverse_of()(x, jnp.log(x))


def _horner(coefficients: tuple[float, ...], x: Any) -> Any:
    """The polynomial with these coefficients, the lowest first."""
    found = coefficients[-1]
    for c in coefficients[-2::-1]:
        found = c + x * found
    return found


def _student_t_log_density(residual, scale, nu):
    import jax.numpy as jnp

    precision, log_precision = inverse_and_log(nu * scale**2)
    constant = _log_gamma_step()(0.5 * nu) - 0.5 * math.log(math.pi)
    return constant + 0.5 * log_precision - 0.5 * (nu + 1) * jnp.log1p(precision * residual**2)


def _student_t_sample(rng, size, nu):
    return rng.standard_t(nu, size)


def _student_t_cdf(residual, scale, nu):
    from scipy import stats

    return stats.t.cdf(residual / scale, nu)


def _normal_log_density(residual, scale):
    rate, log_rate = inverse_and_log(scale)
    return -0.5 * (rate * residual) ** 2 + log_rate - 0.5 * math.log(2 * math.pi)


def _normal_sample(rng, size):
    return rng.standard_normal(size)


def _normal_cdf(residual, scale):
    from scipy import stats

    return stats.norm.cdf(residual / scale)


def _laplace_log_density(residual, scale):
    import jax.numpy as jnp

    rate, log_rate = inverse_and_log(scale)
    return -rate * jnp.abs(residual) + log_rate - math.log(2)


def _laplace_smooth(residual, scale):
    import jax.numpy as jnp

    rate, log_rate = inverse_and_log(scale)
    return -jnp.sqrt(0.05 + (rate * residual) ** 2) + log_rate - math.log(2)


def _laplace_sample(rng, size):
    return rng.laplace(size=size)


def _laplace_cdf(residual, scale):
    from scipy import stats

    return stats.laplace.cdf(residual / scale)


_NU = Parameter(
    "nu", LogNormal(math.log(8), 1.0), "degrees of freedom: small means heavy tails", above=1.0, symbol=r"\nu"
)

#: Every noise by name.
NOISES: dict[str, Noise] = {
    n.name: n
    for n in (
        Noise(
            "student_t",
            "Student-t, degrees of freedom estimated",
            r"g(L_i) = g(\hat L_i) + \sigma\, t_{\nu,i}",
            (_NU,),
            _student_t_log_density,
            _student_t_sample,
            _student_t_cdf,
        ),
        Noise(
            "growing",
            "Student-t whose scale grows or shrinks with compute and tokens per parameter",
            r"g(L_i) = g(\hat L_i) + \sigma (C_i/C_0)^{\kappa_C} (D_i N_0/(N_i D_0))^{\kappa_R}\, t_{\nu,i}",
            (_NU,),
            _student_t_log_density,
            _student_t_sample,
            _student_t_cdf,
            grows=True,
        ),
        Noise(
            "normal",
            "normal",
            r"g(L_i) = g(\hat L_i) + \sigma\,\epsilon_i",
            (),
            _normal_log_density,
            _normal_sample,
            _normal_cdf,
        ),
        Noise(
            "laplace",
            "Laplace (the likelihood behind least absolute deviations)",
            r"g(L_i) = g(\hat L_i) + \mathrm{Laplace}(\sigma)",
            (),
            _laplace_log_density,
            _laplace_sample,
            _laplace_cdf,
            _laplace_smooth,
        ),
    )
}


def noise_named(name: str) -> Noise:
    """The noise of that name; raises `LawError` (BS-L002) naming those known."""
    if name not in NOISES:
        raise LawError(f"no noise {name!r}", code="BS-L002", remedy=nearest(name, [*NOISES]))
    return NOISES[name]


@dataclass(frozen=True)
class Effect:
    """How a kind of grouping is shrunk: the prior of its spread tau, as a ratio to sigma or on the link scale.

    `few` is the spread, on the link scale, that a grouping of too few levels to learn one from is given; None where
    that is the median of its prior.
    """

    kind: str
    meaning: str
    prior: Prior
    relative: bool
    few: float | None = None


#: Spread of the intercepts, by what the grouping means. Recipes differ in the data and code they use, so their
#: spread has a scale of its own; the others are kinds of noise, so theirs is compared with the noise.
EFFECTS: dict[str, Effect] = {
    e.kind: e
    for e in (
        Effect("run", "rows of one run", HalfNormal(1.0), True),
        Effect("size", "runs of one model size", HalfNormal(1.0), True),
        Effect("budget", "runs of one compute budget", HalfNormal(1.0), True),
        Effect("recipe", "runs of one recipe, family or tokenizer", HalfNormal(0.05), False, few=0.1),
        Effect("other", "runs that share a column's value", HalfNormal(1.0), True),
    )
}
