"""Laws of learning rates, batch sizes and the steps that they cost."""

from math import log

from bayescale.law import Beta, Check, Choice, Decision, Derived, Input, Law, LogNormal, Normal, Parameter, Response
from bayescale.laws.inputs import CONTRIBUTION, EXPONENT, LOSS, D, E, N
from bayescale.laws.references import BJORCK, HOFFMANN, KAPLAN, LI, MCCANDLISH, PORIAN, WORTSMAN, ZHANG
from bayescale.laws.registry import catalogued

#: Spread of optima read off sweeps: grids step by factors of 1.4 to 2.
_GRID = 0.2
_LR = Response("lr", "1", meaning="optimal peak learning rate", noise_scale=_GRID)
_BATCH = Response("batch_tokens", "tokens", meaning="optimal batch size", noise_scale=_GRID)
#: Peak learning rates of Adam at the middle of a design, and batch sizes.
_TYPICAL_LR = LogNormal(log(1.5e-3), 1.0)
_TYPICAL_BATCH = LogNormal(log(5e5), 1.0)


def _quadratic(lr, bs, N, D, N0, D0, E, A, B, alpha, beta, lr_ref, a_lr, b_lr, bs_ref, a_bs, b_bs, k, q, rho):
    import jax.numpy as jnp

    n, d = jnp.log(N / N0), jnp.log(D / D0)
    u = jnp.log(lr) - jnp.log(lr_ref) - a_lr * n - b_lr * d
    v = jnp.log(bs) - jnp.log(bs_ref) - a_bs * n - b_bs * d
    best = E + A * N**-alpha + B * D**-beta
    return best + 0.5 * k * u**2 + 0.5 * q * v**2 + rho * jnp.sqrt(k * q) * u * v


@catalogued(tier=1, family="hyperparameters")
def hp_response_surface() -> Law:
    """The final loss around the best learning rate and batch size, which move with model size and data.

    `allocate` finds both at N and D (or at N and a budget), up to ten times beyond the table's, and what is as good.
    """
    vertex = dict(N=1e9, D=2e10, N0=1e9, D0=2e10, A=0.0, B=0.0, alpha=0.3, beta=0.3)
    still = dict(lr_ref=1.0, a_lr=0.0, b_lr=0.0, bs_ref=1.0, a_bs=0.0, b_bs=0.0)
    return Law(
        name="hp_response_surface",
        title="Response surface of learning rate and batch size",
        equation=r"L = L_*(N, D) + \frac{k}{2} u^2 + \frac{q}{2} v^2 + \rho \sqrt{k q}\,u v, "
        r"u = \ln(\eta / \eta_*(N, D)), v = \ln(B / B_*(N, D))",
        mean=_quadratic,
        inputs=(
            Input("lr", "1", "peak learning rate", "lr", reference=1.5e-3, centre="none"),
            Input("bs", "tokens", "batch size", "batch_tokens", reference=5e5, centre="none"),
            N,
            D,
        ),
        parameters=(
            E,
            Parameter("A", CONTRIBUTION, "size coefficient of the best loss", unit="response", at={"N": "alpha"}),
            Parameter("B", CONTRIBUTION, "data coefficient of the best loss", unit="response", at={"D": "beta"}),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("beta", EXPONENT, "data exponent"),
            Parameter("lr_ref", _TYPICAL_LR, "best learning rate at N0, D0", symbol=r"\eta_\mathrm{ref}"),
            Parameter("a_lr", Normal(-0.5, 0.5), "its exponent in N", symbol=r"a_\eta"),
            Parameter("b_lr", Normal(0.0, 0.5), "its exponent in D, of disputed sign", symbol=r"b_\eta"),
            Parameter("bs_ref", _TYPICAL_BATCH, "best batch size at N0, D0", unit="tokens", symbol=r"B_\mathrm{ref}"),
            Parameter("a_bs", Normal(0.0, 0.3), "its exponent in N", symbol="a_B"),
            Parameter("b_bs", Normal(0.5, 0.3), "its exponent in D", symbol="b_B"),
            Parameter("k", LogNormal(log(0.02), 1.0), "curvature in log learning rate", unit="response"),
            Parameter("q", LogNormal(log(0.02), 1.0), "curvature in log batch size", unit="response"),
            Parameter("rho", None, "how the two trade: below 0 where a larger batch wants a larger rate"),
        ),
        sampled=(Parameter("tilt", Beta(3.0, 3.0), "(1 + rho) / 2"),),
        natural={"rho": lambda tilt: 2 * tilt - 1},
        inverse={"tilt": lambda rho: (rho + 1) / 2},
        response=LOSS,
        floor="E",
        derived={
            "band_lr": Derived(
                lambda k: (2 * 0.01 / k) ** 0.5, "e-folds off the best learning rate that cost .01 of the unit"
            ),
            "ray": Derived(lambda a_lr, b_lr: (a_lr + b_lr) / 2, "exponent of the learning rate in C where D = kN"),
        },
        references=(LI, WORTSMAN, HOFFMANN),
        validity="Runs within about an e-fold of the best settings, diverged ones left out; at least three learning "
        "rates a size, and an effect of each (N, D) by `group`, or misfits of the best loss move the optima. The loss "
        "rises faster towards divergence than a parabola does, so the optima's exponents depend on how far from the "
        "best settings runs are taken: try two windows.",
        relations=(
            "step_law for its optima",
            "porian_hparams on a ray",
            "bjorck_lr at one batch size",
            "chinchilla at them",
        ),
        unidentified=("a and b apart on a ray D = kN", "rho without runs off both optima at once"),
        decisions=("the learning rate and batch size of the next run", "what a wrong one costs in loss"),
        decides=Decision((Choice("lr", beyond=10.0), Choice("bs", beyond=10.0))),
        unverified="The form is bayescale's, resting on the convex landscapes of the papers: it has no published "
        "coefficients.",
        checks=(
            Check(
                "twice the best learning rate, k = .02",
                dict(vertex, **still, lr=2.0, bs=1.0, E=0.0, k=0.02, q=0.02, rho=0.0),
                0.00480453,
            ),
            Check("exponent in compute on the Chinchilla ray", dict(a_lr=-0.713, b_lr=0.307), -0.203, of="ray"),
        ),
    )


