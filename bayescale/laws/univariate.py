"""Laws of one scale variable."""

from math import log

from bayescale.errors import LawError, nearest
from bayescale.law import Check, Derived, HalfNormal, Law, LogNormal, Normal, Parameter, Response
from bayescale.laws.inputs import EXPONENT, FLOORLESS_EXPONENT, LOSS, C, E, axis, metric
from bayescale.laws.references import (
    ALABDULMOHSIN,
    DEY,
    GUO,
    HENDRYCKS,
    HENIGHAN,
    HESTNESS,
    JONES,
    KAPLAN,
    LIU,
    NEZHURINA,
    SHAO,
    STANIC,
    VIERING,
)
from bayescale.laws.registry import catalogued


@catalogued(tier=1, family="univariate")
def power_law(x: str = "flops", y: str = "loss") -> Law:
    """A pure power law of a loss or error: no floor, so its exponent is smaller than the one beside a floor."""
    predicted = metric(y)
    return Law(
        name="power_law",
        title="Pure power law",
        equation=r"L(x) = b\,(x/x_0)^{-c}",
        mean=lambda x, x0, b, c: b * (x / x0) ** -c,
        inputs=(axis(x),),
        parameters=(
            Parameter("b", predicted.level, f"{y} at the reference x0", unit="response"),
            Parameter("c", FLOORLESS_EXPONENT, "exponent"),
        ),
        response=predicted.response,
        derived={
            "doubling": Derived(lambda c: 2.0**-c, "factor on the loss when x doubles"),
        },
        references=(KAPLAN, HESTNESS, LIU),
        validity="Scales far above the floor; a floor that is there pulls c towards 0.",
        relations=("power_law_offset with E = 0", "kaplan_nd when N or D is unlimited", "bnsl without breaks or floor"),
        unidentified=("b and c trade off when x0 is far outside the design",),
        decisions=("the scale at which a target is met", "the compute that another recipe needs for the same loss"),
        options={"x": x, "y": y},
        checks=(
            Check("Kaplan L(N = 1.5e9)", dict(b=1.0, x=1.5e9, x0=8.8e13, c=0.076), 2.30355),
            Check("Kaplan L(D = 2.3e10)", dict(b=1.0, x=2.3e10, x0=5.4e13, c=0.095), 2.09032),
            Check("Muon, loss at 10 PF-days", dict(b=2.506, x=10.0, x0=1.0, c=0.052), 2.22321),
            Check("CLIP on LAION, ImageNet error at 1e12 GMACs", dict(b=5.884, x=1e12, x0=1.0, c=0.111), 0.273951),
        ),
    )


@catalogued(tier=1, family="univariate")
def power_law_offset(x: str = "flops", y: str = "loss") -> Law:
    """A power law of a loss or error above a floor."""
    predicted = metric(y)
    return Law(
        name="power_law_offset",
        title="Power law plus constant",
        equation=r"L(x) = E + a_\mathrm{ref}\,(x/x_0)^{-\alpha}",
        mean=lambda x, x0, E, a_ref, alpha: E + a_ref * (x / x0) ** -alpha,
        inputs=(axis(x),),
        parameters=(
            Parameter("E", predicted.floor, f"floor: the {y} at unlimited x", unit="response"),
            Parameter("a_ref", predicted.contribution, f"reducible {y} at the reference x0", unit="response"),
            Parameter("alpha", EXPONENT, "exponent"),
        ),
        response=predicted.response,
        floor="E",
        derived={
            "doubling": Derived(lambda alpha: 2.0**-alpha, "factor on the reducible loss when x doubles"),
        },
        references=(HENIGHAN, DEY, HESTNESS),
        validity="Runs that differ in x alone, or that follow one ray of the design.",
        relations=("chinchilla with N or D infinite", "additive_power with one axis", "power_law with E > 0"),
        unidentified=("E, a_ref and alpha trade off unless x spans two decades and the curve bends",),
        decisions=("the scale at which a target is met", "what is left to gain above the floor"),
        options={"x": x, "y": y},
        checks=(
            Check("Cerebras-GPT at 2.3e22", dict(E=0.5066, a_ref=1.0, x=2.3e22, x0=5.984e22, alpha=0.0737), 1.57961),
            Check("Cerebras-GPT at 1e21", dict(E=0.5066, a_ref=1.0, x=1e21, x0=5.984e22, alpha=0.0737), 1.85856),
        ),
    )


