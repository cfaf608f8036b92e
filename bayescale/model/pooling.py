"""Levels of a pooled law: how they scatter about their centre, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.errors import LawError, Note
from bayescale.law import Law, PooledLaw, Spread
from bayescale.model.programs import double_precision
from bayescale.noise import LINKS
from bayescale.runs import Runs, require_runs

if TYPE_CHECKING:
    from bayescale.model.coordinates import Slot
    from bayescale.model.density import Structure

#: A spread cannot be learnt from fewer levels than this.
FEWEST_LEVELS = 5
#: Noise of tables with recipes, as a share of what is typical of the response: the coordinates are made for it.
SMALL_NOISE = 0.4


@cache
def contrasts(levels: int) -> np.ndarray:
    """Orthonormal directions in which levels differ without moving their mean, shape (levels, levels - 1).

    Standard-normal coordinates along them are deviations with the distribution of z_g less their mean, every level
    alike.
    """
    from scipy.linalg import helmert

    return helmert(levels).T if levels > 1 else np.zeros((1, 0))


def resolved_pool(pool: str | Mapping[str, Any] | None, runs: Runs) -> str | Mapping[str, Any] | None:
    """A pooling with the names under which the table keeps its columns, so that a saved fit finds them again."""
    require_runs(runs)
    if pool is None or isinstance(pool, str):
        return pool and runs.resolve(pool)
    return {runs.resolve(column): how for column, how in pool.items()}


def pooled_column(law: Law, runs: Runs) -> str | None:
    """The column that a law is pooled over; raises `LawError` (BS-L002) where it has one level."""
    if not isinstance(law, PooledLaw):
        return None
    if len(runs.labels(law.column)[1]) < 2:
        raise LawError(
            f"column {law.column!r} has one level: there is nothing to pool",
            code="BS-L002",
            remedy="Leave out the pooling.",
        )
    return law.column


def pooling_notes(law: Law, runs: Runs) -> tuple[Note, ...]:
    """What the fit of a pooled law assumes, in sentences."""
    if not isinstance(law, PooledLaw):
        return ()
    column, count = law.column, len(runs.labels(law.column)[1])
    told, known = [], []
    for name, s in (law.spreads or {}).items():
        fixed = s.fixed(count, FEWEST_LEVELS)
        how = {"log": "of its log", "value": "of its value", "prior": "in sds of its prior"}[s.on]
        told.append(f"{name} by {f'{fixed:g}' if fixed is not None else str(s.prior)} (sd {how})")
        known += [name] if fixed is not None and s.prior is not None else []
    sentence = f"the {count} levels of {column!r} differ in {', '.join(told)}; what else the law has is shared"
    if known:
        sentence += f"; {count} levels are too few to learn a spread, so theirs is fixed, wide"
    return (Note("BS-R023", f"{sentence}; no intercept of {column!r} is fitted beside them"),)


def learnt_slots(structure: Structure) -> list[Slot]:
    """The pooled coordinates whose spread is learnt."""
    slots = structure.coordinates.slots
    return [s for s in slots if isinstance(s.parameter.pooled, Spread) and s.spread is None and s.size > 2]


def with_information(structure: Structure, data: dict[str, Any]) -> dict[str, Any]:
    """The data with what the design tells of every deviation whose spread is learnt: its information.

    It is what is left after all else of the law was learnt too, by the Jacobian at the middle of the prior and small
    noise. Samplers take their coordinates from it and nothing else, so a factor of ten costs some steps only.
    """
    slots, law = learnt_slots(structure), structure.law
    if not slots or law.likelihood is not None:
        return data
    import jax
    import jax.numpy as jnp

    response = law.responses[0]

    def location(z):
        return LINKS[response.support].forward(structure.means(structure.values(z, data), data, response))

    with double_precision():
        z = jnp.zeros(structure.coordinates.dimension)
        # Spreads at their prior's middle: columns of deviations are divided by them below.
        slopes = np.asarray(jax.jacfwd(location)(z)) * np.asarray(data["responses"][response.name]["used"])[:, None]
        taus = {s.start: float(s.parameter.pooled.prior.image(0.0)) for s in slots}  # type: ignore[union-attr]
    scale, prior = SMALL_NOISE * response.noise_scale, np.ones(slopes.shape[1])
    for s in slots:
        entries = slice(s.start + 2, s.start + s.size)
        slopes[:, entries] /= taus[s.start]
        prior[entries] = 1e-6
    found = np.linalg.inv(slopes.T @ slopes / scale**2 + np.diag(prior))
    told = np.maximum(1 / np.diag(found) - prior, 0.0)
    return {**data, "information": {s.parameter.name: told[s.start + 2 : s.start + s.size] for s in slots}}


def deviations_from_scores(structure: Structure, x: Any, data: Mapping[str, Any]) -> tuple[Any, Any]:
    """The standard-normal coordinates of deviations from a sampler's, and the log of the Jacobian.

    A deviation that the runs tell to 1/sqrt(i), of spread tau, has about the width tau / sqrt(1 + i tau^2): in these
    coordinates it does not depend on tau, so there is neither a funnel at small spreads, as there is with the deviation
    itself, nor a ridge of deviations that the runs know and a spread they do not, as there is with its ratio to tau.
    """
    import jax.numpy as jnp

    known, log_slope = data.get("information", {}), 0.0
    if not known:
        return x, log_slope
    for s in learnt_slots(structure):
        tau = s.parameter.pooled.prior.image(x[s.start + 1])  # type: ignore[union-attr]
        entries = slice(s.start + 2, s.start + s.size)
        ratio = 1 / jnp.sqrt(1 + known[s.parameter.name] * tau**2)
        x = x.at[entries].set(x[entries] * ratio)
        log_slope = log_slope + jnp.log(ratio).sum()
    return x, log_slope
