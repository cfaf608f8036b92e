"""How programs are traced and compiled: once, and without what costs more than it gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayescale as bs
from bayescale.model import build_model, compiled, double_precision
from bayescale.model.density import Structure
from bayescale.sampling.ensemble import Plan, blank_state, ensemble_program


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA does on CPUs")
@pytest.mark.parametrize("precision, split", [(np.float64, False), (np.float32, True)])
def test_only_in_single_precision_is_a_sum_split(precision, split):
    with double_precision():
        text = compiled(("sum", precision), lambda x: jnp.exp(x).sum(), np.ones(500, precision)).as_text()
    assert ("reduce-window" in text) == split


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA does on CPUs")
def test_what_is_summed_is_not_written_out_first():
    x = np.ones((4, 5000))
    with double_precision():
        program = compiled(("long sum",), lambda x: jnp.exp(x).sum(axis=1), x)
        np.testing.assert_allclose(program(x), np.exp(x).sum(axis=1), rtol=1e-12)
    assert "kCustom" not in program.as_text() and program.as_text().count(" fusion(") == 1


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA does on CPUs")
@pytest.mark.parametrize("alone", [True, False])
def test_one_of_many_programs_takes_one_core(alone):
    with double_precision():
        program = compiled(("split", alone), lambda x: jnp.tan(jnp.exp(x)), np.ones(200_000), alone=alone)
    assert ('partitions":["' in program.as_text()) == alone


@pytest.mark.parametrize("noise, times", [("student_t", 1), ("laplace", 2)])
def test_the_potential_is_traced_once_for_search_and_sampling(ladder, monkeypatch, noise, times):
    model, traced = build_model(bs.find_law("chinchilla"), ladder, noise=noise, group="auto"), []
    whole = Structure._sampler_potential

    def counted(self, *arguments):
        traced.append(arguments)
        return whole(self, *arguments)

    monkeypatch.setattr(Structure, "_sampler_potential", counted)
    structure = model.structure
    with double_precision():
        plan = Plan((10, 0, 0, 10), 0.8, 10).numbers()
        key = np.zeros(2, np.uint32)
        jax.jit(ensemble_program(structure)).lower(model.data, plan, key, blank_state(structure, model.data))
    assert len(traced) == times
