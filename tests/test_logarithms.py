"""Logarithms by vector instructions: the value to two units in the last place, the derivative, and the edges."""

import numpy as np
import pytest

from bayescale.model import with_vector_logs

EDGES = np.array([0.0, -0.0, -1.0, np.inf, -np.inf, np.nan, 1.0, 5e-324, 2.3e-308, 1.7e308])


@pytest.fixture(autouse=True)
def double():
    import jax

    with jax.enable_x64(True):
        yield


def test_values_are_right_to_two_units_in_the_last_place():
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    x = np.concatenate([np.exp(rng.uniform(-700, 700, 50_000)), 1 + 1e-3 * rng.standard_normal(50_000)])
    found = np.asarray(jax.jit(with_vector_logs(jnp.log))(x))
    exact = np.log(x.astype(np.longdouble))
    assert (np.abs(found - exact) <= 2 * np.spacing(np.abs(found))).all()
    u = np.concatenate([np.exp(rng.uniform(-60, 300, 50_000)), -np.exp(rng.uniform(-40, -0.01, 50_000))])
    found = np.asarray(jax.jit(with_vector_logs(jnp.log1p))(u))
    exact = np.log1p(u.astype(np.longdouble))
    assert (np.abs(found - exact) <= 2 * np.spacing(np.abs(found))).all()


@pytest.mark.parametrize("name", ["log", "log1p"])
def test_the_edges_are_those_of_the_library(name):
    import jax
    import jax.numpy as jnp

    function = getattr(jnp, name)
    x = EDGES if name == "log" else np.append(EDGES[:-3], [1e308, -2.0, -1.0, 1e-17])
    found = jax.jit(with_vector_logs(function))(x)
    assert np.allclose(found, jax.jit(function)(x), rtol=1e-15, atol=0, equal_nan=True)


def test_derivatives_maps_and_nested_calls():
    import jax
    import jax.numpy as jnp

    def function(x, shift):
        inner = jax.jit(lambda v: {"sum": (jnp.log(v) * jnp.log1p(v**2)).sum(), "soft": jax.nn.softplus(v)})(x + shift)
        return inner["sum"] + inner["soft"].mean() + jnp.log(shift)

    x = np.linspace(0.2, 3.0, 12).reshape(3, 4)
    for wrapped in (lambda f: f, jax.grad, jax.jit):
        one, other = (wrapped(f) for f in (function, with_vector_logs(function)))
        both = [jax.vmap(f, (0, None))(x, 0.7) for f in (one, other)]
        assert np.allclose(*both, rtol=1e-14)


def test_single_precision_is_left_alone():
    import jax
    import jax.numpy as jnp

    x = jnp.linspace(0.5, 2.0, 8, dtype=jnp.float32)
    made = jax.make_jaxpr(with_vector_logs(jnp.log))(x)
    assert [e.primitive.name for e in made.eqns] == ["log"]