@catalogued(tier=2, family="univariate")
def pow4(x: str = "examples", y: str = "error") -> Law:
    """A power law above a floor in a shifted scale: learning curves whose start is flat."""
    predicted = metric(y)
    return Law(
        name="pow4",
        title="Shifted power law plus constant",
        equation=r"L(x) = E + a\,(x + d)^{-\alpha}",
        mean=lambda x, E, a, d, alpha: E + a * (x + d) ** -alpha,
        inputs=(axis(x),),
        parameters=(
            Parameter("E", predicted.floor, f"floor of the {y}", unit="response"),
            Parameter("a", None, "coefficient", unit="response"),
            Parameter("d", None, "shift, in units of x", unit="as x"),
            Parameter("alpha", EXPONENT, "exponent"),
        ),
        sampled=(
            Parameter("a_ref", predicted.contribution, f"reducible {y} at x0", unit="response"),
            Parameter("shift", HalfNormal(0.3), "shift d as a share of x0"),
        ),
        natural={
            "d": lambda shift, x0: shift * x0,
            "a": lambda a_ref, d, alpha, x0: a_ref * (x0 + d) ** alpha,
        },
        inverse={
            "shift": lambda d, x0: d / x0,
            "a_ref": lambda a, d, alpha, x0: a * (x0 + d) ** -alpha,
        },
        response=predicted.response,
        floor="E",
        references=(VIERING, NEZHURINA),
        validity="Learning curves that start flat; 8 points or more, some of them near the smallest x.",
        relations=("power_law_offset with d = 0", "loss_to_loss is its composition of two curves"),
        unidentified=("d and alpha trade off unless some x lie near d",),
        decisions=("the scale at which a target is met", "whether the first points may be used at all"),
        options={"x": x, "y": y},
        checks=(Check("E = .1, a = 5, d = 50 at x = 1000", dict(E=0.1, a=5.0, x=1e3, d=50.0, alpha=0.5), 0.254303),),
    )


@catalogued(tier=2, family="univariate")
def m3_shifted(x: str = "examples", y: str = "error") -> Law:
    """A power law that saturates in 1/x: the estimator M3 of Alabdulmohsin et al."""
    predicted = metric(y)
    at = dict(b=10.0, g=1e-9, c=0.3)
    return Law(
        name="m3_shifted",
        title="M3: power law that saturates",
        equation=r"\epsilon(x) = \beta\,(x^{-1} + \gamma)^c",
        mean=lambda x, b, g, c: b * (1 / x + g) ** c,
        inputs=(axis(x),),
        parameters=(
            Parameter("b", None, "coefficient", unit="response", symbol=r"\beta"),
            Parameter("g", None, "inverse of the scale at which the curve saturates", symbol=r"\gamma"),
            Parameter("c", FLOORLESS_EXPONENT, "exponent before saturation"),
        ),
        sampled=(
            Parameter("b_ref", predicted.level, f"{y} at x0", unit="response"),
            # Saturation should be allowed within the design and far beyond it: median 30 x0, six decades either way.
            Parameter("saturation", LogNormal(log(30.0), 3.0), "scale of saturation 1/g over x0"),
        ),
        natural={
            "g": lambda saturation, x0: 1 / (saturation * x0),
            "b": lambda b_ref, g, c, x0: b_ref * (1 / x0 + g) ** -c,
        },
        inverse={
            "saturation": lambda g, x0: 1 / (g * x0),
            "b_ref": lambda b, g, c, x0: b * (1 / x0 + g) ** c,
        },
        response=predicted.response,
        derived={"floor": Derived(lambda b, g, c: b * g**c, "what is left at unlimited x", "as the response")},
        references=(ALABDULMOHSIN,),
        validity="Excess errors or losses of which the floor, if any, is reached by saturation.",
        relations=("power_law with g = 0",),
        unidentified=("g is bounded from above only where no saturation is visible",),
        decisions=("up to which scale more data help",),
        options={"x": x, "y": y},
        checks=(
            Check("b = 10, g = 1e-9, c = .3 at 1e6", dict(at, x=1e6), 0.158537),
            Check("the same at 1e12: saturated", dict(at, x=1e12), 0.0199586),
        ),
    )


