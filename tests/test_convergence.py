"""Our R-hat, ESS and MCSE against arviz-stats, and against what they must be."""

import jax
import numpy as np
import numpyro  # noqa: F401  before arviz
import pytest
from arviz_stats.base import array_stats

from bayescale.diagnostics import judge_convergence
from bayescale.posterior import convergence, convergence_on_device


def chains(rho, draws, seed=0, size=12, count=4):
    """Autoregressive chains; the last third of the quantities is rounded, so that ties occur."""
    e = np.random.default_rng(seed).standard_normal((size, count, draws))
    x = np.zeros_like(e)
    for t in range(draws):
        x[..., t] = rho * x[..., t - 1] * (t > 0) + e[..., t]
    x[2 * size // 3 :] = np.round(x[2 * size // 3 :], 1)
    return x


@pytest.mark.parametrize("draws", [50, 999, 1000])
@pytest.mark.parametrize("rho", [-0.8, 0.0, 0.5, 0.99])
def test_equal_to_arviz(rho, draws):
    x = chains(rho, draws)

    def reference(name, **options):
        return np.asarray([getattr(array_stats, name)(v, **options) for v in x])

    together = convergence.diagnose(x)
    for ours, theirs in (
        *zip(together, (f(x) for f in (convergence.r_hat, convergence.ess_bulk, convergence.ess_tail)), strict=True),
        (convergence.r_hat(x), reference("rhat", method="rank")),
        (convergence.ess_bulk(x), reference("ess", method="bulk")),
        (convergence.ess_tail(x), reference("ess", method="tail", prob=convergence.TAILS)),
        (convergence.mcse_mean(x), reference("mcse", method="mean")),
        (convergence.mcse_quantile(x, 0.05), reference("mcse", method="quantile", prob=0.05)),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8)


def test_any_leading_shape():
    x = chains(0.5, 200)
    stacked = x.reshape(3, 4, 4, 200)
    np.testing.assert_array_equal(convergence.ess_bulk(stacked).ravel(), convergence.ess_bulk(x))


def test_a_constant_quantity_is_not_a_failure():
    x = np.ones((1, 4, 100))
    assert convergence.ess_bulk(x)[0] == 400


def test_a_stuck_chain_is_seen():
    x = chains(0.0, 500)[:1]
    x[0, 0] += 5
    assert convergence.r_hat(x)[0] > 1.5
    assert convergence.ess_bulk(x)[0] < 20


def test_e_bfmi_of_independent_energies():
    """Independent energies change by twice their variance: E-BFMI 2, with sd about sqrt(8/n)."""
    energy = np.random.default_rng(0).standard_normal((4, 4000))
    assert np.all(np.abs(convergence.e_bfmi(energy) - 2) < 5 * np.sqrt(8 / 4000))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_draw_that_is_not_finite_is_seen(wrong):
    x = chains(0.0, 100)
    x[0, 2, 7] = wrong
    with np.errstate(invalid="ignore"):
        for name in ("r_hat", "ess_bulk", "ess_tail"):
            found = getattr(convergence, name)(x)
            assert np.isnan(found[0])
            assert np.isfinite(found[1:]).all()


@pytest.mark.parametrize("rho", [-0.8, 0.0, 0.5, 0.99])
def test_accelerators_find_the_same(rho):
    """The numbers that are computed where thousands of draws lie are those of the host."""
    x = chains(rho, 400)
    x[0, 2, 7] = np.nan
    x[1] = 3.0
    with jax.enable_x64(True):
        found = jax.jit(convergence_on_device.diagnose)(x)
    with np.errstate(invalid="ignore"):
        wanted = convergence.diagnose(x)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-8)


@pytest.mark.parametrize("nudge", [-1e-13, 0.0, 1e-13])
def test_of_numbers_that_mirror_each_other_the_first_is_named(nudge):
    """a and b = 1 - a have the same sizes, up to rounding, which differs between hosts and accelerators."""
    numbers = [np.asarray([big, x, x * (1 + nudge)]) for big, x in ((1.0, 1.005), (900.0, 500.0), (900.0, 450.0))]
    found = judge_convergence(["E", "a", "b"], numbers, (0, 1600), np.ones(4))
    assert [f.message.partition("(")[2][0] for f in found[:3]] == ["a", "a", "a"]
    assert [f.value for f in found[:3]] == [max(numbers[0]), min(numbers[1]), min(numbers[2])]
