"""Doctor before sampling, checks after it."""

from bayescale.diagnostics.after import check, check_draws
from bayescale.diagnostics.before import Diagnosis, doctor, exponents_of, require_answerable

__all__ = ["Diagnosis", "check", "check_draws", "doctor", "exponents_of", "require_answerable"]
