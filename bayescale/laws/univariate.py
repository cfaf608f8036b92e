"""Laws of one scale variable."""

from math import log

from bayescale.law import Check, Derived, Input, Law, LogNormal, Parameter
from bayescale.laws.inputs import CONTRIBUTION, EXPONENT, FLOORLESS_EXPONENT, LOSS, C, D, E, N
from bayescale.laws.references import DEY, HENIGHAN, HESTNESS, KAPLAN
from bayescale.laws.registry import catalogued

_AXES = {i.column: i for i in (N, D, C)}


def _axis(column: str) -> Input:
    """The scale variable of a one-variable law: any column, called x in the formula."""
    known = _AXES.get(column)
    unit, meaning, reference = (known.unit, known.meaning, known.reference) if known else ("1", column, None)
    return Input("x", unit, meaning, column, reference=reference)


@catalogued(tier=1, family="univariate")
def power_law(x: str = "flops") -> Law:
    """A pure power law: no floor, so its exponent is smaller than the one beside a floor."""
    return Law(
        name="power_law",
        title="Pure power law",
        equation=r"L(x) = b\,(x/x_0)^{-c}",
        mean=lambda x, x0, b, c: b * (x / x0) ** -c,
        inputs=(_axis(x),),
        parameters=(
            Parameter("b", LogNormal(log(2.5), 0.8), "loss at the reference x0", unit="response"),
            Parameter("c", FLOORLESS_EXPONENT, "exponent"),
        ),
        response=LOSS,
        derived={
            "doubling": Derived(lambda c: 2.0**-c, "factor on the loss when x doubles"),
        },
        references=(KAPLAN, HESTNESS),
        validity="Scales far above the floor; a floor that is there pulls c towards 0.",
        relations=("power_law_offset with E = 0",),
        options={"x": x},
        checks=(
            Check("Kaplan L(N = 1.5e9)", dict(b=1.0, x=1.5e9, x0=8.8e13, c=0.076), 2.30355),
            Check("Kaplan L(D = 2.3e10)", dict(b=1.0, x=2.3e10, x0=5.4e13, c=0.095), 2.09032),
            Check("Muon, loss at 10 PF-days", dict(b=2.506, x=10.0, x0=1.0, c=0.052), 2.22321),
            Check("CLIP on LAION, ImageNet error at 1e12 GMACs", dict(b=5.884, x=1e12, x0=1.0, c=0.111), 0.273951),
        ),
    )


@catalogued(tier=1, family="univariate")
def power_law_offset(x: str = "flops") -> Law:
    """A power law above a floor."""
    return Law(
        name="power_law_offset",
        title="Power law plus constant",
        equation=r"L(x) = E + a_\mathrm{ref}\,(x/x_0)^{-\alpha}",
        mean=lambda x, x0, E, a_ref, alpha: E + a_ref * (x / x0) ** -alpha,
        inputs=(_axis(x),),
        parameters=(
            E,
            Parameter("a_ref", CONTRIBUTION, "reducible loss at the reference x0", unit="response"),
            Parameter("alpha", EXPONENT, "exponent"),
        ),
        response=LOSS,
        floor="E",
        derived={
            "doubling": Derived(lambda alpha: 2.0**-alpha, "factor on the reducible loss when x doubles"),
        },
        references=(HENIGHAN, DEY, HESTNESS),
        validity="Runs that differ in x alone, or that follow one ray of the design.",
        relations=("chinchilla with N or D infinite", "additive_power with one axis", "power_law with E > 0"),
        unidentified=("E, a_ref and alpha trade off unless x spans two decades and the curve bends",),
        options={"x": x},
        checks=(
            Check("Cerebras-GPT at 2.3e22", dict(E=0.5066, a_ref=1.0, x=2.3e22, x0=5.984e22, alpha=0.0737), 1.57961),
            Check("Cerebras-GPT at 1e21", dict(E=0.5066, a_ref=1.0, x=1e21, x0=5.984e22, alpha=0.0737), 1.85856),
        ),
    )
