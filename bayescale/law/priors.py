"""Priors as names with arguments, each the image of a standard normal.

Nothing here starts JAX: a `Prior` is text until it is sampled. The image `x = F⁻¹(Φ(z))` lets every sampler work in
the same coordinates `z ~ Normal(0, 1)`, whatever the family.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bayescale.errors import LawError, nearest

_EDGE = 8.5  # beyond this |z| a tabulated image continues linearly: probability 2e-17
_NODES = 1025


@dataclass(frozen=True)
class Family:
    """A family of priors: its arguments, its image of a standard normal, and how a change of unit acts on it."""

    arguments: tuple[str, ...]
    image: Callable[..., Any]
    preimage: Callable[..., Any]
    valid: Callable[..., bool]
    support: str
    scaled: Callable[..., tuple[float, ...]] | None = None


@dataclass(frozen=True)
class _Table:
    """A smooth increasing function of z at equal steps: one cubic an interval, straight lines beyond both ends."""

    nodes: np.ndarray
    values: np.ndarray
    slopes: np.ndarray

    @property
    def cubics(self) -> np.ndarray:
        """The coefficients of 1, t, t² and t³ in every interval, t from 0 to 1, shape (intervals, 4)."""
        h = self.nodes[1] - self.nodes[0]
        y0, y1, m0, m1 = self.values[:-1], self.values[1:], h * self.slopes[:-1], h * self.slopes[1:]
        return np.stack([y0, m0, 3 * (y1 - y0) - 2 * m0 - m1, 2 * (y0 - y1) + m0 + m1], axis=-1)

    def inverse(self, y) -> np.ndarray:
        """The z of a value: the right interval, then Newton's steps on its cubic."""
        y = np.asarray(y, float)
        k = np.clip(np.searchsorted(self.values, y) - 1, 0, len(self.values) - 2)
        c0, c1, c2, c3 = np.moveaxis(self.cubics[k], -1, 0)
        t = np.clip((y - self.values[k]) / (self.values[k + 1] - self.values[k]), 0, 1)
        for _ in range(6):
            t = np.clip(t - (c0 + t * (c1 + t * (c2 + t * c3)) - y) / (c1 + t * (2 * c2 + 3 * t * c3)), 0, 1)
        low, high = (y - self.values[0]) / self.slopes[0], (y - self.values[-1]) / self.slopes[-1]
        inside = self.nodes[k] + t * (self.nodes[1] - self.nodes[0])
        return np.where(low < 0, self.nodes[0] + low, np.where(high > 0, self.nodes[-1] + high, inside))


def _lower_tail(x, z, power: float, log_constant: float) -> np.ndarray:
    """log x for F(x) = Φ(z), by F(x) ~ constant * x**power where x itself would underflow."""
    from scipy.special import log_ndtr

    return np.where(x > 1e-290, np.log(np.maximum(x, 1e-290)), (log_ndtr(z) - log_constant) / power)


@cache
def _tabulated(name: str, args: tuple[float, ...]) -> _Table:
    """z → log x (positive) or logit x (unit), with exact slopes, for families without a cheap image."""
    from scipy import special as sp

    z = np.linspace(-_EDGE, _EDGE, _NODES)
    lower, upper = sp.ndtr(z), sp.ndtr(-z)
    if name == "HalfNormal":
        y = np.log(np.where(z < 0, math.sqrt(2) * sp.erfinv(lower), -sp.ndtri(upper / 2)) * args[0])
        log_density = 0.5 * math.log(2 / math.pi) - math.log(args[0]) - 0.5 * np.exp(2 * y) / args[0] ** 2
        log_slope = y
    elif name == "Gamma":
        shape, rate = args
        unit = np.where(z < 0, sp.gammaincinv(shape, lower), sp.gammainccinv(shape, upper))
        y = _lower_tail(unit, z, shape, -float(sp.gammaln(shape + 1))) - math.log(rate)
        log_density = shape * math.log(rate) + (shape - 1) * y - rate * np.exp(y) - sp.gammaln(shape)
        log_slope = y
    else:
        one, zero = args
        constant = float(sp.betaln(one, zero))
        x = np.where(z < 0, sp.betaincinv(one, zero, lower), sp.betainccinv(one, zero, upper))
        rest = np.where(z < 0, sp.betainccinv(zero, one, lower), sp.betaincinv(zero, one, upper))
        log_x = _lower_tail(x, z, one, -constant - math.log(one))
        log_rest = _lower_tail(rest, -z, zero, -constant - math.log(zero))
        y = log_x - log_rest
        log_density = (one - 1) * log_x + (zero - 1) * log_rest - constant
        log_slope = log_x + log_rest
    slopes = np.exp(-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - log_density - log_slope)
    return _Table(z, y, slopes)


