"""Laws of repeated sampling at inference."""

from math import log

import numpy as np

from bayescale.law import Beta, Check, Decision, Derived, Input, Law, LogNormal, Parameter, Response
from bayescale.laws.counts import beta_binomial, betaln
from bayescale.laws.references import BROWN, LEVI, SCHAEFFER_MONKEYS
from bayescale.laws.registry import catalogued

_SAMPLES = "Coverage only rises with samples: ask, by `reach`, for the k that a target coverage needs."


def _pass_at_k(k, al, be, pi):
    import jax.numpy as jnp

    return (1 - pi) * (1 - jnp.exp(betaln(al, be + k) - betaln(al, be)))


def _successes(successes, k, al, be, pi):
    import jax.numpy as jnp

    some = jnp.log1p(-pi) + beta_binomial(successes, k, al, be)
    return jnp.where(successes > 0, some, jnp.logaddexp(jnp.log(pi), some))


def _draw_successes(rng, k, al, be, pi):
    shape = np.broadcast_shapes(np.shape(al), np.shape(k))
    p, solvable = rng.beta(al, be, shape), rng.random(shape) >= pi
    return rng.binomial(np.rint(k).astype(int), p * solvable).astype(float)


@catalogued(tier=1, family="test-time")
def beta_binomial_passk() -> Law:
    """pass@k from the successes of single problems, whose pass rates are beta-distributed; some are never solved."""
    return Law(
        name="beta_binomial_passk",
        title="Beta-binomial pass@k",
        equation=r"\mathrm{pass@}k = (1 - \pi)\left[1 - B(\alpha, \beta + k) / B(\alpha, \beta)\right]",
        mean=_pass_at_k,
        inputs=(Input("k", "samples", "samples drawn for the problem", "samples", reference=100.0),),
        parameters=(
            Parameter("al", LogNormal(log(0.4), 0.8), "exponent of failures in k", symbol=r"\alpha"),
            Parameter("be", LogNormal(log(2.0), 1.0), "weight of failures", symbol=r"\beta"),
            Parameter("pi", Beta(1.0, 9.0), "share of problems that are never solved", symbol=r"\pi"),
        ),
        response=Response("successes", "samples", support="count", meaning="samples that pass"),
        likelihood=_successes,
        sampler=_draw_successes,
        derived={
            "pass_1": Derived(lambda al, be, pi: (1 - pi) * al / (al + be), "pass@1"),
            "ceiling": Derived(lambda pi: 1 - pi, "coverage at unlimited samples"),
        },
        references=(LEVI, SCHAEFFER_MONKEYS, BROWN),
        validity="One row a problem, with independent samples of one model.",
        relations=("large_monkeys for the tail: -log pass@k falls as k^-alpha",),
        unidentified=("pi against a small alpha without very many samples",),
        decisions=("how many samples a target coverage needs", "a small model sampled often or a large one once"),
        decides=Decision(instead=_SAMPLES),
        checks=tuple(
            Check(f"pass@{k}", dict(al=0.4, be=2.0, pi=0.0, k=float(k)), value)
            for k, value in ((1, 0.166667), (100, 0.804453), (10000, 0.9688))
        ),
    )


@catalogued(tier=2, family="test-time")
def large_monkeys() -> Law:
    """Coverage as an exponentiated power law of the samples (Brown et al.)."""

    def mean(k, a, b):
        import jax.numpy as jnp

        return jnp.exp(a * k**b)

    return Law(
        name="large_monkeys",
        title="Coverage of repeated samples",
        equation=r"c(k) = \exp(a\,k^b)",
        mean=mean,
        inputs=(Input("k", "samples", "samples drawn for each problem", "samples", reference=100.0),),
        parameters=(
            Parameter("a", None, "log of the coverage of one sample"),
            Parameter("b", None, "exponent, negative"),
        ),
        sampled=(
            Parameter("first", LogNormal(log(2.0), 1.0), "minus a"),
            Parameter("fall", LogNormal(log(0.4), 0.5), "minus b"),
        ),
        natural={"a": lambda first: -first, "b": lambda fall: -fall},
        inverse={"first": lambda a: -a, "fall": lambda b: -b},
        response=Response("coverage", "1", support="unit", meaning="share of problems solved", noise_scale=0.05),
        references=(BROWN,),
        validity="Coverage of one model on one benchmark. Coverages at several k come from the same samples, so they "
        "move together: beta_binomial_passk on the counts has no such fault.",
        relations=("beta_binomial_passk behind it", "power_law of -log c"),
        unidentified=("whether coverage reaches 1, which the form assumes",),
        decisions=("how many samples a target coverage needs",),
        decides=Decision(instead=_SAMPLES),
        checks=(
            Check("a = -1.84, b = -.2 at k = 1", dict(a=-1.84, k=1.0, b=-0.2), 0.158817),
            Check("the same at k = 250", dict(a=-1.84, k=250.0, b=-0.2), 0.543427),
        ),
    )
