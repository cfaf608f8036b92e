"""Laws of one scale variable whose slope changes along the curve: smooth breaks, and a way out of chance."""

from math import log

from bayescale.law import Beta, Check, Derived, HalfNormal, Law, LogNormal, Normal, Parameter, Response
from bayescale.laws.implicit import newton_root
from bayescale.laws.inputs import axis, metric
from bayescale.laws.references import ALABDULMOHSIN, CABALLERO
from bayescale.laws.registry import catalogued

_FIGURE_1 = dict(a=1e-3, b=4660.0, c0=0.05, c=[0.49, -0.811, 2.1], d=[3e6, 1e14, 2e20], f=[1.1, 1.425, 0.05])


def _broken(x, a, b, c0, c, d, f):
    return a + b * _reducible(x, c0, c, d, f)


def _reducible(x, c0, c, d, f):
    import jax.numpy as jnp

    # (1 + (x/d)**(1/f))**(-c f), through logarithms: a sharp break far away overflows a power.
    return x**-c0 * jnp.exp(-(c * f * jnp.logaddexp(0.0, jnp.log(x / d) / f)).sum())


def _coefficient(b_ref, c0, c, d, f, x0):
    return b_ref / _reducible(x0, c0, c, d, f)


def _level(b, c0, c, d, f, x0):
    return b * _reducible(x0, c0, c, d, f)


def _slope_at(x, c, d, f):
    """How much the breaks have changed the exponent at x: minus the slope of log-reducible is c0 and this."""
    import jax
    import jax.numpy as jnp

    return (c * jax.nn.sigmoid(jnp.log(x / d) / f)).sum()


def _before(c_ref, c, d, f, x0):
    return c_ref - _slope_at(x0, c, d, f)


def _exponent_at(c0, c, d, f, x0):
    return c0 + _slope_at(x0, c, d, f)


def _after(c0, c):
    import jax.numpy as jnp

    return c0 + jnp.cumsum(c)


def _position(log_d, x0):
    import jax.numpy as jnp

    return x0 * jnp.exp(log_d)


def _log_position(d, x0):
    import jax.numpy as jnp

    return jnp.log(d / x0)


@catalogued(tier=1, family="univariate")
def bnsl(x: str = "flops", y: str = "loss", breaks: int = 1) -> Law:
    """The broken neural scaling law of Caballero et al.: a power law with smooth breaks, in order along x."""
    predicted = metric(y)
    return Law(
        name="bnsl",
        title="Broken neural scaling law",
        equation=r"y = a + b\,x^{-c_0} \prod_i \left[1 + (x/d_i)^{1/f_i}\right]^{-c_i f_i}",
        mean=_broken,
        inputs=(axis(x),),
        parameters=(
            Parameter("a", predicted.floor, "floor", unit="response"),
            Parameter("b", None, "first power law's coefficient", unit="response"),
            Parameter("c0", None, "exponent before the first break", symbol="c_0"),
            Parameter("c", Normal(0.0, 1.0), "change of exponent at each break", dims=("break",)),
            Parameter("d", None, "where each break is", unit="as x", dims=("break",)),
            # Below .05 a break is a kink, which no design resolves and no sampler follows.
            Parameter("f", LogNormal(log(0.5), 0.7), "how gradual each break is", dims=("break",), above=0.05),
        ),
        sampled=(
            # Of the whole curve at x0 and not of the first power law, which a break below x0 leaves behind: what the
            # runs tell best then stands alone, wherever the break is.
            Parameter("b_ref", predicted.contribution, f"reducible {y} at x0", unit="response"),
            Parameter("c_ref", Normal(0.2, 0.3), "exponent at x0", symbol=r"c_\mathrm{ref}"),
            # The first break a few e-folds either side of the design's middle, earlier where others follow it.
            Parameter(
                "log_d",
                Normal(-1.5 * (breaks - 1), 3.0),
                "log of d over x0",
                dims=("break",),
                ordered=LogNormal(log(3.0), 0.7),
            ),
        ),
        natural={"d": _position, "c0": _before, "b": _coefficient},
        inverse={"log_d": _log_position, "c_ref": _exponent_at, "b_ref": _level},
        response=predicted.response,
        floor="a",
        derived={"slope": Derived(_after, "exponent after each break, once it is past", dims=("break",))},
        dims={"break": breaks},
        references=(CABALLERO,),
        validity="Curves with at least 8 points a break, dense on both sides of it.",
        relations=("power_law_offset without breaks", "m4 and sigmoid_compute are close to one break"),
        unidentified=("d, f and c of a break outside the observed range, so extrapolation past the last break",),
        decisions=("whether a curve that has stalled will turn", "which part of a curve may be extrapolated"),
        options={"x": x, "y": y, "breaks": breaks},
        checks=(
            Check("Figure 1 at 1e7", dict(_FIGURE_1, x=1e7), 987.643),
            Check("Figure 1 at 1e16", dict(_FIGURE_1, x=1e16), 0.698613),
        ),
    )


