"""The audit of a fit: what its intervals rest on, by leaving runs out and by fitting other models."""

from bayescale.auditing.answering import LadderAnswer, Ladders, ladders
from bayescale.auditing.bagging import bayesbag
from bayescale.auditing.leaving_out import Audit, Stability, audit, linearised_fit, stability
from bayescale.auditing.specifying import Specifications, specifications

__all__ = [
    "Audit",
    "LadderAnswer",
    "Ladders",
    "Specifications",
    "Stability",
    "audit",
    "bayesbag",
    "ladders",
    "linearised_fit",
    "specifications",
    "stability",
]
