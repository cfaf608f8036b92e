"""Weights of models for a stack of their predictions, and the stack as one fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayescale.comparison.comparing import Comparison, compare
from bayescale.comparison.mixing import stacked_fit
from bayescale.errors import LawError, NotFittedFor, require_seed
from bayescale.posterior import Fit
from bayescale.sampling import Progress


def stack(
    fits: Sequence[Fit],
    *,
    weights: Sequence[float] | None = None,
    over: str | None = None,
    seed: int = 0,
    comparison: Comparison | None = None,
    progress: bool | Progress | None = None,
) -> Fit:
    """One fit that predicts as a weighted mixture of fits of one law, under other noises or groups.

    p(y | stack) = Σ_k w_k p(y | model k), with weights that would have predicted left-out parts of the table best
    (`compare`; equal where there are fewer than 8 folds), or given ones. Draws are taken from each fit in proportion to
    its weight: which draws of a chain are whose is shuffled by the seed, those of one fit keep their order. Summary,
    allocation, forecast and files are as of any fit, `headline_source` is "stack". Headlines of the fits are mixed, so
    a stack of adjusted intervals is adjusted; where one of them must not be headlined, neither must the stack.

    Raises `LawError` (BS-L002) for fits of different laws, whose draws are of different parameters, and what `compare`
    raises.

    Example:
        >>> bs.stack([student, normal])  # doctest: +SKIP
    """
    fits, seed = [*fits], require_seed(seed)
    if len(fits) < 2:
        raise LawError("a stack is of at least two fits", code="BS-U001", remedy="Give a list: [one, other].")
    laws = {f.law.digest(): f.law.spec for f in fits}
    if len(laws) > 1:
        raise LawError(
            f"{' and '.join(laws.values())} are different laws: their draws are of different parameters, so they make "
            "no one fit",
            code="BS-L002",
            remedy="Stack fits of one law under other noises or groups; for laws, compare(...) gives the weights and "
            "what each law answers.",
        )
    if weights is None:
        comparison = comparison or compare(fits, over=over, seed=seed, progress=progress)
        if len(comparison.given) != len(fits):
            raise NotFittedFor(
                f"only {len(comparison.given)} of {len(fits)} fits could be scored: {'; '.join(comparison.notes)}",
                code="BS-F002",
                remedy="Leave the others out, or give weights.",
            )
        weights = comparison.weights.tolist()
    w = np.asarray(weights, float)
    if w.shape != (len(fits),) or not (np.isfinite(w) & (w >= 0)).all() or w.sum() <= 0:
        raise LawError("weights must be one number a fit, none negative", code="BS-U001")
    told: dict[str, Any] = {"by": "given"}
    if comparison is not None:
        told = {"by": comparison.weighed, "over": comparison.over, "folds": comparison.scored}
    return stacked_fit(fits, w / w.sum(), seed, told)