def _m4(x, e_inf, e0, a, b, c):
    """(ε - ε∞) / (ε0 - ε)^a = b x^-c, solved for the logit u of ε between ε∞ and ε0.

    With w = ε0 - ε∞ the equation is log σ(u) - a log σ(-u) = log b - c log x - (1 - a) log w, increasing in u, concave
    for a < 1 and convex above.
    """
    import jax
    import jax.numpy as jnp

    width = e0 - e_inf
    goal = jnp.log(b) - c * jnp.log(x) - (1 - a) * jnp.log(width)
    beyond = goal > (a - 1) * log(2)  # whether the root is above 0
    left = jnp.where(beyond, jnp.maximum((goal - a * log(2)) / jnp.maximum(a, 1e-300), 0.0), goal - a * log(2))
    right = jnp.where(beyond, (goal + log(2)) / jnp.maximum(a, 1e-300), jnp.minimum(goal + log(2), 0.0))
    start = jnp.where(a < 1, left, right)
    u = newton_root(lambda u: jax.nn.log_sigmoid(u) - a * jax.nn.log_sigmoid(-u) - goal, start)
    return e_inf + width * jax.nn.sigmoid(u)


@catalogued(tier=1, family="univariate")
def m4(x: str = "examples") -> Law:
    """The estimator M4 of Alabdulmohsin et al.: from the error of a random guess to a floor; an implicit formula."""
    return Law(
        name="m4",
        title="M4: from chance to a floor",
        equation=r"(\epsilon - \epsilon_\infty) / (\epsilon_0 - \epsilon)^a = b\,x^{-c}",
        mean=_m4,
        inputs=(axis(x),),
        parameters=(
            Parameter("e_inf", Beta(1.0, 4.0), "floor, as a share of e0", below="e0", symbol=r"\epsilon_\infty"),
            Parameter("e0", LogNormal(log(0.9), 0.3), "error of a random guess", symbol=r"\epsilon_0"),
            Parameter("a", HalfNormal(0.5), "how slowly a random guess is left"),
            Parameter("b", LogNormal(log(0.3), 1.0), "coefficient", at={"x": "c"}),
            Parameter("c", LogNormal(log(0.3), 0.6), "exponent"),
        ),
        response=Response("error", "1", meaning="error rate", noise_scale=0.03),
        references=(ALABDULMOHSIN,),
        validity="Error rates from near chance downwards; fix e0 where the task tells it (fix={'e0': 0.9}).",
        relations=("power_law_offset with a = 0", "power_law with a = 0 and e_inf = 0", "bnsl with one break, nearly"),
        unidentified=("a without points near chance", "e_inf without points near the floor"),
        decisions=("the scale at which a target error is met", "whether a task is still near chance"),
        options={"x": x},
        checks=(Check("the root", dict(e_inf=0.1, e0=1.0, a=0.5, b=10.0, c=0.5, x=1e4), 0.19),),
    )
