"""Laws of routed and sparse models."""

from math import log

from bayescale.law import Check, Choice, Decision, Derived, HalfNormal, Input, Law, LogNormal, Normal, Parameter
from bayescale.laws.inputs import CONTRIBUTION, EXPONENT, LOSS, D, E, N
from bayescale.laws.references import ABNAR, CLARK, FRANTAR
from bayescale.laws.registry import catalogued


def saturated_experts(E, Es, Em):
    """The effective number of experts, between E_start and E_max (Clark et al. 2022)."""
    return 1 / (1 / (E - 1 + 1 / (1 / Es - 1 / Em)) + 1 / Em)


def _routed(N, E, a, b, c, d, Es, Em):
    import jax.numpy as jnp

    n, e = jnp.log10(N), jnp.log10(saturated_experts(E, Es, Em))
    return 10 ** (a * n + b * e + c * n * e + d)


def _dense_worth(N, E, a, b, c, Es, Em):
    """The size at which one expert gives the loss of E experts at N: Clark et al.'s effective parameter count."""
    import jax.numpy as jnp

    n, e, one = jnp.log10(N), jnp.log10(saturated_experts(E, Es, Em)), jnp.log10(saturated_experts(1.0, Es, Em))
    return 10 ** ((n * (a + c * e) + b * (e - one)) / (a + c * one))


def _level(L_ref, a, N0):
    import jax.numpy as jnp

    return jnp.log10(L_ref) - a * jnp.log10(N0)


def _slope_at_zero(b_ref, c, N0):
    import jax.numpy as jnp

    return b_ref - c * jnp.log10(N0)


def _slope_at_middle(b, c, N0):
    import jax.numpy as jnp

    return b + c * jnp.log10(N0)


@catalogued(tier=2, family="architecture")
def clark_routed() -> Law:
    """Routed language models: bilinear in log size and log of the effective number of experts (Clark et al.).

    `allocate` finds the number of experts at a size, and the dense model that they make it worth: the law counts no
    cost of experts, so below the cut-off it is as many as the table's runs have.
    """
    router = dict(a=-0.082, b=-0.108, c=0.009, d=1.104, Es=1.847, Em=314.478)
    return Law(
        name="clark_routed",
        title="Unified law of routed models",
        equation=r"\log_{10} L = a \log_{10} N + b \log_{10} \hat E + c \log_{10} N \log_{10} \hat E + d, "
        r"1/\hat E = 1/\left[E - 1 + (1/E_s - 1/E_m)^{-1}\right] + 1/E_m",
        mean=_routed,
        inputs=(N, Input("E", "experts", "number of experts", "experts", reference=16.0, centre="none")),
        parameters=(
            Parameter("a", None, "slope in log size of a dense model, negative"),
            Parameter("b", None, "slope in log experts at N = 1"),
            Parameter("c", Normal(0.0, 0.02), "how the gain of routing fades with size, where positive"),
            Parameter("d", None, "log10 of the loss at N = 1 and one effective expert"),
            Parameter("Es", LogNormal(0.0, 0.7), "effective experts of a dense model", above=1.0, symbol="E_s"),
            Parameter("Em", LogNormal(log(300.0), 0.7), "most effective experts", above="Es", symbol="E_m"),
        ),
        # Slopes and level where the sizes are: at N = 1 they are 20 decades of correlation away.
        sampled=(
            Parameter("a_size", LogNormal(log(0.08), 0.4), "minus a"),
            Parameter("b_ref", Normal(-0.03, 0.03), "slope in log experts at N0"),
            Parameter("L_ref", LogNormal(log(2.5), 0.5), "loss at N0 and one effective expert", unit="response"),
        ),
        natural={"a": lambda a_size: -a_size, "b": _slope_at_zero, "d": _level},
        inverse={
            "a_size": lambda a: -a,
            "b_ref": _slope_at_middle,
            "L_ref": lambda d, a, N0: 10 ** (d + _log10(N0) * a),
        },
        response=LOSS,
        derived={
            "log10_cutoff": Derived(lambda b, c: -b / c, "log10 of the size at which routing stops helping"),
        },
        references=(CLARK,),
        validity="Models of one router trained on one budget of tokens (130e9 in the paper); N of the dense part.",
        relations=("power_law in size with one expert",),
        unidentified=("E_m without more than about 100 experts", "b against c when sizes span less than a decade"),
        decisions=("how many experts to train at a size", "the dense model that a routed one is worth"),
        decides=Decision(
            (Choice("E"),),
            shows={"dense_worth": Derived(_dense_worth, "size of the dense model of that loss", "parameters")},
        ),
        checks=(
            Check("S-BASE, N = 130e6, 64 experts", dict(router, N=1.3e8, E=64.0), 2.38854),
            Check("its dense equivalent", dict(router, N=1.3e8, E=1.0), 2.68743),
            Check("its cut-off, by rounded b and c", dict(b=-0.108, c=0.009), 12.0, of="log10_cutoff"),
        ),
    )


