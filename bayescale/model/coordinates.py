"""From standard-normal coordinates to a law's parameters: priors, references, fixed, tied, bounded and pooled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from bayescale.errors import LawError, nearest
from bayescale.law import Law, Parameter, Prior, Spread, argument_names, call, contribution_name
from bayescale.model.pooling import FEWEST_LEVELS, contrasts


@dataclass(frozen=True)
class Slot:
    """Where a coordinate lives: its parameter, its shape, and its place in the vector z."""

    parameter: Parameter
    shape: tuple[int, ...]
    start: int
    unit: float = 1.0

    @property
    def spread(self) -> float | None:
        """The known spread of levels that are too few to teach one; None where it is learnt or there are no levels."""
        pooled = self.parameter.pooled
        return pooled.fixed(self.shape[0], FEWEST_LEVELS) if isinstance(pooled, Spread) else None

    @property
    def size(self) -> int:
        """How many entries of z it takes; a pooled coordinate also takes its mean and its spread."""
        count = prod(self.shape)
        if self.parameter.pooled is None:
            return count
        if isinstance(self.parameter.pooled, Spread):  # the centre takes the place of one deviation
            return count + (self.spread is None)
        return count + 2 * prod(self.shape[1:])


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The map from z ~ Normal(0, I) to every parameter of a law and its noise, for one table's sizes.

    `values` is traceable by JAX. Fixed parameters are constants, tied ones copies; whatever is given in the paper's
    parametrisation is carried to the sampled one by the law's own formulas, so both are always in the posterior.
    """

    law: Law
    slots: tuple[Slot, ...]
    fixed: Mapping[str, Any]
    ties: Mapping[str, str]
    formulas: Mapping[str, Callable[..., Any]]

    @property
    def inverse(self) -> dict[str, Callable[..., Any]]:
        """How each contribution and sampled coordinate follows from the paper's parameters."""
        return formulas_of(self.law)[1]

    @property
    def dimension(self) -> int:
        """The length of z."""
        return self.slots[-1].start + self.slots[-1].size if self.slots else 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sampled coordinates."""
        return tuple(s.parameter.name for s in self.slots)

    def axes(self, name: str) -> tuple[str, ...]:
        """The axes of a value or derived quantity: `level_<column>` where it differs by level, then its own."""
        pooled = {n: s.parameter for s in self.slots if s.parameter.pooled for n in pooled_names(s.parameter.name)}
        if name in pooled:
            return pooled[name].dims
        known = {p.name: p for p in (*self.law.parameters, *self.law.coordinates())}
        declared = known.get(name) or self.law.derived.get(name)
        return (*((f"level_{declared.over}",) if declared.over else ()), *declared.dims) if declared else ()

    def values(self, z, references: Mapping[str, Any]) -> dict[str, Any]:
        """Every sampled coordinate and paper parameter by name, from z of shape (dimension,).

        A pooled parameter comes with what its levels share: `theta_centre`, in its own unit, and `theta_spread`, in
        units of its prior's standard deviation or on the scale that its `Spread` states (where it is learnt).
        """
        import jax.numpy as jnp

        known: dict[str, Any] = {name: jnp.asarray(value, z.dtype) for name, value in self.fixed.items()}
        entries, images = self._images(z)
        pending: list[tuple[str, Callable[[], Any], tuple[str, ...]]] = []
        for slot in self.slots:
            p = slot.parameter
            needs = tuple(b for b in (p.above, p.below) if isinstance(b, str))
            own = (entries[p.name], images.get(p.name))
            pending.append((p.name, lambda s=slot, own=own: self._value(s, *own, known), needs))
        for name, source in self.ties.items():
            pending.append((name, lambda s=source: known[s], (source,)))
        for name, formula in self.formulas.items():
            needs = tuple(n for n in argument_names(formula) if n not in references)
            pending.append((name, lambda f=formula: call(f, {**references, **known}), needs))
        while pending:
            ready = [entry for entry in pending if all(n in known for n in entry[2])]
            if not ready:
                raise LawError(f"law {self.law.name!r}: {[e[0] for e in pending]} depend on each other")
            for name, value, _ in ready:
                known[name] = value()
            pending = [entry for entry in pending if entry[0] not in known]
        return known

    def _images(self, z) -> tuple[dict[str, Any], dict[str, Any]]:
        """The entries of every slot, and images of the log-normal ones that stand by themselves.

        They share one exponential, and all slots one split: written slot by slot, each would be a kernel of its own.
        """
        import jax
        import jax.numpy as jnp

        names, sizes = self.names, [s.size for s in self.slots]
        if not names:
            return {}, {}
        loc, scale = np.zeros((2, self.dimension))
        alone = []
        for s in self.slots:
            p = s.parameter
            if p.prior is not None and p.prior.family == "LogNormal" and p.pooled is None and p.ordered is None:
                loc[s.start : s.start + s.size], scale[s.start : s.start + s.size] = p.prior.args
                alone.append(p.name)
        z = z[: self.dimension]
        entries = dict(zip(names, jax.lax.split(z, sizes), strict=True))
        if not alone:
            return entries, {}
        together = jnp.exp(jnp.asarray(loc, z.dtype) + jnp.asarray(scale, z.dtype) * z)
        images = dict(zip(names, jax.lax.split(together, sizes), strict=True))
        return entries, {name: images[name] for name in alone}

    def _value(self, slot: Slot, entries, image, known: dict[str, Any]):
        import jax.numpy as jnp

        p = slot.parameter
        if image is not None:
            return self._bounded(p, image.reshape(slot.shape), known)
        if isinstance(p.pooled, Spread):
            names, deviations = pooled_names(p.name), entries[1:] if slot.spread is not None else entries[2:]
            known[names[0]] = self._placed(p, entries[0], known)
            spread: Any = slot.spread
            if spread is None:
                assert p.pooled.prior is not None
                known[names[1]] = spread = p.pooled.prior.image(entries[1])
            apart = spread / slot.unit * (jnp.asarray(contrasts(slot.shape[0]), entries.dtype) @ deviations)
            coordinates = entries[0] + apart
        elif p.pooled is not None:
            rest = slot.shape[1:]
            shared = int(np.prod(rest, dtype=int))
            centre, spread = entries[:shared].reshape(rest), p.pooled.image(entries[shared : 2 * shared]).reshape(rest)
            names = pooled_names(p.name)
            known.update({names[0]: self._placed(p, centre, known), names[1]: spread})
            coordinates = jnp.expand_dims(centre, 0) + jnp.expand_dims(spread, 0) * entries[2 * shared :].reshape(
                slot.shape
            )
        else:
            coordinates = entries.reshape(slot.shape)
        return self._placed(p, coordinates, known)

    def _placed(self, p: Parameter, coordinates, known: Mapping[str, Any]):
        """The image of coordinates under the prior, in its order and within its bounds."""
        import jax.numpy as jnp

        assert p.prior is not None
        if p.ordered is None:
            x = p.prior.image(coordinates)
        else:
            first, gaps = p.prior.image(coordinates[..., :1]), p.ordered.image(coordinates[..., 1:])
            x = jnp.cumsum(jnp.concatenate([first, gaps], axis=-1), axis=-1)
        return self._bounded(p, x, known)

    def _bounded(self, p: Parameter, x, known: Mapping[str, Any]):
        """An image of the prior, moved above one bound or taken as a share of another."""
        if p.above is not None:
            x = x + (known[p.above] if isinstance(p.above, str) else p.above)
        if p.below is not None:
            x = x * (known[p.below] if isinstance(p.below, str) else p.below)
        return x

    def derived(self, values: Mapping[str, Any], references: Mapping[str, Any]) -> dict[str, Any]:
        """The law's derived quantities from the values of one draw."""
        available = {**references, **values}
        return {name: call(d.function, available) for name, d in self.law.derived.items()}


