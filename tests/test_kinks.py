"""Formulas that branch on a parameter are few and known, and their slopes agree from both sides of the branch.

Samplers follow slopes, so a law with a kink in a parameter would have to be smoothed for them. None has one: two laws
take a smallest or largest value of something that depends on a parameter, one where its slopes meet, the other only to
choose where Newton's method starts. Kinks in the data alone (a censored row, a rate that no longer falls) are none to a
sampler. Of the noises, that of Laplace has a kink, whose stand-in is smooth.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from designs import FITTED, design, own_unit

from bayescale.law import argument_names, call
from bayescale.laws import find_law
from bayescale.model import build_model, double_precision
from bayescale.noise import NOISES

#: Laws whose formula branches on a parameter, and the test that holds their slopes together there.
BRANCHING = {
    "data_constrained": "test_data_constrained_is_differentiable_at_its_kinks in test_hard_laws.py",
    "m4": "test_the_root_does_not_depend_on_where_newton_starts",
}
#: Primitives whose value or slope jumps; `select_n` does so where its first argument depends on a parameter.
BREAKING = {"max", "min", "abs", "sign", "clamp", "floor", "ceil", "round", "sort", "rem", "reduce_max", "reduce_min"}
#: Functions built of them that are smooth all the same, with slopes of their own.
SMOOTH = {"logaddexp"}


@pytest.fixture(autouse=True)
def x64():
    with double_precision():
        yield


def branches(jaxpr, tainted):
    """Names of the breaking primitives that an argument marked as tainted reaches."""
    reached = {v for v, mark in zip(jaxpr.invars, tainted, strict=True) if mark}
    found = set()
    for equation in jaxpr.eqns:
        hit = [not hasattr(v, "val") and v in reached for v in equation.invars]
        if not any(hit):
            continue
        reached.update(equation.outvars)
        name = equation.primitive.name
        if name == "custom_jvp_call":
            inner = equation.params["call_jaxpr"].jaxpr
            if inner.debug_info.func_name not in SMOOTH:
                found |= branches(inner, hit)
        elif name in BREAKING or (name == "select_n" and hit[0]):
            found.add(name)
        for parameter in equation.params.values():
            for part in parameter if isinstance(parameter, tuple | list) else (parameter,):
                inner = getattr(part, "jaxpr", part)
                if name != "custom_jvp_call" and hasattr(inner, "eqns"):
                    count = len(inner.invars)
                    found |= branches(inner, hit[-count:] if count <= len(hit) else [True] * count)
    return found


@pytest.mark.parametrize("spec", FITTED)
def test_laws_that_branch_on_a_parameter_are_known(spec):
    law = find_law(spec)
    model = build_model(law, design(law, own_unit(law)), group="none")
    z = jax.ShapeDtypeStruct((model.structure.dimension,), np.float64)
    shapes = jax.eval_shape(lambda z: model.structure.values(z, model.data), z)
    over = {p.name for p in law.parameters if p.over}
    values = {n: jax.ShapeDtypeStruct(x.shape[n in over :], x.dtype) for n, x in shapes.items()}
    values |= {n: x[0] for n, x in model.inputs.items()} | dict(model.references)
    values |= {r.name: np.asarray(3.0) for r in law.responses}
    given = {q.name for q in (*law.inputs, *law.responses)} | {i.reference_name for i in law.inputs}
    formulas = [*law.formulas().values(), *([law.likelihood] if law.likelihood else [])]
    found = set()
    for formula in formulas:
        names = argument_names(formula)
        traced = jax.make_jaxpr(lambda *xs, f=formula, names=names: f(**dict(zip(names, xs, strict=True))))(
            *(values[n] for n in names)
        )
        found |= branches(traced.jaxpr, [n not in given for n in names])
    assert bool(found) == (law.name in BRANCHING), found


def test_the_search_sees_kinks():
    """It finds what it looks for: a hinge, a choice by a parameter; and not a choice by the data, or a soft hinge."""

    def kinds(formula):
        return branches(jax.make_jaxpr(formula)(1.0, 1.0).jaxpr, [False, True])

    assert kinds(lambda x, p: jnp.maximum(x, p)) == {"max"}
    assert "select_n" in kinds(lambda x, p: jnp.where(x > p, x, p))
    assert kinds(lambda x, p: jax.nn.relu(x - p))
    assert not kinds(lambda x, p: jnp.where(x > 1, x * p, p))
    assert not kinds(lambda x, p: jnp.maximum(x, 1.0) * p)
    assert not kinds(lambda x, p: jax.nn.softplus(x - p))


def test_the_root_does_not_depend_on_where_newton_starts():
    """Value and slopes of m4 on both sides of its two branches: a = 1, and the root half-way between floor and chance.

    Slopes a step of 1e-7 apart differ by their curvature times the step; 1e-5 is allowed.
    """
    law = find_law("m4")

    def function(p):
        return call(law.mean, dict(zip(("x", "e_inf", "e0", "a", "b", "c"), (1e4, *p), strict=True)))

    slope = jax.jit(jax.value_and_grad(function))
    at_one = np.array([0.1, 0.9, 1.0, 5.0, 0.3])
    half = np.array([0.1, 0.9, 0.5, 0.4**0.5 * 1e4**0.3, 0.3])  # (.5 - .1) / (.9 - .5)^.5 = b x^-c
    assert float(function(half)) == pytest.approx(0.5, rel=1e-12)
    for p, k in ((at_one, 2), (half, 3), (half, 0)):
        below, above = (slope(p * np.where(np.arange(5) == k, 1 + s, 1.0)) for s in (-1e-7, 1e-7))
        np.testing.assert_allclose(below[0], above[0], rtol=1e-6)
        np.testing.assert_allclose(below[1], above[1], rtol=1e-5)


@pytest.mark.parametrize("name", [n for n, noise in NOISES.items() if noise.smooth])
def test_a_stand_in_for_a_kinked_noise_has_curvature_and_is_close(name):
    """Finite curvature at the kink; a quarter of a nat off there, less than a hundredth beyond ten scales."""
    noise = NOISES[name]
    curvature = jax.grad(jax.grad(lambda r: noise.smooth(r, 0.01)))(0.0)
    assert np.isfinite(curvature) and curvature < 0
    r = np.linspace(-0.5, 0.5, 1001)
    off = np.abs(np.asarray(noise.smooth(r, 0.01) - noise.log_density(r, 0.01)))
    assert off.max() < 0.25 and off[np.abs(r) >= 0.1].max() < 0.01