def _log10(x):
    import jax.numpy as jnp

    return jnp.log10(x)


_SPARSITY = Input(
    "S", "1", "share of the experts or weights that is left out", "sparsity", reference=0.5, centre="none"
)


@catalogued(tier=2, family="architecture")
def abnar_moe_sparsity() -> Law:
    """Mixtures of experts by their total size, data and sparsity (Abnar et al.).

    `allocate` finds sparsity, total size and data of a budget that counts the active parameters, C = 6 N (1 - S) D: the
    sparsity within that of the table's runs.
    """
    paper = dict(e=0.94, a=16612.5, alpha=0.5962, b=5455.67, beta=0.3954, c=0.4598, lam=-0.1666, d=17.26, delta=0.1603)
    return Law(
        name="abnar_moe_sparsity",
        title="MoE sparsity law",
        equation=r"L = e + a N^{-\alpha} + b D^{-\beta} + c (1 - S)^{-\lambda} + d (1 - S)^{-\delta} N^{-\gamma}",
        mean=lambda N, D, S, e, a, alpha, b, beta, c, lam, d, delta, gamma: (
            e + a * N**-alpha + b * D**-beta + c * (1 - S) ** -lam + d * (1 - S) ** -delta * N**-gamma
        ),
        inputs=(N, D, _SPARSITY),
        parameters=(
            Parameter("e", E.prior, "floor", unit="response"),
            Parameter("a", CONTRIBUTION, "size coefficient", unit="response", at={"N": "alpha"}),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("b", CONTRIBUTION, "data coefficient", unit="response", at={"D": "beta"}),
            Parameter("beta", EXPONENT, "data exponent"),
            Parameter("c", HalfNormal(1.0), "coefficient of sparsity", unit="response"),
            Parameter("lam", Normal(0.0, 0.3), "exponent of sparsity; its sign is the data's", symbol=r"\lambda"),
            Parameter("d", CONTRIBUTION, "coefficient of sparsity and size", unit="response", at={"N": "gamma"}),
            Parameter("delta", Normal(0.0, 0.3), "exponent of sparsity beside size"),
            Parameter("gamma", LogNormal(log(0.2), 0.5), "exponent of size beside sparsity"),
        ),
        response=LOSS,
        floor="e",
        references=(ABNAR,),
        validity="Mixtures of experts of one design; S = (experts - active) / experts, below 1.",
        relations=("chinchilla with a second term in size at S = 0",),
        unidentified=("c against e where sparsities are few: c (1 - S)^-lambda is nearly a constant for small lambda",),
        decisions=("the sparsity and total size at a budget",),
        decides=Decision((Choice("S", scale="linear"),), splits=True, active=lambda S: 1 - S),
        checks=(
            Check(
                "N = 18.8e9, D = 110.2e9, S = .98", dict(paper, gamma=0.1595, N=1.88e10, D=1.102e11, S=0.98), 2.16934
            ),
            Check("N = 1e9, D = 2e10, dense", dict(paper, gamma=0.1595, N=1e9, D=2e10, S=0.0), 2.56568),
        ),
    )


