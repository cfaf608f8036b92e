"""Inputs, responses and priors that laws share, each declared once."""

from math import log

from bayescale.law import Input, LogNormal, Parameter, Response

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
