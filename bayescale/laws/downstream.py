"""Laws of downstream tasks: accuracy and error from loss, compute or size, between chance and a ceiling."""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np

from bayescale.errors import LawError, nearest
from bayescale.law import Beta, Check, Derived, Input, Law, LogNormal, Normal, Parameter, Response
from bayescale.laws.counts import Counted
from bayescale.laws.inputs import EXPONENT, D, N, axis
from bayescale.laws.references import (
    BHAGIA,
    GADRE,
    HU,
    RUAN,
    SCHAEFFER_DOWNSTREAM,
    WEI_EMERGENT,
    WEI_U_SHAPED,
)
from bayescale.laws.registry import catalogued

_ACCURACY = Response("accuracy", "1", support="unit", meaning="share answered correctly", noise_scale=0.05)
_CORRECT = Response("correct", "items", support="count", meaning="items answered correctly")
_ITEMS = Input("items", "items", "items of the benchmark", "items", reference=1000.0, centre="none")
#: How alike the rows are beyond their items: the concentration of a beta distribution around the law.
_PHI = Parameter("phi", LogNormal(log(200.0), 1.5), "concentration of rows around the law", symbol=r"\phi")
_CHANCE = Beta(2.0, 6.0)
_COUNTS = ("none", "binomial", "beta_binomial")


def _observed(mean: Callable[..., Any], counts: str) -> tuple[dict[str, Any], tuple[Input, ...], tuple[Parameter, ...]]:
    """What is observed of a share: itself with noise on the logit scale, or counts of items with their likelihood."""
    if counts not in _COUNTS:
        raise LawError(f"no likelihood of counts {counts!r}", code="BS-L002", remedy=nearest(counts, [*_COUNTS]))
    if counts == "none":
        return dict(response=_ACCURACY), (), ()
    likelihood = Counted(mean, "correct", "items", "phi" if counts == "beta_binomial" else None)
    extra = (_PHI,) if counts == "beta_binomial" else ()
    return dict(response=_CORRECT, likelihood=likelihood, sampler=likelihood.sampler), (_ITEMS,), extra


@catalogued(tier=1, family="downstream")
def gadre_error() -> Law:
    """The average error of a suite of tasks from the loss: an exponential approach to a plateau (Gadre et al.)."""

    def mean(L, eps, k, gamma):
        import jax.numpy as jnp

        return eps - k * jnp.exp(-gamma * L)

    def gain(share, eps, gamma, L0):
        import jax.numpy as jnp

        return share * eps * jnp.exp(gamma * L0)

    def share_of(k, eps, gamma, L0):
        import jax.numpy as jnp

        return k / eps * jnp.exp(-gamma * L0)

    return Law(
        name="gadre_error",
        title="Loss to downstream error",
        equation=r"\mathrm{Err}(L) = \epsilon - k\,e^{-\gamma L}",
        mean=mean,
        inputs=(Input("L", "nats/token", "loss of the model", "loss", reference=2.5, centre="least"),),
        parameters=(
            Parameter("eps", Beta(8.0, 2.5), "error of a model that knows nothing: near chance", symbol=r"\epsilon"),
            Parameter("k", None, "coefficient of the gain"),
            Parameter("gamma", LogNormal(0.0, 0.5), "decay of the gain in loss", unit="1/nat"),
        ),
        # k e^(-gamma L) has no size of its own far from the losses seen: the gain at the best of them has.
        sampled=(Parameter("share", Beta(2.0, 2.0), "share of eps that is gained at the least loss in the table"),),
        natural={"k": gain},
        inverse={"share": share_of},
        response=Response("error", "1", support="real", meaning="average error of the tasks", noise_scale=0.01),
        references=(GADRE,),
        validity="One suite of tasks and one validation set, losses over a range; errors well above 0.",
        relations=(
            "two_step has a logistic in place of the exponential",
            "power_law of the perplexity, as k PP^-gamma",
        ),
        unidentified=("k and gamma trade off over a narrow range of losses", "eps without models near chance"),
        decisions=("the error of a large model from its forecast loss", "the loss that a target error needs"),
        checks=(
            Check("eps = .85, k = 2.08, gamma = .756 at L = 2.3", dict(eps=0.85, k=2.08, gamma=0.756, L=2.3), 0.484479),
        ),
    )