def _tabulated_image(name: str):
    def image(z, *args):
        import jax
        import jax.numpy as jnp

        table = _tabulated(name, tuple(args))
        z = jnp.asarray(z)
        z = z if jnp.issubdtype(z.dtype, jnp.floating) else z.astype(float)
        inside = jnp.clip(z, -_EDGE, _EDGE)
        place = (inside + _EDGE) * ((_NODES - 1) / (2 * _EDGE))
        k = jnp.clip(jnp.floor(place), 0, _NODES - 2)
        t = place - k
        c0, c1, c2, c3 = jnp.moveaxis(jnp.asarray(table.cubics, z.dtype)[k.astype(jnp.int32)], -1, 0)
        y = c0 + t * (c1 + t * (c2 + t * c3))
        y = y + (z - inside) * jnp.where(z < 0, float(table.slopes[0]), float(table.slopes[-1])).astype(z.dtype)
        return jax.nn.sigmoid(y) if name == "Beta" else jnp.exp(y)

    return image


def _tabulated_preimage(name: str):
    def preimage(x, *args):
        x = np.asarray(x, float)
        with np.errstate(divide="ignore"):  # a bound of the support is infinitely far away
            y = np.log(x) - np.log1p(-x) if name == "Beta" else np.log(x)
        return _tabulated(name, tuple(args)).inverse(y)

    return preimage


def _uniform_image(z, low, high):
    from jax.scipy.special import ndtr

    return low + (high - low) * ndtr(z)


def _loguniform_image(z, low, high):
    import jax.numpy as jnp
    from jax.scipy.special import ndtr

    return low * jnp.exp(math.log(high / low) * ndtr(z))


def _exponential_image(z, rate):
    import jax.numpy as jnp
    from jax.scipy.special import log_ndtr, ndtr

    # -log(1 - Φ(z)): above the median from its own logarithm, below it without rounding 1 - Φ(z).
    below, above = jnp.where(z < 0, z, 0.0), jnp.where(z < 0, 0.0, z)
    return jnp.where(z < 0, -jnp.log1p(-ndtr(below)), -log_ndtr(-above)) / rate


def _lognormal_image(z, loc, scale):
    import jax.numpy as jnp

    return jnp.exp(loc + scale * z)


def _lognormal_preimage(x, loc, scale):
    if isinstance(x, float | int | np.ndarray):
        return (np.log(x) - loc) / scale
    import jax.numpy as jnp

    return (jnp.log(x) - loc) / scale


def _uniform_preimage(x, low, high):
    from scipy.special import ndtri

    return ndtri((np.asarray(x, float) - low) / (high - low))


def _loguniform_preimage(x, low, high):
    return _uniform_preimage(np.log(x), math.log(low), math.log(high))


def _exponential_preimage(x, rate):
    from scipy.special import ndtri_exp

    return -ndtri_exp(-rate * np.asarray(x, float))


def _positive(*args: float) -> bool:
    return all(a > 0 for a in args)


