"""The joint log density of rows that were held out, group effects of levels they alone have integrated out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayescale.model import Model, compiled, double_precision
from bayescale.noise import LINKS

#: Draws that go through a compiled program at once.
CHUNK = 200
#: Effects to integrate over are padded to these counts, so that folds share compiled programs.
COUNTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
#: Newton steps towards the mode of the new effects, and shares of a step that are tried.
STEPS, SHARES = 15, (1.0, 0.4, 0.1)
#: Draws of the new effects a draw of the posterior, from t distributions about two modes: their tails are heavier than
#: those of the integrand, whose prior is normal, so that weights are bounded.
IMPORTANCE, TAILS = 16, 6.0


@dataclass(frozen=True, eq=False)
class Novel:
    """The effects of levels of which no row was fitted: where they lie, whose spread they have, which rows they move.

    `positions` are entries of the flat vector, `groupings` say which of the structure's intercepts each belongs to;
    `rows` has a matrix (rows, effects) a response.
    """

    positions: np.ndarray
    groupings: np.ndarray
    rows: dict[str, np.ndarray]

    @property
    def count(self) -> int:
        """How many there are, padding included."""
        return len(self.groupings)


def novel_effects(whole: Model, part: Model) -> Novel:
    """The learnt effects that rows of `whole` have and no row that `part` was fitted to.

    Effects of a fixed spread are parameters like the law's: their draws are taken as they are.
    """
    start, positions, groupings, columns = whole.structure.coordinates.dimension, [], [], []
    for k, i in enumerate(whole.structure.intercepts):
        size = len(i.grouping.levels)
        level, n = i.grouping.index, len(i.grouping.index)
        seen, there = (
            np.bincount(level, weights=m.data["responses"][i.response]["used"][:n], minlength=size)
            for m in (part, whole)
        )
        for j in np.flatnonzero((seen == 0) & (there > 0) if i.grouping.fixed is None else np.zeros(size, bool)):
            positions.append(start + j)
            groupings.append(k)
            columns.append((i.response, level == j))
        start += size
    count = next(c for c in COUNTS if c >= len(positions))
    rows = {}
    for r in whole.law.responses:
        z = np.zeros((len(whole.data["responses"][r.name]["y"]), count))
        for j, (response, own) in enumerate(columns):
            if response == r.name:
                z[: len(own), j] = own
        rows[r.name] = z
    return Novel(np.asarray(positions, int), np.asarray([*groupings, *[0] * (count - len(groupings))], int), rows)


def held_log_density(whole: Model, part: Model, flat: np.ndarray, seed: int = 0) -> np.ndarray:
    """log p(held-out rows | fitted rows, draw) for flat vectors of shape (samples, dimension), jointly over the rows.

    `part` is the model of the same table with rows held out. The density is of the responses themselves, whatever link
    a law is fitted on: log p(y) = log p(g(y)) + log |g'(y)|. Effects of levels that only held-out rows have are
    integrated out, over N(0, tau) given the draw: by importance sampling about the mode next to no effect, and about
    that next to what the rows alone say, which noise of heavy tails keeps apart.
    """
    import jax

    novel = novel_effects(whole, part)
    rng = np.random.default_rng([seed, 9])
    flat = np.array(flat, float)
    flat[:, novel.positions] = 0.0
    shape = (len(flat), IMPORTANCE, novel.count)
    normal = rng.standard_normal(shape) / np.sqrt(rng.chisquare(TAILS, shape[:2]) / TAILS)[..., None]
    normal[:, 1::2] = -normal[:, ::2]

    def chunk(flat, normal, whole_data, part_data, rows, groupings, real):
        one = lambda f, e: _held(whole, f, e, whole_data, part_data, rows, groupings, real)  # noqa: E731
        return jax.vmap(one)(flat, normal)

    fixed = (whole.data, part.data, novel.rows, novel.groupings, np.arange(novel.count) < len(novel.positions))
    parts = []
    with double_precision():
        fixed = jax.device_put(fixed)
        key = ("held", novel.count, whole.structure.key)
        program = compiled(key, chunk, np.zeros((CHUNK, flat.shape[1])), np.zeros((CHUNK, *shape[1:])), *fixed)
        for k in range(0, len(flat), CHUNK):
            f, e = (_filled(x[k : k + CHUNK]) for x in (flat, normal))
            parts.append(np.asarray(program(f, e, *fixed))[: len(flat) - k])
    return np.concatenate(parts)


def _filled(block: np.ndarray) -> np.ndarray:
    return np.concatenate([block, np.repeat(block[-1:], CHUNK - len(block), axis=0)])


def _held(whole: Model, flat, normal, data, part, rows, groupings, real):
    """The log density of one draw; traceable."""
    import jax
    import jax.numpy as jnp
    from scipy.special import gammaln

    structure = whole.structure
    sites = structure.sites(flat)
    values = structure.values(sites["z"], data)
    d = len(groupings)
    tau = jnp.stack([values[i.spread] for i in structure.intercepts])[groupings] if d else jnp.zeros(0)
    fitted, slopes, exact, soft = 0.0, 0.0, [], []
    bend, pull = jnp.eye(d), jnp.zeros(d)
    for r in whole.law.responses:
        seen, used = data["responses"][r.name], data["responses"][r.name]["used"]
        before = part["responses"][r.name]["used"]
        terms = structure.row_log_density(values, sites, part, r, False)
        fitted = fitted + jnp.where(before, terms, 0.0).sum()
        if whole.law.likelihood is not None:
            fixed = jnp.where(used, structure.row_log_density(values, sites, data, r, False), 0.0).sum()
            exact.append(lambda v, fixed=fixed: fixed)
            continue
        link = LINKS[r.support]
        slope = link.log_slope(link.inverse(seen["y"]))
        if structure.observing.nodes:  # the mass below a bound is a probability, not a density
            slope = jnp.where(seen["low"] == -jnp.inf, 0.0, slope)
        slopes = slopes + jnp.where(used & ~before, slope, 0.0).sum()
        residual = seen["y"] - structure.locations(values, sites, data, r)
        scale = jnp.broadcast_to(structure.scales(values, data, r), residual.shape)
        known = rows[r.name] * tau / scale[:, None]  # what the rows say of the effects, were their noise normal
        bend, pull = bend + known.T @ known, pull + known.T @ (residual / scale)
        for smooth, into in ((False, exact), (True, soft)):
            density = structure.noise_density(values, data, r, smooth)
            into.append(lambda v, d=density, e=residual, z=rows[r.name], u=used: jnp.where(u, d(e - z @ v), 0.0).sum())
    if d == 0:
        return sum(f(jnp.zeros(0)) for f in exact) - fitted + slopes
    # In units of the spread every new effect is standard normal before its rows are seen; padding stays at zero.

    def joint(w, terms):
        return sum(f(jnp.where(real, tau * w, 0.0)) for f in terms) - 0.5 * (w**2).sum() - 0.5 * d * np.log(2 * np.pi)

    smooth = lambda w: joint(w, soft)  # noqa: E731

    def curvature(w):
        values, vectors = jnp.linalg.eigh(-jax.hessian(smooth)(w))
        return jnp.maximum(jnp.abs(values), 1.0), vectors

    def step(_, w):
        bend, vectors = curvature(w)
        move = vectors @ ((vectors.T @ jax.grad(smooth)(w)) / bend)
        tried = jnp.stack([w, *(w + share * move for share in SHARES)])
        return tried[jnp.argmax(jnp.nan_to_num(jax.vmap(smooth)(tried), nan=-jnp.inf))]

    starts = jnp.stack([jnp.zeros(d), jnp.where(real, jnp.linalg.solve(bend, pull), 0.0)])
    modes = jax.vmap(lambda w: jax.lax.fori_loop(0, STEPS, step, w))(starts)
    bends, vectors = jax.vmap(curvature)(modes)
    half = normal.reshape(2, -1, d)
    w = (modes[:, None] + jnp.einsum("mkd,med->mke", half / jnp.sqrt(bends)[:, None], vectors)).reshape(-1, d)

    def log_t(mode, bend, vectors):  # of every draw under one of the two proposals
        square = (bend * ((w - mode) @ vectors) ** 2).sum(axis=1)
        return 0.5 * jnp.log(bend).sum() - 0.5 * (TAILS + d) * jnp.log1p(square / TAILS)

    constant = gammaln((TAILS + d) / 2) - gammaln(TAILS / 2) - 0.5 * d * np.log(TAILS * np.pi)
    proposed = jax.nn.logsumexp(jax.vmap(log_t)(modes, bends, vectors), axis=0) - np.log(2) + constant
    weights = jax.vmap(lambda x: joint(x, exact))(w) - proposed
    return jax.nn.logsumexp(weights) - jnp.log(len(weights)) - fitted + slopes


@dataclass(frozen=True)
class Density:
    """A log predictive density with its Monte Carlo error, and how far the two sets of draws behind it overlap.

    `overlap` lies between 0 (no draw of either could be of the other) and 1 (the rows told nothing new).
    """

    value: float
    error: float
    overlap: float


def bridged(before: np.ndarray, after: np.ndarray) -> Density:
    """log p(held-out rows | fitted rows) from densities at draws given the fitted rows and given all rows.

    `before` and `after` hold log p(held-out rows | draw), shape (chains, draws). Their posteriors differ by just this
    factor, so the ratio of their normalising constants is what is asked, and the bridge of Bennett (1976), J. Comput.
    Phys. 22, in the form of Meng and Wong (1996), Statistica Sinica 6, has the least error of all that use both sets.
    The mean over `before` alone, which the usual leave-one-out takes, hangs on few draws where the rows are a surprise.

    Its error is a jackknife over chains.
    """
    value = _bridge(before.ravel(), after.ravel())
    chains = min(len(before), len(after))
    others = [np.arange(chains) != c for c in range(chains)]
    parts = np.asarray([_bridge(before[:chains][o].ravel(), after[:chains][o].ravel()) for o in others])
    error = float(np.sqrt((chains - 1) / chains * ((parts - parts.mean()) ** 2).sum())) if chains > 1 else np.nan
    ratio = np.log(after.size / before.size)
    from scipy.special import expit

    share = expit(np.concatenate([before.ravel(), after.ravel()]) - value + ratio)
    return Density(float(value), error, float((4 * share * (1 - share)).mean()))


def _bridge(before: np.ndarray, after: np.ndarray) -> float:
    from scipy.optimize import brentq
    from scipy.special import expit

    ratio = np.log(len(after) / len(before))

    def excess(value: float) -> float:
        return expit(before - value + ratio).sum() - expit(value - ratio - after).sum()

    low, high = min(before.min(), after.min()) - 50, max(before.max(), after.max()) + 50
    return float(np.asarray(brentq(excess, low, high, xtol=1e-10)))


def joined_chains(flat: np.ndarray, chains: int, most: int) -> np.ndarray:
    """Which samples of joined chains are taken, at most so many a chain, evenly spread: positions (chains, kept)."""
    draws = len(flat) // chains
    kept = np.unique(np.linspace(0, draws - 1, min(draws, most)).astype(int))
    return np.arange(chains)[:, None] * draws + kept
