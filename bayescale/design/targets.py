"""What a target takes: the scale at which a law's curve meets it, and the model that serves it at the least cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import (
    FAR,
    bisected,
    caveats,
    largest_compute,
    parameter_draws,
    require_given,
    require_headline,
)
from bayescale.design.frontiers import Axis, axis_of, loss_at
from bayescale.errors import NotFittedFor
from bayescale.law import LOSS_UNITS, Law, argument_names
from bayescale.model import compiled, double_precision
from bayescale.posterior import Fit, finite, for_each_table, one_level
from bayescale.records import Record
from bayescale.runs import FLOPS_PER_PARAM_TOKEN

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: A scale is looked for from so many times below the smallest run to so many times above the largest: a curve that
#: flattens out above its floor meets a target late, which is another answer than never.
BELOW, BEYOND = 1e3, 1e12
_POINTS = 240
#: The unit of a share.
_SHARE = "1"
#: FLOP of a forward pass, per parameter and token served.
_SERVING = 2.0
#: Model sizes and tokens between which a served model is looked for.
_MOST_PARAMS, _MOST_TOKENS = 1e15, 1e18


@dataclass(frozen=True, eq=False)
class Target(Record):
    """The numbers of a question about a target, draw by draw: `dataset` has the dims (chain, draw).

    A draw that never meets the target within the range is infinite in every variable; `met` is the share of those that
    do. Intervals are over all draws, so an end is infinite where too many never meet it.
    """

    dataset: xr.Dataset
    about: str
    units: Mapping[str, str]
    met: float
    prob: float
    law: str
    source: str
    notes: tuple[str, ...] = ()
    kind: str = "credible"

    def interval(self, name: str) -> tuple[float, float, float]:
        """Median and ends of the equal-tailed interval of a variable over all draws."""
        x = np.sort(np.asarray(self.dataset[name]).ravel())
        ends = (0.5, (1 - self.prob) / 2, (1 + self.prob) / 2)
        low, middle, high = (x[min(len(x) - 1, int(q * len(x)))] for q in (ends[1], ends[0], ends[2]))
        return float(middle), float(low), float(high)

    def frame(self) -> pd.DataFrame:
        """One row a variable, with median and interval."""
        import pandas as pd

        rows = [dict(zip(("median", "lower", "upper"), self.interval(str(n)), strict=True)) for n in self.dataset]
        frame = pd.DataFrame(rows, index=pd.Index([str(n) for n in self.dataset], name="quantity"))
        frame.insert(0, "unit", [self.units[n] for n in frame.index])
        frame.attrs["prob"] = self.prob
        return frame.reset_index()

    def to_json(self) -> dict[str, Any]:
        """The record as a document; what is infinite is null."""
        named = {str(n): self.interval(str(n)) for n in self.dataset}
        values = {n: dict(zip(("median", "lower", "upper"), map(finite, v), strict=True)) for n, v in named.items()}
        return {
            "about": self.about,
            "met": self.met,
            "prob": self.prob,
            "intervals": self.kind,
            **values,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        lines = [f"<Target: {self.about}, by {self.law} on {self.source}, {self.prob:.0%} {self.kind} intervals"]
        for n in map(str, self.dataset):
            median, low, high = self.interval(n)
            ends = [_written(x, self.units[n]) for x in (median, low, high)]
            unit = "" if self.units[n] == _SHARE else f" {self.units[n]}"
            lines.append(f"  {n}: {ends[0]} ({ends[1]} to {ends[2]}){unit}")
        lines.append(f"  met by {self.met:.1%} of the draws" if self.met < 1 else "  met by every draw")
        return "\n".join([*lines, *(f"  {n}" for n in self.notes)]) + ">"


def _written(x: float, unit: str) -> str:
    """A number of an answer; where no scale meets the target there is none."""
    if not np.isfinite(x):
        return "never"
    return f"{x:.0%}" if unit == _SHARE else f"{x:.3g}"


def _share(of: np.ndarray) -> str:
    """The share of draws for which something holds."""
    share = float(of.mean())
    return "fewer than 1%" if 0 < share < 0.005 else f"{share:.0%}"


def _require_target(law: Law, target: float) -> None:
    """Refuse a target outside the values that a law's response can take."""
    response = law.responses[0]
    least, most = {"positive": (0.0, np.inf), "unit": (0.0, 1.0), "count": (0.0, np.inf)}.get(
        response.support, (-np.inf, np.inf)
    )
    if np.isfinite(target) and least <= target <= most and not (response.support == "positive" and target == 0):
        return
    where = {"positive": "is a positive number", "unit": "lies between 0 and 1", "count": "is at least 0"}
    raise NotFittedFor(
        f"no {response.name} is {target:g}: it {where.get(response.support, 'is a number')}",
        remedy=f"Ask for a {response.name} that the law can give.",
    )