FAMILIES: dict[str, Family] = {
    "Normal": Family(
        ("loc", "scale"),
        lambda z, loc, scale: loc + scale * z,
        lambda x, loc, scale: (x - loc) / scale,
        lambda loc, scale: scale > 0,
        "real",
        lambda f, loc, scale: (loc * f, scale * f),
    ),
    "LogNormal": Family(
        ("loc", "scale"),
        _lognormal_image,
        _lognormal_preimage,
        lambda loc, scale: scale > 0,
        "positive",
        lambda f, loc, scale: (loc + math.log(f), scale),
    ),
    "HalfNormal": Family(
        ("scale",),
        _tabulated_image("HalfNormal"),
        _tabulated_preimage("HalfNormal"),
        _positive,
        "positive",
        lambda f, scale: (scale * f,),
    ),
    "Exponential": Family(
        ("rate",),
        _exponential_image,
        _exponential_preimage,
        _positive,
        "positive",
        lambda f, rate: (rate / f,),
    ),
    "Uniform": Family(
        ("low", "high"),
        _uniform_image,
        _uniform_preimage,
        lambda low, high: low < high,
        "real",
        lambda f, low, high: (low * f, high * f),
    ),
    "LogUniform": Family(
        ("low", "high"),
        _loguniform_image,
        _loguniform_preimage,
        lambda low, high: 0 < low < high,
        "positive",
        lambda f, low, high: (low * f, high * f),
    ),
    "Gamma": Family(
        ("concentration", "rate"),
        _tabulated_image("Gamma"),
        _tabulated_preimage("Gamma"),
        _positive,
        "positive",
        lambda f, concentration, rate: (concentration, rate / f),
    ),
    "Beta": Family(
        ("concentration1", "concentration0"), _tabulated_image("Beta"), _tabulated_preimage("Beta"), _positive, "unit"
    ),
}


@dataclass(frozen=True)
class Prior:
    """A prior: the name of a NumPyro family and its arguments, built only when it is sampled.

    Raises `LawError` (BS-L003) for an unknown family, a wrong number of arguments or values outside their range.

    Example:
        >>> from bayescale.law import LogNormal
        >>> str(LogNormal(-1.2, 0.6))
        'LogNormal(-1.2, 0.6)'
    """

    family: str
    args: tuple[float, ...]

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise LawError(f"no prior family {self.family!r}", code="BS-L003", remedy=nearest(self.family, [*FAMILIES]))
        object.__setattr__(self, "args", tuple(float(a) for a in self.args))
        wanted = FAMILIES[self.family].arguments
        if len(self.args) != len(wanted):
            raise LawError(
                f"{self.family} takes {len(wanted)} arguments ({', '.join(wanted)}), got {len(self.args)}",
                code="BS-L003",
            )
        if not all(map(math.isfinite, self.args)) or not FAMILIES[self.family].valid(*self.args):
            raise LawError(f"{self} is not a distribution: check {', '.join(wanted)}", code="BS-L003")

    def __str__(self) -> str:
        return f"{self.family}({', '.join(f'{a:.6g}' for a in self.args)})"

    @property
    def exact(self) -> str:
        """All digits, as `parse_prior` takes them."""
        return f"{self.family}({', '.join(map(repr, self.args))})"

    @property
    def described(self) -> str:
        """As a person reads it, and as `parse_prior` takes it: a median and a factor, or a mean and a deviation.

        Example:
            >>> LogNormal(-1.2, 0.6).described
            'LogNormal(0.301 ×/÷ 1.82)'
        """
        if self.family == "LogNormal":
            median, factor = (math.exp(a) for a in self.args)
            return f"LogNormal({median:.3g} ×/÷ {factor:.3g})"
        if self.family == "Normal":
            return f"Normal({self.args[0]:.3g} ± {self.args[1]:.3g})"
        return str(self)

    @property
    def support(self) -> str:
        """Where the values lie: "real", "positive" or "unit"."""
        if self.family == "Uniform" and self.args[0] >= 0:
            return "unit" if self.args[1] <= 1 else "positive"
        return FAMILIES[self.family].support

    def contains(self, x) -> np.ndarray:
        """Where values lie in the support: an open interval, but for the ends of a uniform prior."""
        x = np.asarray(x, float)
        if self.family in ("Uniform", "LogUniform"):
            return (self.args[0] <= x) & (x <= self.args[1])
        least, most = {"positive": (0.0, np.inf), "unit": (0.0, 1.0)}.get(self.support, (-np.inf, np.inf))
        return (least < x) & (x < most)

    def image(self, z):
        """The value whose prior quantile is that of `z` under Normal(0, 1); traceable by JAX, any shape."""
        return FAMILIES[self.family].image(z, *self.args)

    def preimage(self, x):
        """The standard-normal coordinate of a value, the inverse of `image`; traceable by JAX if `traceable`."""
        return FAMILIES[self.family].preimage(np.asarray(x, float) if np.isscalar(x) else x, *self.args)

    @property
    def median(self) -> float:
        """The value that the prior puts half of its mass below."""
        import jax

        with jax.enable_x64(True):
            return float(self.image(np.float64(0.0)))

    @property
    def traceable(self) -> bool:
        """Whether `preimage` can be traced by JAX."""
        return self.family in ("Normal", "LogNormal")

    def scaled(self, factor: float) -> Prior:
        """The prior of `factor * x`: how a prior follows a change of unit."""
        if factor == 1:
            return self
        rule = FAMILIES[self.family].scaled
        if rule is None:
            raise LawError(f"{self} has no unit to convert", code="BS-L003")
        return Prior(self.family, rule(factor, *self.args))

    def distribution(self):
        """The NumPyro distribution itself."""
        import warnings

        with warnings.catch_warnings():  # in a notebook its progress bars ask for widgets, which are not needed
            warnings.filterwarnings("ignore", message="IProgress not found")
            import numpyro
        import numpyro.distributions as dist

        del numpyro
        return getattr(dist, self.family)(*self.args)


