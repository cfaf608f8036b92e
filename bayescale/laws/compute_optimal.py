"""Laws of the compute-optimal model size and of the loss around it."""

from math import log

from bayescale.errors import LawError, nearest
from bayescale.law import Beta, Check, Decision, Derived, Input, Law, LogNormal, Parameter, Response
from bayescale.laws.compute_data import chinchilla_optimum, chinchilla_scale
from bayescale.laws.inputs import CONTRIBUTION, EXPONENT, LOSS, C, E, N
from bayescale.laws.references import HOFFMANN, PORIAN, SARDANA
from bayescale.laws.registry import catalogued

#: Published exponents of N_opt in C are .35 to .88, most of them .45 to .6; with C = 6ND that of D_opt is 1 - a.
_SPLIT = Beta(5.0, 5.0)
#: Tokens per parameter at the optimum: 20 within a factor of seven (95 %).
_RATIO = LogNormal(log(20.0), 1.0)


def _size_optimum(C, C0, k, a):
    n = k * (C / C0) ** a
    return n, C / (6 * n)


def _data_optimum(C, C0, k, a):
    d = k * (C / C0) ** a
    return C / (6 * d), d


_OPTIMA = {
    "params": (
        Response("params", "parameters", meaning="compute-optimal model size", noise_scale=0.1),
        "N_\\mathrm{opt}",
        _size_optimum,
        lambda ratio, C0: (C0 / (6 * ratio)) ** 0.5,
        lambda k, C0: C0 / (6 * k**2),
    ),
    "tokens": (
        Response("tokens", "tokens", meaning="compute-optimal training tokens", noise_scale=0.1),
        "D_\\mathrm{opt}",
        _data_optimum,
        lambda ratio, C0: (C0 * ratio / 6) ** 0.5,
        lambda k, C0: 6 * k**2 / C0,
    ),
}


@catalogued(tier=1, family="compute-optimal")
def chinchilla_a1(y: str = "params") -> Law:
    """Approach 1 of Hoffmann et al.: the optimal size (or data) read off an envelope, as a power of compute.

    `allocate` tells the optimum at a budget; no loss, nor what a size off it costs.
    """
    if y not in _OPTIMA:
        raise LawError(f"no optimum of {y!r}", code="BS-L002", remedy=nearest(y, [*_OPTIMA]))
    response, symbol, optimum, natural, inverse = _OPTIMA[y]
    return Law(
        name="chinchilla_a1",
        title="Chinchilla approach 1",
        equation=symbol + r"(C) = k\,(C/C_0)^a",
        mean=lambda C, C0, k, a: k * (C / C0) ** a,
        inputs=(C,),
        parameters=(
            Parameter("k", None, "optimum at the reference C0", unit=response.unit),
            Parameter("a", _SPLIT, "exponent of the optimum in C"),
        ),
        sampled=(Parameter("ratio", _RATIO, "tokens per parameter at C0"),),
        natural={"k": natural},
        inverse={"ratio": inverse},
        response=response,
        derived={"b": Derived(lambda a: 1 - a, "exponent of the other of N_opt and D_opt")},
        optimum=optimum,
        references=(HOFFMANN,),
        validity="Points of an envelope: one row a budget, with the best size. The minimum of noisy curves picks lucky "
        "runs, and points of one curve are not independent: chinchilla on all runs does without either.",
        relations=("chinchilla gives k and a", "isoflop_parabola on all runs of the budgets", "power_law in compute"),
        unidentified=("how the loss rises off the optimum, which the envelope does not hold",),
        decisions=("the model size and tokens at a budget",),
        decides=Decision(reads=True),
        options={"y": y},
        checks=(
            Check(
                "N_opt at 5.76e23 by 20 tokens per parameter",
                dict(k=(1e21 / 120) ** 0.5, C=5.76e23, C0=1e21, a=0.5),
                69282000000.0,
            ),
        ),
    )


def _parabola(N, C, C0, E, l, gamma, kappa, k, a):
    import jax.numpy as jnp

    return E + l * (C / C0) ** -gamma + 0.5 * kappa * (jnp.log(N) - jnp.log(k) - a * jnp.log(C / C0)) ** 2


def _flattening(N, C, C0, E, l, gamma, kappa, k, a):
    import jax.numpy as jnp

    step = jnp.log(N) - jnp.log(k) - a * jnp.log(C / C0)
    return E + (l + 0.5 * kappa * step**2) * (C / C0) ** -gamma


def _bent(N, C, E, A, B, alpha, beta, c):
    """The parametric law to second order in log N around its own optimum at C, the second order times c."""
    import jax.numpy as jnp

    n, d = chinchilla_optimum(C, A, B, alpha, beta)
    reducible = A * n**-alpha + B * d**-beta
    return E + reducible * (1 + 0.5 * c * alpha * beta * (jnp.log(N) - jnp.log(n)) ** 2)


