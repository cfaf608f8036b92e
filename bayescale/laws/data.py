"""Laws of repeated, filtered and mixed data."""

from math import log

from bayescale.law import Check, Derived, Law, LogNormal, Parameter
from bayescale.laws.inputs import CONTRIBUTION, EXPONENT, LOSS, D, E, N, U
from bayescale.laws.references import MUENNIGHOFF
from bayescale.laws.registry import catalogued

_MUENNIGHOFF = dict(E=1.87, A=521.0, B=1488.0, alpha=0.3527, RNs=5.31, RDs=15.39)


def _data_constrained(N, D, U, E, A, B, alpha, RNs, RDs):
    """Effective parameters and tokens; both are differentiable where an excess begins, so nothing needs smoothing."""
    import jax.numpy as jnp

    UN = jnp.minimum(N, (A / B) ** (1 / alpha) * U)
    UD = jnp.minimum(D, U)
    effective_N = UN + UN * RNs * (1 - jnp.exp(-(N / UN - 1) / RNs))
    effective_D = UD + UD * RDs * (1 - jnp.exp(-(D / UD - 1) / RDs))
    return E + A * effective_N**-alpha + B * effective_D**-alpha


@catalogued(tier=1, family="data")
def data_constrained() -> Law:
    """The data-constrained law of Muennighoff et al.: repeated tokens and excess parameters are worth less."""
    return Law(
        name="data_constrained",
        title="Data-constrained law",
        equation=(
            r"L = E + A\,[U_N + U_N R_N^*(1 - e^{-R_N/R_N^*})]^{-\alpha}"
            r" + B\,[U_D + U_D R_D^*(1 - e^{-R_D/R_D^*})]^{-\alpha}"
        ),
        mean=_data_constrained,
        inputs=(N, D, U),
        parameters=(
            E,
            Parameter("A", CONTRIBUTION, "size coefficient", unit="response", at={"N": "alpha"}),
            Parameter("B", CONTRIBUTION, "data coefficient", unit="response", at={"D": "alpha"}),
            Parameter("alpha", EXPONENT, "exponent of size and data"),
            Parameter("RNs", LogNormal(log(5), 0.7), "scale of the decay of excess parameters", symbol="R_N^*"),
            Parameter("RDs", LogNormal(log(15), 0.7), "scale of the decay of repeated tokens", symbol="R_D^*"),
        ),
        response=LOSS,
        floor="E",
        derived={
            "half_life": Derived(lambda RDs: RDs * log(2), "repeats after which a token is worth half", "epochs"),
            "tokens_per_param_unique": Derived(
                lambda A, B, alpha: (B / A) ** (1 / alpha), "compute-optimal D/N without repeats", "tokens/parameter"
            ),
        },
        references=(MUENNIGHOFF,),
        validity="Runs with a known number of distinct tokens; losses that still fall with more epochs.",
        relations=("chinchilla with alpha = beta when U >= D and N <= N_opt(U)",),
        unidentified=(
            "RDs without runs of more than about 8 epochs",
            "RNs without models far above the compute-optimal size for U",
        ),
        checks=(
            # The paper rounds U_N to .051 U; here it follows from A, B and alpha (.05102), hence the tolerance.
            Check(
                "8 epochs: N = 2.8e9, D = 8e10, U = 1e10",
                dict(_MUENNIGHOFF, N=2.8e9, D=8e10, U=1e10),
                2.36748,
                tolerance=1e-4,
            ),
            Check("the same D, all distinct", dict(_MUENNIGHOFF, N=2.8e9, D=8e10, U=8e10), 2.32493),
        ),
    )
