"""Laws of repeated, filtered and mixed data."""

from math import log

from bayescale.law import Check, Choice, Decision, Derived, HalfNormal, Input, Law, LogNormal, Normal, Parameter
from bayescale.laws.inputs import CONTRIBUTION, EXPONENT, FLOOR, LOSS, D, E, N, U
from bayescale.laws.references import LIN, MUENNIGHOFF, QUE, YE
from bayescale.laws.registry import catalogued

_MUENNIGHOFF = dict(E=1.87, A=521.0, B=1488.0, alpha=0.3527, RNs=5.31, RDs=15.39)


def effective(x, unique, scale):
    """What x is worth when `unique` of it is distinct; differentiable where the excess begins, so nothing needs
    smoothing."""
    import jax.numpy as jnp

    unique = jnp.minimum(x, unique)
    return unique + unique * scale * (1 - jnp.exp(-(x / unique - 1) / scale))


def _data_constrained(N, D, U, E, A, B, alpha, RNs, RDs):
    UN = (A / B) ** (1 / alpha) * U
    return E + A * effective(N, UN, RNs) ** -alpha + B * effective(D, U, RDs) ** -alpha


@catalogued(tier=1, family="data")
def data_constrained() -> Law:
    """The data-constrained law of Muennighoff et al.: repeated tokens and excess parameters are worth less.

    `allocate` splits a budget between size and data for U distinct tokens, and tells the epochs.
    """
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
        decisions=("how many epochs to train for", "whether to spend compute on repeats or on a larger model"),
        decides=Decision(shows={"epochs": Derived(lambda D, U: D / U, "passes over the distinct tokens", "epochs")}),
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


def _mixed(r, c, k, t):
    import jax.numpy as jnp

    return c + k * jnp.exp(t @ r)


def _from_middle(k_ref, t, r0):
    import jax.numpy as jnp

    return k_ref * jnp.exp(-t @ r0)


def _at_middle(k, t, r0):
    import jax.numpy as jnp

    return k * jnp.exp(t @ r0)


@catalogued(tier=1, family="data")
def data_mixing(shares: str = "w_*", over: str = "") -> Law:
    """The loss on one domain from the shares of the training domains (Ye et al.).

    With `over`, a column of validation domains (one row a run and domain), each has parameters of its own. `allocate`
    finds the mixture of the least loss, or of the least weighted mean over the levels of `over`: every share within
    that of the table's runs, since a mixture that no run came near is what the exponential says of it.
    """
    levels = over or None
    return Law(
        name="data_mixing",
        title="Data mixing law",
        equation=r"L(r) = c + k \exp\left(\sum_j t_j r_j\right)",
        mean=_mixed,
        inputs=(
            Input(
                "r", "1", "shares of the training domains", shares, dims=("domain",), simplex=True, centre="difference"
            ),
        ),
        parameters=(
            Parameter("c", FLOOR, "floor of the domain's loss", unit="response", over=levels),
            Parameter("k", None, "excess at t r = 0", unit="response", over=levels),
            Parameter(
                "t", None, "how each domain helps (negative) or hurts, summing to zero", dims=("domain",), over=levels
            ),
        ),
        sampled=(
            Parameter("k_ref", CONTRIBUTION, "excess at the middle mixture", unit="response", over=levels),
            # Shares run from 0 to 1, so t is a log-ratio of excesses between pure mixtures: -3 to 1 in the paper, below
            # that for a domain's own share among many.
            Parameter("tilt", Normal(0.0, 2.5), "t before its mean is taken out", dims=("domain",), over=levels),
        ),
        natural={"t": lambda tilt: tilt - tilt.mean(axis=-1, keepdims=True), "k": _from_middle},
        inverse={"tilt": lambda t: t, "k_ref": _at_middle},
        response=LOSS,
        floor="c",
        references=(YE,),
        validity="Runs of one size and length that differ in their mixture; the loss of one validation domain a fit.",
        relations=("power_law_offset in size or steps for each mixture (nested in the paper)", "d_cpt for two domains"),
        unidentified=(
            "a constant added to every t is absorbed by k, so t sums to zero",
            "c against k and t when the mixtures are all alike",
        ),
        decisions=("the mixture with the least weighted loss", "the least share that keeps a domain's loss"),
        decides=Decision((Choice("r", scale="linear"),)),
        options={"shares": shares} | ({"over": over} if over else {}),
        checks=(
            Check(
                "c = 2, k = 1, t = (-1, -.2, 0), r = (.5, .3, .2)",
                dict(c=2.0, k=1.0, t=[-1.0, -0.2, 0.0], r=[0.5, 0.3, 0.2]),
                2.57121,
            ),
        ),
    )


