"""What more runs would buy: how many an interval needs, and how many a published one would have needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bayescale.auditing import linearised_fit
from bayescale.errors import LawError, NotFittedFor, nearest, require_positive
from bayescale.law import Law, call
from bayescale.laws import find_law
from bayescale.narrowness.clusters import label_of
from bayescale.posterior import Fit, flattened
from bayescale.records import Record

#: Nobody repeats the same sizes more often than this: a width that so many times the rows do not reach is out of reach.
_MOST_REPEATS = 1e4


@dataclass(frozen=True)
class RunsNeeded(Record):
    """How many runs like those of the table an interval of a given width would take.

    `rows` and `width` are the table's own; `same_groups` the rows needed if all new runs had the sizes, budgets and
    recipes of the table (None: ten thousand times the rows would still leave `limit`); `new_groups` the rows needed if
    the whole design were repeated with new ones.
    """

    quantity: str
    wanted: float
    prob: float
    rows: int
    width: float
    same_groups: float | None
    limit: float
    new_groups: float
    groups: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The answer in words."""
        head = (
            f"A {self.prob:.0%} interval of {self.quantity} as wide as {self.wanted:.3g} would take about "
            f"{self.new_groups:.3g} runs like these {self.rows}, whose interval is {self.width:.3g} wide"
        )
        if not self.groups:
            return f"{head}."
        shared = " and ".join(label_of(g) + "s" for g in self.groups)
        if self.same_groups is None:
            return (
                f"{head}, in as many new {shared}. No number of runs in the same {shared} would do: ten thousand times "
                f"as many leave it {self.limit:.3g} wide."
            )
        return f"{head}, in as many new {shared}; in the same {shared}, {self.same_groups:.3g}."

    def to_json(self) -> dict[str, Any]:
        """The record as a document."""
        return {**asdict(self), "groups": list(self.groups), "sentence": self.sentence}

    def __repr__(self) -> str:
        return f"<{self.sentence}>"


def runs_needed(fit: Fit, quantity: str, *, width: float, prob: float | None = None) -> RunsNeeded:
    """How many runs like those of the table an interval of that width would take.

    With n runs of new groups the width falls as 1/sqrt(n). More rows of the same model sizes only average the noise:
    the effects of those sizes stay, and soon more rows stop helping.

    Raises `NotFittedFor` for a fit that was not examined or that headlines nothing.

    Example:
        >>> print(bs.runs_needed(fit, "a", width=0.01).sentence)  # doctest: +SKIP
    """
    width = require_positive("a width", width)
    if fit.headline_source == "none":
        raise NotFittedFor("this fit headlines no interval to start from", code="BS-F002")
    prob = fit.probability(prob)
    line, names, gradients = linearised_fit(fit, (quantity,), elements=True)
    if not names:
        raise NotFittedFor(f"{quantity!r} does not depend smoothly on the law's coordinates")
    g = gradients[0]
    shown = dict(flattened(fit.tree["headline"].to_dataset()))[quantity]
    ends = np.quantile(shown, [(1 - prob) / 2, (1 + prob) / 2])
    now, rows = float(ends[1] - ends[0]), len(line.residual)

    def share(times: float) -> float:
        """The width with that many times the information in the same groups, over today's; the prior stays."""
        return float(np.sqrt(g @ line.covariance_of(times * line.rows.information) @ g) / own)

    own = 1.0
    own = share(1.0)
    limit = now * share(_MOST_REPEATS)
    same: float | None = None
    if width >= now:
        same = float(rows)
    elif width > limit or not fit.group:
        low, high = 1.0, 2.0
        while now * share(high) > width and high < 1e12:
            low, high = high, 2 * high
        for _ in range(60):
            middle = np.sqrt(low * high)
            low, high = (middle, high) if now * share(middle) > width else (low, middle)
        same = float(rows * high)
    new = rows * max(1.0, (now / width) ** 2)
    return RunsNeeded(quantity, width, prob, rows, now, same, float(limit), float(new), fit.group)


