"""Densities of noises and their slopes, which samplers and examinations follow, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from bayescale.model import double_precision
from bayescale.noise import NOISES

#: Beyond, the differences of SciPy's log-gammas are less exact than what is tested.
NU = np.concatenate([1 + np.geomspace(1e-3, 1, 12), np.geomspace(2.5, 200, 60)])


def test_the_density_of_student_s_t_and_its_slopes():
    density = NOISES["student_t"].log_density
    r, scale, nu = 0.03, 0.01, NU
    square = (r / scale) ** 2
    half, whole = nu / 2, (nu + 1) / 2
    slope = 0.5 * (special.digamma(whole) - special.digamma(half) - 1 / nu - np.log1p(square / nu))
    slope += whole * square / (nu * (nu + square))
    bend = 0.25 * (special.polygamma(1, whole) - special.polygamma(1, half)) + 0.5 / nu**2
    bend += square / (nu * (nu + square))
    bend -= whole * square * (2 * nu + square) / (nu * (nu + square)) ** 2
    with double_precision():
        of_nu = [lambda v: density(r, scale, v)]
        of_nu += [jax.grad(of_nu[0]), jax.grad(jax.grad(of_nu[0]))]
        value, first, second = (np.asarray(jax.vmap(f)(jnp.asarray(nu))) for f in of_nu)
        by_residual = jax.vmap(jax.grad(density), (None, None, 0))(r, scale, jnp.asarray(nu))
    np.testing.assert_allclose(value, stats.t.logpdf(r, nu, scale=scale), rtol=1e-12)
    np.testing.assert_allclose(first, slope, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(second, bend, rtol=1e-7, atol=1e-14)
    np.testing.assert_allclose(by_residual, -(nu + 1) * r / (nu * scale**2 + r**2), rtol=1e-12)


def test_single_precision_holds_for_any_degrees_of_freedom():
    density = NOISES["student_t"].log_density
    nu = np.geomspace(1.001, 1e8, 80).astype(np.float32)
    for f in (density, jax.grad(density, 2)):
        assert np.isfinite(jax.vmap(f, (None, None, 0))(np.float32(0.03), np.float32(0.01), nu)).all()
    found = jax.vmap(density, (None, None, 0))(np.float32(0.03), np.float32(0.01), nu)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stats.t.logpdf(0.03, nu.astype(float), scale=0.01), rtol=1e-5, atol=1e-5)


def test_slopes_in_the_scale():
    """The inverse of the scale has slopes of its own: densities are SciPy's, their slopes those of the formulas."""
    r, scale = np.array([-0.04, 0.003, 0.02]), np.array([0.01, 0.02, 0.005])
    known = {"normal": stats.norm.logpdf, "laplace": stats.laplace.logpdf}
    for name, reference in known.items():
        density = NOISES[name].log_density
        with double_precision():
            value = np.asarray(density(jnp.asarray(r), jnp.asarray(scale)))
            first = np.asarray(jax.vmap(jax.grad(density, 1))(r, scale))
            second = np.asarray(jax.vmap(jax.grad(jax.grad(density, 1), 1))(r, scale))
        np.testing.assert_allclose(value, reference(r, scale=scale), rtol=1e-12)
        slope = {"normal": r**2 / scale**3 - 1 / scale, "laplace": abs(r) / scale**2 - 1 / scale}
        bend = {"normal": 1 / scale**2 - 3 * r**2 / scale**4, "laplace": 1 / scale**2 - 2 * abs(r) / scale**3}
        np.testing.assert_allclose(first, slope[name], rtol=1e-12)
        np.testing.assert_allclose(second, bend[name], rtol=1e-12)
