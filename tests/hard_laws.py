"""Ten laws that strain the declaration: each as a paper writes it, with a small table to fit.

Vectors, ordered and pooled parameters, sequences, mixtures, exact likelihoods, implicit formulas and several responses.
The formulas and check values are those of the papers cited; nothing here is in the catalogue yet.
"""

from functools import cache
from math import log

import jax
import jax.numpy as jnp
import numpy as np

from bayescale.law import (
    Beta,
    Check,
    Derived,
    HalfNormal,
    Input,
    Law,
    LogNormal,
    Normal,
    Parameter,
    Reference,
    Response,
)
from bayescale.laws.inputs import CONTRIBUTION, EXPONENT, FLOOR, LOSS, C, D, N

# --- bnsl: vectors with an axis, breaks in order -------------------------------------------------------------------
BNSL = Reference("Caballero et al.", 2022, "Broken Neural Scaling Laws", "2210.14891")
_FIGURE_1 = dict(a=1e-3, b=4660.0, c0=0.05, c=[0.49, -0.811, 2.1], d=[3e6, 1e14, 2e20], f=[1.1, 1.425, 0.05])


def _broken(x, a, b, c0, c, d, f):
    # (1 + (x/d)**(1/f))**(-c f), through logarithms: a sharp break far away overflows a power.
    return a + b * x**-c0 * jnp.exp(-(c * f * jnp.logaddexp(0.0, jnp.log(x / d) / f)).sum())


@cache
def bnsl(breaks: int = 1) -> Law:
    return Law(
        name="bnsl",
        title="Broken neural scaling law",
        equation=r"y = a + b x^{-c_0} \prod_i \left[1 + (x/d_i)^{1/f_i}\right]^{-c_i f_i}",
        mean=_broken,
        inputs=(Input("x", "FLOP", "training compute", "flops", reference=1e20),),
        parameters=(
            Parameter("a", FLOOR, "floor", unit="response"),
            Parameter("b", CONTRIBUTION, "coefficient before the first break", unit="response", at={"x": "c0"}),
            Parameter("c0", Normal(0.2, 0.3), "slope before the first break"),
            Parameter("c", Normal(0.0, 0.5), "change of slope at each break", dims=("break",)),
            Parameter("d", None, "where each break is", unit="FLOP", dims=("break",)),
            Parameter("f", LogNormal(log(0.5), 0.7), "how gradual each break is", dims=("break",), above=0.05),
        ),
        sampled=(
            Parameter("log_d", Normal(0.0, 3.0), "log of d over x0", dims=("break",), ordered=LogNormal(log(3.0), 0.7)),
        ),
        natural={"d": lambda log_d, x0: x0 * jnp.exp(log_d)},
        inverse={"log_d": lambda d, x0: jnp.log(d / x0)},
        response=LOSS,
        floor="a",
        derived={
            "slope": Derived(
                lambda c0, c: c0 + jnp.cumsum(c), "exponent after each break, once it is past", dims=("break",)
            )
        },
        dims={"break": breaks},
        options={"breaks": breaks},
        references=(BNSL,),
        checks=(
            Check("Figure 1 at 1e7", dict(_FIGURE_1, x=1e7), 987.643),
            Check("Figure 1 at 1e16", dict(_FIGURE_1, x=1e16), 0.698613),
        ),
    )


# --- farseer: three triples that are nearly degenerate, sampled by value, slope and curvature -----------------------
FARSEER = Reference("Li et al.", 2025, "Predictable Scale: Part II, Farseer", "2506.10972")


def _farseer(N, D, s, q, S, Bc, b, Q, Ac, a, Ee):
    return jnp.exp(s * N**q + S) + jnp.exp(Bc * N**b + Q) * D ** -jnp.exp(Ac * N**a + Ee)


def _amplitude_slope(B_slope, beta_ref, beta_slope, D0):
    """d log(amplitude) / d log N at N0, from the slope of the whole term at D0."""
    return B_slope + beta_ref * beta_slope * jnp.log(D0)