@for_each_table
def reach(
    fit: Fit,
    target: float,
    *,
    over: str | None = None,
    given: Mapping[str, float] | None = None,
    levels: Mapping[str, str] | None = None,
    prob: float | None = None,
    draws: str = "headline",
) -> Target:
    """The scale at which a law's curve first meets a target, for every draw: compute, data, samples that it takes.

    `over` names the input that grows, the others of the law being `given`; without it that is the law's one input, or
    compute spent optimally where the law has N and D. Whether the target is met from above (a loss) or from below (an
    accuracy) follows from the way most draws' curves go. It is looked for from a thousandth of the smallest run to
    10^12 times the largest; a draw that does not meet it there counts as infinite, and `met` says how many do.

    Raises `NotFittedFor` (BS-F001) for a law without such an input, naming what is missing, and for a target that its
    response cannot take, (BS-F002) where nothing may be headlined.

    Example:
        >>> bs.reach(fit, 2.2)  # doctest: +SKIP
        >>> bs.reach(fit, 0.9, over="k")  # doctest: +SKIP
    """
    require_headline(fit, draws)
    told = caveats(fit, draws)
    fit, levels, about = one_level(fit, levels)
    law, given, target = fit.law, dict(given or {}), float(target)
    _require_target(law, target)
    require_given(law, given)
    if over is None:
        axis = axis_of(law, given)
    else:
        i = next((i for i in law.inputs if i.name == over and i.centre == "ratio" and not i.dims), None)
        if i is None:
            able = ", ".join(j.name for j in law.inputs if j.centre == "ratio" and not j.dims)
            raise NotFittedFor(f"the law {law.name!r} has no scale {over!r}", remedy=f"It has {able or 'none'}.")
        if missing := [j.name for j in law.inputs if j.name != over and j.name not in given]:
            raise NotFittedFor(
                f"the law {law.name!r} also depends on {missing[0]} ({law.input(missing[0]).meaning})",
                remedy=f"Give it: given={{{missing[0]!r}: …}}.",
            )
        axis = Axis(i.name, i.unit, i.meaning, False)
    runs = axis.values(fit.runs, law)
    low, high = np.log(runs.min() / BELOW), np.log(runs.max() * BEYOND)
    values = parameter_draws(fit, draws, levels)
    u = _reached(fit, axis, values, given, target, float(low), float(high))
    dataset = _dataset(fit, draws, {axis.name: np.exp(u)})
    met = float(np.isfinite(u).mean())
    notes = [*told, *about]
    if (u <= low).any():
        notes.append(f"{_share(u <= low)} of the draws meet it a thousand times below the smallest run")
    beyond = np.exp(u) > FAR * runs.max()
    if beyond.any():
        notes.append(f"{_share(beyond)} of the draws meet it more than {FAR:g} times beyond the largest run, or never")
    said = f"{law.responses[0].name} = {target:g} as {axis.meaning} grows"
    return Target(
        dataset, said, {axis.name: axis.unit}, met, fit.probability(prob), law.spec,
        fit.info["runs"]["source"], tuple(notes), fit.interval_kind(draws),
    )  # fmt: skip


