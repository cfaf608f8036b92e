"""Formulas that are equations: their root, with derivatives of every order by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: At most this many of Newton's steps: along a saturating exponential each one gains about one e-fold.
STEPS = 60
#: A step below this share of the root's size (or of one) is rounding.
ROUNDING = 1e-14


def newton_root(function: Callable[[Any], Any], start: Any) -> Any:
    """The root of an increasing function of one number by Newton's method; differentiable in what `function` closes
    over.

    The start must be on the side from which steps approach the root without passing it: below for a concave function,
    above for a convex one.
    """
    import jax
    import jax.numpy as jnp

    def solve(f, x):
        def step(state):
            x, _, count = state
            value, slope = jax.jvp(f, (x,), (jnp.ones_like(x),))
            return x - value / slope, jnp.abs(value / slope), count + 1

        def unfinished(state):
            x, moved, count = state
            return (moved > ROUNDING * (1 + jnp.abs(x))) & (count < STEPS)

        return jax.lax.while_loop(unfinished, step, (x, jnp.full_like(x, jnp.inf), 0))[0]

    def linear(g, y):
        return y / g(jnp.ones_like(y))

    return jax.lax.custom_root(function, jax.lax.stop_gradient(jnp.asarray(start)), solve, linear)
