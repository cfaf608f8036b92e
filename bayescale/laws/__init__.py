"""The catalogue of scaling laws: one block a law, one module a family."""

from bayescale.laws import compute_data, data, univariate
from bayescale.laws.registry import LAWS, Entry, find_law

__all__ = ["LAWS", "Entry", "compute_data", "data", "find_law", "univariate"]
