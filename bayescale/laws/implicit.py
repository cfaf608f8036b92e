"""Formulas that are equations: their root, with derivatives of every order by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Newton's steps from a start on the side from which it cannot overshoot: quadratic, so this is far more than needed.
STEPS = 40


def newton_root(function: Callable[[Any], Any], start: Any) -> Any:
    """The root of an increasing function of one number by Newton's method; differentiable in what `function` closes
    over.

    The start must be on the side from which steps approach the root without passing it: below for a concave function,
    above for a convex one.
    """
    import jax
    import jax.numpy as jnp

    def solve(f, x):
        def step(_, x):
            value, slope = jax.jvp(f, (x,), (jnp.ones_like(x),))
            return x - value / slope

        return jax.lax.fori_loop(0, STEPS, step, x)

    def linear(g, y):
        return y / g(jnp.ones_like(y))

    return jax.lax.custom_root(function, jax.lax.stop_gradient(jnp.asarray(start)), solve, linear)