def _reached(
    fit: Fit, axis: Axis, values: Mapping[str, np.ndarray], given: Mapping[str, float], *at: float
) -> np.ndarray:
    """The log of the scale at which each draw's curve first meets the target; infinite where it does not."""
    import jax
    import jax.numpy as jnp

    law = fit.law
    closed = law.optimum is not None and not given and axis.frontier
    curve = loss_at(law, axis, closed)
    fixed = {k: np.asarray(float(v)) for k, v in fit.references.items() if np.ndim(v) == 0}
    fixed |= {k: np.asarray(float(v)) for k, v in given.items()}

    def run(values, fixed, target, low, high):
        grid = low + (high - low) * jnp.linspace(0.0, 1.0, _POINTS)

        def one(draw):
            return jax.vmap(lambda u: curve(u, {**fixed, **draw}))(grid)

        curves = jax.vmap(one)(values)
        falls = jnp.nanmedian(curves[:, -1] - curves[:, 0]) < 0
        sign = jnp.where(falls, 1.0, -1.0)

        def first(draw, at):
            met = sign * (at - target) <= 0
            k = jnp.argmax(met)
            inner = bisected(
                lambda u: sign * (curve(u, {**fixed, **draw}) - target) <= 0, grid[jnp.maximum(k - 1, 0)], grid[k]
            )
            return jnp.where(met.any(), jnp.where(k > 0, inner, low), jnp.inf)

        return jax.vmap(first)(values, curves)

    known = {k: np.asarray(v, float) for k, v in values.items()}
    arguments = (known, fixed, *(np.asarray(x) for x in at))
    with double_precision():
        return np.asarray(compiled(("reach", law, axis, closed, tuple(sorted(given))), run, *arguments)(*arguments))


@for_each_table
def serve(
    fit: Fit,
    loss: float,
    tokens: float,
    *,
    given: Mapping[str, float] | None = None,
    levels: Mapping[str, str] | None = None,
    prob: float | None = None,
    draws: str = "headline",
) -> Target:
    """The model size and training data of a loss that cost least over a model's life, for every draw.

    Minimised is training and serving together, 6 N D + 2 N `tokens`, over the N and D at which the law gives `loss`
    (Sardana et al., 2023, arXiv:2401.00448): the more tokens it will serve, the smaller the model and the longer its
    training. Beside N, D and the cost stands `saving`, the share of the cost that the compute-optimal model of the same
    loss would have taken more.

    Raises `NotFittedFor` (BS-F001) for a law that has not N and D, (BS-F002) where nothing may be headlined.

    Example:
        >>> bs.serve(fit, loss=2.1, tokens=1e13)  # doctest: +SKIP
    """
    require_headline(fit, draws)
    told = caveats(fit, draws)
    fit, levels, about = one_level(fit, levels)
    law, given = fit.law, dict(given or {})
    _require_target(law, float(loss))
    require_given(law, given)
    names = {i.name for i in law.inputs}
    if not {"N", "D"} <= names or not (law.responses[0].unit in LOSS_UNITS or law.floor is not None):
        raise NotFittedFor(f"the law {law.name!r} does not give a loss at N and D")
    if missing := sorted(names - {"N", "D"} - set(given)):
        raise NotFittedFor(
            f"the law {law.name!r} also depends on {missing[0]} ({law.input(missing[0]).meaning})",
            remedy=f"Give it: given={{{missing[0]!r}: …}}.",
        )
    if not (np.isfinite(tokens) and tokens >= 0):
        raise NotFittedFor("the tokens served must be a number of at least zero")
    found = _served(fit, parameter_draws(fit, draws, levels), given, float(loss), float(tokens))
    met = float(np.isfinite(found["cost"]).mean())
    notes, largest = [*told, *about], largest_compute(fit.runs)
    training = FLOPS_PER_PARAM_TOKEN * found["params"] * found["tokens"]
    beyond = training > FAR * largest
    if beyond.any():
        notes.append(
            f"{_share(beyond)} of the draws train with more than {FAR:g} times the largest run's compute, or never"
        )
    units = {"params": "parameters", "tokens": "tokens", "cost": "FLOP", "saving": _SHARE}
    said = f"{law.responses[0].name} = {loss:g}, served {tokens:.3g} tokens"
    return Target(
        _dataset(fit, draws, found), said, units, met, fit.probability(prob), law.spec,
        fit.info["runs"]["source"], tuple(notes), fit.interval_kind(draws),
    )  # fmt: skip


