"""What the tests of laws compute with: derivatives by differences, formulas in the order of what they need."""

from collections.abc import Callable, Mapping

import numpy as np

from bayescale.law import argument_names, call


def as_arrays(values: Mapping) -> dict[str, np.ndarray]:
    """Arguments of a check as float64 arrays."""
    return {k: np.asarray(v, float) for k, v in values.items()}


def slopes(f: Callable[[np.ndarray], float], x: np.ndarray, step: float) -> np.ndarray:
    """Central differences with five points: the error is of order step**4, so a long step keeps rounding small."""
    found = np.empty(len(x))
    for i, e in enumerate(step * np.eye(len(x))):
        found[i] = (8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * step)
    return found


def resolve(formulas: Mapping[str, Callable], known: Mapping) -> dict:
    """The values of formulas that may need one another, from what is known."""
    known, left = dict(known), dict(formulas)
    while left:
        ready = [n for n, f in left.items() if set(argument_names(f)) <= set(known)]
        assert ready, f"{sorted(left)} depend on each other or on something unknown"
        known |= {n: call(left.pop(n), known) for n in ready}
    return known
