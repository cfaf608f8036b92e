"""What a table answers instead: a one-variable law along the scale that each recipe varies."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.batch import fit_many
from bayescale.diagnostics import exponents_of, ladders_of, laws_along
from bayescale.errors import NotConverged, NotFittedFor, require_prob, require_seed
from bayescale.law import Law
from bayescale.laws import find_law
from bayescale.posterior import CERTIFIED
from bayescale.runs import Runs, compute_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LadderAnswer:
    """The exponent of the loss along one scale within one recipe: median and interval, and the command that fits it.

    `tie` says what is constant; the numbers are None where sampling was not certified.
    """

    recipe: str | None
    axis: str
    tie: str
    rows: int
    law: str
    exponent: str
    median: float | None
    lower: float | None
    upper: float | None
    command: str

    def sentence(self, prob: float) -> str:
        """The answer in words."""
        within = f"{self.recipe}, " if self.recipe else ""
        number = "not certified" if self.median is None else f"{self.median:.3f} ({self.lower:.3f} to {self.upper:.3f})"
        return (
            f"{within}{self.tie}: loss against {self.axis}, {self.exponent} = {number}, {prob:.0%}, {self.rows} runs: "
            f"{self.command}"
        )


@dataclass(frozen=True, eq=False)
class Ladders:
    """What every recipe says along its own scale."""

    answers: tuple[LadderAnswer, ...]
    prob: float
    source: str

    def frame(self) -> pd.DataFrame:
        """One row a recipe."""
        import pandas as pd

        return pd.DataFrame(self.to_json())

    def to_json(self) -> list[dict[str, Any]]:
        """One record a recipe."""
        return [asdict(a) for a in self.answers]

    @property
    def lines(self) -> list[str]:
        """One sentence a recipe."""
        return [a.sentence(self.prob) for a in self.answers]

    def __repr__(self) -> str:
        return "\n".join([f"<Ladders of {self.source}", *(f"  {line}" for line in self.lines)]) + ">"


def ladders(runs: Runs, law: str | Law = "chinchilla", *, seed: int = 0, prob: float = 0.9) -> Ladders:
    """How the loss falls along the one scale that each recipe varies, for tables that cannot tell size from data.

    Where tokens are the same for all sizes (or the reverse) it is N (or D); on a ray D = kN it is compute. The law is
    the simplest of the catalogue with a floor that the rows support: L(x) = E + a (x / x0)^-alpha. An exponent along a
    ray mixes those of N and D, and holds on that ray only.

    Raises `NotFittedFor` (BS-F002) where every recipe varies N and D apart, or none has four runs.

    Example:
        >>> bs.ladders(bs.load_runs("pile-models")).frame()  # doctest: +SKIP
    """
    law, seed, prob = find_law(law), require_seed(seed), require_prob(prob)
    found = [(lad, spec) for lad in ladders_of(runs) if lad.axis and (spec := laws_along(law, lad.axis, len(lad.rows)))]
    if not found:
        raise NotFittedFor(
            "no recipe of this table varies along one scale alone, with four runs of different scale",
            code="BS-F002",
            remedy="Fit the law itself; `bayescale doctor` says whether the design supports it.",
        )
    if not runs.has("flops") and (C := compute_of(runs)) is not None:
        runs = runs.with_columns({"flops": C})
    answers: dict[int, LadderAnswer] = {}
    for spec in dict.fromkeys(specs[0] for _, specs in found):
        places = [k for k, (_, specs) in enumerate(found) if specs[0] == spec]
        tables = {str(k): runs.take(np.isin(np.arange(len(runs)), found[k][0].rows)) for k in places}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConverged)
            batch = fit_many(spec, tables, seed=seed, group="none", prob=prob, progress=False)
        summary = batch.summary(prob=prob) if batch.names else None
        exponent = exponents_of(find_law(spec))[0]
        for k in places:
            lad = found[k][0]
            certified = batch.status.loc[str(k), "status"] == CERTIFIED
            q = summary.loc[(str(k), exponent)] if certified and summary is not None else None
            numbers = {n: float(q[n]) if q is not None else None for n in ("median", "lower", "upper")}
            where = f" --where \"recipe == '{lad.recipe}'\"" if lad.recipe else ""
            command = f"bayescale fit {runs.source} --law {spec}{where}"
            answers[k] = LadderAnswer(
                lad.recipe, lad.symbol, lad.tie, len(lad.rows), spec, exponent, **numbers, command=command
            )
    return Ladders(tuple(answers[k] for k in sorted(answers)), prob, runs.source)
