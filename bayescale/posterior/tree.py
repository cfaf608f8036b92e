"""From draws of the flat vector to a DataTree: posterior, headline, likelihoods, predictions, prior, data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.model import Intercepts, Model, compiled, double_precision
from bayescale.posterior.replicating import replicate
from bayescale.runs import Runs

if TYPE_CHECKING:
    import xarray as xr

#: netCDF keeps "/" for groups: in the names of columns this sign stands for it.
SLASH = "\u2215"
#: Draws that go through a compiled program at once.
CHUNK = 500
#: Replicated responses and likelihoods of groups are kept for at most this many draws a chain; no check needs more.
PREDICTIVE_DRAWS = 250
PRIOR_DRAWS = 1000
#: An intercept is integrated out of its level's likelihood by the trapezoid rule in arcsinh of its distance from the
#: mode, over this many widths on either side: fine near the mode, and far enough to meet a second one of heavy tails.
#: With these numbers of nodes it is exact to 1e-4 nats for smooth noises, to 1e-3 for those with a kink.
REACH, NODES, KINK_NODES = 60.0, 101, 501


def evaluate_draws(model: Model, flat: np.ndarray) -> dict[str, Any]:
    """Everything of every draw, from flat vectors of shape (samples, dimension): a nested dict of arrays."""
    import jax

    structure = model.structure

    def chunk(flat, data):
        return jax.vmap(lambda f: structure.draw(f, data))(flat)

    parts = []
    with double_precision():
        data = jax.device_put(model.data)
        shape = np.zeros((CHUNK, flat.shape[1]))
        program = compiled(("draw", structure.key), chunk, shape, data)
        for k in range(0, len(flat), CHUNK):
            block = flat[k : k + CHUNK]
            padded = np.concatenate([block, np.repeat(block[-1:], CHUNK - len(block), axis=0)])
            size = len(block)
            parts.append(jax.tree.map(lambda x, size=size: np.asarray(x)[:size], program(padded, data)))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def make_tree(model: Model, flat: np.ndarray, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> xr.DataTree:
    """The DataTree of a fit, from draws of shape (chains, draws, dimension) and the sampler's statistics."""
    import xarray as xr

    chains, draws, dimension = flat.shape
    shape = (chains, draws)
    out = evaluate_draws(model, flat.reshape(-1, dimension))
    rows = len(model.runs)
    posterior = _parameters(model, out, shape)
    thin = np.unique(np.linspace(0, draws - 1, min(draws, PREDICTIVE_DRAWS)).astype(int))
    replicated = replicate(model, out, rng, _thinned(shape, thin))
    prior = evaluate_draws(model, prior_draws(model, rng, PRIOR_DRAWS))
    every = np.arange(PRIOR_DRAWS)
    groups = {
        "posterior": posterior,
        "unconstrained_posterior": _coordinates(model, flat),
        "headline": posterior[reported_names(model, posterior)],
        "sample_stats": xr.Dataset({k: (("chain", "draw"), v) for k, v in stats.items()}),
        "log_likelihood": xr.Dataset(
            {
                name: (("chain", "draw", "row"), _where_observed(model, name, v[:, :rows]).reshape(*shape, rows))
                for name, v in out["log_likelihood"].items()
            }
        ),
        "log_likelihood_group": _group_likelihood(model, flat[:, thin]).assign_coords(draw=thin),
        "log_prior": xr.Dataset({"log_prior": (("chain", "draw"), out["log_prior"].reshape(shape))}),
        "posterior_predictive": xr.Dataset(
            {name: (("chain", "draw", "row"), v) for name, v in replicated.items()}, coords={"draw": thin}
        ),
        "prior": _parameters(model, prior, (1, PRIOR_DRAWS)),
        "prior_predictive": xr.Dataset(
            {name: (("chain", "draw", "row"), v) for name, v in replicate(model, prior, rng, every[None]).items()}
        ),
        "observed_data": _observed(model),
        "constant_data": _constant(model),
    }
    coords = {"row": list(model.runs.rows)}
    made = {}
    for name, dataset in groups.items():
        present: dict[str, Any] = {k: v for k, v in coords.items() if k in dataset.dims}
        for dim in ("chain", "draw"):
            if dim in dataset.dims and dim not in dataset.coords:
                present[dim] = np.arange(dataset.sizes[dim])
        made[name] = dataset.assign_coords(present)
    return xr.DataTree.from_dict(made)