def pooled_names(name: str) -> tuple[str, str]:
    """The names of what the levels of a pooled parameter share: the centre and the spread around it."""
    return f"{name}_centre", f"{name}_spread"


def make_coordinates(
    law: Law,
    noise: Sequence[Parameter],
    *,
    levels: Mapping[str, int],
    axes: Mapping[str, int],
    unit_factor: float = 1.0,
    fix: Mapping[str, float] | None = None,
    tie: Iterable[tuple[str, str]] = (),
    priors: Mapping[str, Prior] | None = None,
) -> Coordinates:
    """Lay out a law's sampled coordinates and its noise's, with what the user fixed, tied or informed.

    `levels` counts the levels of the columns that parameters run over, `axes` the lengths of the law's axes, and
    `unit_factor` converts priors from the unit that the law declares to that of the table.

    Raises `LawError` (BS-L002, BS-L003) for names that the law does not have and for contradictions, (BS-U001) for a
    fixed value that its parameter cannot take.
    """
    fix, priors, ties = dict(fix or {}), dict(priors or {}), {second: first for first, second in tie}
    paper = {p.name: p for p in law.parameters}
    coordinates = {p.name: _in_unit(p, unit_factor) for p in law.coordinates()}
    taken = {i.name for i in law.inputs} | {*paper, *coordinates, *law.derived}
    for p in noise:
        if p.name in taken:
            raise LawError(
                f"law {law.name!r}: {p.name!r} is also the name of a parameter of the noise",
                remedy="Give it another name in the declaration, such as its symbol with an index.",
            )
    coordinates |= {p.name: p for p in noise}
    known = {*paper, *coordinates}
    for name in (*fix, *priors, *ties, *ties.values()):
        if name not in known:
            raise LawError(
                f"law {law.name!r} has no parameter {name!r}", code="BS-L002", remedy=nearest(name, [*known])
            )
    for name in (*fix, *ties):
        if name in priors:
            raise LawError(f"{name!r} is fixed or tied: it cannot have a prior as well", code="BS-L003")
        if name in fix and name in ties:
            raise LawError(f"{name!r} is both fixed and tied", code="BS-L003")
    forward, backward = formulas_of(law)
    given = {*fix, *ties, *priors} & {*paper}
    formulas: dict[str, Callable[..., Any]] = {}
    for name in given:  # stated in the paper's parametrisation: the sampled coordinate follows by the inverse
        for coordinate, formula in backward.items():
            if name in argument_names(formula) and name in forward and coordinate in argument_names(forward[name]):
                formulas[coordinate] = formula
                coordinates.pop(coordinate, None)
    for name, formula in forward.items():
        if name not in given:
            formulas[name] = formula
    for name, prior in priors.items():
        if name in coordinates:
            coordinates[name] = replace(coordinates[name], prior=prior, ordered=None, above=None, below=None)
        else:
            coordinates[name] = replace(paper[name], prior=prior, at=None, ordered=None, above=None, below=None)
    declared = {p.name: p for p in (*law.coordinates(), *law.parameters, *noise)}

    def shape(p: Parameter) -> tuple[int, ...]:
        return (*((levels[p.over],) if p.over else ()), *(axes[d] for d in p.dims))

    for second, first in ties.items():
        one, other = declared[first], declared[second]
        if (one.over, one.dims) != (other.over, other.dims):
            raise LawError(f"{first!r} and {second!r} have different axes: they cannot be tied", code="BS-L003")
    fixed = {name: _repeated(name, value, shape(declared[name])) for name, value in fix.items()}
    for name, value in fixed.items():
        _require_support(law, _in_unit(declared[name], unit_factor), value)
    for name in (*fix, *ties):
        coordinates.pop(name, None)
    slots: list[Slot] = []
    start = 0
    for p in coordinates.values():
        if p.prior is None:
            continue
        unit = p.pooled.unit(p.prior) if isinstance(p.pooled, Spread) else 1.0
        slot = Slot(p, shape(p), start, unit)
        slots.append(slot)
        start += slot.size
    return Coordinates(law, tuple(slots), fixed, ties, formulas)