def Normal(loc: float, scale: float) -> Prior:
    """Normal prior with mean `loc` and standard deviation `scale`."""
    return Prior("Normal", (loc, scale))


def LogNormal(loc: float, scale: float) -> Prior:
    """Log-normal prior: `log x ~ Normal(loc, scale)`, so the median is `exp(loc)`."""
    return Prior("LogNormal", (loc, scale))


def HalfNormal(scale: float) -> Prior:
    """Half-normal prior: `|x|` of `Normal(0, scale)`."""
    return Prior("HalfNormal", (scale,))


def Exponential(rate: float) -> Prior:
    """Exponential prior with mean `1 / rate`."""
    return Prior("Exponential", (rate,))


def Uniform(low: float, high: float) -> Prior:
    """Uniform prior between `low` and `high`."""
    return Prior("Uniform", (low, high))


def LogUniform(low: float, high: float) -> Prior:
    """Log-uniform prior between two positive bounds."""
    return Prior("LogUniform", (low, high))


def Gamma(concentration: float, rate: float) -> Prior:
    """Gamma prior with mean `concentration / rate`."""
    return Prior("Gamma", (concentration, rate))


def Beta(concentration1: float, concentration0: float) -> Prior:
    """Beta prior on (0, 1) with mean `concentration1 / (concentration1 + concentration0)`."""
    return Prior("Beta", (concentration1, concentration0))


#: How the two numbers of a spread prior may be joined, by family: what is printed, and what a keyboard has.
_JOINED = {"LogNormal": ("×/÷", "*/"), "Normal": ("±", "+-")}


def parse_prior(text: str) -> Prior:
    """A prior from text such as `normal(.35, .02)`; family names are matched without case.

    `normal(.35 +- .02)` says the same, and `lognormal(.3 */ 1.8)` is a log-normal by its median and the factor of one
    standard deviation: what `described` prints, with × and ÷ or without.

    Raises `LawError` (BS-L003) naming the families and the form expected.

    Example:
        >>> parse_prior("normal(.35, .02)")
        Prior(family='Normal', args=(0.35, 0.02))
    """
    match = re.fullmatch(r"\s*([A-Za-z_]+)\s*\(([^()]*)\)\s*", text)
    if not match:
        raise LawError(
            f"cannot read the prior {text!r}",
            code="BS-L003",
            remedy="Write a family with its arguments: normal(.35,.02), lognormal(-1.2,.6), lognormal(.3 */ 1.8).",
        )
    family = next((f for f in FAMILIES if f.lower() == match[1].replace("_", "").lower()), None)
    if family is None:
        raise LawError(f"no prior family {match[1]!r}", code="BS-L003", remedy=nearest(match[1], [*FAMILIES]))
    sign = next((s for s in _JOINED.get(family, ()) if s in match[2]), None)
    try:
        args = tuple(float(a) for a in match[2].split(sign or ","))
    except ValueError:
        raise LawError(f"the arguments of {text!r} are not numbers", code="BS-L003") from None
    if sign and family == "LogNormal":
        if len(args) != 2 or not (args[0] > 0 and args[1] > 1):
            raise LawError(f"{text!r} needs a positive median and a factor above 1", code="BS-L003")
        args = tuple(map(math.log, args))
    return Prior(family, args)
