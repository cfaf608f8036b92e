"""Hamiltonian Monte Carlo with an ensemble of chains, every step of it one compiled program a table.

Search for the modes, round coordinates, adaptation and sampling are a single function of a table's numbers and a key.
So thousands of tables of one structure share one compilation, run on any device, and none depends on another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.model import Structure, with_vector_logs
from bayescale.model.programs import load_numpyro
from bayescale.model.scores import levels_located
from bayescale.noise import LINKS
from bayescale.sampling.start import LEAST_CURVATURE, MODE_DEPTH, SEARCHES, spread_positions

#: A potential above this, or none at all, is out of reach; its slope is taken as zero.
FAR = 1e12
#: Searches for modes where effects of groups are searched after the law: each stage starts from the best of the last.
SEARCHES_WITH_GROUPS = 4
#: The search for a mode ends when no slope exceeds this: well inside the posterior's width.
FLAT = 1e-2
#: Trajectories have a length between half and one and a half times this; a quarter of a turn, where the posterior is
#: round, is pi / 2: after it neither a coordinate nor its square remembers where it began.
TRAJECTORY = 1.6
#: The fractional parts of its multiples lie as evenly as those of any number: the golden section.
GOLDEN = (5**0.5 - 1) / 2
#: The share of a step's kick that comes first and last, the rest between its two drifts: a step of two gradients whose
#: error of the energy is a fraction of that of two leapfrogs (Blanes, Casas and Sanz-Serna 2014, arXiv:1405.3153).
OUTER = (3 - 3**0.5) / 6
#: Up to this many coordinates, small products of matrices are written out.
FEW_COORDINATES = 16
#: An error of the energy beyond this is a divergence, as in Stan and NumPyro.
DIVERGENCE = 1000.0


#: Every ensemble has as many chains, and draws of each.
CHAINS, DRAWS = 4, 400
#: And room for as many iterations before the first draw, in phases of at most so many.
WARMUP, PHASE = 500, 200
#: Iterations whose random numbers are drawn at once; a divisor of all there is room for.
BLOCK = 100


@dataclass(frozen=True)
class Plan:
    """How an ensemble samples: iterations of the four phases of adaptation, some of which may be 0, and care.

    `target` is the acceptance that the step size is adapted to; `longest` the most gradients of a trajectory. A plan is
    an argument of the compiled program: another one costs no compilation.
    """

    phases: tuple[int, int, int, int]
    target: float
    longest: int

    def __post_init__(self) -> None:
        if sum(self.phases) > WARMUP or max(self.phases) > PHASE:
            raise ValueError(f"there is room for {WARMUP} iterations, {PHASE} a phase: {self.phases}")

    def numbers(self) -> dict[str, np.ndarray]:
        """The plan as the program takes it: iterations at which phases end, target and longest."""
        ends = np.cumsum(self.phases).astype(np.int32)
        return {"ends": ends, "target": np.asarray(self.target), "longest": np.asarray(self.longest, np.int32)}


def ensemble_program(structure: Structure) -> Callable[..., dict[str, Any]]:
    """The function `(data, plan, key, state) -> draws` of a structure, to be compiled, or mapped and compiled.

    `data` is a model's, `plan` the numbers of a `Plan`, `key` two 32-bit numbers, `state` a `blank_state`, or the state
    of an earlier result, whose chains then go on. The result holds `flat`, the flat
    vectors (chains, draws, dimension); `values`, every parameter and derived quantity of every draw by name; ArviZ's
    statistics (energy, acceptance_rate, step_size, n_steps, diverging), each (chains, draws); `potentials` at the modes
    that were found, best first; and `gradients`, how many were computed.
    """

    def run(data: Mapping[str, Any], plan: Mapping[str, Any], key: Any, state: Mapping[str, Any]) -> dict[str, Any]:
        import jax
        import jax.numpy as jnp

        searching, moving = jax.random.split(jax.random.wrap_key_data(key))
        potential = potential_and_slope(structure, smooth=False)
        smooth = any(noise.smooth for noise in structure.noises.values())
        searched_on = potential_and_slope(structure, smooth=True) if smooth else potential

        def anew():
            known, x, scale, potentials, searched = _start(structure, searched_on, data, searching)
            located = _located(known)
            step = jnp.asarray(0.5, x.dtype)
            return {"x": x, "scale": scale, "step": step, "potentials": potentials, "located": located}, searched

        def on():
            return {k: v for k, v in state.items() if k != "goes_on"}, 0

        begin, searched = jax.lax.cond(state["goes_on"], on, anew)
        data = _with_locations(data, begin["located"])
        potentials = begin["potentials"]
        found, end = _sample(lambda x: potential(x, data), plan, begin, moving)
        flat = jax.vmap(jax.vmap(lambda x: structure.from_sampler(x, data)[0]))(found.pop("x"))
        values = jax.vmap(jax.vmap(lambda f: _values(structure, f, data)))(flat)
        gradients = searched + found["n_steps"].sum() + found.pop("warmup_steps") * CHAINS
        state = {"goes_on": jnp.asarray(True), **begin, **end}
        made = {"flat": flat, "values": values, "potentials": potentials, "gradients": gradients, "state": state}
        return made | found

    return run


def blank_state(structure: Structure, data: Mapping[str, Any]) -> dict[str, Any]:
    """What an ensemble that begins anew is given for a state: numbers that are not looked at, of the right shapes."""
    n = structure.dimension
    return {
        "goes_on": np.asarray(False),
        "x": np.zeros((CHAINS, n)),
        "scale": np.zeros((n, n)),
        "step": np.asarray(0.0),
        "potentials": np.zeros(SEARCHES_WITH_GROUPS if structure.intercepts else SEARCHES),
        "located": {s: {k: np.zeros_like(v) for k, v in e.items()} for s, e in _located(data).items()},
    }


def drawn_shapes(structure: Structure, data: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes of an ensemble's `values`, `energy` and `diverging` for one table, without tracing its sampler."""
    import jax

    lead = (CHAINS, DRAWS)
    exact = jax.numpy.zeros(()).dtype
    shapes = jax.eval_shape(
        lambda f, d: _values(structure, f, d), jax.ShapeDtypeStruct((structure.dimension,), exact), data
    )
    values = {n: jax.ShapeDtypeStruct((*lead, *v.shape), v.dtype) for n, v in shapes.items()}
    energy, diverging = (jax.ShapeDtypeStruct(lead, kind) for kind in (exact, np.dtype(bool)))
    return {"values": values, "energy": energy, "diverging": diverging}