@cache
def farseer() -> Law:
    slope = Normal(0.0, 0.1)
    curvature = LogNormal(log(0.12), 0.5)
    return Law(
        name="farseer",
        title="Farseer",
        equation=r"L = e^{s N^q + S} + e^{B_c N^b + Q} D^{-\exp(A_c N^a + E_e)}",
        mean=_farseer,
        inputs=(N, D),
        parameters=(
            Parameter("s", None, "coefficient of the floor's logarithm"),
            Parameter("q", curvature, "curvature of the floor"),
            Parameter("S", None, "constant of the floor's logarithm"),
            Parameter("Bc", None, "coefficient of the amplitude's logarithm", symbol="B_c"),
            Parameter("b", None, "curvature of the amplitude, negative"),
            Parameter("Q", None, "constant of the amplitude's logarithm"),
            Parameter("Ac", None, "coefficient of the exponent's logarithm", symbol="A_c"),
            Parameter("a", curvature, "curvature of the exponent"),
            Parameter("Ee", None, "constant of the exponent's logarithm", symbol="E_e"),
        ),
        sampled=(
            Parameter("U_ref", LogNormal(log(0.4), 0.6), "loss at N0 with unlimited data", unit="response"),
            Parameter("U_slope", slope, "its slope: d log / d log N at N0"),
            Parameter("B_ref", LogNormal(log(0.15), 1.2), "data term at N0 and D0", unit="response"),
            Parameter("B_slope", slope, "its slope in N at N0 and D0"),
            Parameter("b_size", curvature, "minus b"),
            Parameter("beta_ref", LogNormal(log(0.3), 0.5), "exponent of D at N0"),
            Parameter("beta_slope", slope, "slope of its logarithm in log N at N0"),
        ),
        natural={
            "s": lambda U_slope, q, N0: U_slope / (q * N0**q),
            "S": lambda U_ref, U_slope, q: jnp.log(U_ref) - U_slope / q,
            "b": lambda b_size: -b_size,
            "Bc": lambda B_slope, beta_ref, beta_slope, b_size, N0, D0: (
                -_amplitude_slope(B_slope, beta_ref, beta_slope, D0) / (b_size * N0**-b_size)
            ),
            "Q": lambda B_ref, B_slope, beta_ref, beta_slope, b_size, D0: (
                jnp.log(B_ref) + beta_ref * jnp.log(D0) + _amplitude_slope(B_slope, beta_ref, beta_slope, D0) / b_size
            ),
            "Ac": lambda beta_slope, a, N0: beta_slope / (a * N0**a),
            "Ee": lambda beta_ref, beta_slope, a: jnp.log(beta_ref) - beta_slope / a,
        },
        inverse={
            "U_ref": lambda s, q, S, N0: jnp.exp(s * N0**q + S),
            "U_slope": lambda s, q, N0: s * q * N0**q,
            "B_ref": lambda Bc, b, Q, beta_ref, N0, D0: jnp.exp(Bc * N0**b + Q) * D0**-beta_ref,
            "B_slope": lambda Bc, b, beta_ref, beta_slope, N0, D0: Bc * b * N0**b - beta_ref * beta_slope * jnp.log(D0),
            "b_size": lambda b: -b,
            "beta_ref": lambda Ac, a, Ee, N0: jnp.exp(Ac * N0**a + Ee),
            "beta_slope": lambda Ac, a, N0: Ac * a * N0**a,
        },
        response=Response("loss", "bits/byte", meaning="held-out loss"),
        references=(FARSEER,),
        checks=(
            Check(
                "published coefficients at N = 1e9, D = 2e10",
                dict(s=-0.021, q=0.169, S=-0.091, Bc=88.01, b=-0.1, Q=-6.287, Ac=-0.124, a=0.123, Ee=0.424)
                | dict(N=1e9, D=2e10),
                0.527224,
            ),
        ),
    )


# --- vocabulary: a response that may be negative --------------------------------------------------------------------
TAO = Reference("Tao et al.", 2024, "Scaling Laws with Vocabulary", "2407.13623")


