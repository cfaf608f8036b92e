"""The posterior as weighted least squares about its centre: scores, leverages and refits without a sampler.

Noise and spreads of groups are held at their posterior medians. What is left, the law's coordinates and the effects of
groups, has a posterior that near its mode is that of a linear model: rows enter by the slope of their location and by
the score of their residual. Leaving rows out, or simulating other tables at the same design, is then linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.model import Model, compiled, double_precision
from bayescale.model.observing import EXCESS, correlation
from bayescale.noise import Noise

#: Steps of the search for the mode; it starts at the posterior's mean, so few are used.
_STEPS = 60
#: Draws that give the information of one residual; the same for every fit.
_INFORMATION_DRAWS = 200_000


@dataclass(frozen=True, eq=False)
class Linearised:
    """A model linearised at the mode of its law's coordinates and effects, given noise and spreads.

    With `x` the coordinates, the law's own first: `slopes` is d(location)/dx at every row, shape (rows, dimension);
    `precision` the prior's, one an entry; `residual` the observed residuals and `scale` the noise's at every row;
    `flat` the standard-normal coordinates of the mode, of which `positions` are the law's own. Where checkpoints are
    correlated, rows, slopes and residuals are those of what is new in a checkpoint given the one `before` it: less
    `carried` times that one's.
    """

    model: Model
    x: np.ndarray
    slopes: np.ndarray
    precision: np.ndarray
    residual: np.ndarray
    scale: np.ndarray
    shape: Mapping[str, float]
    positions: np.ndarray
    flat: np.ndarray
    before: np.ndarray
    carried: np.ndarray

    def new(self, v: np.ndarray, axis: int = -1) -> np.ndarray:
        """What is new in every row of an array given the row before it."""
        if not self.carried.any():
            return v
        carried = self.carried.reshape([-1 if k == axis % v.ndim else 1 for k in range(v.ndim)])
        return v - carried * np.take(v, self.before, axis=axis)

    @property
    def inner(self) -> int:
        """The number of the law's own coordinates."""
        return len(self.positions)

    @property
    def noise(self) -> Noise:
        """The observation model."""
        return next(iter(self.model.structure.noises.values()))

    @cached_property
    def information(self) -> np.ndarray:
        """The expected information of every row about its location."""
        return information_of(self.noise, self.shape) / self.scale**2

    @cached_property
    def covariance(self) -> np.ndarray:
        """The posterior covariance of `x` under the expected information of the rows."""
        return self.covariance_of(self.information)

    def covariance_of(self, information: np.ndarray) -> np.ndarray:
        """The posterior covariance of `x` where rows carry this information, leading axes kept."""
        weighted = self.slopes.T * information[..., None, :]
        return np.linalg.inv(weighted @ self.slopes + np.diag(self.precision))

    @cached_property
    def incidence(self) -> np.ndarray:
        """Which effect of a group every row has, shape (rows, effects)."""
        groups = []
        for g in self.model.groupings:
            levels = np.eye(len(g.levels))
            groups.append((levels - levels.mean() if g.fixed is not None else levels)[g.index])
        return self.new(np.concatenate([np.zeros((len(self.scale), 0)), *groups], axis=1), axis=0)

    @property
    def observed(self) -> np.ndarray:
        """The observed responses on the link scale."""
        response = self.model.law.responses[0]
        return self.new(self.model.data["responses"][response.name]["y"][: len(self.scale)])

    def fitted_to(self, rows: np.ndarray) -> Linearised:
        """The same linearisation about the mode of some of the rows (a mask)."""
        found, residual, slopes = self.modes(self.observed[None], rows, self.x[None])
        x, flat = found[0], self.flat.copy()
        flat[self.positions] = x[: self.inner]
        return replace(self, x=x, slopes=slopes[0], residual=residual[0], flat=flat)

    def modes(
        self, y: np.ndarray, rows: np.ndarray, start: np.ndarray, tolerance: float = 1e-14
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The modes of tables `y` (tables, rows), from some of their rows (a mask), by damped scoring from `start`.

        It stops when no log density gains more than `tolerance`, as a share of it. Gives x (tables, dimension), and
        residuals and slopes of all rows there.
        """
        locate, inner, incidence = _program(self.model, self.positions, self.flat, len(y)), self.inner, self.incidence
        weights = rows * self.information
        # Effects enter linearly: their block of the curvature is the same everywhere and is eliminated once.
        effects = np.linalg.inv((incidence.T * weights) @ incidence + np.diag(self.precision[inner:]))

        def at(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            location, slopes = locate(x[:, :inner])
            location, slopes = self.new(location), self.new(slopes, axis=1)
            residual = y - location - x[:, inner:] @ incidence.T
            heights = log_density_of(self.noise, residual / self.scale, self.shape)
            height = (rows * heights).sum(axis=1) - 0.5 * (self.precision * x**2).sum(axis=1)
            return residual, slopes, np.where(np.isfinite(height), height, -np.inf)

        x = start
        residual, slopes, height = at(x)
        for _ in range(_STEPS):
            score = rows * score_of(self.noise, residual / self.scale, self.shape) / self.scale
            own = np.einsum("tri,tr->ti", slopes, score) - self.precision[:inner] * x[:, :inner]
            rest = score @ incidence - self.precision[inner:] * x[:, inner:]
            weighted = slopes.transpose(0, 2, 1) * weights
            mixed = weighted @ incidence
            schur = weighted @ slopes + np.diag(self.precision[:inner]) - mixed @ effects @ mixed.transpose(0, 2, 1)
            first = np.linalg.solve(schur, (own - np.einsum("tie,te->ti", mixed @ effects, rest))[..., None])[..., 0]
            step = np.concatenate([first, (rest - np.einsum("tie,ti->te", mixed, first)) @ effects], axis=1)
            for _ in range(12):
                trial = at(x + step)
                worse = trial[2] < height - 1e-12 * np.abs(height)
                if not worse.any():
                    break
                step = np.where(worse[:, None], step / 2, step)
            step[worse] = 0.0
            gain = np.where(worse, 0.0, trial[2] - height)
            x = x + step
            residual, slopes, height = at(x) if worse.any() else trial
            if (gain < tolerance * np.maximum(1.0, np.abs(height))).all():
                break
        return x, residual, np.concatenate([slopes, np.broadcast_to(incidence, (len(y), *incidence.shape))], axis=2)

    @cached_property
    def table(self) -> Tables:
        """The table that was fitted, as a stack of one."""
        return self.tables(self.residual[None])

    def tables(self, residual: np.ndarray) -> Tables:
        """Tables at this design from their residuals after fitting, shape (tables, rows).

        A table's information is what its residuals show, not what the noise expects: rows far from the law say little,
        and where they sit at the design's ends the posterior is wider.
        """
        score = score_of(self.noise, residual / self.scale, self.shape) / self.scale
        if self.noise.smooth is not None:  # a kink shows no curvature: its expectation stands in
            return Tables(score, np.broadcast_to(self.information, score.shape), self.covariance[None])
        shown = np.maximum(curvature_of(self.noise, residual / self.scale, self.shape), 0.0) / self.scale**2
        return Tables(score, shown, self.covariance_of(shown))

    def simulate(self, rng: np.random.Generator, worlds: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise of other tables at this design, and new effects of groups: (worlds, rows) and (worlds, dimension).

        The second array is the truth of each world in `x`: the law's coordinates are those of the mode.
        """
        noise = self.scale * self.noise.sample(rng, (worlds, len(self.residual)), **self.shape)
        truth = np.repeat(self.x[None], worlds, axis=0)
        effects = slice(self.inner, None)
        truth[:, effects] = rng.standard_normal((worlds, len(self.x) - self.inner)) / np.sqrt(self.precision[effects])
        return noise, truth

    def displacement(self, noise: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """What a fit of simulated tables finds, less the truth, by one step from it: (worlds, dimension)."""
        score = score_of(self.noise, noise / self.scale, self.shape) / self.scale
        return (score @ self.slopes - truth * self.precision) @ self.covariance


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables of one design after fitting: `score` and `information` of every row, (tables, rows), and the posterior
    covariance of `x`, (tables, dimension, dimension)."""

    score: np.ndarray
    information: np.ndarray
    covariance: np.ndarray


def linearise(model: Model, z: np.ndarray, effects: Mapping[str, np.ndarray]) -> Linearised | None:
    """Linearise a model about the mode near its posterior draws.

    `z` are draws of the standard-normal coordinates, shape (samples, dimension), `effects` those of every site of
    intercepts. None for laws with an exact likelihood or several responses, whose rows have no single residual.
    """
    if model.law.likelihood is not None or len(model.law.responses) != 1:
        return None
    structure, response = model.structure, model.law.responses[0]
    rows = len(model.runs)
    own = {p.name for p in (*model.law.coordinates(), *model.law.parameters, EXCESS)}
    slots = [s for s in structure.coordinates.slots if s.parameter.name in own]
    if not slots:
        return None
    positions = np.concatenate([np.arange(s.start, s.start + s.size) for s in slots])
    middle = np.median(z, axis=0)
    with double_precision():
        values = {k: np.asarray(v) for k, v in structure.values(middle, model.data).items()}
        scale = np.asarray(structure.scales(values, model.data, response))
        scale = np.broadcast_to(scale, len(next(iter(model.data["responses"].values()))["y"]))[:rows]
        before, rho = np.arange(rows), np.zeros(rows)
        if structure.observing.serial:
            before = model.data["serial"]["previous"][:rows]
            rho = np.asarray(correlation(values, model.data["serial"], ""))[:rows]
    if structure.observing.nodes:  # of a run that was not tuned only a bound is known: next to nothing about the law
        low = model.data["responses"][response.name]["low"][:rows]
        scale = np.where(np.isneginf(low), 1e6, 1.0) * scale
    precision, start = [np.ones(len(positions))], [z[:, positions].mean(axis=0)]
    for i in structure.intercepts:
        precision.append(np.full(len(i.grouping.levels), float(values[i.spread]) ** -2))
        start.append(effects[i.site].mean(axis=0))
    near = Linearised(
        model,
        x=np.concatenate(start),
        slopes=np.empty((rows, 0)),
        precision=np.concatenate(precision),
        residual=np.empty(rows),
        scale=scale * np.sqrt(1 - rho**2),
        shape={p.name: float(values[p.name]) for p in structure.noises[response.name].shape},
        positions=positions,
        flat=middle,
        before=before,
        carried=rho * scale / scale[before],
    )
    return near.fitted_to(np.ones(rows, bool))


def _program(model: Model, positions: np.ndarray, middle: np.ndarray, tables: int) -> Callable[[np.ndarray], tuple]:
    """Locations on the link scale and their slopes in the law's coordinates, without effects of groups, of a stack."""
    import jax

    structure, response, rows = model.structure, model.law.responses[0], len(model.runs)

    def location(own, middle, data):
        z = middle.at[positions].set(own)
        return structure.curve(structure.values(z, data), data, response)

    def both(own, middle, data):
        def one(x):
            return location(x, middle, data), jax.jacfwd(location)(x, middle, data)

        return jax.vmap(one)(own)

    with double_precision():
        data = jax.device_put(model.data)
        shape = np.zeros((tables, len(positions)))
        program = compiled(("linearise", structure.key), both, shape, middle, data)

    def run(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with double_precision():
            found = program(np.asarray(own, float), middle, data)
        return np.asarray(found[0])[:, :rows], np.asarray(found[1])[:, :rows]

    return run


def _of_noise(noise: Noise, what: str, residual: np.ndarray, shape: Mapping[str, float]) -> np.ndarray:
    """The log-density of residuals in units of the scale, minus its slope, or minus its second derivative."""
    import jax

    def one(r, shape):
        return noise.log_density(r, 1.0, **shape)

    functions: dict[str, Callable[..., Any]] = {
        "height": one,
        "score": lambda r, shape: -jax.grad(one)(r, shape),
        "curvature": lambda r, shape: -jax.grad(jax.grad(one))(r, shape),
    }
    with double_precision():
        flat = np.ascontiguousarray(residual, float).reshape(-1)
        arguments = (flat, {k: np.asarray(float(v)) for k, v in shape.items()})
        program = compiled(("noise", what, noise.name), jax.vmap(functions[what], (0, None)), *arguments)
        return np.asarray(program(*arguments)).reshape(np.shape(residual))


def score_of(noise: Noise, residual: np.ndarray, shape: Mapping[str, float]) -> np.ndarray:
    """Minus the slope of the noise's log-density at residuals in units of its scale."""
    return _of_noise(noise, "score", residual, shape)


def log_density_of(noise: Noise, residual: np.ndarray, shape: Mapping[str, float]) -> np.ndarray:
    """The noise's log-density at residuals in units of its scale."""
    return _of_noise(noise, "height", residual, shape)


def curvature_of(noise: Noise, residual: np.ndarray, shape: Mapping[str, float]) -> np.ndarray:
    """Minus the second derivative of the noise's log-density at residuals in units of its scale."""
    return _of_noise(noise, "curvature", residual, shape)


def information_of(noise: Noise, shape: Mapping[str, float]) -> float:
    """The expected squared score of one residual at unit scale, the same draws every time."""
    rng = np.random.default_rng(0)
    return float(np.mean(score_of(noise, noise.sample(rng, _INFORMATION_DRAWS, **shape), shape) ** 2))