@catalogued(tier=1, family="hyperparameters")
def mccandlish_tradeoff(batch: str = "batch_tokens", over: str = "") -> Law:
    """Steps against batch size to reach a loss (McCandlish et al.); `over` names a column of targets or models."""
    levels = over or None
    return Law(
        name="mccandlish_tradeoff",
        title="Critical batch size: steps against data",
        equation=r"S(B) = S_\mathrm{min} (1 + B_\mathrm{crit}/B)",
        mean=lambda B, Smin, Bcrit: Smin * (1 + Bcrit / B),
        inputs=(Input("B", "tokens or sequences", "batch size", batch, reference=5e5),),
        parameters=(
            Parameter("Smin", LogNormal(log(1e4), 1.5), "least steps", "steps", r"S_\mathrm{min}", over=levels),
            Parameter("Bcrit", None, "critical batch size", "as B", r"B_\mathrm{crit}", over=levels),
        ),
        # The design is chosen around the critical batch size: within a factor of 20 of its middle (95 %).
        sampled=(Parameter("relative", LogNormal(0.0, 1.5), "critical batch size over B0", over=levels),),
        natural={"Bcrit": lambda relative, B0: relative * B0},
        inverse={"relative": lambda Bcrit, B0: Bcrit / B0},
        response=Response("steps", "steps", meaning="steps to the target loss", noise_scale=0.05),
        derived={
            "Emin": Derived(lambda Smin, Bcrit: Smin * Bcrit, "least data, in units of B", "as B", over=levels),
            "overhead": Derived(lambda Bcrit: 0.2 * Bcrit, "batch size that costs 20 % more data", "as B", over=levels),
        },
        references=(MCCANDLISH, KAPLAN, ZHANG),
        validity="Runs to one loss (or one a level of `over`), each batch size with its best learning rate.",
        relations=("kaplan_ns at one loss", "cbs_power for how the critical batch size grows"),
        unidentified=("Bcrit unless batch sizes lie on both sides of it",),
        decisions=("the batch size at which more chips stop saving time",),
        decides=Decision(
            instead="Steps fall with every larger batch: at `Bcrit` they are twice the least, at `overhead` data costs "
            "20 % more than the least; both are among the fit's quantities."
        ),
        options={"batch": batch, "over": over},
        checks=(
            Check("twice the least steps at the critical batch size", dict(Smin=1.0, Bcrit=1.0, B=1.0), 2.0),
            Check("20 % overhead", dict(Bcrit=5.0), 1.0, of="overhead"),
        ),
    )