@cache
def vocabulary() -> Law:
    term, exponent = LogNormal(log(0.5), 1.0), LogNormal(log(0.3), 0.6)
    return Law(
        name="vocabulary",
        title="Vocabulary scaling law",
        equation=r"L_u = -E + A_1 N_{nv}^{-a_1} + A_2 N_v^{-a_2} + B D^{-\beta}",
        mean=lambda Nnv, Nv, D, E, A1, a1, A2, a2, B, beta: -E + A1 * Nnv**-a1 + A2 * Nv**-a2 + B * D**-beta,
        inputs=(
            Input("Nnv", "parameters", "parameters outside the vocabulary", "params_non_vocab"),
            Input("Nv", "parameters", "parameters of the vocabulary", "params_vocab"),
            D,
        ),
        parameters=(
            Parameter("E", LogNormal(log(5.0), 0.5), "minus the floor", unit="response"),
            Parameter("A1", term, "coefficient of the body", unit="response", at={"Nnv": "a1"}),
            Parameter("a1", exponent, "exponent of the body"),
            Parameter("A2", term, "coefficient of the vocabulary", unit="response", at={"Nv": "a2"}),
            Parameter("a2", exponent, "exponent of the vocabulary"),
            Parameter("B", term, "coefficient of the data", unit="response", at={"D": "beta"}),
            Parameter("beta", exponent, "exponent of the data"),
        ),
        response=Response("loss_u", "nats/token", support="real", meaning="loss less that of a unigram model"),
        floor="-E",
        references=(TAO,),
        checks=(
            Check(
                "term of the body at 2.9e9, in millions",
                dict(E=0.0, A1=1.831, a1=0.447, Nnv=2900.0, A2=0.0, a2=0.671, Nv=1.0, B=0.0, beta=0.447, D=1.0),
                0.0518796,
            ),
        ),
    )


# --- multi_power_law: the whole learning-rate schedule so far --------------------------------------------------------
LUO = Reference("Luo et al.", 2025, "A Multi-Power Law for Loss Curve Prediction", "2503.12811")
#: Released constants of the 100M model (README of the authors' repository).
MPL_100M = dict(L0=2.651, A=0.601, alpha=0.453, B=437.946, Cc=2.132, beta=0.598, gamma=0.655)


def _multi_power(eta, t, L0, A, alpha, B, Cc, beta, gamma):
    """Sum over segments between recorded steps, the rate linear within each: exact where every step is recorded.

    A segment of no steps (the sequence has ended) has no change of rate, so it adds nothing.
    """
    steps = jnp.diff(t, prepend=0.0)
    before = jnp.concatenate([jnp.zeros_like(eta[:1]), eta[:-1]])
    gap, some = eta - before, jnp.maximum(steps, 1.0)
    own = steps * (before + eta) / 2 + gap / 2  # sum of the rate over the steps of the segment
    S = jnp.cumsum(own[::-1])[::-1]
    rate = jnp.where(steps > 0, own / some, eta)
    S_k = S - own + own * (some + 1) / (2 * some)  # mean over the segment's steps of the sum from that step on
    return L0 + A * S[0] ** -alpha + B * (gap * (1 - (1 + Cc * rate**-gamma * S_k) ** -beta)).sum()


@cache
def multi_power_law() -> Law:
    return Law(
        name="multi_power_law",
        title="Multi-power law",
        equation=r"L = L_0 + A S_1^{-\alpha} + B \sum_k (\eta_k - \eta_{k-1})"
        r"\left[1 - (1 + C \eta_k^{-\gamma} S_k)^{-\beta}\right]",
        mean=_multi_power,
        inputs=(
            Input("eta", "1", "learning rate", "lr", dims=("checkpoint",), per="run"),
            Input("t", "steps", "step", "step", reference=1e4, dims=("checkpoint",), per="run", centre="none"),
        ),
        parameters=(
            Parameter("L0", FLOOR, "floor", unit="response", symbol="L_0"),
            Parameter("A", LogNormal(log(0.6), 0.7), "coefficient of the summed rate", unit="response"),
            Parameter("alpha", LogNormal(log(0.5), 0.4), "exponent of the summed rate"),
            Parameter("B", None, "loss a unit of rate"),
            Parameter("Cc", LogNormal(log(2.0), 0.5), "speed of the response to a change of rate", symbol="C"),
            Parameter("beta", LogNormal(log(0.6), 0.4), "exponent of that response"),
            Parameter("gamma", Beta(6.0, 4.0), "how the rate itself speeds it up"),
        ),
        sampled=(Parameter("B_drop", LogNormal(log(0.13), 0.7), "loss in a decay to zero", unit="response"),),
        natural={"B": lambda B_drop, eta0: B_drop / eta0.max()},
        inverse={"B_drop": lambda B, eta0: B * eta0.max()},
        response=LOSS,
        floor="L0",
        references=(LUO,),
        checks=(
            # Without its sum the law is its closed part: a rate of S1 for one step, and B = 0.
            Check(
                "closed part of the 400M model at S1 = 3.9277",
                dict(L0=2.37474, A=0.654212, alpha=0.428787, B=0.0, Cc=2.0, beta=0.6, gamma=0.6)
                | dict(eta=[3.92773], t=[1.0]),
                2.73862,
            ),
        ),
    )


