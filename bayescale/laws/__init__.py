"""The catalogue of scaling laws: one block a law, one module a family, each found because it is there."""

from importlib import import_module
from pkgutil import iter_modules

from bayescale.laws.registry import LAWS, Entry, find_law

for _module in sorted(m.name for m in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

__all__ = ["LAWS", "Entry", "find_law"]
