"""How a law reacts at the rows of a design, in the prior's own standard deviations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.law import Law
from bayescale.model import Model, compiled, double_precision
from bayescale.noise import LINKS

_PRIOR_DRAWS = 64


def law_slots(model: Model) -> list[Any]:
    """The standard-normal coordinates that are the law's own, not the noise's nor those of groups."""
    names = {p.name for p in model.law.coordinates()} | {p.name for p in model.law.parameters}
    return [s for s in model.structure.coordinates.slots if s.parameter.name in names]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """How the law reacts at the rows, for draws of the prior, in the prior's own standard deviations.

    `jacobian` is d(link of mean)/dz, shape (draws, rows, coordinates); `gradients` holds d(quantity)/dz by name.
    """

    jacobian: np.ndarray
    gradients: Mapping[str, np.ndarray]
    noise: float

    def left(self, name: str, rows: np.ndarray | None = None) -> float:
        """The share of the prior sd of a quantity that (some) rows leave, at typical noise; median over draws."""
        J = self.jacobian if rows is None else self.jacobian[:, rows]
        g = self.gradients[name]
        precision = np.eye(J.shape[2]) + (self._squared if rows is None else _squared(J)) / self.noise**2
        after = (g * np.linalg.solve(precision, g[..., None])[..., 0]).sum(axis=1)
        return float(np.median(np.sqrt(after / (g * g).sum(axis=1))))

    def singular_values(self) -> np.ndarray:
        """Singular values in units of the noise, median over draws: below 1 the prior knows more than the design."""
        squares = np.linalg.eigvalsh(self._squared)[:, ::-1]  # a table has far more rows than coordinates
        return np.median(np.sqrt(np.maximum(squares, 0.0)), axis=0) / self.noise

    @cached_property
    def _squared(self) -> np.ndarray:
        return _squared(self.jacobian)


def _squared(J: np.ndarray) -> np.ndarray:
    """The transpose of every draw's Jacobian times itself, (draws, coordinates, coordinates)."""
    return J.transpose(0, 2, 1) @ J


def sensitivity(model: Model, z: np.ndarray | None = None) -> Sensitivity | None:
    """The Jacobian over draws of the prior, or at the coordinates `z`; None for laws with an exact likelihood."""
    import jax
    import jax.numpy as jnp

    structure, responses = model.structure, model.law.responses
    if model.law.likelihood is not None:
        return None
    slots = law_slots(model)
    keep = np.concatenate([np.arange(s.start, s.start + s.size) for s in slots])
    names = [*(n for n in ("a",) if n in model.law.derived), *exponents_of(model.law)]

    def rows(z, data):
        """The link of every mean, in units of the first response's noise; nothing where a row observes another."""
        values, total = structure.values(z, data), 0.0
        for r in responses:
            size = responses[0].noise_scale / r.noise_scale
            means = size * LINKS[r.support].forward(structure.means(values, data, r))
            total = total + jnp.where(data["responses"][r.name]["used"], means, 0.0)
        return total

    def quantities(z, data):
        values = structure.values(z, data)
        values = values | structure.coordinates.derived(values, data["references"])
        return {n: jnp.mean(jnp.log(values[n])) for n in names}

    def both(z, data):
        return jax.jacfwd(rows)(z, data), jax.jacfwd(quantities)(z, data)

    if z is None:
        z = np.random.default_rng(0).standard_normal((_PRIOR_DRAWS, structure.coordinates.dimension))
    with double_precision():
        J, G = compiled(("sensitivity", structure.key), jax.vmap(both, (0, None)), z, model.data)(z, model.data)
    J = np.asarray(J)[:, : len(model.runs), keep]
    gradients = {n: np.asarray(g)[:, keep] for n, g in G.items()}
    finite = np.isfinite(J).all(axis=(1, 2))
    for g in gradients.values():
        finite &= np.isfinite(g).all(axis=1)
    gradients = {n: g[finite] for n, g in gradients.items() if np.abs(g[finite]).max(initial=0) > 0}
    return Sensitivity(J[finite], gradients, responses[0].noise_scale)


def exponents_of(law: Law) -> list[str]:
    """The parameters that are exponents: those named by a contribution, or free of a unit and not the floor."""
    named = {e.removeprefix("-") for p in law.parameters for e in (p.at or {}).values()}
    return [p.name for p in law.parameters if p.name in named] or [
        p.name for p in law.parameters if p.unit == "1" and p.prior is not None and p.prior.support == "positive"
    ]