# --- data_mixing: shares of one, and a redundancy taken out ----------------------------------------------------------
YE = Reference("Ye et al.", 2024, "Data Mixing Laws", "2403.16952")


@cache
def data_mixing() -> Law:
    return Law(
        name="data_mixing",
        title="Data mixing law",
        equation=r"L(r) = c + k \exp\left(\sum_j t_j r_j\right)",
        mean=lambda r, c, k, t: c + k * jnp.exp(t @ r),
        inputs=(
            Input(
                "r", "1", "shares of the training domains", "w_*", dims=("domain",), simplex=True, centre="difference"
            ),
        ),
        parameters=(
            Parameter("c", FLOOR, "floor of the domain's loss", unit="response"),
            Parameter("k", None, "excess at t r = 0", unit="response"),
            Parameter("t", None, "how each domain helps, summing to zero", dims=("domain",)),
        ),
        sampled=(
            Parameter("k_ref", CONTRIBUTION, "excess at the middle mixture", unit="response"),
            Parameter("tilt", Normal(0.0, 1.5), "t before its mean is taken out", dims=("domain",)),
        ),
        natural={"t": lambda tilt: tilt - tilt.mean(), "k": lambda k_ref, t, r0: k_ref * jnp.exp(-t @ r0)},
        inverse={"tilt": lambda t: t, "k_ref": lambda k, t, r0: k * jnp.exp(t @ r0)},
        response=LOSS,
        floor="c",
        unidentified=("a constant added to every t is absorbed by k, so t sums to zero",),
        references=(YE,),
        checks=(
            Check(
                "c = 2, k = 1, t = (-1, -.2, 0), r = (.5, .3, .2)",
                dict(c=2.0, k=1.0, t=[-1.0, -0.2, 0.0], r=[0.5, 0.3, 0.2]),
                2.57121,
            ),
        ),
    )


# --- beta_binomial_passk: an exact likelihood of counts --------------------------------------------------------------
LEVI = Reference("Levi", 2025, "A Simple Model of Inference Scaling Laws", "2410.16377")


def _betaln(a, b):
    g = jax.scipy.special.gammaln
    return g(a) + g(b) - g(a + b)


def _pass_at_k(k, al, be, pi):
    return (1 - pi) * (1 - jnp.exp(_betaln(al, be + k) - _betaln(al, be)))


def _successes(successes, k, al, be, pi):
    choose = -_betaln(successes + 1.0, k - successes + 1.0) - jnp.log(k + 1.0)
    some = jnp.log1p(-pi) + choose + _betaln(al + successes, be + k - successes) - _betaln(al, be)
    return jnp.where(successes > 0, some, jnp.logaddexp(jnp.log(pi), some))


def _draw_successes(rng, k, al, be, pi):
    p, solvable = rng.beta(al, be, np.broadcast_shapes(al.shape, k.shape)), rng.random(np.broadcast(al, k).shape) >= pi
    return rng.binomial(k.astype(int), p * solvable).astype(float)


@cache
def beta_binomial_passk() -> Law:
    return Law(
        name="beta_binomial_passk",
        title="Beta-binomial pass@k",
        equation=r"\mathrm{pass@}k = (1 - \pi)\left[1 - B(\alpha, \beta + k) / B(\alpha, \beta)\right]",
        mean=_pass_at_k,
        inputs=(Input("k", "samples", "samples drawn for the problem", "samples", reference=100.0),),
        parameters=(
            Parameter("al", LogNormal(log(0.4), 0.8), "tail exponent", symbol=r"\alpha"),
            Parameter("be", LogNormal(log(2.0), 1.0), "weight of failures", symbol=r"\beta"),
            Parameter("pi", Beta(1.0, 9.0), "share of problems that are never solved", symbol=r"\pi"),
        ),
        response=Response("successes", "1", support="count", meaning="samples that pass"),
        likelihood=_successes,
        sampler=_draw_successes,
        references=(LEVI,),
        checks=tuple(
            Check(f"pass@{k}", dict(al=0.4, be=2.0, pi=0.0, k=float(k)), value)
            for k, value in ((1, 0.166667), (100, 0.804453), (10000, 0.9688))
        ),
    )


