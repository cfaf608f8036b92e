"""Laws that strain the declaration and are not in the catalogue yet: each as a paper writes it.

The formulas and check values are those of the papers cited. `LONG_TWO_STEP` is the catalogue's law for a long table.
"""

from dataclasses import replace
from functools import cache
from math import log

import jax.numpy as jnp

from bayescale.law import (
    Beta,
    Check,
    Input,
    Law,
    LogNormal,
    Normal,
    Parameter,
    Reference,
    Response,
)
from bayescale.laws import find_law
from bayescale.laws.inputs import FLOOR, LOSS, D, N

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


#: Both responses in one column, told apart by row.
LONG_TWO_STEP = replace(
    find_law("two_step"),
    response=None,
    responses=tuple(replace(r, column="value") for r in find_law("two_step").responses),
)