def _logistic(x, c, u, s, xm):
    import jax
    import jax.numpy as jnp

    return c + (u - c) * jax.nn.sigmoid(s * (jnp.log(x) - jnp.log(xm)))


@catalogued(tier=1, family="downstream")
def sigmoid_compute(x: str = "flops", counts: str = "none") -> Law:
    """Accuracy between chance and a ceiling as a logistic in log scale; `counts` takes items instead of shares."""
    observed, inputs, extra = _observed(_logistic, counts)
    return Law(
        name="sigmoid_compute",
        title="Logistic in log scale",
        equation=r"\mathrm{acc}(x) = c + (u - c)\,\sigma\left(s \ln(x/x_m)\right)",
        mean=_logistic,
        inputs=(axis(x), *inputs),
        parameters=(
            Parameter("c", _CHANCE, "accuracy by chance; fix it where the task tells it"),
            Parameter("u", None, "ceiling"),
            Parameter("s", LogNormal(log(0.7), 0.7), "steepness per e-fold of x"),
            Parameter("xm", None, "scale half-way between chance and ceiling", unit="as x", symbol="x_m"),
            *extra,
        ),
        sampled=(
            Parameter("headroom", Beta(8.0, 2.0), "ceiling, as a share of what chance leaves"),
            # Half-way may lie decades beyond the data: a factor of 3,000 either side of x0 (95 %).
            Parameter("midpoint", LogNormal(0.0, 4.0), "xm over x0"),
        ),
        natural={
            "u": lambda c, headroom: c + (1 - c) * headroom,
            "xm": lambda midpoint, x0: midpoint * x0,
        },
        inverse={
            "headroom": lambda c, u: (u - c) / (1 - c),
            "midpoint": lambda xm, x0: xm / x0,
        },
        **observed,
        derived={"width": Derived(lambda s: 2 * log(9) / (s * log(10)), "decades of x from a tenth to nine tenths")},
        references=(WEI_EMERGENT, RUAN),
        validity="One task; models that differ in x alone. Give items and counts where accuracies are near 0 or 1.",
        relations=("rl_sigmoid in another parametrisation", "log_linear near xm", "m4 in the error", "bnsl, nearly"),
        unidentified=(
            "xm when every point is near chance: only a lower bound is known",
            "u below about four fifths of the way up",
        ),
        decisions=("the scale at which a task is solved", "whether a task has begun to emerge"),
        options={"x": x, "counts": counts},
        checks=(
            Check(
                "one e-fold above xm",
                dict(c=0.25, u=0.95, s=0.8, x=2.718281828459045, xm=1.0),
                0.732982,
            ),
        ),
    )


def _task_loss(N, D, E, A, B, alpha, beta):
    return E + A * N**-alpha + B * D**-beta


def _accuracy(N, D, E, A, B, alpha, beta, a, k, L0, b):
    import jax

    return a * jax.nn.sigmoid(k * (_task_loss(N, D, E, A, B, alpha, beta) - L0)) + b