def _curvature(C0, A, B, alpha, beta, c):
    n, d = chinchilla_optimum(C0, A, B, alpha, beta)
    return c * alpha * beta * (A * n**-alpha + B * d**-beta)


def _parametric_parabola() -> Law:
    """Approaches 2 and 3 in one model: IsoFLOP parabolas whose vertices and heights are the parametric law's."""
    return Law(
        name="isoflop_parabola",
        title="Chinchilla approaches 2 and 3 in one: parabolas at the parametric law's optima",
        equation=r"L(N, C) = E + r(C) \left[1 + \frac{c}{2} \alpha\beta (\ln N - \ln N_\mathrm{opt}(C))^2\right], "
        r"r = A N_\mathrm{opt}^{-\alpha} + B D_\mathrm{opt}^{-\beta}, N_\mathrm{opt} = G (C/6)^{\beta/(\alpha+\beta)}",
        mean=_bent,
        inputs=(N, C),
        parameters=(
            E,
            Parameter("A", CONTRIBUTION, "size coefficient", unit="response", at={"N": "alpha"}),
            Parameter("B", None, "data coefficient", unit="response"),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("beta", EXPONENT, "data exponent"),
            # 1 where the curves are the parametric law's own; a factor of 2.7 either side of it (95 %).
            Parameter("c", LogNormal(0.0, 0.5), "curvature over that which the exponents imply"),
        ),
        sampled=(Parameter("B_ref", CONTRIBUTION, "data term at the reference D = C0 / (6 N0)", unit="response"),),
        natural={"B": lambda B_ref, beta, C0, N0: B_ref * (C0 / (6 * N0)) ** beta},
        inverse={"B_ref": lambda B, beta, C0, N0: B * (C0 / (6 * N0)) ** -beta},
        response=LOSS,
        floor="E",
        derived={
            "a": Derived(lambda alpha, beta: beta / (alpha + beta), "exponent of N_opt in C"),
            "b": Derived(lambda alpha, beta: alpha / (alpha + beta), "exponent of D_opt in C"),
            "G": Derived(chinchilla_scale, "N_opt = G (C/6)^a"),
            "kappa": Derived(_curvature, "curvature at C0 per squared e-fold of N", "as the response"),
        },
        optimum=chinchilla_optimum,
        references=(HOFFMANN, PORIAN),
        validity="Runs within about an e-fold of the bottoms of IsoFLOP curves, with C = 6ND. Far off the bottoms the "
        "parametric law itself is no parabola: use chinchilla.",
        relations=(
            "chinchilla to second order with c = 1 (fix={'c': 1})",
            "isoflop_parabola:flattening=true where vertices and heights are free of each other",
        ),
        unidentified=(
            "c without runs on both sides of the vertices: the exponents then follow from vertices and heights alone",
        ),
        decisions=("the model size and tokens at a budget", "whether approaches 2 and 3 agree on one table: c near 1"),
        options={"vertex": "chinchilla"},
        checks=(
            Check("no more than the parametric law at its optimum for 5.76e23", _AT_OPTIMUM, 1.8172 + 0.157241),
            Check(
                "one e-fold off it: half the curvature",
                _AT_OPTIMUM | {"N": 72248700000.0 * 2.718281828459045},
                1.8172 + 0.157241 + 0.0100025,
            ),
        ),
    )


#: Besiroglu et al. at their optimum for 5.76e23.
_AT_OPTIMUM = dict(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658, c=1.0, N=72248700000.0, C=5.76e23)


