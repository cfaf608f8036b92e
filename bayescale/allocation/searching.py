"""The least of a loss over what is chosen, draw by draw: one or two scales or shares in a box, or a mixture of domains.

Scalars: a grid over the whole box, then a pattern search from its best point (halve the stencil when its centre is
best), which needs no slope, holds at an edge and cannot leave the box. Mixtures: moves between the two domains that
gain most (sequential minimal optimisation), each to its own least: exact for a convex loss, as weighted sums of the
mixing law are, and after as many moves as domains where the loss is monotone in one combination of the shares.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

#: Points an axis of the first grid over a box of one or two coordinates.
GRID = {1: 400, 2: 64}
#: Two coordinates are searched at most: more would need another method.
MOST = 2
_ROUNDS = 80
_NEAR_ROUNDS, _PROFILE, _GOLDEN = 26, 24, 26
_MOVES, _HALVINGS = 300, 45
_BALANCED = 1e-12
_BATCH = 256


#: From a range of 60 in the log of a size to the last digit.
BISECTIONS = 56


def bisected(turned: Callable[[Any], Any], a: Any, b: Any, rounds: int = BISECTIONS) -> Any:
    """The point between a (where `turned` is false) and b (where it is true); a where it is true throughout."""
    import jax
    import jax.numpy as jnp

    def step(_, ends):
        a, b = ends
        middle = (a + b) / 2
        true = turned(middle)
        return jnp.where(true, a, middle), jnp.where(true, middle, b)

    a, b = jax.lax.fori_loop(0, rounds, step, (a, b))
    return (a + b) / 2


def least_in_box(loss: Callable[[Any], Any], low: Any, high: Any) -> Any:
    """Where a loss of one or two coordinates is least between `low` and `high`, shape (coordinates,)."""
    import jax
    import jax.numpy as jnp

    k = low.shape[0]

    def known(x):
        y = loss(x)
        return jnp.where(jnp.isnan(y), jnp.inf, y)

    steps = jnp.linspace(0.0, 1.0, GRID[k])
    grid = jnp.stack(jnp.meshgrid(*[steps] * k, indexing="ij"), -1).reshape(-1, k)
    grid = low + (high - low) * grid
    start = grid[jnp.argmin(jax.vmap(known)(grid))]
    stencil = np.array(sorted(product((-2, -1, 0, 1, 2), repeat=k), key=lambda p: sum(map(abs, p)))) / 2.0

    def step(_, state):
        x, size = state
        around = jnp.clip(x + stencil * size, low, high)
        best = jnp.argmin(jax.vmap(known)(around))  # ties go to the centre, which stands first
        return around[best], jnp.where(best == 0, size / 2, size)

    x, _ = jax.lax.fori_loop(0, _ROUNDS, step, (start, (high - low) / (GRID[k] - 1)))
    return x


def near_in_box(loss: Callable[[Any], Any], x: Any, low: Any, high: Any, top: Any) -> Any:
    """The ends of the values of each coordinate at which the loss, the other chosen best, stays below `top`.

    Shape (coordinates, 2).
    """
    import jax.numpy as jnp

    ends = []
    for i in range(x.shape[0]):

        def profile(v, i=i):
            return loss(x.at[i].set(v)) if x.shape[0] == 1 else _least_of_other(loss, x.at[i].set(v), 1 - i, low, high)

        lower = bisected(lambda v, p=profile: p(v) <= top, low[i], x[i], _NEAR_ROUNDS)
        upper = bisected(lambda v, p=profile: ~(p(v) <= top), x[i], high[i], _NEAR_ROUNDS)
        ends.append(jnp.stack([lower, upper]))
    return jnp.stack(ends)


def _least_of_other(loss: Callable[[Any], Any], x: Any, j: int, low: Any, high: Any) -> Any:
    """The least loss over coordinate j: a grid, then a golden section around its best point."""
    import jax
    import jax.numpy as jnp

    def at(u):
        y = loss(x.at[j].set(u))
        return jnp.where(jnp.isnan(y), jnp.inf, y)

    grid = jnp.concatenate([low[j] + (high[j] - low[j]) * jnp.linspace(0.0, 1.0, _PROFILE), x[j][None]]).sort()
    values = jax.vmap(at)(grid)
    k = jnp.argmin(values)
    golden = (5**0.5 - 1) / 2

    def narrow(_, ends):
        a, b = ends
        one, other = b - golden * (b - a), a + golden * (b - a)
        left = at(one) < at(other)
        return jnp.where(left, a, one), jnp.where(left, other, b)

    a, b = jax.lax.fori_loop(0, _GOLDEN, narrow, (grid[jnp.maximum(k - 1, 0)], grid[jnp.minimum(k + 1, _PROFILE)]))
    return jnp.minimum(at((a + b) / 2), values[k])


def least_mixture(loss: Callable[[Any], Any], low: Any, high: Any) -> Any:
    """The shares of one, each between its `low` and `high`, at which a convex loss is least."""
    import jax
    import jax.numpy as jnp

    slope = jax.grad(loss)
    room = jnp.sum(high - low)
    start = low + (high - low) * jnp.where(room > 0, (1 - low.sum()) / jnp.where(room > 0, room, 1.0), 0.0)

    def pair(r):
        """The domain that gains most from a larger share, the one that loses least from a smaller, and by how much."""
        g = slope(r)
        up = jnp.argmin(jnp.where(r < high, g, jnp.inf))
        down = jnp.argmax(jnp.where(r > low, g, -jnp.inf))
        return up, down, g[down] - g[up], jnp.abs(g).max()

    def goes_on(state):
        r, moves = state
        _, _, gain, size = pair(r)
        return (moves < _MOVES) & (gain > _BALANCED * size)

    def move(state):
        r, moves = state
        up, down, _, _ = pair(r)
        most = jnp.minimum(high[up] - r[up], r[down] - low[down])

        def moved(t):
            return r.at[up].add(t).at[down].add(-t)

        def gains(t):
            g = slope(moved(t))
            return g[up] - g[down] < 0

        inner = bisected(lambda t: ~gains(t), jnp.zeros_like(most), most, _HALVINGS)
        whole = gains(most)
        full_up = jnp.where(high[up] - r[up] <= r[down] - low[down], high[up], r[up] + most)
        full_down = jnp.where(r[down] - low[down] <= high[up] - r[up], low[down], r[down] - most)
        at_end = r.at[up].set(full_up).at[down].set(full_down)
        return jnp.where(whole, at_end, moved(inner)), moves + 1

    r, _ = jax.lax.while_loop(goes_on, move, (start, 0))
    return r


def near_mixture(loss: Callable[[Any], Any], r: Any, low: Any, high: Any, top: Any) -> Any:
    """The ends of the values of each share at which the loss, the others chosen best, stays below `top`."""
    import jax.numpy as jnp

    ends = []
    for j in range(r.shape[0]):

        def profile(v, j=j):
            return loss(least_mixture(loss, low.at[j].set(v), high.at[j].set(v)))

        # Beyond these the other shares could not add up to one.
        least = jnp.maximum(low[j], 1 - (high.sum() - high[j]))
        most = jnp.minimum(high[j], 1 - (low.sum() - low[j]))
        lower = bisected(lambda v, p=profile: p(v) <= top, least, r[j], _NEAR_ROUNDS)
        upper = bisected(lambda v, p=profile: ~(p(v) <= top), r[j], most, _NEAR_ROUNDS)
        ends.append(jnp.stack([lower, upper]))
    return jnp.stack(ends)


def over_draws(one: Callable[[Any], Any], draws: Any) -> Any:
    """A function of one draw at every draw, in blocks that bound its memory."""
    import jax

    return jax.lax.map(one, draws, batch_size=_BATCH)