@catalogued(tier=1, family="downstream")
def two_step() -> Law:
    """Size and data to a task's loss, and the task's loss to accuracy, fitted together (Bhagia et al.)."""
    contribution = LogNormal(log(0.3), 1.0)
    return Law(
        name="two_step",
        title="Two-step task law",
        equation=r"L = E + A N^{-\alpha} + B D^{-\beta}, \mathrm{acc} = a / (1 + e^{-k (L - L_0)}) + b",
        mean={"task_loss": _task_loss, "accuracy": _accuracy},
        inputs=(N, D),
        parameters=(
            # Losses of a correct answer are .3 to 1.5 bits a byte.
            Parameter("E", LogNormal(log(0.4), 0.6), "floor of the task loss", unit="response"),
            Parameter("A", contribution, "size coefficient", unit="response", at={"N": "alpha"}),
            Parameter("B", contribution, "data coefficient", unit="response", at={"D": "beta"}),
            Parameter("alpha", EXPONENT, "size exponent"),
            Parameter("beta", EXPONENT, "data exponent"),
            Parameter("a", None, "accuracy by chance less the ceiling"),
            Parameter("b", None, "ceiling of the accuracy"),
            Parameter("k", LogNormal(log(5.0), 0.7), "steepness", unit="1/response"),
            Parameter("L0", LogNormal(log(0.8), 0.4), "task loss half-way", unit="response", symbol="L_0"),
        ),
        sampled=(
            Parameter("ceiling", Beta(8.0, 2.0), "ceiling of the accuracy"),
            Parameter("chance", Beta(4.0, 8.0), "accuracy by chance, as a share of the ceiling", below="ceiling"),
        ),
        natural={"a": lambda chance, ceiling: chance - ceiling, "b": lambda ceiling: ceiling},
        inverse={"ceiling": lambda b: b, "chance": lambda a, b: a + b},
        responses=(
            Response("task_loss", "bits/byte", meaning="loss of the correct answer"),
            _ACCURACY,
        ),
        floor="E",
        references=(BHAGIA, SCHAEFFER_DOWNSTREAM, GADRE),
        validity="One task with its loss and accuracy in every row, or in rows told apart by a column `response`; the "
        "loss averaged over the last checkpoints, as in the paper.",
        relations=("chinchilla for the first step", "gadre_error and sigmoid_compute for the second"),
        unidentified=("the ceiling below about .8 accuracy", "chance without models near it: fix it where known"),
        decisions=("the accuracy of a model that is not yet trained", "the size at which a task is solved"),
        checks=(
            Check(
                "accuracy of 7e9 parameters on 4e12 tokens",
                dict(a=-0.6, b=0.85, k=5.0, L0=0.8, E=0.3, A=20.0, alpha=0.25, B=300.0, beta=0.3, N=7e9, D=4e12),
                0.772321,
                of="accuracy",
            ),
        ),
    )


def _two_sigmoids(x, c, u, v, s1, m1, s2, m2):
    import jax
    import jax.numpy as jnp

    late = jax.nn.sigmoid(s2 * (jnp.log(x) - m2))
    return c + u * late - v * jax.nn.sigmoid(s1 * (jnp.log(x) - m1)) * (1 - late)


