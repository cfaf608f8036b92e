"""What a run's own checkpoints still say of it: the part of their noise that goes on to its next ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bayescale.model.observing import RANGE, curves_of, place_column
from bayescale.noise import LINKS
from bayescale.posterior.fit import Fit
from bayescale.posterior.rebuilding import noise_scales

#: Inputs of a point that differ by more than this are not those of the run.
SAME_RUN = 0.01


@dataclass(frozen=True, eq=False)
class Carried:
    """What goes on at each point of a run, by draw: its `mean` and the `share` of the noise's scale that is new.

    Both have the shape (points, samples).
    """

    mean: np.ndarray
    share: np.ndarray


def carried(
    fit: Fit,
    at: Mapping[str, np.ndarray],
    levels: Mapping[str, str],
    location: Callable[[np.ndarray], np.ndarray],
    suffix: str,
) -> Carried | None:
    """What the checkpoint nearest before each point (else the first after it) says of the noise there.

    A run's residuals are correlated with exp(-distance / ell) along log tokens: given one of them, the next has that
    share of it as its mean, in units of the noise's scale. Rows of the table are of the run at all of these `levels`;
    `location` gives the law and what is known of groups at rows of the table, on the link scale. None where checkpoints
    are not correlated in the fit, or points have no place along the run. Of several curves of a run, such as phases,
    that which went farthest goes on.
    """
    draws, runs, law = fit.draws("posterior"), fit.runs, fit.law
    column = place_column(law, runs)
    if column is None:
        return None
    name = next((i.name for i in law.inputs if i.column == column and not i.dims), None)
    observed = law.responses[0]
    if (
        f"{RANGE.name}{suffix}" not in draws
        or name is None
        or name not in at
        or fit.info["options"].get("min_flops") == "auto"
    ):
        return None
    own = np.ones(len(runs), bool)
    for label, level in levels.items():
        at_level, names = runs.labels(label)
        if str(level) in names:  # a budget that was read off compute has a name of its own
            own &= at_level == names.index(str(level))
    own &= ~np.isin(runs.rows, fit.info["options"].get("held_out", ()))
    if len(law.responses) > 1 or not own.any():
        return None
    everywhere = np.log(runs.values(column))
    rows = np.flatnonzero(own)
    rows = rows[np.argsort(everywhere[rows], kind="stable")]
    curve = curves_of(runs, runs.labels("run")[0], everywhere)[rows]
    rows = rows[curve == curve[-1]]
    place = everywhere[rows]
    points = np.log(np.asarray(at[name], float))
    nearest = np.maximum(np.searchsorted(place, points, side="right") - 1, 0)
    known, at_known = np.unique(rows[nearest], return_inverse=True)
    link, y = LINKS[observed.support], runs.values(observed.source)[known]
    residual = np.asarray(link.forward(y), float)[:, None] - location(known)
    scale = noise_scales(fit, {i.name: runs.values(i.column)[known] for i in law.inputs if not i.dims}, suffix)
    if runs.has(f"{observed.source}_se"):
        error = runs.values(f"{observed.source}_se")[known] * np.exp(link.log_slope(y))
        scale = np.hypot(scale, error[:, None])
    rho = np.exp(-np.abs(points - place[nearest])[:, None] / draws[f"{RANGE.name}{suffix}"])
    for i in law.inputs:  # a point at other inputs is of another run
        if i.name != name and not i.dims and i.name in at:
            there, here = runs.values(i.column)[known][at_known], np.asarray(at[i.name], float)
            rho = np.where(np.isclose(there, here, rtol=SAME_RUN)[:, None], rho, 0.0)
    score = (residual / scale)[at_known]
    return Carried(rho * noise_scales(fit, at, suffix) * score, np.sqrt(1 - rho**2))
