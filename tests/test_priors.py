"""Priors as images of a standard normal: quantiles, slopes, units, text, and what importing them costs."""

import subprocess
import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from bayescale.errors import LawError
from bayescale.law import FAMILIES, Prior, parse_prior
from bayescale.model import double_precision

#: Arguments of every family: ordinary ones, and shapes that strain a table of quantiles.
ARGUMENTS = {
    "Normal": [(0.3, 2.0), (-5.0, 0.01)],
    "LogNormal": [(-1.2, 0.6), (8.0, 2.0)],
    "HalfNormal": [(0.05,), (6.0,)],
    "Exponential": [(2.0,), (0.01,)],
    "Uniform": [(0.0, 1.0), (-1.0, 3.0)],
    "LogUniform": [(0.01, 10.0), (1e9, 1e12)],
    "Gamma": [(2.0, 0.1), (0.1, 1.0), (500.0, 3.0)],
    "Beta": [(3.0, 6.0), (1.0, 4.0), (8.0, 2.0), (0.5, 0.5), (0.05, 3.0)],
}
PRIORS = [Prior(family, args) for family, every in ARGUMENTS.items() for args in every]
FIRST = [Prior(family, every[0]) for family, every in ARGUMENTS.items()]  # where one of a family says enough
Z = np.linspace(-6, 6, 241)


def reference(p: Prior):
    """The SciPy distribution of the same name and arguments."""
    match p.family, p.args:
        case "Normal", (loc, scale):
            return stats.norm(loc, scale)
        case "LogNormal", (loc, scale):
            return stats.lognorm(scale, scale=np.exp(loc))
        case "HalfNormal", (scale,):
            return stats.chi(1, scale=scale)  # its quantiles keep the lower tail, which halfnorm's round away
        case "Exponential", (rate,):
            return stats.expon(scale=1 / rate)
        case "Uniform", (low, high):
            return stats.uniform(low, high - low)
        case "LogUniform", (low, high):
            return stats.loguniform(low, high)
        case "Gamma", (concentration, rate):
            return stats.gamma(concentration, scale=1 / rate)
        case "Beta", args:
            return stats.beta(*args)
    raise AssertionError(f"no reference for {p}")


@pytest.fixture(autouse=True)
def x64():
    with double_precision():
        yield


#: Values and slopes at many z, compiled once a prior.
program = cache(lambda p: jax.jit(jax.vmap(jax.value_and_grad(p.image))))


def image(p: Prior, z: np.ndarray = Z) -> np.ndarray:
    return np.asarray(program(p)(z)[0])


def slope(p: Prior, z: np.ndarray = Z) -> np.ndarray:
    return np.asarray(program(p)(z)[1])


def test_every_family_is_tested():
    assert set(ARGUMENTS) == set(FAMILIES)


@pytest.mark.parametrize("p", PRIORS, ids=str)
def test_quantiles(p):
    """To 1e-8 of the value, six standard deviations to either side; the upper tail by its own probability."""
    x, exact = image(p), reference(p)
    expected = np.where(Z < 0, exact.ppf(special.ndtr(Z)), exact.isf(special.ndtr(-Z)))
    np.testing.assert_allclose(x, expected, rtol=1e-8, atol=1e-12 * abs(exact.median()))


@pytest.mark.parametrize("p", PRIORS, ids=str)
def test_image_and_preimage_undo_each_other(p):
    """x → z → x to 1e-8; z → x → z to what float64 keeps of z in x: an upper bound rounds its neighbourhood away."""
    x = image(p)
    z = np.asarray(p.preimage(x))
    inside = np.isfinite(z)
    assert inside.mean() > 0.9 and inside[np.abs(Z) < 4].all()
    np.testing.assert_allclose(image(p, np.where(inside, z, 0.0))[inside], x[inside], rtol=1e-8)
    with np.errstate(divide="ignore"):
        lost = 4 * np.finfo(float).eps * np.maximum(np.abs(x), 1.0 if p.family == "Beta" else 0.0) / slope(p)
    assert (np.abs(z - Z) <= 1e-8 + lost)[inside].all()
    assert float(p.preimage(float(x[130]))) == pytest.approx(0.5, abs=1e-8)  # a plain number


@pytest.mark.parametrize("p", PRIORS, ids=str)
def test_slope_and_order(p):
    """The gradient is φ(z) / density, and the difference quotient; values increase, up to rounding at a bound."""
    x = image(p)
    assert (np.diff(x) >= 0).all() and (np.diff(x)[np.abs(Z[1:]) < 4] > 0).all()
    near = np.abs(Z) < 3
    with np.errstate(divide="ignore"):
        exact = stats.norm.pdf(Z) / reference(p).pdf(x)
    # The table is a cubic between nodes 1/60 apart, so its slope is good to about the cube of that.
    np.testing.assert_allclose(slope(p)[near], exact[near], rtol=1e-6)
    h = 1e-4  # log x may change by 40 a unit of z (Gamma(0.1)): the quotient is then good to (40 h)² / 6
    quotient = (image(p, Z + h) - image(p, Z - h)) / (2 * h)
    rounding = 1e-11 * np.abs(x[near]) if p.family != "Beta" else 1e-11
    assert (np.abs(quotient - slope(p))[near] <= 5e-6 * slope(p)[near] + rounding).all()


@pytest.mark.parametrize("p", PRIORS, ids=str)
def test_far_tails_stay_finite(p):
    """A sampler that starts badly asks for z = ±30: the image and its gradient must let it come back."""
    far = np.resize([-30.0, -9.0, 9.0, 30.0], Z.shape)
    assert np.isfinite(image(p, far)).all() and np.isfinite(slope(p, far)).all()