@catalogued(tier=1, family="compute-optimal")
def isoflop_parabola(flattening: bool = False, vertex: str = "free") -> Law:
    """Approach 2 of Hoffmann et al. as one model: a parabola in log N at each budget, with its vertex a power of C.

    With `vertex="chinchilla"` the vertices, and the losses there, are those of the parametric law (approach 3), and the
    curvature is free of what that law implies by one factor.
    """
    if vertex not in ("free", "chinchilla"):
        raise LawError(f"no vertex {vertex!r}", code="BS-L002", remedy="Options: free, chinchilla.")
    if vertex == "chinchilla":
        if flattening:
            raise LawError("curvature already follows the parametric law: leave flattening out", code="BS-L002")
        return _parametric_parabola()
    return Law(
        name="isoflop_parabola",
        title="Chinchilla approach 2: IsoFLOP parabolas",
        equation=r"L(N, C) = E + l\,(C/C_0)^{-\gamma} + \frac{\kappa}{2} "
        + (r"(C/C_0)^{-\gamma} " if flattening else "")
        + r"\left[\ln N - \ln k - a \ln(C/C_0)\right]^2",
        mean=_flattening if flattening else _parabola,
        inputs=(N, C),
        parameters=(
            E,
            Parameter("l", CONTRIBUTION, "reducible loss at the optimum for C0", unit="response"),
            # alpha beta / (alpha + beta) of published Chinchilla fits is .15 to .18.
            Parameter("gamma", LogNormal(log(0.16), 0.5), "exponent of the reducible loss at the optimum"),
            Parameter("kappa", LogNormal(log(0.05), 1.0), "curvature per squared e-fold of N", unit="response"),
            Parameter("k", None, "N_opt at C0", unit="parameters"),
            Parameter("a", _SPLIT, "exponent of N_opt in C"),
        ),
        sampled=(Parameter("ratio", _RATIO, "tokens per parameter at the optimum for C0"),),
        natural={"k": lambda ratio, C0: (C0 / (6 * ratio)) ** 0.5},
        inverse={"ratio": lambda k, C0: C0 / (6 * k**2)},
        response=LOSS,
        floor="E",
        derived={"b": Derived(lambda a: 1 - a, "exponent of D_opt in C")},
        optimum=_size_optimum,
        references=(HOFFMANN, PORIAN),
        validity="Runs near the bottoms of IsoFLOP curves: a parabola is symmetric, and far from the vertex the curve "
        "is not unless alpha = beta. Curvature falls with compute over wide ranges: flattening=true.",
        relations=("chinchilla to second order, where kappa = alpha beta (L - E)", "chinchilla_a1 for the vertices"),
        unidentified=("E against l and gamma when the budgets span less than two decades",),
        decisions=("the model size and tokens at a budget", "what a smaller or larger model costs in loss"),
        options={"flattening": flattening},
        checks=(
            Check(
                "one e-fold off the vertex: half the curvature at Besiroglu's optimum for 5.76e23",
                dict(E=1.8172, l=0.157241, gamma=0.0, kappa=0.020005, k=72248700000.0, a=0.5126)
                | dict(N=72248700000.0 * 2.718281828459045, C=5.76e23, C0=5.76e23),
                1.8172 + 0.157241 + 0.0100025,
            ),
        ),
    )


def _cost(N, l, Dinf, E, A, B, alpha, beta):
    return 6 * N * ((l - E - A * N**-alpha) / B) ** (-1 / beta) + 2 * N * Dinf


def _served_optimum(l, Dinf, E, A, B, alpha, beta):
    """The least cost at loss l: the share q of the reducible loss that size leaves solves D (alpha q / (beta (1 - q)) -
    1) = Dinf / 3, by bisection between its value without inference and 1."""
    import jax
    import jax.numpy as jnp

    reducible = l - E

    def tokens(q):
        return (reducible * (1 - q) / B) ** (-1 / beta)

    def halve(_, bounds):
        low, high = bounds
        q = (low + high) / 2
        below = tokens(q) * (alpha * q / (beta * (1 - q)) - 1) < Dinf / 3
        return jnp.where(below, q, low), jnp.where(below, high, q)

    start = jnp.asarray(beta / (alpha + beta) + 0.0 * (reducible + Dinf))
    q, _ = jax.lax.fori_loop(0, 60, halve, (start, jnp.ones_like(start)))
    return (A / (q * reducible)) ** (1 / alpha), tokens(q)


@catalogued(tier=1, family="compute-optimal")
def inference_aware() -> Law:
    """The cost of training and serving a model of a given loss (Sardana et al.), from a fit of chinchilla."""
    quality = dict(l=2.094449421787097, E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
    return Law(
        name="inference_aware",
        title="Inference-aware allocation",
        equation=r"\mathrm{cost}(N) = 6 N \left(\frac{l - E - A N^{-\alpha}}{B}\right)^{-1/\beta} + 2 N D_\mathrm{inf}",
        mean=_cost,
        inputs=(
            N,
            Input("l", "nats/token", "loss that the model must reach", "target_loss", reference=2.1, centre="none"),
            Input("Dinf", "tokens", "tokens served in its life", "inference_tokens", reference=1e11, centre="none"),
        ),
        parameters=(
            E,
            Parameter("A", CONTRIBUTION, "size coefficient", unit="response", at={"N": "alpha"}),
            Parameter("B", LogNormal(log(400.0), 1.2), "data coefficient", unit="response"),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("beta", EXPONENT, "data exponent"),
        ),
        response=Response("cost", "FLOP", meaning="compute of training and of serving"),
        optimum=_served_optimum,
        references=(SARDANA,),
        validity="Computed from the draws of a fit of chinchilla, one draw at a time; a loss above the floor of every "
        "draw, and 2N FLOP a token served.",
        relations=("chinchilla with no tokens served",),
        unidentified=("nothing of its own: it has no parameters that chinchilla has not",),
        decisions=("the model size and training tokens for a model that will serve so many tokens",),
        decides=Decision(instead="Fit chinchilla, and ask `serve` of it: it is this law for every draw."),
        kind="pushforward",
        checks=(
            Check("cost at N = 6e9", dict(quality, N=6e9, Dinf=1e11), 2.09914e22),
            Check(
                "least cost at the quality of a 7B Chinchilla model", dict(quality, Dinf=1e11), 6338700000.0, "N_opt"
            ),
        ),
    )