@dataclass(frozen=True)
class Judgement(Record):
    """What a published interval would have needed: see `judge`."""

    interval: tuple[float, float]
    rows: int
    prob: float
    reference_width: float | None
    implied_runs: float | None
    per_run_sd: float
    rounding: Mapping[str, float] | None
    limit: float | None
    lines: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The record as the command line prints it."""
        return {
            "schema": "bayescale.judge/1",
            **asdict(self),
            "interval": list(self.interval),
            "lines": list(self.lines),
        }

    def __repr__(self) -> str:
        return "<Judgement\n" + "\n".join(f"  {line}" for line in self.lines) + ">"


def judge(
    interval: tuple[float, float],
    rows: int,
    *,
    prob: float = 0.8,
    quantity: str = "a",
    width: float | None = None,
    fit: Fit | None = None,
    printed: Mapping[str, float] | None = None,
    unrounded: Mapping[str, float] | None = None,
    law: str | Law = "chinchilla",
    flops: float = 5.76e23,
) -> Judgement:
    """Judge a published interval: how many runs it implies, given how wide runs like these leave it.

    The runs implied are n * (reference width / published width)^2. The reference is `width`, which as many runs as the
    published `rows` leave, or the interval of the same probability in a `fit` (a posterior or a bootstrap of least
    squares) of n runs of its own. With `printed` and `unrounded`
    coefficients of a `law` the effect of rounding on N_opt at `flops` is told too.

    Raises `LawError` (BS-U001) for an interval that is not one.

    Example:
        >>> judge((0.454, 0.455), 240, prob=0.8, width=0.0514).implied_runs
        634070.4
    """
    from scipy.stats import norm

    lower, upper = map(float, interval)
    wrong = {
        f"an interval needs a lower and an upper end, got {lower:g} and {upper:g}": not lower < upper,
        f"the ends of an interval are numbers, got {lower:g} and {upper:g}": bool(np.isinf([lower, upper]).any()),
        f"an interval comes from at least one row, got {rows}": rows < 1,
        f"prob must lie between 0 and 1, got {prob:g}": not 0 < prob < 1,
        f"a width must be a positive number, got {width}": width is not None and not 0 < width < np.inf,
        "a width and a fit both say how wide runs like these leave it": width is not None and fit is not None,
    }
    for why in (told for told, so in wrong.items() if so):
        raise LawError(why, code="BS-U001", remedy="For example --interval 0.454 0.455 --rows 240 --prob 0.8.")
    published = upper - lower
    sd = published / (2 * float(norm.ppf((1 + prob) / 2)))
    per_run = sd * np.sqrt(rows)
    limit, lines = None, []
    lines.append(
        f"{quantity} in [{lower:g}, {upper:g}] ({prob:.0%}) from {rows} rows: a standard error of {sd:.2g}, as if "
        f"every run told {quantity} to ± {per_run:.2g}."
    )
    runs = rows
    if fit is not None:
        shown = fit.tree["posterior" if fit.headline_source == "none" else "headline"].to_dataset()
        if quantity not in (known := dict(flattened(shown))):
            raise LawError(f"no quantity {quantity!r}", code="BS-L002", remedy=nearest(quantity, [*known]))
        ends = np.quantile(known[quantity], [(1 - prob) / 2, (1 + prob) / 2])
        width, runs = float(ends[1] - ends[0]), int(fit.info["runs"]["used"])
    implied = None
    if width is not None:
        implied = float(np.round(runs * (width / published) ** 2, 6))
        these = "Runs like these" if runs == rows else f"{runs} runs like those of the fit"
        lines.append(
            f"{these} leave an interval {width:.3g} wide, {_times(width / published)} the published one: it would have "
            f"needed about {implied:,.0f} such runs."
        )
    if fit is not None and fit.audit and fit.headline_source != "none":
        needed = runs_needed(fit, quantity, width=published, prob=prob)
        limit = needed.limit
        if needed.groups and needed.same_groups is None:
            shared = " and ".join(label_of(g) + "s" for g in needed.groups)
            lines.append(
                f"No number of rows in the same {shared} would do: effects that rows share leave the interval "
                f"{limit:.2g} wide with ten thousand times as many."
            )
        failed = [f for f in fit.audit if f.status == "fail"]
        lines += [f"And the fit itself fails: {f.message}." for f in failed[:1]]
    rounding = None
    if printed is not None and unrounded is not None:
        optimum = find_law(law).optimum
        if optimum is None:
            raise NotFittedFor(f"the law {find_law(law).name!r} has no closed-form optimum")
        known = {"printed": printed, "unrounded": unrounded}
        sizes = {name: float(call(optimum, {**values, "C": flops})[0]) for name, values in known.items()}
        rounding = {**sizes, "ratio": sizes["printed"] / sizes["unrounded"]}
        lines.append(
            f"Rounding the coefficients for print moves N_opt at {flops:.3g} FLOP from {sizes['unrounded']:.3g} to "
            f"{sizes['printed']:.3g}."
        )
    return Judgement((lower, upper), rows, prob, width, implied, float(per_run), rounding, limit, tuple(lines))


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.2g} times"