#: Metrics that a straight line in log scale is used for: response, priors of its level and of its gain a decade.
_LINEAR_METRICS = {
    "accuracy": (
        Response("accuracy", "1", support="real", meaning="share answered", noise_scale=0.02),
        Normal(0.4, 0.25),
        Normal(0.0, 0.15),
    ),
    "elo": (
        Response("elo", "Elo", support="real", meaning="Elo rating", noise_scale=30.0),
        Normal(0.0, 1000.0),
        Normal(0.0, 500.0),
    ),
    "loss": (
        Response("loss", "nats/token", support="real", meaning="held-out loss", noise_scale=0.02),
        Normal(2.5, 1.5),
        Normal(0.0, 0.4),
    ),
}


@catalogued(tier=1, family="univariate")
def log_linear(x: str = "flops", y: str = "accuracy") -> Law:
    """A metric that is a straight line in the logarithm of a scale."""
    if y not in _LINEAR_METRICS:
        raise LawError(f"no metric {y!r}", code="BS-L002", remedy=nearest(y, [*_LINEAR_METRICS]))
    response, level, gain = _LINEAR_METRICS[y]

    def mean(x, x0, m, s):
        import jax.numpy as jnp

        return m + s * jnp.log10(x / x0)

    return Law(
        name="log_linear",
        title="Metric linear in log scale",
        equation=r"y(x) = m + s \log_{10}(x/x_0)",
        mean=mean,
        inputs=(axis(x),),
        parameters=(
            Parameter("m", level, f"{y} at the reference x0", unit="response"),
            Parameter("s", gain, f"gain of {y} a decade of x", unit="response"),
        ),
        response=response,
        derived={"doubling": Derived(lambda s: s * log(2) / log(10), "gain when x doubles", "as the response")},
        references=(SHAO, HENDRYCKS, JONES),
        validity="The middle of a metric's range: a straight line leaves the bounds of a share sooner or later.",
        relations=("sigmoid_compute to first order", "rl_sigmoid to first order", "compute_only in e-folds"),
        unidentified=("whether the line bends near the bounds of the metric, which two parameters cannot say",),
        decisions=("the gain that ten times the scale would buy", "the scale at which a target is met"),
        unverified="The form is quoted in the papers' abstracts and figures; their coefficients were not checked.",
        options={"x": x, "y": y},
        checks=(Check("m = .3, s = .05, two decades above", dict(m=0.3, s=0.05, x=1e23, x0=1e21), 0.4),),
    )


@catalogued(tier=2, family="univariate")
def compute_only() -> Law:
    """Loss a character as a straight line in log compute, whatever the split between size and data."""

    def mean(C, C0, m, s):
        import jax.numpy as jnp

        return m + s * jnp.log(C / C0)

    return Law(
        name="compute_only",
        title="Compute-only law",
        equation=r"\mathrm{BPC}(C) = m + s \ln(C/C_0)",
        mean=mean,
        inputs=(C,),
        parameters=(
            Parameter("m", Normal(0.7, 0.3), "bits a byte at the reference C0", unit="response"),
            Parameter("s", Normal(0.0, 0.1), "change an e-fold of compute, negative", unit="response"),
        ),
        response=Response("loss", "bits/byte", support="real", meaning="compression, bits a character"),
        derived={"doubling": Derived(lambda s: s * log(2), "change when compute doubles", "as the response")},
        references=(GUO,),
        validity="Public models compared by compression over two or three decades of compute.",
        relations=("log_linear in e-folds of compute", "chinchilla in logs when size and data have one coefficient"),
        unidentified=("whether size and data matter apart, which the law denies",),
        decisions=("whether the split between size and data matters at the compute at hand",),
        unverified="Only the abstract was at hand, which states the form and not the slope; no code or table with it "
        "was found.",
        checks=(Check("m = .6, s = -.03 at 10 C0", dict(m=0.6, s=-0.03, C=10.0, C0=1.0), 0.530922),),
    )