# --- m4: the formula is an equation ---------------------------------------------------------------------------------
ALABDULMOHSIN = Reference("Alabdulmohsin et al.", 2022, "Revisiting Neural Scaling Laws", "2209.06640")


@jax.custom_jvp
def _m4_root(g, a):
    """u with log σ(u) - a log σ(-u) = g, by Newton's method from the side on which it cannot overshoot."""
    left = jnp.where(g > (a - 1) * log(2), jnp.maximum((g - a * log(2)) / a, 0.0), g - a * log(2))
    right = jnp.where(g > (a - 1) * log(2), (g + log(2)) / a, jnp.minimum(g + log(2), 0.0))

    def step(_, u):
        value = jax.nn.log_sigmoid(u) - a * jax.nn.log_sigmoid(-u) - g
        return u - value / (jax.nn.sigmoid(-u) + a * jax.nn.sigmoid(u))

    return jax.lax.fori_loop(0, 30, step, jnp.where(a < 1, left, right))  # concave for a < 1, convex above


@_m4_root.defjvp
def _m4_root_jvp(primals, tangents):
    (g, a), (dg, da) = primals, tangents
    u = _m4_root(g, a)
    return u, (dg + jax.nn.log_sigmoid(-u) * da) / (jax.nn.sigmoid(-u) + a * jax.nn.sigmoid(u))


def _m4(x, e_inf, e0, a, b, c):
    """(ε - ε∞) / (ε0 - ε)^a = b x^-c, solved for the logit of ε between ε∞ and ε0."""
    width = e0 - e_inf
    u = _m4_root(jnp.log(b) - c * jnp.log(x) - (1 - a) * jnp.log(width), a)
    return e_inf + width * jax.nn.sigmoid(u)


@cache
def m4() -> Law:
    return Law(
        name="m4",
        title="M4",
        equation=r"(\epsilon - \epsilon_\infty) / (\epsilon_0 - \epsilon)^a = b x^{-c}",
        mean=_m4,
        inputs=(Input("x", "examples", "training examples", "examples", reference=1e4),),
        parameters=(
            Parameter("e_inf", Beta(1.0, 4.0), "floor, as a share of e0", below="e0", symbol=r"\epsilon_\infty"),
            Parameter("e0", LogNormal(log(0.9), 0.05), "error of a random guess", symbol=r"\epsilon_0"),
            Parameter("a", HalfNormal(0.5), "how slowly a random guess is left"),
            Parameter("b", LogNormal(log(0.3), 1.0), "coefficient", at={"x": "c"}),
            Parameter("c", LogNormal(log(0.3), 0.6), "exponent"),
        ),
        response=Response("error", "1", meaning="error rate"),
        references=(ALABDULMOHSIN,),
        checks=(Check("the root", dict(e_inf=0.1, e0=1.0, a=0.5, b=10.0, c=0.5, x=1e4), 0.19),),
    )


# --- two_step: two responses, told apart by row ----------------------------------------------------------------------
BHAGIA = Reference("Bhagia et al.", 2024, "Establishing Task Scaling Laws via Model Ladders", "2412.04403")


def _task_loss(N, D, E, A, B, alpha, beta):
    return E + A * N**-alpha + B * D**-beta


def _accuracy(N, D, E, A, B, alpha, beta, a, k, L0, b):
    return a / (1 + jnp.exp(-k * (_task_loss(N, D, E, A, B, alpha, beta) - L0))) + b


