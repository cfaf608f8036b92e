"""Laws of model size and training data."""

from dataclasses import replace
from math import exp, log

from bayescale.law import Beta, Check, Choice, Decision, Derived, Input, Law, LogNormal, Parameter, Response
from bayescale.laws.inputs import CONTRIBUTION, EXPONENT, LOSS, C, D, E, M, N
from bayescale.laws.references import BESIROGLU, BORDELON, GADRE, HOFFMANN, INBAR, KAPLAN, MCLEISH
from bayescale.laws.registry import catalogued

_HOFFMANN = dict(E=1.6934, A=406.4, B=410.7, alpha=0.3392, beta=0.2849)
_BESIROGLU = dict(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
_GOPHER = dict(C=5.76e23)


def chinchilla_scale(A, B, alpha, beta):
    """G of N_opt = G (C/6)^a (Hoffmann et al. 2022, equation 4)."""
    return (alpha * A / (beta * B)) ** (1 / (alpha + beta))


def chinchilla_optimum(C, A, B, alpha, beta):
    """N = G (C/6)^a and D = (C/6)^b / G (Hoffmann et al. 2022, equation 4)."""
    a, G = beta / (alpha + beta), chinchilla_scale(A, B, alpha, beta)
    return G * (C / 6) ** a, (C / 6) ** (1 - a) / G


_OPTIMA = (
    Check("Besiroglu, N_opt", dict(_BESIROGLU, **_GOPHER), 72248700000.0, of="N_opt"),
    Check("Besiroglu, D_opt", dict(_BESIROGLU, **_GOPHER), 1328740000000.0, of="D_opt"),
    Check("Besiroglu, tokens per parameter", dict(_BESIROGLU, **_GOPHER), 18.3912, of="tokens_per_param"),
    Check("Hoffmann at TeX precision, N_opt", dict(_HOFFMANN, **_GOPHER), 40310500000.0, of="N_opt"),
    Check(
        "Hoffmann at TeX precision, tokens per parameter", dict(_HOFFMANN, **_GOPHER), 59.0792, of="tokens_per_param"
    ),
)


@catalogued(tier=1, family="N-D loss")
def chinchilla(over: str = "") -> Law:
    """The parametric law of Hoffmann et al.: a floor, a term in model size and a term in data.

    With `over`, a column of evaluation sets (one row a run and set): each has a floor and coefficients of its own, the
    exponents are common. What a run does better on every set alike is an effect of the column `run`.
    """
    levels = over or None
    return Law(
        name="chinchilla",
        title="Chinchilla parametric law",
        equation=r"L(N, D) = E + A N^{-\alpha} + B D^{-\beta}",
        mean=lambda N, D, E, A, B, alpha, beta: E + A * N**-alpha + B * D**-beta,
        inputs=(N, D),
        parameters=(
            replace(E, over=levels),
            Parameter("A", CONTRIBUTION, "size coefficient", "response", at={"N": "alpha"}, over=levels),
            Parameter("B", CONTRIBUTION, "data coefficient", "response", at={"D": "beta"}, over=levels),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("beta", EXPONENT, "data exponent"),
        ),
        response=LOSS,
        floor="E",
        derived={
            "a": Derived(lambda alpha, beta: beta / (alpha + beta), "exponent of N_opt in C"),
            "b": Derived(lambda alpha, beta: alpha / (alpha + beta), "exponent of D_opt in C"),
            "G": Derived(chinchilla_scale, "N_opt = G (C/6)^a", over=levels),
        },
        optimum=None if over else chinchilla_optimum,
        references=(HOFFMANN, BESIROGLU),
        validity="One recipe, tuned runs, no repeated data; N and D varied apart from each other.",
        relations=("gadre_overtrain when alpha = beta", "data_constrained without repeats", "additive_power, 2 axes"),
        decisions=("the model size and tokens at a budget", "what a model off the optimum costs", "the loss to expect"),
        unidentified=("on a ray D = kN only the loss along the ray is identified, not alpha and beta apart",),
        options={"over": over} if over else {},
        checks=(
            Check(
                "Hoffmann rounded, L(70e9, 1.4e12)",
                dict(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28, N=70e9, D=1.4e12),
                1.93665,
            ),
            Check("Hoffmann at TeX precision, same point", dict(_HOFFMANN, N=70e9, D=1.4e12), 1.92084),
            Check("Besiroglu, same point", dict(_BESIROGLU, N=70e9, D=1.4e12), 1.97388),
            *(() if over else _OPTIMA),
            Check("Besiroglu, exponent a", _BESIROGLU, 0.512612, of="a"),
            Check("Hoffmann at TeX precision, exponent a", _HOFFMANN, 0.456497, of="a"),
        ),
    )


def _kaplan_optimum(C, Nc, Dc, aN, aD):
    """The zero of d/dN of (Nc/N)^r + 6 N Dc / C with r = aN/aD."""
    r = aN / aD
    n = (r * Nc**r * C / (6 * Dc)) ** (1 / (1 + r))
    return n, C / (6 * n)


@catalogued(tier=1, family="N-D loss")
def kaplan_nd(floor: bool = False) -> Law:
    """The joint law of Kaplan et al.; with `floor`, a constant is added (Loss-to-Loss Prediction)."""
    bare = lambda N, D, Nc, Dc, aN, aD: ((Nc / N) ** (aN / aD) + Dc / D) ** aD  # noqa: E731
    raised = lambda N, D, Nc, Dc, aN, aD, E: E + bare(N, D, Nc, Dc, aN, aD)  # noqa: E731
    return Law(
        name="kaplan_nd",
        title="Kaplan L(N, D) joint law",
        equation=r"L(N, D) = "
        + ("E + " if floor else "")
        + r"\left[(N_c/N)^{\alpha_N/\alpha_D} + D_c/D\right]^{\alpha_D}",
        mean=raised if floor else bare,
        inputs=(N, D),
        parameters=(
            Parameter("Nc", None, "size scale", unit="parameters", symbol="N_c"),
            Parameter("Dc", None, "data scale", unit="tokens", symbol="D_c"),
            Parameter("aN", LogNormal(log(0.08), 0.5), "size exponent", symbol=r"\alpha_N"),
            Parameter("aD", LogNormal(log(0.1), 0.5), "data exponent", symbol=r"\alpha_D"),
            *((E,) if floor else ()),
        ),
        sampled=(
            Parameter("Nc_ref", LogNormal(log(2.3), 0.7), "loss at N0 with unlimited data", unit="response"),
            Parameter("Dc_ref", LogNormal(log(2.3), 0.7), "loss at D0 with an unlimited model", unit="response"),
        ),
        natural={
            "Nc": lambda Nc_ref, aN, N0: N0 * Nc_ref ** (1 / aN),
            "Dc": lambda Dc_ref, aD, D0: D0 * Dc_ref ** (1 / aD),
        },
        inverse={
            "Nc_ref": lambda Nc, aN, N0: (Nc / N0) ** aN,
            "Dc_ref": lambda Dc, aD, D0: (Dc / D0) ** aD,
        },
        response=LOSS,
        floor="E" if floor else None,
        derived={
            "a": Derived(lambda aN, aD: 1 / (1 + aN / aD), "exponent of N_opt in C"),
            "b": Derived(lambda aN, aD: (aN / aD) / (1 + aN / aD), "exponent of D_opt in C"),
        },
        optimum=_kaplan_optimum,
        references=(KAPLAN,),
        validity="Early-stopped runs; N without embeddings in the paper.",
        relations=("power_law in N or D when the other is unlimited",),
        decisions=("the model size and tokens at a budget", "the data that a model needs not to overfit"),
        unidentified=("Nc and aN, Dc and aD trade off along a ridge when the range is short",),
        options={"floor": floor},
        checks=(
            Check(
                "Kaplan joint fit, L(1.5e9, 2.3e10)",
                dict(Nc=6.4e13, N=1.5e9, aN=0.076, aD=0.103, Dc=1.8e13, D=2.3e10, E=0.0),
                2.31006,
            ),
            Check("N exponent under C = 6ND", dict(aN=0.076, aD=0.103), 0.575419, of="a"),
        ),
    )


@catalogued(tier=1, family="multi-axis loss")
def additive_power(axes: str = "params+tokens") -> Law:
    """A floor and one power law an axis: any columns, joined by `+`."""
    count = len(axes.split("+"))

    def mean(x, x0, E, a, alpha):
        return E + (a * (x / x0) ** -alpha).sum()

    return Law(
        name="additive_power",
        title="Additive power law on several axes",
        equation=r"L(x) = E + \sum_i a_i (x_i/x_{i,0})^{-\alpha_i}",
        mean=mean,
        inputs=(Input("x", "1", f"scales: {axes}", axes, dims=("axis",)),),
        parameters=(
            E,
            Parameter("a", CONTRIBUTION, "reducible loss of each axis at x0", unit="response", dims=("axis",)),
            Parameter("alpha", EXPONENT, "exponent of each axis", dims=("axis",)),
        ),
        response=LOSS,
        floor="E",
        dims={"axis": count},
        references=(MCLEISH, BORDELON),
        validity="Axes varied independently of each other.",
        relations=("power_law_offset with one axis", "chinchilla on params+tokens"),
        decisions=("which axis is the bottleneck", "how to divide a budget between axes"),
        decides=Decision(
            instead="Its axes are any columns, so what they cost is not known: forecast a few ways of dividing a "
            "budget, or fit chinchilla where the axes are params and tokens."
        ),
        unidentified=("axes that move together share their terms",),
        options={"axes": axes},
        checks=(
            Check(
                "three axes after Bordelon et al.",
                dict(E=0.0, a=[1.0] * 3, x=[10.0, 10.0, 100.0], x0=[1.0] * 3, alpha=[0.3, 0.5, 0.5]),
                0.917415,
            ),
        ),
    )


def _gadre_optimum(C, a, b, eta):
    """M* = (b/a)^(1/2eta), then N = sqrt(C / 6M)."""
    m = (b / a) ** (1 / (2 * eta))
    n = (C / (6 * m)) ** 0.5
    return n, m * n


@catalogued(tier=1, family="N-D loss")
def gadre_overtrain() -> Law:
    """The over-training law of Gadre et al.: compute and token multiplier, one exponent."""
    return Law(
        name="gadre_overtrain",
        title="Over-training law L(C, M)",
        equation=r"L(C, M) = E + \left(a M^{\eta} + b M^{-\eta}\right)(C/C_0)^{-\eta}",
        mean=lambda C, M, C0, E, a, b, eta: E + (a * M**eta + b * M**-eta) * (C / C0) ** -eta,
        inputs=(C, M),
        parameters=(
            E,
            Parameter("a", CONTRIBUTION, "size coefficient at C0", unit="response", at={"M": "-eta"}),
            Parameter("b", CONTRIBUTION, "data coefficient at C0", unit="response", at={"M": "eta"}),
            Parameter("eta", LogNormal(log(0.17), 0.5), "exponent: half of a Chinchilla exponent"),
        ),
        response=LOSS,
        floor="E",
        derived={
            "M_opt": Derived(
                lambda a, b, eta: (b / a) ** (1 / (2 * eta)), "compute-optimal tokens per parameter", "tokens/parameter"
            ),
        },
        optimum=_gadre_optimum,
        references=(GADRE,),
        validity="Runs whose compute is 6ND, so that C and M fix N and D.",
        relations=("chinchilla with alpha = beta = 2 eta",),
        decisions=("the loss of a small model trained long", "the compute that over-training costs"),
        unidentified=("at one M only a M^eta + b M^-eta is identified",),
        checks=(
            Check("M* from the base fit of Muennighoff et al.", dict(a=521.0, b=1488.0, eta=0.17635), 19.5983, "M_opt"),
            Check(
                "L at C = 1e21, M = 20",
                dict(E=1.87, a=521.0, b=1488.0, eta=0.17635, M=20.0, C=1e21, C0=6.0),
                2.34822,
            ),
        ),
    )


#: Fit of the "hot" checkpoints with delta = 1e-4, in logarithms (McLeish et al., released parameters).
_GEMSTONES = dict(
    E=exp(0.39245797),
    A_w=exp(1.4520106404),
    A_d=exp(-0.0781020281),
    A=exp(7.9700333376),
    B=exp(10.0594263846),
    alpha_w=0.2446914313,
    alpha_d=0.3871516764,
    alpha=0.5000838843,
    beta=0.4761055541,
)


@catalogued(tier=2, family="N-D loss")
def gemstones_width_depth() -> Law:
    """Chinchilla with terms of width and depth of their own (McLeish et al.).

    `allocate` finds the width and depth of a budget: the size follows from them as in the table's rows, the tokens are
    what the budget buys for it.
    """
    return Law(
        name="gemstones_width_depth",
        title="Width-depth law",
        equation=r"L = E + A_w w^{-\alpha_w} + A_d d^{-\alpha_d} + A N^{-\alpha} + B D^{-\beta}",
        mean=lambda w, d, N, D, E, A_w, A_d, A, B, alpha_w, alpha_d, alpha, beta: (
            E + A_w * w**-alpha_w + A_d * d**-alpha_d + A * N**-alpha + B * D**-beta
        ),
        inputs=(
            Input("w", "units", "width of the model", "width", reference=1024.0),
            Input("d", "layers", "depth of the model", "depth", reference=20.0),
            N,
            D,
        ),
        parameters=(
            E,
            Parameter("A_w", CONTRIBUTION, "width coefficient", unit="response", at={"w": "alpha_w"}),
            Parameter("A_d", CONTRIBUTION, "depth coefficient", unit="response", at={"d": "alpha_d"}),
            Parameter("A", CONTRIBUTION, "size coefficient", unit="response", at={"N": "alpha"}),
            Parameter("B", CONTRIBUTION, "data coefficient", unit="response", at={"D": "beta"}),
            Parameter("alpha_w", EXPONENT, "width exponent", symbol=r"\alpha_w"),
            Parameter("alpha_d", EXPONENT, "depth exponent", symbol=r"\alpha_d"),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("beta", EXPONENT, "data exponent"),
        ),
        response=LOSS,
        floor="E",
        references=(MCLEISH,),
        validity="Models of one family whose widths and depths vary apart, each shape trained alike.",
        relations=("additive_power on width+depth+params+tokens", "chinchilla without the terms of the shape"),
        unidentified=("terms of width, depth and size apart unless shapes vary widely: N is near 12 w^2 d",),
        decisions=("the width and depth of a model for its budget",),
        decides=Decision((Choice("w", beyond=10.0), Choice("d", beyond=10.0)), follows={"N": {"w": 2.0, "d": 1.0}}),
        checks=(
            Check(
                "released fit at w = 2048, d = 27, N = 1.5e9, D = 3.5e11",
                dict(_GEMSTONES, w=2048.0, d=27.0, N=1.5e9, D=3.5e11),
                2.54915,
            ),
        ),
    )


def _steps_by_time(N, T, m, E, A, B, alpha, beta, c0, c1, c2):
    return E + A * N**-alpha + B * (T / (c0 + c1 * m + c2 * N)) ** -beta


@catalogued(tier=2, family="N-D loss")
def time_matters() -> Law:
    """The loss within a training time: tokens are time over the seconds that a token takes (Inbar and Sernau).

    `allocate` finds the size for a deadline T and the memory copies m of a shape.
    """
    return Law(
        name="time_matters",
        title="Time-budget law",
        equation=r"L = E + A N^{-\alpha} + B\,(T\,\tau^{-1})^{-\beta}, \tau = c_0 + c_1 m + c_2 N",
        mean={"loss": _steps_by_time, "token_seconds": lambda N, m, c0, c1, c2: c0 + c1 * m + c2 * N},
        inputs=(
            N,
            Input("T", "s", "training time", "seconds", reference=1e5),
            Input("m", "copies/token", "memory copies a token", "memory_copies", reference=1e6),
        ),
        parameters=(
            E,
            Parameter("A", CONTRIBUTION, "size coefficient", unit="response", at={"N": "alpha"}),
            Parameter("B", None, "data coefficient", unit="response"),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("beta", EXPONENT, "data exponent"),
            Parameter("c0", None, "seconds a token of an empty model", unit="s", symbol="c_0"),
            Parameter("c1", None, "seconds a memory copy", unit="s", symbol="c_1"),
            Parameter("c2", None, "seconds a parameter", unit="s", symbol="c_2"),
        ),
        # Shares of a token's time in the middle of the design, where 1e4 to 1e7 tokens a second are usual.
        sampled=(
            Parameter("pace", LogNormal(log(1e-5), 2.0), "seconds a token at m0 and N0", unit="s"),
            Parameter("copying", Beta(2.0, 1.5), "share of the memory copies in them"),
            Parameter("computing", Beta(1.5, 1.5), "share of the arithmetic in the rest"),
            Parameter("B_ref", CONTRIBUTION, "data term after T0 at m0 and N0", unit="response"),
        ),
        natural={
            "c1": lambda pace, copying, m0: pace * copying / m0,
            "c2": lambda pace, copying, computing, N0: pace * (1 - copying) * computing / N0,
            "c0": lambda pace, copying, computing: pace * (1 - copying) * (1 - computing),
            "B": lambda B_ref, beta, pace, T0: B_ref * (T0 / pace) ** beta,
        },
        inverse={
            "pace": lambda c0, c1, c2, m0, N0: c0 + c1 * m0 + c2 * N0,
            "copying": lambda c1, pace, m0: c1 * m0 / pace,
            "computing": lambda c2, pace, copying, N0: c2 * N0 / (pace * (1 - copying)),
            "B_ref": lambda B, beta, pace, T0: B * (T0 / pace) ** -beta,
        },
        responses=(
            LOSS,
            Response("token_seconds", "s", meaning="measured seconds a token", noise_scale=0.05),
        ),
        floor="E",
        references=(INBAR,),
        validity="Models timed and trained on one machine; m counted by the paper's rule from the shape.",
        relations=("chinchilla with D = T / tau",),
        unidentified=("c0, c1 and c2 apart unless shapes differ at equal size",),
        decisions=("the size and shape to train within a deadline",),
        decides=Decision((Choice("N", beyond=10.0),)),
        unverified="The loss's form and the linear time are those of the abstract, the introduction and summaries; the "
        "rule for memory copies and the coefficients stand further on in the paper, which was not at hand. The check "
        "takes Hoffmann's constants at 1e5 tokens a second.",
        checks=(
            Check(
                "Hoffmann's constants, N = 1e9, 1e5 s at 1e5 tokens/s",
                dict(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28, N=1e9, T=1e5, m=1.0, c0=1e-5, c1=0.0, c2=0.0),
                2.69488,
            ),
        ),
    )