def reported_names(model: Model, posterior: xr.Dataset) -> list[str]:
    """What is summarised and checked: parameters, contributions, derived quantities, noise and spreads of groups."""
    hidden = {i.ratio for i in model.structure.intercepts} | {i.site for i in model.structure.intercepts}
    return [str(n) for n in posterior.data_vars if n not in hidden]


def _coordinates(model: Model, flat: np.ndarray) -> xr.Dataset:
    """The standard-normal coordinates that were sampled: with the effects of groups, all that a refit needs."""
    import xarray as xr

    labels = [
        slot.parameter.name if slot.size == 1 else f"{slot.parameter.name}[{k}]"
        for slot in model.structure.coordinates.slots
        for k in range(slot.size)
    ]
    z = flat[..., : model.structure.coordinates.dimension]
    return xr.Dataset({"z": (("chain", "draw", "coordinate"), z)}, coords={"coordinate": labels})


def headline_of(model: Model, flat: np.ndarray) -> xr.Dataset:
    """What is reported, from draws of the flat vector, shape (chains, draws, dimension)."""
    chains, draws, dimension = flat.shape
    made = _parameters(model, evaluate_draws(model, flat.reshape(-1, dimension)), (chains, draws))
    named = made[reported_names(model, made)]
    return named.assign_coords(chain=np.arange(chains), draw=np.arange(draws))


def _thinned(shape: tuple[int, int], thin: np.ndarray) -> np.ndarray:
    """The positions of the thinned draws among all samples, shape (chains, kept)."""
    chains, draws = shape
    return np.arange(chains)[:, None] * draws + thin[None, :]


def prior_draws(model: Model, rng: np.random.Generator, count: int) -> np.ndarray:
    """Flat vectors from the prior, shape (count, dimension); the intercepts' width is their spread."""
    flat = rng.standard_normal((count, model.structure.dimension))
    if model.structure.intercepts:
        values = evaluate_draws(model, flat)["values"]
        start = model.structure.coordinates.dimension
        for i, size in zip(model.structure.intercepts, model.structure.sizes[1:], strict=True):
            flat[:, start : start + size] *= values[i.spread][:, None]
            start += size
    return flat


def _parameters(model: Model, out: Mapping[str, Any], shape: tuple[int, int]) -> xr.Dataset:
    import xarray as xr

    variables, coords = {}, {}
    axes = axis_labels(model)
    for name, v in {**out["values"], **out["effects"]}.items():
        dims = variable_dims(model, name)
        for dim in dims:
            coords[dim] = list(axes[dim])
        variables[name] = (("chain", "draw", *dims), np.asarray(v).reshape(*shape, *v.shape[1:]))
    return xr.Dataset(variables, coords=coords)


def variable_dims(model: Model, name: str) -> tuple[str, ...]:
    """The dimensions of a variable beyond chain and draw."""
    for i in model.structure.intercepts:
        if name == i.site:
            return (f"level_{i.grouping.column}",)
    return model.structure.coordinates.axes(name)


def axis_labels(model: Model) -> dict[str, tuple]:
    """The labels of every dimension: columns of a vector input, levels of a column, or numbers."""
    labels: dict[str, tuple] = {axis: tuple(range(size)) for axis, size in model.law.dims.items()}
    for i in model.law.inputs:
        for axis in i.dims:
            length = model.data["inputs"][i.name].shape[1]
            labels[axis] = tuple(range(length)) if i.per == "run" else i.columns(model.runs.columns)
    for g in model.groupings:
        labels[f"level_{g.column}"] = g.levels
    for p in (*model.law.parameters, *model.law.sampled):
        if p.over:
            labels[f"level_{p.over}"] = model.runs.labels(p.over)[1]
    return labels


def _group_likelihood(model: Model, flat: np.ndarray) -> xr.Dataset:
    """The log-likelihood of every level with its own intercept integrated out, the other groupings' held.

    `flat` has the shape (chains, draws, dimension).

    Effects of a fixed spread are parameters like the law's: nothing of theirs is integrated out.
    """
    import xarray as xr

    variables, coords = {}, {}
    for i in model.structure.intercepts:
        if i.grouping.fixed is not None:
            continue
        terms = level_log_likelihood(model, flat.reshape(-1, flat.shape[-1]), i)
        dim = f"level_{i.grouping.column}"
        name = i.grouping.column + i.suffix
        variables[name] = (("chain", "draw", dim), terms.reshape(*flat.shape[:2], -1))
        coords[dim] = list(i.grouping.levels)
    return xr.Dataset(variables, coords=coords)


