"""Where a prior and the runs disagree: what each says alone, and how far apart that is."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from bayescale.errors import Finding
from bayescale.model import double_precision
from bayescale.narrowness.linearised import Linearised

#: The chance of an alarm where the prior is right, over all coordinates of a law.
FALSE_ALARM = 0.01
#: A coordinate of which the runs say less than this share has nothing to disagree with.
_TOLD = 0.02


def prior_conflict(line: Linearised, z: np.ndarray) -> Finding:
    """How far apart the prior and the runs are, in the coordinate where they are furthest.

    Every coordinate z of a model has a standard normal prior. If its posterior has mean m and variance V, the runs
    alone say m/(1 - V), and where the prior is right m is normal with variance 1 - V: so |m|/sqrt(1 - V) is a number of
    standard deviations. It is compared with what the largest of so many would exceed once in a hundred. The law's own
    coordinates are taken about the mode, those of noise and of the spreads of groups from the draws `z`, shape
    (samples, coordinates).
    """
    middle, variance = z.mean(axis=0), z.var(axis=0)
    middle[line.positions], variance[line.positions] = line.x[: line.inner], np.diag(line.covariance)[: line.inner]
    told = 1 - np.minimum(variance, 1 - _TOLD)
    apart = np.where(variance < 1 - _TOLD, np.abs(middle) / np.sqrt(told), 0.0)
    limit = NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * max(len(middle), 1)))
    k = int(np.argmax(apart))
    value, status = float(apart[k]), "warn" if apart.max(initial=0) > limit else "pass"
    name, prior, runs = _told_apart(line, k, float(middle[k] / told[k]))
    message = f"prior and runs are furthest apart in {name}: {prior:.3g} in the prior's middle, {runs:.3g} by the runs "
    message += f"alone, {value:.1f} standard deviations"
    if status == "warn":
        message += (
            f" where chance goes to {limit:.1f} once in a hundred: the answer lies between two that exclude each other."
            " Widen the prior with --prior, or ask what sets these runs apart"
        )
    return Finding("prior-conflict", "prior against runs", status, value, limit, message)


def _told_apart(line: Linearised, position: int, alone: float) -> tuple[str, float, float]:
    """The name of a coordinate, and its value in the prior's middle and where the runs alone put it."""
    slot = next(s for s in line.model.structure.coordinates.slots if s.start <= position < s.start + s.size)
    name, values = slot.parameter.name, []
    for z in (0.0, alone):
        flat = line.flat.copy()
        flat[position] = z
        with double_precision():
            found = line.model.structure.values(flat, line.model.data)
        shown = np.ravel(np.asarray(found.get(f"{name}_ref", found.get(name, np.nan))))
        values.append(float(shown[min(position - slot.start, len(shown) - 1)]))
    return (name if slot.size == 1 else f"{name}[{position - slot.start}]"), values[0], values[1]