def _values(structure: Structure, flat: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    values = structure.values(structure.sites(flat)["z"], data)
    return values | structure.coordinates.derived(values, data["references"])


def potential_and_slope(structure: Structure, smooth: bool) -> Callable[[Any, Mapping[str, Any]], tuple[Any, Any]]:
    """Potential and slope at a stack of points; where either is not finite, a large one without slope.

    It is traced once, however often it is called.
    """
    import jax
    import jax.numpy as jnp

    load_numpyro()  # what was traced before JAX has met it would be traced again
    faster = with_vector_logs(lambda x, data: structure.sampler_potential(x, data, smooth=smooth))

    def one(x, data):
        value, slope = jax.value_and_grad(faster)(x, data)
        fine = jnp.isfinite(value) & jnp.isfinite(slope).all()
        return jnp.where(fine, value, FAR), jnp.where(fine, slope, 0.0)

    return jax.jit(jax.vmap(one, (0, None)))


def _start(
    structure: Structure, potential: Callable[..., tuple[Any, Any]], data: Mapping[str, Any], key: Any
) -> tuple[Any, ...]:
    """Modes, and where every chain begins: `(data, x, scale, potentials, gradients)`.

    As for a single fit, the law is searched first without effects of groups, then the effects with their spreads held,
    which tells where the levels lie, so that spreads and effects are separable, then everything. Chains start around
    the best mode, wider than the posterior, but for those that start where other searches ended not much lower.
    """
    import jax
    import jax.numpy as jnp

    n, inner = structure.dimension, structure.coordinates.dimension
    spreads = spread_positions(structure)
    law_only = np.where(np.arange(n) < inner, 1.0, 0.0)
    law_only[spreads] = 0.0
    searches = SEARCHES_WITH_GROUPS if structure.intercepts else SEARCHES
    # All random numbers at once: each call that draws some is compiled by itself.
    drawn = jax.random.normal(key, (2 * searches + CHAINS, n)).at[jnp.asarray([0, searches])].set(0.0)
    x = 0.7 * drawn[:searches] * law_only
    if structure.anchor is not None:
        x = x.at[:, structure.anchor.entry].set(_middle_response(structure, data) / structure.anchor.unit)
    if structure.intercepts:
        no_spreads = np.ones(n)
        no_spreads[spreads] = 0.0
        free = jnp.asarray([law_only, no_spreads, np.ones(n)])
        apart = 0.3 * drawn[searches : 2 * searches] * law_only

        def stage(k, state):  # one loop, so that the search is compiled once
            x, _, located, gradients, _ = state
            known = _with_locations(data, located)
            x, values, more, curvature = _descend(lambda x: potential(x, known), x, free[k], k == 2)
            best = x[jnp.argmin(values)]
            found = levels_located(structure, best, known)
            located = jax.tree.map(lambda new, old: jnp.where(k == 1, new, old), found, located)
            again = best * jnp.where((k == 1) & (np.arange(n) >= inner), 0.0, 1.0) + apart
            return jnp.where(k < 2, again, x), values, located, gradients + more, curvature

        state = (x, jnp.zeros(searches, x.dtype), _located(data), 0, jnp.zeros((n, n), x.dtype))
        x, values, located, gradients, curvature = jax.lax.fori_loop(0, 3, stage, state)
        data = _with_locations(data, located)
    else:
        x, values, gradients, curvature = _descend(lambda x: potential(x, data), x, law_only, True)
    best = x[jnp.argmin(values)]
    sizes, vectors = jnp.linalg.eigh(curvature)
    widths = 1 / jnp.sqrt(jnp.maximum(jnp.abs(sizes), LEAST_CURVATURE))
    scale = vectors * widths
    distance = jnp.abs(((x - best) @ vectors) / widths).max(axis=1)
    another = (values < values.min() + MODE_DEPTH) & (distance > 3)
    order = jnp.argsort(jnp.where(another, values, jnp.inf))
    noise = drawn[2 * searches :] @ scale.T
    rank = jnp.minimum(jnp.arange(CHAINS) - 1, len(x) - 1)
    elsewhere = (rank >= 0) & another[order[rank]]
    begin = jnp.where(elsewhere[:, None], x[order[rank]] + 0.1 * noise, best + 1.2 * noise)
    return data, begin, scale, jnp.sort(values), gradients


def _located(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the data say of where the levels of the groups lie, by site."""
    return {site: {k: e[k] for k in ("location", "known")} for site, e in data["effects"].items()}


def _with_locations(data: Mapping[str, Any], located: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The data with where the levels of the groups lie, by site."""
    return {**data, "effects": {s: {**e, **located[s]} for s, e in data["effects"].items()}}


def _middle_response(structure: Structure, data: Mapping[str, Any]) -> Any:
    """The observed response at the anchor's row, where the search for its prediction begins."""
    response = structure.law.responses[0]
    return LINKS[response.support].inverse(data["responses"][response.name]["y"][data["anchor"]])


def _descend(potential: Callable[[Any], tuple[Any, Any]], x: Any, free: Any, curved: Any) -> tuple[Any, Any, Any, Any]:
    """The modes reached from a stack of points by moving the free coordinates: points, potentials, gradients taken.

    BFGS with backtracking: each pass of the loop is one trial step for every point. Last is the curvature at the best
    mode, if it is asked for (`curved`), by central differences of the slope, which compile faster than second
    derivatives: further passes of the same loop, since every place where a gradient is written is compiled by itself.
    """
    import jax
    import jax.numpy as jnp

    points, n = x.shape
    eye = jnp.eye(n, dtype=x.dtype)
    apart = 1e-4 if x.dtype == np.float64 else 1e-2
    passes = -(-2 * n // points)
    shifts = np.zeros((passes * points, n))
    shifts[: 2 * n] = apart * np.concatenate([np.eye(n), -np.eye(n)])
    shifts = jnp.asarray(shifts, x.dtype)

    def downhill(g):
        return eye / jnp.maximum(1.0, jnp.abs(g).max(axis=1))[:, None, None]

    def searching(state):
        steep = (jnp.abs(state[4]).max(axis=1) > FLAT) & (state[7] > 1e-8)
        return (state[0] < 1) | ((state[0] < 60 + 4 * n) & steep.any())

    def trial(state):
        count, k, x, value, slope, inverse, direction, length, slopes = state
        search = searching(state)
        step = length[:, None] * direction
        step = step * jnp.minimum(1.0, 2.0 / jnp.maximum(jnp.abs(step).max(axis=1), 1e-9))[:, None]
        beside = x[jnp.argmin(value)] + jax.lax.dynamic_slice_in_dim(shifts, k * points, points)
        new_value, new_slope = potential(jnp.where(search, x + step, beside))
        kept = jax.lax.dynamic_update_slice_in_dim(slopes, new_slope, k * points, 0)
        new_slope = new_slope * free
        accepted = search & (new_value <= value + 1e-4 * (step * slope).sum(axis=1))
        change = new_slope - slope
        along = (step * change).sum(axis=1)
        learn = accepted & (along > 1e-10)
        rho = (learn / jnp.where(learn, along, 1.0))[:, None, None]
        turned = jnp.einsum("kij,kj->ki", inverse, change)
        cross = step[:, :, None] * turned[:, None, :]
        bend = (rho + rho**2 * (change * turned).sum(axis=1)[:, None, None]) * step[:, :, None] * step[:, None, :]
        inverse = inverse + bend - rho * (cross + cross.transpose(0, 2, 1))
        x = jnp.where(accepted[:, None], x + step, x)
        slope = jnp.where(accepted[:, None], new_slope, slope)
        value = jnp.where(accepted, new_value, value)
        inverse = jnp.where(count > 0, inverse, downhill(slope))
        direction = -jnp.einsum("kij,kj->ki", inverse, slope)
        uphill = ((direction * slope).sum(axis=1) >= 0)[:, None]
        inverse = jnp.where(uphill[..., None], downhill(slope), inverse)
        direction = jnp.where(uphill, -jnp.einsum("kij,kj->ki", inverse, slope), direction)
        length = jnp.where(accepted, 1.0, 0.4 * length)
        slopes, k = jnp.where(search, slopes, kept), k + jnp.where(search, 0, 1)
        return count + 1, k, x, value, slope, inverse, direction, length, slopes

    def going(state):  # a search that is over stays so: its points move no more
        return searching(state) | (curved & (state[1] < passes))

    zero = jnp.zeros_like(x)
    start = (
        0,
        0,
        x,
        jnp.full(points, jnp.inf, x.dtype),
        zero,
        jnp.broadcast_to(eye, (points, n, n)),
        zero,
        jnp.ones(points),
        jnp.zeros_like(shifts),
    )
    count, _, x, value, *_, slopes = jax.lax.while_loop(going, trial, start)
    curvature = (slopes[:n] - slopes[n : 2 * n]) / (2 * apart)
    return x, value, count * points, (curvature + curvature.T) / 2


def _sample(
    potential: Callable[[Any], tuple[Any, Any]], plan: Mapping[str, Any], begin: Mapping[str, Any], key: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Adaptation and draws, and where they end. All chains share a metric and a step size, learnt from all of them.

    The metric is learnt anew at the end of every phase but the last, which fits the step size to it.

    The position is in a sampler's coordinates, the momentum in round ones: `scale @ momentum` moves the position.
    """
    import jax
    import jax.numpy as jnp

    x, scale = begin["x"], begin["scale"]
    chains, n = x.shape
    room, dtype = WARMUP + DRAWS, x.dtype
    ends, warmup = plan["ends"], plan["ends"][-1]
    # Random numbers are drawn at once: one by one they would cost as much as the gradients.
    keys = jax.random.split(key, 2)
    lengths = jnp.asarray(_lengths(room), dtype)
    uniform = jax.random.uniform(keys[1], (2, room, chains), dtype)
    jitter, log_uniform = 0.8 + 0.4 * uniform[0, :, :, None], jnp.log(uniform[1])

    def leap(state):
        left, x, p, value, slope, scale, step = state
        x = x + 0.5 * step * _times(p, scale.T)
        value, slope = potential(x)
        share = jnp.where(left % 2 == 0, 1 - 2 * OUTER, jnp.where(left == 1, OUTER, 2 * OUTER))
        return left - 1, x, p - share * step * _times(slope, scale), value, slope, scale, step

    def transition(i, state):
        x, value, slope, scale, step_size, adaptation, store = state
        p = store["x"][i]
        steps = 2 * jnp.clip(jnp.round(lengths[i] / step_size), 1, plan["longest"] // 2).astype(np.int32)
        steps = jnp.where(i == 0, 0, steps)  # the first pass only finds the potential at the start
        step = step_size * jitter[i]
        step = jnp.where(i == 0, 0.0, step)
        begin = (jnp.maximum(steps, 1), x, p - OUTER * step * _times(slope, scale), value, slope, scale, step)
        _, new_x, new_p, new_value, new_slope, *_ = jax.lax.while_loop(lambda s: s[0] > 0, leap, begin)
        energy, new_energy = value + 0.5 * (p**2).sum(axis=1), new_value + 0.5 * (new_p**2).sum(axis=1)
        gain = jnp.where(i == 0, 0.0, energy - new_energy)
        gain = jnp.where(jnp.isfinite(gain), gain, -jnp.inf)
        accepted = log_uniform[i] < gain
        x = jnp.where(accepted[:, None], new_x, x)
        slope = jnp.where(accepted[:, None], new_slope, slope)
        value = jnp.where(accepted, new_value, value)
        acceptance = jnp.exp(jnp.minimum(gain, 0.0))
        row = {
            "x": x,
            "energy": jnp.where(accepted, new_energy, energy),
            "acceptance_rate": acceptance,
            "step_size": jnp.broadcast_to(step_size, (chains,)),
            "n_steps": jnp.broadcast_to(steps, (chains,)),
            "diverging": gain < -DIVERGENCE,
        }
        store = {name: store[name].at[i].set(row[name]) for name in store}
        step_size, adaptation = _adapted_step(i, plan, step_size, acceptance.mean(), adaptation)
        scale = jax.lax.cond(
            jnp.isin(i + 1, ends[:-1]), lambda: _adapted_scale(i + 1, ends, store["x"], scale), lambda: scale
        )
        return x, value, slope, scale, step_size, adaptation, store

    store = {n: jnp.zeros((room, chains), dtype) for n in ("energy", "acceptance_rate", "step_size")}
    store["x"] = _momenta(keys[0], warmup + DRAWS, jnp.zeros((room, chains, n), dtype))  # positions will replace them
    store |= {"n_steps": jnp.zeros((room, chains), np.int32), "diverging": jnp.zeros((room, chains), bool)}
    step = begin["step"]
    state = (x, jnp.full(chains, FAR, dtype), jnp.zeros_like(x), scale, step, (step, step, 0.0 * step), store)
    x, _, _, scale, step, _, store = jax.lax.fori_loop(0, warmup + DRAWS, transition, state)
    drawn = {n: jnp.swapaxes(jax.lax.dynamic_slice_in_dim(v, warmup, DRAWS), 0, 1) for n, v in store.items()}
    warming = jnp.arange(room) < warmup
    drawn["warmup_steps"] = (store["n_steps"][:, 0] * warming).sum()
    return drawn, {"x": x, "scale": scale, "step": step}


def _lengths(count: int) -> np.ndarray:
    """Lengths of trajectories, spread evenly over half to one and a half of the usual one by a golden-section sequence.

    Evenly spread lengths mix better than random ones. And as all tables take the same, those that are sampled side by
    side wait less for one another.
    """
    return TRAJECTORY * (0.5 + np.arange(count) * GOLDEN % 1.0)


def _momenta(key: Any, count: Any, room: Any) -> Any:
    """Standard normal numbers in the first `count` rows, by the hundred: where there are many, they cost."""
    import jax

    def fill(k, filled):
        block = jax.random.normal(jax.random.fold_in(key, k), (BLOCK, *room.shape[1:]), room.dtype)
        return jax.lax.dynamic_update_slice_in_dim(filled, block, k * BLOCK, 0)

    return jax.lax.fori_loop(0, -(-count // BLOCK), fill, room)


def _times(vectors: Any, matrix: Any) -> Any:
    """`vectors @ matrix`; for few coordinates as one loop: calling a product of matrices costs more than doing it."""
    if len(matrix) > FEW_COORDINATES:
        return vectors @ matrix
    return (vectors[:, :, None] * matrix).sum(axis=1)


def _adapted_step(
    i: Any, plan: Mapping[str, Any], step_size: Any, acceptance: Any, adaptation: tuple
) -> tuple[Any, tuple]:
    """The step size after one more transition: dual averaging within a phase, its average after the last.

    `adaptation` holds where the phase began, the average step size so far and the average shortfall of acceptance.
    """
    import jax.numpy as jnp

    ends = plan["ends"]
    begun = jnp.max(jnp.where(ends <= i, ends, 0))
    t = (i - begun + 1).astype(step_size.dtype)
    origin, average, shortfall = adaptation
    shortfall = (1 - 1 / (t + 5)) * jnp.where(t == 1, 0.0, shortfall) + (plan["target"] - acceptance) / (t + 5)
    trial = jnp.exp(jnp.clip(jnp.log(origin) - 5 * jnp.sqrt(t) * shortfall, -5.0, 0.4))
    weight = t**-0.6
    average = jnp.exp(jnp.where(t == 1, jnp.log(trial), weight * jnp.log(trial) + (1 - weight) * jnp.log(average)))
    ended = jnp.isin(i + 1, ends)
    adapting = i < ends[-1]
    new = jnp.where(adapting, jnp.where(ended, average, trial), step_size)
    kept = (jnp.where(ended, average, origin), average, shortfall)
    return new, tuple(jnp.where(adapting, a, b) for a, b in zip(kept, adaptation, strict=True))


def _adapted_scale(i: Any, ends: Any, x: Any, scale: Any) -> Any:
    """The scale matrix from the last two thirds of the phase that ends at iteration `i`, shrunk towards the last one.

    In the old round coordinates the covariance should be the identity: the fewer draws there are a dimension, the more
    of it is taken.
    """
    import jax
    import jax.numpy as jnp

    begun = jnp.max(jnp.where(ends < i, ends, 0))
    first = jnp.maximum(i - PHASE, 0)
    x = jax.lax.dynamic_slice_in_dim(x, first, PHASE)
    position = first + jnp.arange(PHASE)
    used = ((position >= begun + (i - begun) // 3) & (position < i)).astype(x.dtype)[:, None, None]
    count = used.sum() * x.shape[1]
    centred = (x - (used * x).sum(axis=(0, 1)) / count) * used
    covariance = jnp.einsum("tci,tcj->ij", centred, centred) / count
    n = x.shape[-1]
    trusted = count / 4  # draws follow one another: they count as fewer
    return jnp.linalg.cholesky((trusted * covariance + 0.5 * n * scale @ scale.T) / (trusted + 0.5 * n))