def _multiplied(C, C0, E, a_ref, alpha, logm, dalpha):
    import jax.numpy as jnp

    return E + a_ref * (jnp.exp(logm) * C / C0) ** -(alpha + dalpha)


def _crossover(alpha, logm, dalpha):
    """log10 of C*/C0 where (m C*/C0)^(alpha + dalpha) = (C*/C0)^alpha; 0 for the method compared with."""
    import jax.numpy as jnp

    other = dalpha != 0
    return jnp.where(other, -(alpha + dalpha) * logm / jnp.where(other, dalpha, 1.0), 0.0) / log(10)


@catalogued(tier=1, family="univariate")
def efficiency_multiplier(over: str = "method") -> Law:
    """Methods that share a curve in compute up to a compute multiplier and a small change of exponent."""
    return Law(
        name="efficiency_multiplier",
        title="Compute multiplier of methods",
        equation=r"L_g(C) = E + a_\mathrm{ref}\,(m_g\,C/C_0)^{-(\alpha + \Delta\alpha_g)}",
        mean=_multiplied,
        inputs=(C,),
        parameters=(
            E,
            Parameter(
                "a_ref", metric("loss").contribution, "reducible loss at C0 of the first method", unit="response"
            ),
            Parameter("alpha", EXPONENT, "exponent of the first method"),
            Parameter("logm", None, "log of the compute multiplier", over=over, symbol=r"\log m"),
            Parameter("dalpha", None, "change of the exponent", over=over, symbol=r"\Delta\alpha"),
        ),
        # Differences from the first method in alphabetical order: its own are zero. Multipliers lie within 1/4 to 4.
        sampled=(
            Parameter("efficiency", Normal(0.0, 0.5), "logm before that of the first method is out", over=over),
            Parameter("bend", Normal(0.0, 0.014), "dalpha before that of the first method is out", over=over),
        ),
        natural={
            "logm": lambda efficiency: efficiency - efficiency[:1],
            "dalpha": lambda bend: bend - bend[:1],
        },
        inverse={"efficiency": lambda logm: logm, "bend": lambda dalpha: dalpha},
        response=LOSS,
        floor="E",
        derived={
            "multiplier": Derived(_exp, "compute multiplier at C0 against the first method", over=over),
            "crossover": Derived(
                _crossover, "log10 of C*/C0 where the curve meets that of the first method", over=over
            ),
        },
        references=(LIU, STANIC, HESTNESS),
        validity="Methods tuned alike and run over a common range of compute.",
        relations=("power_law_offset by method", "power_law by method with E = 0"),
        unidentified=(
            "logm and dalpha of a method seen over less than a decade of compute",
            "a constant added to every efficiency or bend: only differences from the first method enter the loss",
        ),
        decisions=("which method to scale up", "the compute at which the better method changes"),
        unverified="The published numbers are of single pairs of curves; the joint form is bayescale's.",
        options={"over": over},
        checks=(
            Check(
                "Muon at 10 PF-days by its multiplier over AdamW",
                dict(E=0.0, a_ref=2.608, alpha=0.054, dalpha=-0.002, logm=log(2.608 / 2.506) / 0.052, C=10.0, C0=1.0),
                2.22321,
            ),
        ),
    )


def _exp(logm):
    import jax.numpy as jnp

    return jnp.exp(logm)
