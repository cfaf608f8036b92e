"""Two curves of loss against compute: by what factor of compute they lie apart, and where they cross."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.allocation import bisected, parameter_draws, require_optimum
from bayescale.errors import NotFittedFor
from bayescale.law import Input, Law, argument_names, call
from bayescale.model import compiled, double_precision
from bayescale.narrowness import prior_shares
from bayescale.posterior import Fit
from bayescale.runs import FLOPS_PER_PARAM_TOKEN, Runs, compute_of

#: A recipe that needs a billion times the compute of another never catches up.
WIDEST = 1e9
#: Points of compute at which curves are compared, and of model size at which a minimum is looked for.
_POINTS, _SIZES = 128, 64


@dataclass(frozen=True)
class Axis:
    """What curves run along: compute along each compute-optimal frontier, or the one input of a law."""

    name: str
    unit: str
    meaning: str
    frontier: bool

    def values(self, runs: Runs, law: Law) -> np.ndarray:
        """Where the runs of a table lie along it."""
        if self.frontier:
            C = compute_of(runs)
            if C is None:
                raise NotFittedFor("the table tells neither compute nor N and D", code="BS-F002")
            return C
        i = law.input(self.name)
        return runs.values(i.columns(runs.columns)[0])


def axis_of(law: Law, given: Mapping[str, float]) -> Axis:
    """The axis along which recipes of a law are compared; raises `NotFittedFor` where there is none."""
    if len(law.inputs) == 1 and not given:
        i: Input = law.inputs[0]
        if i.centre == "ratio" and not i.dims:
            return Axis(i.name, i.unit, i.meaning, False)
    require_optimum(law, given)
    return Axis("C", "FLOP", "training compute, spent optimally", True)


def loss_at(law: Law, axis: Axis, closed: bool):
    """The loss of one draw at the log of the axis: along the compute-optimal frontier, or of the law's own input."""
    import jax
    import jax.numpy as jnp

    formula = next(iter(law.formulas().values()))
    names = set(argument_names(formula))

    def loss(u, log_size, known):
        N, C = jnp.exp(log_size), jnp.exp(u)
        D = jnp.exp(u - jnp.log(FLOPS_PER_PARAM_TOKEN) - log_size)
        inputs = {"N": N, "D": D, "C": C, "M": D / N}
        return formula(**{k: v for k, v in {**inputs, **known}.items() if k in names})

    def along_input(u, known):
        return formula(**{k: v for k, v in {**known, axis.name: jnp.exp(u)}.items() if k in names})

    def closed_form(u, known):
        assert law.optimum is not None
        return loss(u, jnp.log(call(law.optimum, {**known, "C": jnp.exp(u)})[0]), known)

    def searched(u, known):
        high = u - jnp.log(FLOPS_PER_PARAM_TOKEN)
        grid = high * jnp.linspace(0.0, 1.0, _SIZES)
        at = jax.vmap(lambda s: loss(u, s, known))(grid)
        k = jnp.argmin(jnp.where(jnp.isnan(at), jnp.inf, at))
        ends = grid[jnp.maximum(k - 1, 0)], grid[jnp.minimum(k + 1, _SIZES - 1)]
        slope = jax.grad(lambda s: loss(u, s, known))
        return loss(u, bisected(lambda s: slope(s) > 0, *ends), known)

    if not axis.frontier:
        return along_input
    return closed_form if closed else searched


def compare_curves(
    one: Fit, other: Fit, axis: Axis, at: np.ndarray, ends: tuple[float, float], given: Mapping[str, float], draws: str
) -> dict[str, np.ndarray]:
    """For every draw of two fits of one law, side by side: factor, loss difference and first crossing.

    `log_factor` (points, samples) is the log of what `one` needs over what `other` has to reach the other's loss,
    infinite where a billion times as much does not do; `gap` (points, samples) the loss of `one` less that of `other`;
    `crossing` (samples,) the log of the axis where the sign of the gap first changes between `ends`, not a number where
    it does not.
    """
    import jax
    import jax.numpy as jnp

    law = one.law
    closed = law.optimum is not None and not given and axis.frontier
    loss = loss_at(law, axis, closed)
    wide = float(np.log(WIDEST))

    def known(fit: Fit) -> dict[str, np.ndarray]:
        """What a fit's draws are read with: its own references, and what is given."""
        scalars = {k: v for k, v in fit.references.items() if np.ndim(v) == 0} | dict(given)
        return {k: np.asarray(v, float) for k, v in scalars.items()}

    def pair(x, y, u, low, high, known_x, known_y):
        def of(values, fixed):
            return lambda v: loss(v, {**fixed, **values})

        of_x, of_y = of(x, known_x), of(y, known_y)

        def log_factor(v):
            target = of_y(v)
            found = bisected(lambda w: of_x(w) <= target, v - wide, v + wide) - v
            found = jnp.where(of_x(v + wide) > target, jnp.inf, found)
            return jnp.where(of_x(v - wide) < target, -jnp.inf, found)

        def gap(v):
            return of_x(v) - of_y(v)

        grid = low + (high - low) * jnp.linspace(0.0, 1.0, _POINTS)
        sign = jnp.sign(jax.vmap(gap)(grid))
        changed = (sign[1:] * sign[:-1]) < 0
        k = jnp.argmax(changed)
        start = sign[k]
        crossing = bisected(lambda v: jnp.sign(gap(v)) != start, grid[k], grid[k + 1])
        return {
            "log_factor": jax.vmap(log_factor)(u),
            "gap": jax.vmap(gap)(u),
            "crossing": jnp.where(changed.any(), crossing, jnp.nan),
        }

    arguments = (
        {k: np.asarray(v, float) for k, v in parameter_draws(one, draws).items()},
        {k: np.asarray(v, float) for k, v in parameter_draws(other, draws).items()},
        np.log(at),
        np.asarray(np.log(ends[0])),
        np.asarray(np.log(ends[1])),
        known(one),
        known(other),
    )
    with double_precision():
        mapped = jax.vmap(pair, in_axes=(0, 0, None, None, None, None, None))
        program = compiled(("multiplier", law, axis, closed, tuple(sorted(given))), mapped, *arguments)
        found = {k: np.asarray(v) for k, v in program(*arguments).items()}
    return {k: v.T if v.ndim == 2 else v for k, v in found.items()}


def held_by_prior(fit: Fit, quantities: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The prior's share in what is known of quantities of the posterior's draws, where the fit holds those."""
    if "unconstrained_posterior" not in fit.tree.children:
        return {}
    z = np.asarray(fit.tree["unconstrained_posterior"]["z"])
    finite = {n: x for n, x in quantities.items() if np.isfinite(x).all()}
    return prior_shares(z.reshape(-1, z.shape[-1]), finite)