def _require_support(law: Law, p: Parameter, value: Any) -> None:
    """Refuse a fixed value where the parameter's prior has no mass; a floor may be zero, as of a law without one."""
    x, prior = np.asarray(value, float), p.prior
    fine = np.isfinite(x)
    if prior is not None and p.ordered is None and p.above is None and p.below is None:  # else it is not of the value
        if not p.at:
            fine &= prior.contains(x)
        elif prior.support != "real":  # of the contribution, which has the sign of the value
            fine &= x > 0
        fine |= (x == 0) & (p.name == (law.floor or "").removeprefix("-"))
    if not fine.all():
        told = f": its prior is {prior.described}" if prior is not None else ""
        raise LawError(
            f"{p.name!r} cannot be {float(x[~fine].flat[0]):g}{told}",
            code="BS-U001",
            remedy="Fix it at a value where its prior has mass, or take a law without it.",
        )


def _repeated(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """A fixed value for every level and entry of a parameter, as nested tuples."""
    try:
        full = np.broadcast_to(np.asarray(value, float), shape)
    except ValueError:
        raise LawError(
            f"{name!r} has the shape {shape}: it cannot be fixed at {value!r}",
            code="BS-L003",
            remedy="Give one number, or one a level and entry.",
        ) from None
    return _nested(full.tolist())


def _nested(values: Any) -> Any:
    return tuple(map(_nested, values)) if isinstance(values, list) else values


class _Contribution:
    """`A = A_ref * N0**alpha` and its inverse, from a parameter's `at`."""

    def __init__(self, name: str, law: Law, at: Mapping[str, str], sign: int):
        self.name, self.at, self.sign = name, dict(at), sign
        self.centre = {axis: law.input(axis).centre for axis in at}
        exponents = tuple(e.removeprefix("-") for e in self.at.values())
        self.argument_names = (name, *dict.fromkeys(exponents), *(f"{axis}0" for axis in self.at))

    def __call__(self, **values):
        import jax.numpy as jnp

        x = values[self.name]
        for axis, exponent in self.at.items():
            power = self.sign * (-1 if exponent.startswith("-") else 1) * values[exponent.removeprefix("-")]
            reference = values[f"{axis}0"]
            x = x * jnp.exp(power * (jnp.log(reference) if self.centre[axis] == "ratio" else reference))
        return x


def formulas_of(law: Law) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sampled → paper and paper → sampled, for contributions and for the law's own formulas."""
    forward: dict[str, Any] = dict(law.natural)
    backward: dict[str, Any] = dict(law.inverse)
    for p in law.parameters:
        if p.at:
            ref = contribution_name(p.name)
            forward[p.name] = _Contribution(ref, law, p.at, +1)
            backward[ref] = _Contribution(p.name, law, p.at, -1)
    return forward, backward


#: By the unit of a parameter, the power of the response's unit in it.
RESPONSE_POWERS = {"response": 1, "1/response": -1}


def _in_unit(p: Parameter, factor: float) -> Parameter:
    """The parameter with its prior in the table's unit of the response."""
    power = RESPONSE_POWERS.get(p.unit, 0)
    if not power or p.prior is None or factor == 1:
        return p
    size = factor**power
    above, below = (b if b is None or isinstance(b, str) else b * size for b in (p.above, p.below))
    if p.below is not None:  # the prior is of the fraction of the bound
        return replace(p, below=below)
    ordered = p.ordered.scaled(size) if p.ordered else None
    return replace(p, prior=p.prior.scaled(size), ordered=ordered, above=above)