@catalogued(tier=2, family="downstream")
def u_shape(x: str = "flops") -> Law:
    """Accuracy that first falls, as a distractor is learned, and then rises with the true task."""
    return Law(
        name="u_shape",
        title="Inverse and U-shaped scaling",
        equation=r"\mathrm{acc}(x) = c + u\,\sigma_2 - v\,\sigma_1 (1 - \sigma_2), "
        r"\sigma_i = \sigma\left(s_i (\ln x - m_i)\right)",
        mean=_two_sigmoids,
        inputs=(axis(x),),
        parameters=(
            Parameter("c", Beta(2.0, 2.0), "accuracy of small models"),
            Parameter("u", None, "rise above it in the end"),
            Parameter("v", None, "dip below it in between"),
            Parameter("s1", LogNormal(0.0, 0.5), "steepness of the dip per e-fold", symbol="s_1"),
            Parameter("m1", None, "log of x where the distractor sets in", symbol="m_1"),
            Parameter("s2", LogNormal(0.0, 0.5), "steepness of the rise per e-fold", symbol="s_2"),
            Parameter("m2", None, "log of x where the true task sets in", symbol="m_2"),
        ),
        # The rise is a share of what c leaves below 1, and the dip a share of c, so accuracies stay in (0, 1).
        sampled=(
            Parameter("rise", Beta(2.0, 2.0), "u as a share of 1 - c"),
            Parameter("dip", Beta(1.5, 2.0), "v as a share of c"),
            Parameter("onset", Normal(-2.0, 3.0), "m1 less log x0"),
            Parameter("recovery", LogNormal(log(4.0), 0.7), "m2 less m1"),
        ),
        natural={
            "u": lambda c, rise: rise * (1 - c),
            "v": lambda c, dip: dip * c,
            "m1": lambda onset, x0: onset + _log(x0),
            "m2": lambda m1, recovery: m1 + recovery,
        },
        inverse={
            "rise": lambda c, u: u / (1 - c),
            "dip": lambda c, v: v / c,
            "onset": lambda m1, x0: m1 - _log(x0),
            "recovery": lambda m1, m2: m2 - m1,
        },
        response=_ACCURACY,
        references=(WEI_U_SHAPED,),
        validity="One task over three decades or more, with points on both sides of the dip.",
        relations=("sigmoid_compute with v = 0", "bnsl with two breaks"),
        unidentified=("m2 and u when no point lies beyond the dip: they are the prior's",),
        decisions=("whether a task that gets worse with scale will recover",),
        unverified="The form is bayescale's: the paper reports shapes (6 U-shaped, 4 inverse, 1 rising of 11 tasks), "
        "not a formula.",
        options={"x": x},
        checks=(
            Check("at e^2", dict(_U_SHAPED, x=7.3890560989306495), 0.247708),
            Check("at e^6", dict(_U_SHAPED, x=403.428793492735), 0.88741),
        ),
    )


_U_SHAPED = dict(c=0.5, u=0.4, s2=2.0, m2=4.0, v=0.3, s1=2.0, m1=1.0)


def _log(x):
    import jax.numpy as jnp

    return jnp.log(x)


def _pass_until(N, N0, c, alpha):
    import jax.numpy as jnp

    return jnp.exp(-c * (N / N0) ** -alpha)


def _failures_until(failures, limit, N, N0, c, alpha):
    """The log-probability of that many failures and then a pass, or of failures up to the limit: censored there."""
    import jax.numpy as jnp

    log_p = -c * (N / N0) ** -alpha
    log_fail = jnp.log(-jnp.expm1(log_p))
    return failures * log_fail + jnp.where(failures < limit - 0.5, log_p, 0.0)


def _draw_failures(rng, mean, limit):
    failures = rng.geometric(np.clip(mean, 1e-12, 1.0)) - 1.0
    return np.minimum(failures, np.rint(limit))


@catalogued(tier=2, family="downstream")
def passuntil() -> Law:
    """The chance that a sample passes, from the failures before one does: a censored geometric (Hu et al.)."""
    return Law(
        name="passuntil",
        title="Task law on PassUntil",
        equation=r"\mathrm{PU}(N) = \exp\left(-c\,(N/N_0)^{-\alpha}\right)",
        mean=_pass_until,
        inputs=(
            N,
            Input("limit", "samples", "most samples that are drawn", "samples_limit", 1e4, centre="none"),
        ),
        parameters=(
            Parameter("c", LogNormal(log(3.0), 1.0), "minus the log of the pass rate at N0"),
            Parameter("alpha", LogNormal(log(0.3), 0.6), "exponent"),
        ),
        response=Response("failures", "samples", support="count", meaning="samples before the first that passes"),
        likelihood=_failures_until,
        sampler=_draw_failures,
        references=(HU,),
        validity="Rows of one problem and model each, or of repeats; problems of like difficulty. Where no sample "
        "passed, failures equal the limit.",
        relations=("power_law of -log PU", "beta_binomial_passk for problems that differ"),
        unidentified=("alpha when every row is censored: only a bound is known",),
        decisions=("the size at which a task that no small model solves is solved",),
        checks=(Check("c = 5, alpha = .3, ten times N0", dict(c=5.0, alpha=0.3, N=10.0, N0=1.0), 0.0815992),),
    )