@catalogued(tier=2, family="hyperparameters")
def step_law() -> Law:
    """The best learning rate and batch size as power laws of model size and data (Li et al.).

    `allocate` tells both at N and D, or at N and a budget.
    """
    rate = lambda N, D, c, a, b: c * N**a * D**b  # noqa: E731
    return Law(
        name="step_law",
        title="Step Law: learning rate and batch size",
        equation=r"\eta_* = c N^a D^b, B_* = d N^e D^f",
        mean={"lr": rate, "batch_tokens": lambda N, D, d, e, f: rate(N, D, d, e, f)},
        inputs=(N, D),
        parameters=(
            Parameter("c", _TYPICAL_LR, "coefficient of the learning rate", at={"N": "-a", "D": "-b"}),
            Parameter("a", Normal(-0.5, 0.5), "exponent of the learning rate in N"),
            Parameter("b", Normal(0.0, 0.5), "exponent of the learning rate in D: its sign is disputed"),
            Parameter("d", _TYPICAL_BATCH, "coefficient of the batch size", at={"N": "-e", "D": "-f"}),
            Parameter("e", Normal(0.0, 0.3), "exponent of the batch size in N: 0 in the paper"),
            Parameter("f", Normal(0.5, 0.3), "exponent of the batch size in D"),
        ),
        responses=(_LR, _BATCH),
        derived={"ray": Derived(lambda a, b: (a + b) / 2, "exponent of the learning rate in C where D = kN")},
        references=(LI, BJORCK),
        validity="The best settings of sweeps over both, one row a (N, D); N without vocabulary in the paper.",
        relations=("hp_response_surface on all runs", "porian_hparams on a ray D = kN", "bjorck_lr at one batch size"),
        unidentified=("a and b apart on a ray D = kN: only their sum is",),
        decisions=("the learning rate and batch size of the next run",),
        decides=Decision(reads=True),
        checks=(
            Check(
                "learning rate at N = 1e9, D = 1e11", dict(c=1.79, N=1e9, a=-0.713, D=1e11, b=0.307), 0.0016325, "lr"
            ),
            Check("batch size at D = 1e11", dict(d=0.58, N=1e9, e=0.0, D=1e11, f=0.571), 1107710.0, "batch_tokens"),
            Check("exponent in compute on the Chinchilla ray", dict(a=-0.713, b=0.307), -0.203, of="ray"),
        ),
    )


@catalogued(tier=2, family="hyperparameters")
def porian_hparams() -> Law:
    """The best learning rate and batch size as power laws of model size (Porian et al.).

    `allocate` tells both at N.
    """
    return Law(
        name="porian_hparams",
        title="Learning rate and batch size against size",
        equation=r"\eta_* = c N^a, B_* = d N^e",
        mean={"lr": lambda N, c, a: c * N**a, "batch_tokens": lambda N, d, e: d * N**e},
        inputs=(N,),
        parameters=(
            Parameter("c", _TYPICAL_LR, "coefficient of the learning rate", at={"N": "-a"}),
            Parameter("a", Normal(-0.3, 0.3), "exponent of the learning rate"),
            Parameter("d", _TYPICAL_BATCH, "coefficient of the batch size", at={"N": "-e"}),
            Parameter("e", Normal(0.6, 0.3), "exponent of the batch size"),
        ),
        responses=(_LR, _BATCH),
        references=(PORIAN,),
        validity="The best settings of sweeps on one ray D = kN.",
        relations=("step_law on a ray", "power_law of each"),
        unidentified=("whether size or data moves the optima, on a ray",),
        decisions=("the learning rate and batch size of a larger model",),
        decides=Decision(reads=True),
        checks=(
            Check("learning rate at N = 1e9", dict(c=3.7, N=1e9, a=-0.36), 0.00212913, "lr"),
            Check("batch size at N = 1.08e8", dict(d=0.7576, N=1.08e8, e=0.703), 336463.0, "batch_tokens"),
        ),
    )