def level_log_likelihood(model: Model, flat: np.ndarray, intercepts: Intercepts) -> np.ndarray:
    """Log-likelihood a level, its intercept integrated out by quadrature, shape (samples, levels).

    Nodes are placed by the normal approximation of the intercept given its rows.
    """
    import jax
    import jax.numpy as jnp

    structure, i = model.structure, intercepts
    response = next(r for r in model.law.responses if r.name == i.response)
    nodes = np.arcsinh(REACH) * np.linspace(-1, 1, KINK_NODES if structure.noises[i.response].smooth else NODES)
    levels = len(i.grouping.levels)

    def one(flat, data):
        sites = structure.sites(flat)
        values = structure.values(sites["z"], data)
        observed, level = data["responses"][response.name], data["levels"][i.grouping.column]
        own = sites[i.site][level]
        residual = observed["y"] - structure.locations(values, sites, data, response) + own
        density = structure.noise_density(values, data, response)
        tau = values[i.spread]
        used = observed["used"].astype(flat.dtype)

        def joint(u):  # log-density of the rows of every level and of its effect u, shape (levels,)
            terms = jax.ops.segment_sum(used * density(residual - u[level]), level, levels)
            return terms - 0.5 * (u / tau) ** 2 - jnp.log(tau) - 0.5 * np.log(2 * np.pi)

        # Centre and width of the nodes: guarded Newton steps from the draw's own effect, on the smooth stand-in.
        soft = structure.noise_density(values, data, response, smooth=True)
        slope = jax.grad(lambda u: (used * soft(residual - u[level])).sum() - 0.5 * ((u / tau) ** 2).sum())
        guard = 0.5 * jax.ops.segment_sum(used, level, levels) / values[f"sigma{i.suffix}"] ** 2 + 1 / tau**2

        def curvature(u, least):
            return jnp.maximum(-jax.jvp(slope, (u,), (jnp.ones_like(u),))[1], least)

        u = jax.lax.fori_loop(0, 20, lambda _, u: u + slope(u) / curvature(u, guard), sites[i.site])
        width = 1 / jnp.sqrt(curvature(u, 0.2 * guard))
        terms = jax.lax.map(
            lambda node: joint(u + width * jnp.sinh(node)) + jnp.log(jnp.cosh(node)), jnp.asarray(nodes)
        )
        return jax.nn.logsumexp(terms, axis=0) + jnp.log(width * (nodes[1] - nodes[0]))

    def chunk(flat, data):
        return jax.vmap(lambda f: one(f, data))(flat)

    parts = []
    with double_precision():
        data = jax.device_put(model.data)
        program = compiled(("group", i.site, structure.key), chunk, np.zeros((CHUNK, flat.shape[1])), data)
        for k in range(0, len(flat), CHUNK):
            block = flat[k : k + CHUNK]
            padded = np.concatenate([block, np.repeat(block[-1:], CHUNK - len(block), axis=0)])
            parts.append(np.asarray(program(padded, data))[: len(block)])
    return np.concatenate(parts)


def _observed(model: Model) -> xr.Dataset:
    import xarray as xr

    return xr.Dataset(
        {r.name: ("row", _where_observed(model, r.name, model.runs.values(r.source))) for r in model.law.responses}
    )


def _where_observed(model: Model, response: str, values: np.ndarray) -> np.ndarray:
    """Values by row (the last axis), not a number where a row observes another response of the law."""
    return np.where(model.data["responses"][response]["used"][: values.shape[-1]], values, np.nan)


def _constant(model: Model) -> xr.Dataset:
    """Every column of the table and the level of every row: the file can be read without the table."""
    made = constant_of(model.runs)
    for g in model.groupings:
        made[f"level_of_{g.column}"] = ("row", np.asarray([g.levels[k] for k in g.index], object))
    return made


def constant_of(runs: Runs) -> xr.Dataset:
    """Every column of a table of runs, by row."""
    import xarray as xr

    variables = {}
    for name in runs.frame.columns:
        column = runs.frame[name]
        text = column.dtype.kind not in "fiub"
        values = column.astype("string").fillna("").to_numpy(object) if text else column.to_numpy(copy=True)
        variables[str(name).replace("/", SLASH)] = ("row", values)
    return xr.Dataset(variables, coords={"row": list(runs.rows)})