@pytest.mark.parametrize("p", FIRST, ids=str)
def test_change_of_unit(p):
    """`scaled(f)` is the prior of f times the value, whatever the family; shares of one have no unit."""
    if p.family == "Beta":
        with pytest.raises(LawError, match=r"Beta\(.*\) has no unit to convert"):
            p.scaled(2.0)
        assert p.scaled(1.0) is p
        return
    factor = 1 / np.log(2)
    np.testing.assert_allclose(image(p.scaled(factor)), factor * image(p), rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize("p", FIRST, ids=str)
def test_distribution_is_the_same(p):
    """The NumPyro distribution of that name has the density that the image implies."""
    x = image(p)[np.abs(Z) < 2]
    np.testing.assert_allclose(np.asarray(p.distribution().log_prob(x)), reference(p).logpdf(x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("p", PRIORS, ids=str)
def test_support(p):
    x = image(p)
    assert p.support == {
        "Normal": "real",
        "Beta": "unit",
        "Uniform": "unit" if p.args == (0.0, 1.0) else "real",
    }.get(p.family, "positive")
    assert (x > 0).all() or p.support == "real"
    assert (x <= 1).all() or p.support != "unit"


def test_strict_promotion_and_ranks():
    """Values keep the type and shape of z, in single and in double precision, and under JAX's strict modes.

    Promotion is settled in tracing, so nothing needs to be compiled.
    """
    for x64 in (False, True):
        with (
            jax.enable_x64(x64),
            jax.numpy_dtype_promotion("strict"),
            jax.numpy_rank_promotion("raise"),
        ):
            for p in FIRST:
                for shape in ((), (2, 3)):
                    for dtype in (jnp.float32, jnp.float64)[: 1 + x64]:
                        z = jax.ShapeDtypeStruct(shape, dtype)
                        for f in (p.image, jax.grad(lambda z, p=p: p.image(z).sum())):
                            x = jax.eval_shape(f, z)
                            assert x.shape == shape and x.dtype == dtype, (p, shape, dtype)


def test_single_precision():
    """To 2e-5: float32 keeps seven digits of z, and the exponents of the widest priors multiply what is lost."""
    double = {p: image(p) for p in PRIORS}
    with jax.enable_x64(False):
        for p in PRIORS:
            single = np.asarray(jax.jit(p.image)(np.float32(Z)))
            assert single.dtype == np.float32
            near = np.abs(Z) < 3
            size = 1e-6 * np.ptp(double[p][near]) if p.support == "real" else 1e-37  # rounding, underflow
            np.testing.assert_allclose(single[near], double[p][near], rtol=2e-5, atol=size, err_msg=str(p))


@pytest.mark.parametrize(
    ("text", "prior"),
    [
        ("normal(.35, .02)", Prior("Normal", (0.35, 0.02))),
        ("LogNormal(-1.2,.6)", Prior("LogNormal", (-1.2, 0.6))),
        ("half_normal(6)", Prior("HalfNormal", (6.0,))),
        ("  GAMMA( 2 , .1 ) ", Prior("Gamma", (2.0, 0.1))),
        ("log_uniform(1e9, 1e12)", Prior("LogUniform", (1e9, 1e12))),
        ("beta(3,6)", Prior("Beta", (3.0, 6.0))),
        ("normal(.35 +- .02)", Prior("Normal", (0.35, 0.02))),
        ("lognormal(1 */ 2)", Prior("LogNormal", (0.0, np.log(2.0)))),
    ],
)
def test_priors_from_text(text, prior):
    assert parse_prior(text) == prior
    assert parse_prior(str(prior)).args == pytest.approx(prior.args, rel=1e-5)
    assert parse_prior(prior.described).args == pytest.approx(prior.args, abs=5e-3)


def test_a_log_normal_is_read_by_its_median_and_factor():
    """What is printed is the median and what one standard deviation multiplies it by, never the mean of the log."""
    p = Prior("LogNormal", (np.log(0.3), 0.6))
    assert p.described == "LogNormal(0.3 ×/÷ 1.82)"
    assert float(p.image(np.float64(1.0))) == pytest.approx(0.3 * np.exp(0.6))
    assert Prior("Normal", (0.2, 0.3)).described == "Normal(0.2 ± 0.3)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("normal", "cannot read the prior"),
        ("normal .35 .02", "cannot read the prior"),
        ("normal(.35, .02", "cannot read the prior"),
        ("normal(exp(1), 2)", "cannot read the prior"),
        ("normall(.35, .02)", "Did you mean Normal"),
        ("cauchy(0, 1)", "no prior family 'cauchy'"),
        ("normal(a, b)", "are not numbers"),
        ("normal(.35)", r"Normal takes 2 arguments \(loc, scale\), got 1"),
        ("normal(.35, -.02)", r"Normal\(0.35, -0.02\) is not a distribution: check loc, scale"),
        ("normal(nan, 1)", "is not a distribution"),
        ("uniform(3, 1)", "is not a distribution"),
        ("loguniform(0, 1)", "is not a distribution"),
        ("gamma(2, inf)", "is not a distribution"),
        ("lognormal(0 */ 2)", "positive median and a factor above 1"),
        ("lognormal(.3 */ .5)", "positive median and a factor above 1"),
    ],
)
def test_priors_that_cannot_be_read(text, said):
    with pytest.raises(LawError, match=said) as caught:
        parse_prior(text)
    assert caught.value.code == "BS-L003"


def test_importing_laws_starts_neither_jax_nor_numpyro():
    """Printing the catalogue and its priors must be quick: everything is text until it is sampled."""
    code = (
        "import sys, bayescale.law as law, bayescale.laws as laws;"
        "[str(p.prior) for e in laws.LAWS.values() for p in e().coordinates()];"
        "print([m for m in ('jax', 'numpyro', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
