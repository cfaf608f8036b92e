"""Reading tables of training runs: files, units and column names → `Runs`."""

from bayescale.reading.headers import SYNONYMS, WEAK_SYNONYMS
from bayescale.reading.reader import read_runs
from bayescale.reading.register import CHECKS, Check

__all__ = ["CHECKS", "SYNONYMS", "WEAK_SYNONYMS", "Check", "read_runs"]
