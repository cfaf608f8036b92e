"""The posterior as weighted least squares about its centre: scores, leverages and refits without a sampler.

Noise and spreads of groups are held at their posterior medians. What is left, the law's coordinates and the effects of
groups, has a posterior that near its mode is that of a linear model: rows enter by the slope of their location and by
the score of their residual. Leaving rows out, or simulating other tables at the same design, is then linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayescale.model import Model, compiled, double_precision
from bayescale.model.observing import EXCESS, correlation
from bayescale.narrowness.residuals import Residuals
from bayescale.noise import LINKS
from bayescale.posterior.replicating import rounded

#: Steps of the search for the mode; it starts at the posterior's mean, so few are used.
_STEPS = 60
#: Tables that go through the compiled program at once.
_TOGETHER = 25


@dataclass(frozen=True, eq=False)
class Linearised:
    """A model linearised at the mode of its law's coordinates and effects, given noise and spreads.

    With `x` the coordinates, the law's own first: `slopes` is d(location)/dx at every row, shape (rows, dimension);
    `precision` the prior's, one an entry; `residual` the observed residuals and `rows` how they are distributed;
    `flat` the standard-normal coordinates of the mode, of which `positions` are the law's own. Where checkpoints are
    correlated, rows, slopes and residuals are those of what is new in a checkpoint given the one `before` it: less
    `carried` times that one's.
    """

    model: Model
    x: np.ndarray
    slopes: np.ndarray
    precision: np.ndarray
    residual: np.ndarray
    rows: Residuals
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

    @cached_property
    def covariance(self) -> np.ndarray:
        """The posterior covariance of `x` under the expected information of the rows."""
        return self.covariance_of(self.rows.information)

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
        return self.new(np.concatenate([np.zeros((len(self.residual), 0)), *groups], axis=1), axis=0)

    @property
    def observed(self) -> np.ndarray:
        """The observed responses on the link scale."""
        response = self.model.law.responses[0]
        return self.new(self.model.data["responses"][response.name]["y"][: len(self.residual)])

    @property
    def curve(self) -> np.ndarray:
        """The law at every row on the link scale, without effects of groups."""
        return self.observed - self.residual - self.incidence @ self.x[self.inner :]

    def fitted_to(self, kept: np.ndarray) -> Linearised:
        """The same linearisation about the mode of some of the rows (a mask)."""
        found, residual, slopes = self.modes(self.observed[None], kept, self.x[None])
        x, flat = found[0], self.flat.copy()
        flat[self.positions] = x[: self.inner]
        return replace(self, x=x, slopes=slopes[0], residual=residual[0], flat=flat)

    def modes(
        self, y: np.ndarray, kept: np.ndarray, start: np.ndarray, tolerance: float = 1e-14
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The modes of tables `y` (tables, rows), from some of their rows (a mask), by damped scoring from `start`.

        It stops when no log density gains more than `tolerance`, as a share of it. Gives x (tables, dimension), and
        residuals and slopes of all rows there.
        """
        locate, inner, incidence = _program(self.model, self.positions, self.flat), self.inner, self.incidence
        weights = kept * self.rows.information
        # Effects enter linearly: their block of the curvature is the same everywhere and is eliminated once.
        effects = np.linalg.inv((incidence.T * weights) @ incidence + np.diag(self.precision[inner:]))

        def at(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
            location, slopes = locate(x[:, :inner])
            location, slopes = self.new(location), self.new(slopes, axis=1)
            residual = y - location - x[:, inner:] @ incidence.T
            heights, score = self.rows.heights(residual)
            height = (kept * heights).sum(axis=1) - 0.5 * (self.precision * x**2).sum(axis=1)
            return residual, slopes, np.where(np.isfinite(height), height, -np.inf), kept * score

        x = start
        residual, slopes, height, score = at(x)
        for _ in range(_STEPS):
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
            residual, slopes, height, score = at(x) if worse.any() else trial
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
        shown = self.rows.curvatures(residual)
        if self.rows.noise.smooth is not None:  # the same for every table
            return Tables(self.rows.scores(residual), shown, self.covariance[None])
        return Tables(self.rows.scores(residual), shown, self.covariance_of(shown))

    def simulate(self, rng: np.random.Generator, worlds: int) -> tuple[np.ndarray, np.ndarray]:
        """Noise of other tables at this design, and new effects of groups: (worlds, rows) and (worlds, dimension).

        The second array is the truth of each world in `x`: the law's coordinates are those of the mode.
        """
        of = self.rows
        noise = of.scale * of.noise.sample(rng, (worlds, len(self.residual)), **of.shape)
        truth = np.repeat(self.x[None], worlds, axis=0)
        effects = slice(self.inner, None)
        truth[:, effects] = rng.standard_normal((worlds, len(self.x) - self.inner)) / np.sqrt(self.precision[effects])
        if not of.rounded.any():
            return noise, truth
        if self.carried.any():  # what is new in a checkpoint lies on no grid
            return noise - rng.uniform(of.low, of.high, noise.shape), truth
        location = self.curve + truth[:, effects] @ self.incidence.T
        response = self.model.law.responses[0]
        link = LINKS[response.support]
        exact = link.inverse(location + np.where(of.rounded, noise, 0.0))
        with np.errstate(divide="ignore"):  # what rounds to zero is left as it is
            y = link.forward(rounded(self.model, response.source, exact))
        return np.where(of.rounded & np.isfinite(y), y - location, noise), truth

    def displacement(self, noise: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """What a fit of simulated tables finds, less the truth, by one step from it: (worlds, dimension)."""
        return (self.rows.scores(noise) @ self.slopes - truth * self.precision) @ self.covariance


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
    low, high, bounded = np.zeros(rows), np.zeros(rows), np.zeros(rows, bool)
    if structure.observing.nodes:
        low, high = (model.data["responses"][response.name][end][:rows] for end in ("low", "high"))
        bounded = np.isneginf(low)  # next to nothing about the law
        scale = np.where(bounded, 1e6, 1.0) * scale
        low, high = np.where(bounded, 0.0, low), np.where(bounded, 0.0, high)
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
        rows=Residuals(
            structure.noises[response.name],
            {p.name: float(values[p.name]) for p in structure.noises[response.name].shape},
            scale * np.sqrt(1 - rho**2),
            low,
            high,
            bounded,
        ),
        positions=positions,
        flat=middle,
        before=before,
        carried=rho * scale / scale[before],
    )
    return near.fitted_to(np.ones(rows, bool))


def _program(model: Model, positions: np.ndarray, middle: np.ndarray) -> Callable[[np.ndarray], tuple]:
    """Locations on the link scale and their slopes in the law's coordinates, without effects of groups, of a stack.

    Any number of tables goes through one program, some at a time.
    """
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
        shape = np.zeros((_TOGETHER, len(positions)))
        program = compiled(("linearise", structure.key), both, shape, middle, data)

    def run(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        with double_precision():
            for k in range(0, len(own), _TOGETHER):
                some = own[k : k + _TOGETHER].astype(float)
                padded = np.concatenate([some, np.repeat(some[-1:], _TOGETHER - len(some), axis=0)])
                parts.append([np.asarray(f)[: len(some), :rows] for f in program(padded, middle, data)])
        locations, slopes = (np.concatenate(p) for p in zip(*parts, strict=True))
        return locations, slopes

    return run
