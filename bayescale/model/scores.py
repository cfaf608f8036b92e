"""Effects of groups as samplers see them: scores that are close to standard normal, whatever law and spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bayescale.model.observing import correlation
from bayescale.noise import inverse_and_log

if TYPE_CHECKING:
    from bayescale.model.density import Intercepts, Structure


def effects_from_scores(
    structure: Structure,
    scores: Mapping[str, Any],
    values: Mapping[str, Any],
    curves: Mapping[str, Any],
    data: Mapping[str, Any],
) -> tuple[dict[str, Any], Any]:
    """Intercepts by site from scores that are close to standard normal, and the log of the Jacobian.

    `curves` is the law at every row, by response.

    Given the law and the spread tau, an effect with n rows is about normal with mean w e and sd tau / sqrt(1 + n r²),
    where r = tau / sigma, w = n r² / (1 + n r²) and e is the effect without shrinkage: where the rows of the level lie,
    less what the law, and the effects that came before, say of them. So there is no funnel, neither at zero spread, as
    with centred intercepts, nor with many rows a level, as without; and a law that moves carries the effects with it,
    where a wide spread would leave it free to.

    Where levels are parts of a coarser one, the coarser comes first, and has n / (1 + n r²) rows of each part, with the
    spread between parts in r.
    """
    import jax
    import jax.numpy as jnp

    effects: dict[str, Any] = {}
    log_jacobian: Any = 0.0
    for i, located in _in_turn(structure, effects, curves, data):
        tau = values[i.spread]
        if i.grouping.fixed is not None:  # their prior alone holds their mean: its width must stay in the coordinates
            effects[i.site] = tau * scores[i.site]
            continue
        parts = _parts(structure, i)
        rows, estimate = _rows(structure, i, values, data), _estimate(structure, parts or i, located, data)
        if parts:
            of_part, inside = _rows(structure, parts, values, data), data["effects"][parts.site]
            of_part = of_part / (1 + of_part * _ratio(parts, values) ** 2)
            both = jnp.stack([of_part, of_part * estimate], axis=-1)
            rows, total = jax.ops.segment_sum(both, inside["parent"], len(rows)).T
            estimate = total / jnp.where(rows > 0, rows, 1.0)
        information = rows * _ratio(i, values) ** 2
        rest, log_rest = inverse_and_log(1 + information)
        width = tau * jnp.exp(0.5 * log_rest)
        effects[i.site] = information * rest * estimate + width * scores[i.site]
        log_jacobian = log_jacobian + len(rest) * jnp.log(tau) + 0.5 * log_rest.sum()
    return effects, log_jacobian


def levels_located(structure: Structure, x: Any, data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Where the rows of every level lie on the link scale at a sampler's coordinates, near the mode, by site.

    `location` is the mean of what the law and the effects that come before say of the rows, plus the level's own effect
    without the pull of its prior; `known` is 1 for levels that have rows.
    """
    import jax.numpy as jnp

    flat, _ = structure.from_sampler(x, data)
    sites = structure.sites(flat)
    values, made, effects = structure.values(sites["z"], data), {}, {}
    for i, located in _in_turn(structure, effects, structure.curves(values, data), data):
        effects[i.site] = sites[i.site]
        rows = _rows(structure, i, values, data)
        known = (rows > 0) * (0.0 if i.grouping.fixed is not None else 1.0)
        information = jnp.where(rows > 0, rows, 1.0) * _ratio(i, values) ** 2
        own = sites[i.site] * (1 + information) / information
        made[i.site] = {"location": known * (own + _means(structure, i, located, data)), "known": known}
    return made


def _in_turn(
    structure: Structure, effects: Mapping[str, Any], curves: Mapping[str, Any], data: Mapping[str, Any]
) -> Iterator[tuple[Intercepts, Any]]:
    """Every grouping, the coarser before its parts and fixed spreads first, and where the rows are without it: the law
    plus the `effects` of those before, which the caller fills in."""
    located = dict(curves)
    for i in sorted(structure.intercepts, key=lambda i: (i.grouping.fixed is None, i.parent is not None)):
        yield i, located[i.response]
        located[i.response] = located[i.response] + i.effects(effects)[data["levels"][i.grouping.column]]


def _ratio(i: Intercepts, values: Mapping[str, Any]) -> Any:
    """The spread in units of the noise's scale."""
    if i.grouping.effect.relative and i.grouping.fixed is None:
        return values[i.ratio]
    return values[i.spread] / values[f"sigma{i.suffix}"]


def _means(structure: Structure, i: Intercepts, located: Any, data: Mapping[str, Any]) -> Any:
    """The mean over the observed rows of every level; 0 where there are none."""
    import jax
    import jax.numpy as jnp

    rows = data["effects"][i.site]["rows"]
    used = data["responses"][i.response]["used"]
    total = jax.ops.segment_sum(used * located, data["levels"][i.grouping.column], len(rows))
    return total / jnp.where(rows > 0, rows, 1.0)


def _estimate(structure: Structure, i: Intercepts, located: Any, data: Mapping[str, Any]) -> Any:
    """The effects without shrinkage; 0 where the levels' locations are not known yet."""
    known = data["effects"][i.site]
    return known["known"] * (known["location"] - _means(structure, i, located, data))


def _parts(structure: Structure, i: Intercepts) -> Intercepts | None:
    """The intercepts of parts of these levels, of the same response."""
    return next((p for p in structure.intercepts if (p.parent, p.response) == (i.grouping.column, i.response)), None)


def _rows(structure: Structure, i: Intercepts, values: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
    """How many independent rows tell of each level: checkpoints of a run that err alike count for less."""
    if not structure.observing.serial:
        return data["effects"][i.site]["rows"]
    import jax

    rho = correlation(values, data["serial"], i.suffix)
    worth = data["responses"][i.response]["used"] * (1 - rho) / (1 + rho)
    level = data["levels"][i.grouping.column]
    return jax.ops.segment_sum(worth, level, len(data["effects"][i.site]["rows"]))
