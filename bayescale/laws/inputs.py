"""Inputs, responses and priors that laws share, each declared once."""

from dataclasses import dataclass
from math import log

from bayescale.errors import LawError, nearest
from bayescale.law import Input, LogNormal, Parameter, Prior, Response

N = Input("N", "parameters", "model size", "params", reference=1e9)
D = Input("D", "tokens", "training tokens", "tokens", reference=2e10)
C = Input("C", "FLOP", "training compute", "flops", reference=1e21)
M = Input("M", "tokens/parameter", "token multiplier D/N", "tokens_per_param", reference=20.0)
U = Input("U", "tokens", "distinct training tokens", "unique_tokens", reference=2e10)

LOSS = Response("loss", "nats/token", support="positive", meaning="held-out loss")

#: The published floors of language-model losses lie between .5 and 2 nats per token.
FLOOR = LogNormal(log(1.5), 0.6)
#: What model size or data adds to the loss at the middle of a design: a few tenths to two nats per token.
CONTRIBUTION = LogNormal(log(0.5), 1.2)
#: Published exponents beside a free floor are .2 to .9; two of them imply a in [.24, .77] (90 %) before any data.
EXPONENT = LogNormal(log(0.35), 0.5)
#: Without a floor, published exponents are .03 to .5.
FLOORLESS_EXPONENT = LogNormal(log(0.12), 0.8)

E = Parameter("E", FLOOR, "floor: the loss of an infinite model on infinite data", unit="response")


@dataclass(frozen=True)
class Metric:
    """What a law of any positive metric predicts, with priors of its level, floor and reducible part."""

    response: Response
    level: Prior
    floor: Prior
    contribution: Prior


#: Metrics that fall with scale: a loss in its unit, or an error rate (a share of one).
METRICS = {
    "loss": Metric(LOSS, LogNormal(log(2.5), 0.8), FLOOR, CONTRIBUTION),
    "error": Metric(
        Response("error", "1", support="positive", meaning="error rate", noise_scale=0.03),
        LogNormal(log(0.3), 0.8),
        LogNormal(log(0.1), 1.0),
        LogNormal(log(0.2), 1.0),
    ),
}

_AXES = {i.column: i for i in (N, D, C)}


def axis(column: str) -> Input:
    """The scale variable of a one-variable law: any column, called x in the formula."""
    known = _AXES.get(column)
    unit, meaning, reference = (known.unit, known.meaning, known.reference) if known else ("1", column, None)
    return Input("x", unit, meaning, column, reference=reference)


def metric(name: str) -> Metric:
    """The metric of that name; raises `LawError` (BS-L002) naming those known."""
    if name not in METRICS:
        raise LawError(f"no metric {name!r}", code="BS-L002", remedy=nearest(name, [*METRICS]))
    return METRICS[name]