@catalogued(tier=2, family="hyperparameters")
def bjorck_lr() -> Law:
    """The best learning rate against the token horizon, at one batch size (Bjorck et al.).

    `allocate` tells it at N and D, or at N and a budget.
    """
    return Law(
        name="bjorck_lr",
        title="Learning rate across token horizons",
        equation=r"\eta_* = \eta_0\,(N/N_0)^{-\alpha} (D/D_0)^{-\beta}",
        mean=lambda N, D, N0, D0, LR0, alpha, beta: LR0 * (N / N0) ** -alpha * (D / D0) ** -beta,
        inputs=(N, D),
        parameters=(
            Parameter("LR0", _TYPICAL_LR, "best learning rate at N0, D0", symbol=r"\eta_0"),
            Parameter("alpha", Normal(0.3, 0.3), "exponent in size, .23 in the paper"),
            Parameter("beta", Normal(0.3, 0.3), "exponent in tokens, .32 in the paper"),
        ),
        response=_LR,
        derived={"tenfold": Derived(lambda beta: 10.0**-beta, "factor on the learning rate for ten times the tokens")},
        references=(BJORCK,),
        validity="The best learning rates of sweeps at one batch size, one row a (N, D).",
        relations=("step_law with the batch size held still",),
        unidentified=("alpha and beta apart on a ray D = kN",),
        decisions=("the learning rate of a longer run from a shorter one's",),
        decides=Decision(reads=True),
        checks=(
            Check(
                "ratio for ten times the tokens",
                dict(LR0=1.0, N=1.0, N0=1.0, alpha=0.23, D=10.0, D0=1.0, beta=0.32),
                0.47863,
            ),
            Check("the same as a factor", dict(beta=0.32), 0.47863, of="tenfold"),
        ),
    )


@catalogued(tier=2, family="hyperparameters")
def cbs_power(x: str = "params") -> Law:
    """The critical batch size as a power law of model size or data (Zhang et al.).

    `allocate` tells it at a scale x.
    """
    return Law(
        name="cbs_power",
        title="Critical batch size against scale",
        equation=r"B_\mathrm{crit} = k\,x^a",
        mean=lambda x, k, a: k * x**a,
        inputs=(Input("x", "1", f"scale: {x}", x, reference=3e8 if x == "params" else None),),
        parameters=(
            Parameter("k", LogNormal(log(1000.0), 1.5), "coefficient", unit="sequences", at={"x": "-a"}),
            Parameter("a", Normal(0.4, 0.3), "exponent: .47 along D = 20N, .09 in size at fixed data"),
        ),
        response=Response("critical_batch", "sequences", meaning="critical batch size", noise_scale=0.1),
        references=(ZHANG, MCCANDLISH),
        validity="Critical batch sizes by one definition (the paper's: 20 % more steps than by perfect scaling), with "
        "sequences of one length; x in millions of parameters gives the paper's k.",
        relations=("power_law growing with scale", "mccandlish_tradeoff with `over` gives its data"),
        unidentified=("size and data apart on a ray D = 20N",),
        decisions=("how many chips a larger run can use",),
        decides=Decision(reads=True),
        options={"x": x},
        checks=(
            Check("along D = 20N, 1200 million parameters", dict(k=93.2, x=1200.0, a=0.47), 2609.94),
            Check("at fixed data, 1200 million parameters", dict(k=621.341, x=1200.0, a=0.087), 1151.38),
        ),
    )