@catalogued(tier=2, family="architecture")
def frantar_sparsity() -> Law:
    """Weight-sparse models by their non-zero parameters, sparsity and data (Frantar et al.)."""
    t5 = dict(aS=16.8, bS=0.722, cS=45.0, bN=0.245)
    # The notebook's 1.30485411, 2.07506343 and .27818217 are of millions of parameters and billions of images.
    vit = dict(aS=1.30485411 * 1e6**0.39222675, bS=0.82101251, cS=2.07506343 * 1e6**0.39222675, bN=0.39222675)
    vit |= dict(aD=1e9 * 0.27818217 ** (1 / 0.88979104), bD=0.88979104, c=4.51669257)
    return Law(
        name="frantar_sparsity",
        title="Weight sparsity law",
        equation=r"L = \left[a_S (1 - S)^{b_S} + c_S\right] N^{-b_N} + (a_D/D)^{b_D} + c",
        mean=lambda N, D, S, aS, bS, cS, bN, aD, bD, c: (aS * (1 - S) ** bS + cS) * N**-bN + (aD / D) ** bD + c,
        inputs=(N, D, _SPARSITY),
        parameters=(
            Parameter("aS", None, "size coefficient that sparsity lowers", unit="response", symbol="a_S"),
            Parameter("bS", LogNormal(log(0.7), 0.4), "exponent of density", symbol="b_S"),
            Parameter("cS", CONTRIBUTION, "size coefficient of the sparsest", "response", "c_S", at={"N": "bN"}),
            Parameter("bN", EXPONENT, "size exponent", symbol="b_N"),
            Parameter("aD", None, "data scale", unit="tokens", symbol="a_D"),
            Parameter("bD", EXPONENT, "data exponent", symbol="b_D"),
            Parameter("c", E.prior, "floor", unit="response"),
        ),
        sampled=(
            Parameter("ratio", LogNormal(log(0.5), 0.8), "a_S over c_S: .37 for T5, .63 for ViT"),
            Parameter("aD_ref", CONTRIBUTION, "data term at D0", unit="response"),
        ),
        natural={
            "aS": lambda ratio, cS: ratio * cS,
            "aD": lambda aD_ref, bD, D0: D0 * aD_ref ** (1 / bD),
        },
        inverse={
            "ratio": lambda aS, cS: aS / cS,
            "aD_ref": lambda aD, bD, D0: (aD / D0) ** bD,
        },
        response=LOSS,
        floor="c",
        derived={
            "worth": Derived(
                lambda aS, bS, cS, bN: ((aS * 0.25**bS + cS) / (aS + cS)) ** (-1 / bN),
                "dense size that non-zero parameters are worth at S = .75",
            ),
        },
        references=(FRANTAR,),
        validity="Models pruned during training, to one pattern of sparsity; N counts non-zero parameters.",
        relations=("chinchilla at one sparsity",),
        unidentified=("a_S over c_S without sparsities at one size",),
        decisions=("the sparsity to train at for a size and budget", "the dense model that a sparse one is worth"),
        unverified="Both sets of constants are the released code's (jaxpruner, bigsparse): ViT's are what its notebook "
        "prints, T5's its defaults. The paper's own table was not at hand.",
        checks=(
            Check(
                "T5, S = .75, N = 1e8, D = 1e11", dict(t5, aD=6.9e8, bD=0.203, c=0.651, S=0.75, N=1e8, D=1e11), 1.57628
            ),
            Check("T5, worth of non-zero parameters at S = .75", t5, 2.15982, of="worth"),
            Check("ViT on JFT-4B, S = .75, N = 1e7, 9e8 images", dict(vit, S=0.75, N=1e7, D=9e8), 5.83268),
        ),
    )
