"""Reading tables of training runs: files, units and column names → `Runs`."""

from bayescale.reading.checks import CHECKS, Check
from bayescale.reading.headers import SYNONYMS, WEAK_SYNONYMS
from bayescale.reading.reader import read_runs

__all__ = ["CHECKS", "SYNONYMS", "WEAK_SYNONYMS", "Check", "read_runs"]
