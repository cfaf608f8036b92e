"""Law + noise + runs as a NumPyro model, its density over one flat vector, and everything computed per draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.law import Law, Prior, Response, argument_names
from bayescale.model.coordinates import Coordinates
from bayescale.model.grouping import Grouping
from bayescale.model.observing import Observing, correlation, excess_of, innovations, interval_log_density
from bayescale.model.pooling import deviations_from_scores
from bayescale.model.powers import with_logs
from bayescale.model.programs import load_numpyro
from bayescale.model.scores import effects_from_scores
from bayescale.noise import LINKS, Noise

#: A positive floor bends to zero over this share of its typical size.
SOFTNESS = 0.1

#: Rows are padded to these counts, so that tables of similar size share one compiled program.
BUCKETS = tuple(int(b) for k in range(4, 21) for b in (2**k, 1.5 * 2**k))


@dataclass(frozen=True, eq=False)
class Intercepts:
    """The intercepts of one grouping for one response: names of its site and spread, and how many levels.

    `parent` is the column of the coarser grouping that these levels are parts of, as runs are of a model size.
    """

    grouping: Grouping
    response: str
    suffix: str
    parent: str | None = None

    @property
    def site(self) -> str:
        """The NumPyro site, and the variable of the posterior, that holds them."""
        return f"u_{self.grouping.column}{self.suffix}"

    @property
    def spread(self) -> str:
        """The name of their spread: a standard deviation on the link scale."""
        return f"tau_{self.grouping.column}{self.suffix}"

    def effects(self, sites: Mapping[str, Any]) -> Any:
        """The effects as rows have them: those of a fixed spread add up to zero, the law keeps the level."""
        found = sites[self.site]
        return found - found.mean() if self.grouping.fixed is not None else found

    @property
    def ratio(self) -> str:
        """The name of the sampled coordinate behind the spread."""
        return f"{self.spread}_ratio"


@dataclass(frozen=True, eq=False)
class Anchor:
    """The law's floor, which samplers replace by the predicted response at one row in the middle of the design.

    A floor trades with amplitudes and exponents along a curved ridge; the prediction in the middle of the data does
    not. The change of coordinates is a shear, softened near zero where the floor must stay positive.
    """

    entry: int
    sign: int
    prior: Prior

    @property
    def unit(self) -> float:
        """The typical size of the floor, which scales the coordinate."""
        loc, scale = self.prior.args
        return float(np.exp(loc)) if self.prior.family == "LogNormal" else scale

    def floor(self, excess):
        """The floor and the log of its slope in the prediction, from what the prediction exceeds the rest by."""
        import jax

        if self.prior.family != "LogNormal":
            return excess, 0.0
        soft = SOFTNESS * self.unit
        steps = excess / soft
        bent = jax.nn.softplus(steps)
        return soft * bent, steps - bent  # log_sigmoid(x) = x - softplus(x)


@dataclass(frozen=True, eq=False)
class Structure:
    """What shapes the compiled program: everything about a model but the numbers of its table.

    Two tables of the same structure, padded to the same bucket of rows, share one compilation.
    """

    law: Law
    coordinates: Coordinates
    noises: Mapping[str, Noise]
    intercepts: tuple[Intercepts, ...]
    observing: Observing
    anchor: Anchor | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The lengths of the parts of the flat vector: z, then the intercepts of each grouping."""
        return (self.coordinates.dimension, *(len(i.grouping.levels) for i in self.intercepts))

    @property
    def dimension(self) -> int:
        """The length of the flat vector."""
        return sum(self.sizes)

    @cached_property
    def key(self) -> tuple:
        """What a compiled program depends on besides the shapes of its arguments."""
        c = self.coordinates
        return (
            self.law,
            tuple(n.name for n in self.noises.values()),
            tuple((repr(s.parameter), s.shape) for s in c.slots),
            tuple(sorted(c.fixed.items())),
            tuple(sorted(c.ties.items())),
            tuple((i.site, i.grouping.kind, len(i.grouping.levels), i.parent) for i in self.intercepts),
            self.observing.key,
            self.anchor is not None,
        )

    @property
    def held_spreads(self) -> dict[str, str]:
        """By column, the spread of effects that is not learnt, as a person reads it: "0.67 sigma", or "0.1"."""
        told = {}
        for i in self.intercepts:
            ratio = self.coordinates.fixed.get(i.ratio)
            if i.grouping.fixed is not None or ratio is not None:
                effect = i.grouping.effect
                scale, unit = (1.0, " sigma") if effect.relative else (effect.prior.args[0], "")
                value = i.grouping.fixed if ratio is None else ratio * scale
                told[i.grouping.column] = f"{value:.2g}{unit}"
        return told

    def suffix(self, response: str) -> str:
        """What noise parameters of a response are called with: nothing when there is one response."""
        return "" if len(self.law.responses) == 1 else f"_{response}"

    def sites(self, flat) -> dict[str, Any]:
        """The sites of the NumPyro model, cut from a flat vector."""
        import jax.numpy as jnp

        parts = jnp.split(flat, np.cumsum(self.sizes)[:-1])
        return dict(zip(("z", *(i.site for i in self.intercepts)), parts, strict=True))

    def from_sampler(self, x, data) -> tuple[Any, Any]:
        """The flat vector behind a sampler's coordinates, and the log of the Jacobian, up to a constant."""
        return self._from_sampler(x, data)[:2]

    def _from_sampler(self, x, data) -> tuple[Any, Any, tuple[Any, Any] | None]:
        """The same, and the values and curves that were computed on the way, if any were."""
        import jax.numpy as jnp

        parts = jnp.split(x, np.cumsum(self.sizes)[:-1])
        z, log_slope = deviations_from_scores(self, parts[0], data)
        z, log_jacobian = self._floor_from_prediction(z, data)
        log_jacobian = log_jacobian + log_slope
        if not self.intercepts:
            return z, log_jacobian, None
        scores = {i.site: v for i, v in zip(self.intercepts, parts[1:], strict=True)}
        values = self.values(z, data)
        curves = self.curves(values, data)
        effects, log_slope = effects_from_scores(self, scores, values, curves, data)
        flat = jnp.concatenate([z, *(effects[i.site] for i in self.intercepts)])
        return flat, log_jacobian + log_slope, (values, curves)

    def _floor_from_prediction(self, x, data) -> tuple[Any, Any]:
        """The floor's own coordinate from the predicted response at the anchor's row."""
        if self.anchor is None:
            return x, 0.0
        import jax
        import jax.numpy as jnp

        a, response = self.anchor, self.law.responses[0]
        here = np.arange(len(x)) == a.entry
        values = self.values(jnp.where(here, 0.0, x), data)
        formula = self.law.formulas()[response.name]
        rows, constants = self._arguments(formula, values, data)
        middle, logs = jax.tree.map(lambda column: column[data["anchor"]], (rows, self._logs(rows, data)))
        at_zero = values[self.law.floor.removeprefix("-")]  # type: ignore[union-attr]
        rest = with_logs(formula, {**middle, **constants}, logs) - a.sign * at_zero
        floor, log_slope = a.floor(a.sign * (x[a.entry] * a.unit - rest))
        if a.prior.family == "LogNormal":
            log_slope = log_slope - jnp.log(floor)
        return jnp.where(here, a.prior.preimage(floor), x), log_slope

    def values(self, z, data) -> dict[str, Any]:
        """Every parameter by name: coordinates, paper parameters, noise, spreads of the groups."""
        import jax.numpy as jnp

        known = self.coordinates.values(z, data["references"])
        for i in self.intercepts:
            effect = i.grouping.effect
            if i.grouping.fixed is not None:
                known[i.spread] = jnp.asarray(i.grouping.fixed, z.dtype)
            else:
                unit = known[f"sigma{i.suffix}"] if effect.relative else effect.prior.args[0]
                known[i.spread] = unit * known[i.ratio]
        return known

    def means(self, values: Mapping[str, Any], data, response: Response):
        """The law's formula at every row, shape (rows,): the paper's formula for one run, mapped."""
        import jax

        formula = self.law.formulas()[response.name]
        rows, constants = self._arguments(formula, values, data)
        return jax.vmap(lambda r, logs: with_logs(formula, {**r, **constants}, logs))(rows, self._logs(rows, data))

    @staticmethod
    def _logs(rows: Mapping[str, Any], data) -> dict[str, Any]:
        """The logs of those inputs that have one."""
        return {name: data["logs"][name] for name in rows if name in data["logs"]}

    def _arguments(self, formula, values: Mapping[str, Any], data) -> tuple[dict[str, Any], dict[str, Any]]:
        """What varies by row (inputs, parameters gathered by level) and what does not."""
        inputs = {i.name for i in self.law.inputs}
        over = {p.name: p.over for p in self.law.parameters if p.over}
        rows: dict[str, Any] = {}
        constants: dict[str, Any] = {}
        for name in argument_names(formula):
            if name in inputs:
                rows[name] = data["inputs"][name]
            elif name in over:
                rows[name] = values[name][data["levels"][over[name]]]
            elif name in values:
                constants[name] = values[name]
            elif name in data["references"]:
                constants[name] = data["references"][name]
            else:  # a column that an exact likelihood reads
                rows[name] = data["responses"][name]["y"]
        return rows, constants

    def locations(self, values: Mapping[str, Any], sites: Mapping[str, Any], data, response: Response, curve=None):
        """The centre of every row on the link scale: the law's mean plus the intercepts of its groups.

        `curve` is the law at every row, where it is known already.
        """
        location = self.curve(values, data, response) if curve is None else curve
        for i in self.intercepts:
            if i.response == response.name:
                location = location + i.effects(sites)[data["levels"][i.grouping.column]]
        return location

    def curve(self, values: Mapping[str, Any], data, response: Response):
        """The law at every row on the link scale, with the excess of rows below a cut in compute."""
        import jax.numpy as jnp

        location = LINKS[response.support].forward(self.means(values, data, response))
        if self.observing.excess:
            location = location + excess_of(values, data["below"], self.suffix(response.name), jnp)
        return location

    def curves(self, values: Mapping[str, Any], data) -> dict[str, Any]:
        """The law at every row on the link scale, by response, where a response has intercepts."""
        grouped = {i.response for i in self.intercepts}
        return {r.name: self.curve(values, data, r) for r in self.law.responses if r.name in grouped}

    def row_log_density(
        self, values: Mapping[str, Any], sites: Mapping[str, Any], data, response: Response, smooth, curve=None
    ):
        """The log-density of every row on the link scale (an exact likelihood as it is), shape (rows,)."""
        import jax

        observed = data["responses"][response.name]
        if self.law.likelihood is not None:
            rows, constants = self._arguments(self.law.likelihood, values, data)
            likelihood = self.law.likelihood
            return jax.vmap(lambda r: likelihood(**r, **constants))(rows)
        residual = observed["y"] - self.locations(values, sites, data, response, curve)
        return self.noise_density(values, data, response, smooth)(residual)

    def scales(self, values: Mapping[str, Any], data, response: Response):
        """The scale of the noise at every row on the link scale, errors of the response and of the inputs included.

        An error of an input counts by the slope of the law along it.
        """
        import jax.numpy as jnp

        o, suffix = self.observing, self.suffix(response.name)
        scale = values[f"sigma{suffix}"]
        if o.growth:
            logs = {name: data["logs"][name] - jnp.log(data["references"][r]) for name, r in self._growing().items()}
            scale = scale * o.growth_factor(values, logs, suffix, jnp)
        squares = [data["responses"][response.name]["error"] ** 2] if o.error else []
        for column, weights in o.moved:
            slope = self._slope(values, data, response, dict(weights))
            squares.append((slope * data["input_error"][column]) ** 2)
        return jnp.sqrt(scale**2 + sum(squares)) if squares else scale

    def _growing(self) -> dict[str, str]:
        """The inputs that the scale grows with, and the names of their references."""
        reference = {i.name: i.reference_name for i in self.law.inputs}
        return {name: reference[name] for g in self.observing.growth for name, _ in g.weights}

    def _slope(self, values: Mapping[str, Any], data, response: Response, weights: Mapping[str, float]):
        """The slope of every row's location as the logs of its inputs move by these weights."""
        import jax
        import jax.numpy as jnp

        def location(shift):
            inputs = {n: x * jnp.exp(weights[n] * shift) if n in weights else x for n, x in data["inputs"].items()}
            logs = {n: x + weights[n] * shift if n in weights else x for n, x in data["logs"].items()}
            means = self.means(values, {**data, "inputs": inputs, "logs": logs}, response)
            return LINKS[response.support].forward(means)

        shift = jnp.zeros_like(data["responses"][response.name]["y"])
        return jax.jvp(location, (shift,), (jnp.ones_like(shift),))[1]

    def noise_density(self, values: Mapping[str, Any], data, response: Response, smooth: bool = False):
        """The log-density of every row as a function of all residuals on the link scale, shape (rows,).

        A checkpoint's is given the residual of the one before it; a row of which only an interval is known has the
        mean over a rounded one's, the mass of a one-sided one's.
        """
        import jax.numpy as jnp

        o, noise, suffix = self.observing, self.noises[response.name], self.suffix(response.name)
        scale = self.scales(values, data, response)
        shape = {p.name: values[f"{p.name}{suffix}"] for p in noise.shape}
        family = noise.smooth if smooth and noise.smooth else noise.log_density
        observed = data["responses"][response.name]

        def rows(residual):
            width = scale
            if o.serial:
                rho = correlation(values, data["serial"], suffix)
                residual, width = innovations(residual, scale, rho, data["serial"]["previous"])
            if not o.nodes:
                return family(residual, width, **shape)
            width = jnp.broadcast_to(width, residual.shape)
            return interval_log_density(
                lambda r, s: family(r, s, **shape), residual, width, observed["low"], observed["high"], o.nodes
            )

        return rows

    def numpyro_model(self, data, smooth: bool = False, known: tuple[Any, Any] | None = None) -> None:
        """The NumPyro model: standard-normal coordinates, intercepts, and one factor a response.

        Every parameter is a deterministic site under its own name. `known` are the values and curves at the
        coordinates, where they were computed before: XLA would take their slopes twice.
        """
        import jax.numpy as jnp

        numpyro = load_numpyro()
        import numpyro.distributions as dist

        z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([self.coordinates.dimension]).to_event(1))
        values, curves = known or (self.values(z, data), {})
        sites: dict[str, Any] = {"z": z}
        for i in self.intercepts:
            spread = dist.Normal(0.0, values[i.spread])
            sites[i.site] = numpyro.sample(i.site, spread.expand([len(i.grouping.levels)]).to_event(1))
        for name, value in values.items():
            numpyro.deterministic(name, value)
        for response in self.law.responses:
            terms = self.row_log_density(values, sites, data, response, smooth, curves.get(response.name))
            used = data["responses"][response.name]["used"]
            numpyro.factor(f"log_likelihood_{response.name}", jnp.where(used, terms, 0.0).sum())

    def potential(self, flat, data, smooth: bool = False, known: tuple[Any, Any] | None = None):
        """Minus the log joint density at a flat vector, as NumPyro computes it from the model."""
        load_numpyro()
        from numpyro.infer.util import potential_energy

        return potential_energy(self.numpyro_model, (data, smooth, known), {}, self.sites(flat))

    def sampler_potential(self, x, data, smooth: bool = False):
        """Minus the log density in a sampler's coordinates, up to a constant; traced once, however often it is used."""
        return self._traced_potential(x, data, smooth)

    @cached_property
    def _traced_potential(self) -> Callable[..., Any]:
        import jax

        return jax.jit(self._sampler_potential, static_argnums=2)

    def _sampler_potential(self, x, data, smooth: bool):
        flat, log_jacobian, known = self._from_sampler(x, data)
        return self.potential(flat, data, smooth, known) - log_jacobian

    def draw(self, flat, data) -> dict[str, Any]:
        """Everything of one draw: parameters, derived quantities, effects, and per row mean, scale, log-density.

        `log_likelihood` is the density of the response itself, so that laws on different links can be compared.
        """
        import jax.numpy as jnp

        sites = self.sites(flat)
        values = self.values(sites["z"], data)
        out: dict[str, Any] = {
            "values": values | self.coordinates.derived(values, data["references"]),
            "effects": {i.site: i.effects(sites) for i in self.intercepts},
            "mean": {r.name: self.means(values, data, r) for r in self.law.responses},
            "scale": {r.name: self.scales(values, data, r) for r in self.law.responses if r.name in self.noises},
            "log_likelihood": {},
            "log_prior": -0.5 * (sites["z"] ** 2).sum() - 0.5 * np.log(2 * np.pi) * self.coordinates.dimension,
        }
        for response in self.law.responses:
            terms = self.row_log_density(values, sites, data, response, False)
            if self.law.likelihood is None:
                link, observed = LINKS[response.support], data["responses"][response.name]
                slope = link.log_slope(link.inverse(observed["y"]))
                if self.observing.nodes:  # the mass below a bound is a probability, not a density
                    slope = jnp.where(observed["low"] == -jnp.inf, 0.0, slope)
                terms = terms + slope
            out["log_likelihood"][response.name] = terms
        return out


def bucket(rows: int) -> int:
    """The padded number of rows: the next of 16, 24, 32, 48, 64, …"""
    return next(b for b in BUCKETS if b >= rows)


def pad(values: np.ndarray, rows: int) -> np.ndarray:
    """A column padded to that many rows by repeating its last value."""
    return np.concatenate([values, np.repeat(values[-1:], rows - len(values), axis=0)])