def _served(
    fit: Fit, values: Mapping[str, np.ndarray], given: Mapping[str, float], loss: float, tokens: float
) -> dict[str, np.ndarray]:
    """Size, data, cost and saving of every draw; infinite where no size reaches the loss."""
    import jax
    import jax.numpy as jnp

    formula = next(iter(fit.law.formulas().values()))
    names = set(argument_names(formula))
    fixed = {k: np.asarray(float(v)) for k, v in fit.references.items() if k in names and np.ndim(v) == 0}
    fixed |= {k: np.asarray(float(v)) for k, v in given.items()}
    log_most = float(np.log(_MOST_TOKENS))

    def run(values, fixed, target, served):
        sizes = jnp.linspace(0.0, np.log(_MOST_PARAMS), _POINTS)

        def one(draw):
            def at(u, v):
                inputs = {"N": jnp.exp(u), "D": jnp.exp(v)}
                return formula(**{k: x for k, x in {**inputs, **fixed, **draw}.items() if k in names})

            def log_tokens(u):
                v = bisected(lambda v: at(u, v) <= target, 0.0, log_most)
                return jnp.where(at(u, log_most) <= target, v, jnp.inf)

            def least(served):
                def log_cost(u):
                    train = jnp.log(FLOPS_PER_PARAM_TOKEN) + log_tokens(u)
                    return u + jnp.logaddexp(train, jnp.log(_SERVING * served))

                k = jnp.argmin(jax.vmap(log_cost)(sizes))
                golden = (5**0.5 - 1) / 2

                def narrow(_, ends):
                    a, b = ends
                    one, other = b - golden * (b - a), a + golden * (b - a)
                    left = log_cost(one) < log_cost(other)
                    return jnp.where(left, a, one), jnp.where(left, other, b)

                ends = sizes[jnp.maximum(k - 1, 0)], sizes[jnp.minimum(k + 1, _POINTS - 1)]
                a, b = jax.lax.fori_loop(0, 60, narrow, ends)
                return (a + b) / 2, log_cost

            u, log_cost = least(served)
            plain, _ = least(0.0)
            cost = jnp.exp(log_cost(u))
            met = jnp.isfinite(cost)
            found = {
                "params": jnp.exp(u),
                "tokens": jnp.exp(log_tokens(u)),
                "cost": cost,
                "saving": jnp.maximum(jnp.exp(log_cost(plain)) / cost - 1, 0.0),  # searches end a rounding apart
            }
            return {n: jnp.where(met, x, jnp.inf) for n, x in found.items()}

        return jax.lax.map(one, values, batch_size=256)

    known = {k: np.asarray(v, float) for k, v in values.items() if k in names}
    arguments = (known, fixed, np.asarray(loss), np.asarray(tokens))
    with double_precision():
        out = compiled(("serve", fit.law, tuple(sorted(given))), run, *arguments)(*arguments)
        return {k: np.asarray(v) for k, v in out.items()}


def _dataset(fit: Fit, draws: str, variables: Mapping[str, np.ndarray]) -> xr.Dataset:
    import xarray as xr

    taken = fit.tree[draws].to_dataset()
    shape = (taken.sizes["chain"], taken.sizes["draw"])
    return xr.Dataset(
        {n: (("chain", "draw"), v.reshape(shape)) for n, v in variables.items()},
        coords={"chain": taken["chain"], "draw": taken["draw"]},
        attrs={"law": fit.law.spec, "draws": draws},
    )