@catalogued(tier=2, family="data")
def rectified(data: str = "examples") -> Law:
    """The loss after fine-tuning: a power law of the data, rectified by what pre-training has learned (Lin et al.)."""
    refit = dict(B=563.823, Dl=166.056, beta=0.45528, E=1.069236)
    return Law(
        name="rectified",
        title="Rectified fine-tuning law",
        equation=r"L(D) = B / (D_l + D^{\beta}) + E",
        mean=lambda D, B, Dl, beta, E: B / (Dl + D**beta) + E,
        inputs=(Input("D", "examples", "fine-tuning examples", data, reference=1e4),),
        parameters=(
            E,
            Parameter("B", None, "coefficient", unit="response"),
            Parameter("Dl", None, "what pre-training is worth, on the scale of D^beta", symbol="D_l"),
            Parameter("beta", LogNormal(log(0.3), 0.5), "exponent"),
        ),
        sampled=(
            # Zero-shot excesses of 30 language models on FLAN are 1 to 5 nats.
            Parameter("zero_shot", LogNormal(log(2.5), 0.7), "excess without fine-tuning, B / D_l", unit="response"),
            Parameter("D_half", LogNormal(log(1000.0), 1.5), "examples that halve the excess", unit="examples"),
        ),
        natural={"Dl": lambda D_half, beta: D_half**beta, "B": lambda zero_shot, Dl: zero_shot * Dl},
        inverse={"D_half": lambda Dl, beta: Dl ** (1 / beta), "zero_shot": lambda B, Dl: B / Dl},
        response=LOSS,
        floor="E",
        references=(LIN,),
        validity="One model fine-tuned on growing subsets of one task; D = 0 is not read, so start at one example.",
        relations=("power_law_offset in the data with D_l = 0",),
        unidentified=("D_l and B apart when every D is far above the transition, or far below it",),
        decisions=("which model to fine-tune for all of the data", "how much data a task needs"),
        options={"data": data},
        checks=(
            Check("LaMini-GPT-124M on FLAN at 1,638,400", dict(refit, D=1638400.0), 1.73961),
            Check("the same at 200", dict(refit, D=200.0), 4.25082),
        ),
    )


@catalogued(tier=2, family="data")
def d_cpt() -> Law:
    """Continual pre-training on a mixture with a share r of the domain's corpus (Que et al.).

    `allocate` finds the share with the least loss at N and D (or at N and a budget), within the shares of the table's
    runs; `reach` with `over="r"`, on a fit of the general loss, the share that a bound on it allows.
    """
    return Law(
        name="d_cpt",
        title="D-CPT law: continual pre-training on a mixture",
        equation=r"L = E + A N^{-\alpha} + B r^{\eta} D^{-\beta} + C (r + \epsilon)^{-\gamma}",
        mean=lambda N, D, r, E, A, alpha, B, eta, beta, Cc, eps, gamma: (
            E + A * N**-alpha + B * r**eta * D**-beta + Cc * (r + eps) ** -gamma
        ),
        inputs=(N, D, Input("r", "1", "share of the domain's corpus", "domain_share", reference=0.5, centre="none")),
        parameters=(
            E,
            Parameter("A", CONTRIBUTION, "size coefficient", unit="response", at={"N": "alpha"}),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("B", CONTRIBUTION, "data coefficient at r = 1", unit="response", at={"D": "beta"}),
            Parameter("eta", LogNormal(log(0.3), 0.7), "exponent of the share in the data term"),
            Parameter("beta", EXPONENT, "data exponent"),
            Parameter("Cc", HalfNormal(0.5), "coefficient of the share's own term", unit="response", symbol="C"),
            Parameter("eps", LogNormal(log(0.01), 1.0), "what keeps the term finite at r = 0", symbol=r"\epsilon"),
            Parameter("gamma", LogNormal(log(0.3), 0.7), "exponent of the share's own term"),
        ),
        response=LOSS,
        floor="E",
        references=(QUE,),
        validity="One base model family and one domain; about 30 runs for nine parameters. For the general corpus's "
        "loss give r as the general share.",
        relations=("chinchilla at one share", "data_mixing for many domains"),
        unidentified=("C, gamma and epsilon apart unless shares near 0 are tried", "E against C (1 + eps)^-gamma"),
        decisions=("the share of domain data that a bound on the general loss allows",),
        decides=Decision((Choice("r", scale="linear"),)),
        unverified="The form is the one that the paper prefers among several, as its summaries quote it; its fitted "
        "coefficients stand in tables that were not at hand, so the check is illustrative.",
        checks=(
            Check(
                "illustrative",
                dict(E=1.2, A=400.0, N=1.8e9, alpha=0.34, B=1500.0, r=0.4, eta=0.3, D=1e10, beta=0.35)
                | dict(Cc=0.1, eps=0.01, gamma=0.4),
                1.98847,
            ),
        ),
    )
