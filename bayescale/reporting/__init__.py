"""From a fit to a paper: a folder of tables, figures and text that holds its own evidence."""

from bayescale.reporting.evaluation import Evaluation, evaluate
from bayescale.reporting.kit import Kit, report
from bayescale.reporting.manifest import Verification, verify
from bayescale.reporting.versions import show_versions

__all__ = ["Evaluation", "Kit", "Verification", "evaluate", "report", "show_versions", "verify"]