@cache
def two_step() -> Law:
    contribution = LogNormal(log(0.3), 1.0)
    return Law(
        name="two_step",
        title="Two-step task law",
        equation=r"\mathrm{acc} = a / (1 + e^{-k (L(N, D) - L_0)}) + b",
        mean={"task_loss": _task_loss, "accuracy": _accuracy},
        inputs=(N, D),
        parameters=(
            Parameter("E", LogNormal(log(0.4), 0.6), "floor of the task loss", unit="response"),
            Parameter("A", contribution, "size coefficient", unit="response", at={"N": "alpha"}),
            Parameter("B", contribution, "data coefficient", unit="response", at={"D": "beta"}),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("beta", EXPONENT, "data exponent"),
            Parameter("a", None, "accuracy by chance less the best one"),
            Parameter("b", None, "best accuracy"),
            Parameter("k", LogNormal(log(5.0), 0.7), "steepness", unit="1/response"),
            Parameter("L0", LogNormal(log(0.8), 0.4), "task loss half-way", unit="response", symbol="L_0"),
        ),
        sampled=(
            Parameter("ceiling", Beta(8.0, 2.0), "best accuracy"),
            Parameter("chance", Beta(4.0, 8.0), "accuracy by chance", below="ceiling"),
        ),
        natural={"a": lambda chance, ceiling: chance - ceiling, "b": lambda ceiling: ceiling},
        inverse={"ceiling": lambda b: b, "chance": lambda a, b: a + b},
        responses=(
            Response("task_loss", "bits/byte", column="value", meaning="loss of the correct answer"),
            Response("accuracy", "1", support="unit", column="value", meaning="share answered", noise_scale=0.03),
        ),
        floor="E",
        references=(BHAGIA,),
        checks=(
            Check(
                "accuracy of 7e9 parameters on 4e12 tokens",
                dict(a=-0.6, b=0.85, k=5.0, L0=0.8, E=0.3, A=20.0, alpha=0.25, B=300.0, beta=0.3, N=7e9, D=4e12),
                0.772321,
                of="accuracy",
            ),
        ),
    )


# --- obs_scaling: parameters by level, pooled, with an axis of skills ------------------------------------------------
RUAN = Reference("Ruan et al.", 2024, "Observational Scaling Laws", "2405.10938")


def _loadings(loading):
    """Benchmark j loads on skills up to j, the j-th skill being in units of benchmark j: no rotation is left."""
    return jnp.tril(loading, -1) + jnp.eye(*loading.shape, dtype=loading.dtype)


@cache
def obs_scaling(skills: int = 1) -> Law:
    return Law(
        name="obs_scaling",
        title="Observational scaling",
        equation=r"y_{fj} = h_j\,\sigma\left(\beta_j \cdot (\theta_f \log(C/C_0) + \nu_f) + \alpha_j\right)",
        mean=lambda C, C0, theta, nu_f, beta, alpha, h: (
            h * jax.nn.sigmoid(beta @ (theta * jnp.log(C / C0) + nu_f) + alpha)
        ),
        inputs=(C,),
        parameters=(
            Parameter("theta", Normal(0.3, 0.3), "slope", dims=("skill",), over="family", pooled=HalfNormal(0.7)),
            Parameter("nu_f", None, "efficiency, summing to zero over families", dims=("skill",), over="family"),
            Parameter("beta", None, "loadings", dims=("skill",), over="benchmark"),
            Parameter("alpha", Normal(0.0, 1.5), "difficulty", over="benchmark"),
            Parameter("h", Beta(8.0, 2.0), "best score", over="benchmark"),
        ),
        sampled=(
            Parameter("efficiency", Normal(0.0, 0.7), "nu_f before its mean is out", dims=("skill",), over="family"),
            Parameter("loading", Normal(1.0, 0.5), "free loadings", dims=("skill",), over="benchmark"),
        ),
        natural={"nu_f": lambda efficiency: efficiency - efficiency.mean(axis=0, keepdims=True), "beta": _loadings},
        inverse={"efficiency": lambda nu_f: nu_f, "loading": lambda beta: beta},
        response=Response("score", "1", support="unit", meaning="benchmark score", noise_scale=0.1),
        derived={
            "doubling": Derived(lambda theta: theta * log(2), "skill a doubling of compute", "1", ("skill",), "family")
        },
        dims={"skill": skills},
        options={"skills": skills},
        references=(RUAN,),
        checks=(
            Check(
                "one skill, ten times the reference",
                dict(h=1.0, beta=[1.0], theta=[0.3], C=10.0, C0=1.0, nu_f=[0.0], alpha=-1.0),
                0.423304,
            ),
        ),
    )
