"""What residuals say about where the law lies: heights, scores and information of every row.

A rounded row stands for all that round to it: its density is the mean over that interval, flat where the interval is
wider than the noise, so that a residual within it says little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.model import compiled, double_precision
from bayescale.model.observing import ROUNDED_NODES, interval_log_density
from bayescale.noise import Noise

#: Draws that give the information of one residual; the same for every fit.
_INFORMATION_DRAWS = 200_000
#: The information of rounded rows is found at so many widths of the interval, by so many draws each.
_WIDTHS, _WIDTH_DRAWS = 12, 20_000


@dataclass(frozen=True, eq=False)
class Residuals:
    """How the residuals of rows are distributed: a noise, its `shape`, the `scale` of every row, and by how much what
    was rounded may differ from what the table says (`low` to `high`, both zero where a row is exact).

    Rows of runs that were not tuned show only a bound: they are `bounded`, and their scale is so large that they say
    next to nothing.
    """

    noise: Noise
    shape: Mapping[str, float]
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bounded: np.ndarray

    @cached_property
    def rounded(self) -> np.ndarray:
        """Which rows are."""
        return self.high > self.low

    @cached_property
    def spread(self) -> np.ndarray:
        """The scale of every row with that of its rounding."""
        return np.sqrt(self.scale**2 + (self.high - self.low) ** 2 / 12)

    def heights(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log-density of residuals in units of the scale, and minus its slope; the last axis is the rows."""
        height, score = self._of("both", residual)
        return height, score / self.scale

    def scores(self, residual: np.ndarray) -> np.ndarray:
        """Minus the slope of the log-density."""
        return self._of("score", residual)[0] / self.scale

    def curvatures(self, residual: np.ndarray) -> np.ndarray:
        """Minus the second derivative of the log-density, at least zero; its expectation where the density has none to
        show: a kink, or the interval of a rounded row."""
        if self.noise.smooth is not None:
            return np.broadcast_to(self.information, residual.shape)
        if self.rounded.all():
            return np.broadcast_to(self.information, residual.shape)
        shown = np.maximum(_exact(self.noise, "curvature", residual / self.scale, self.shape)[0], 0.0) / self.scale**2
        return np.where(self.rounded, self.information, shown)

    @cached_property
    def information(self) -> np.ndarray:
        """The expected information of every row about its location."""
        exact = information_of(self.noise, self.shape) / self.scale**2
        if not self.rounded.any():
            return exact
        widths = np.log(((self.high - self.low) / self.scale)[self.rounded])
        at = np.linspace(widths.min(), widths.max(), _WIDTHS if np.ptp(widths) > 1e-6 else 1)
        told = np.log([_information_of_rounded(self.noise, self.shape, width) for width in np.exp(at)])
        made = exact.copy()
        made[self.rounded] = np.exp(np.interp(widths, at, told)) / self.scale[self.rounded] ** 2
        return made

    def _of(self, what: str, residual: np.ndarray) -> list[np.ndarray]:
        scaled = residual / self.scale
        if not self.rounded.any():
            return _exact(self.noise, what, scaled, self.shape)
        return _of_interval(self.noise, what, scaled, self.shape, self.low / self.scale, self.high / self.scale)


def information_of(noise: Noise, shape: Mapping[str, float]) -> float:
    """The expected squared score of one residual at unit scale, the same draws every time."""
    rng = np.random.default_rng(0)
    return float(np.mean(_exact(noise, "score", noise.sample(rng, _INFORMATION_DRAWS, **shape), shape)[0] ** 2))


def _information_of_rounded(noise: Noise, shape: Mapping[str, float], width: float) -> float:
    """The same of one that is known within an interval of this width."""
    rng, half = np.random.default_rng(0), np.full(_WIDTH_DRAWS, width / 2)
    seen = noise.sample(rng, _WIDTH_DRAWS, **shape) + rng.uniform(-width / 2, width / 2, _WIDTH_DRAWS)
    return float(np.mean(_of_interval(noise, "score", seen, shape, -half, half)[0] ** 2))


def _exact(noise: Noise, what: str, residual: np.ndarray, shape: Mapping[str, float]) -> list[np.ndarray]:
    """Of the log-density of residuals at unit scale minus its slope ("score"), both, or minus the second derivative."""

    def one(r, shape):
        return noise.log_density(r, 1.0, **shape)

    return _mapped(("noise", what, noise.name), _derivative(what, one), shape, residual)


def _of_interval(
    noise: Noise, what: str, residual: np.ndarray, shape: Mapping[str, float], low: np.ndarray, high: np.ndarray
) -> list[np.ndarray]:
    """The same of rows that are known within an interval, or exactly where it is empty."""

    def one(r, shape, low, high):
        def density(r, scale):
            return noise.log_density(r, scale, **shape)

        row = [x.reshape(1) for x in (r, r * 0 + 1, low, high)]
        return interval_log_density(density, row[0], row[1], row[2], row[3], ROUNDED_NODES)[0]

    return _mapped(("interval noise", what, noise.name), _derivative(what, one), shape, residual, low, high)


def _derivative(what: str, one: Callable[..., Any]) -> Callable[..., Any]:
    import jax

    slope = jax.grad(one)

    def both(*given):
        height, up = jax.value_and_grad(one)(*given)
        return height, -up

    functions: dict[str, Callable[..., Any]] = {
        "both": both,
        "score": lambda *given: (-slope(*given),),
        "curvature": lambda *given: (-jax.grad(slope)(*given),),
    }
    return functions[what]


def _mapped(
    key: tuple, function: Callable[..., Any], shape: Mapping[str, float], residual: np.ndarray, *ends: np.ndarray
) -> list[np.ndarray]:
    """Functions of every residual and of what belongs to its row, for residuals of any shape."""
    import jax

    with double_precision():
        flat = np.ascontiguousarray(residual, float).reshape(-1)
        own = [np.ascontiguousarray(np.broadcast_to(e, np.shape(residual))).reshape(-1) for e in ends]
        arguments = (flat, {k: np.asarray(float(v)) for k, v in shape.items()}, *own)
        program = compiled(key, jax.vmap(function, (0, None, *(0 for _ in own))), *arguments)
        return [np.asarray(found).reshape(np.shape(residual)) for found in program(*arguments)]
