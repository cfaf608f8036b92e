"""What a scaling law is: inputs, parameters, priors, response, and the declaration that holds them."""

from bayescale.law.decisions import Choice, Decision
from bayescale.law.declaration import (
    Check,
    Derived,
    Input,
    Law,
    Parameter,
    Reference,
    Response,
)
from bayescale.law.formulas import argument_names, call, contribution_name
from bayescale.law.pooling import PooledLaw, Spread, pooled_law
from bayescale.law.priors import (
    FAMILIES,
    Beta,
    Exponential,
    Gamma,
    HalfNormal,
    LogNormal,
    LogUniform,
    Normal,
    Prior,
    Uniform,
    parse_prior,
)
from bayescale.law.units import BYTES_PER_TOKEN, LOSS_UNITS, Unit, loss_unit

__all__ = [
    "BYTES_PER_TOKEN",
    "FAMILIES",
    "LOSS_UNITS",
    "Beta",
    "Check",
    "Choice",
    "Decision",
    "Derived",
    "Exponential",
    "Gamma",
    "HalfNormal",
    "Input",
    "Law",
    "LogNormal",
    "LogUniform",
    "Normal",
    "Parameter",
    "PooledLaw",
    "Prior",
    "Reference",
    "Response",
    "Spread",
    "Uniform",
    "Unit",
    "argument_names",
    "call",
    "contribution_name",
    "loss_unit",
    "parse_prior",
    "pooled_law",
]
