"""The audit of a fit: what its intervals rest on, by leaving runs out and by fitting other models."""

from bayescale.auditing.leaving_out import Audit, Stability, audit, linearised_fit, stability
from bayescale.auditing.specifying import Specifications, specifications

__all__ = ["Audit", "Specifications", "Stability", "audit", "linearised_fit", "specifications", "stability"]
