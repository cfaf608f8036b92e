"""Tables of runs as a law, its priors and a noise would have produced them at a given design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.errors import LawError, require_seed
from bayescale.law import Law
from bayescale.laws import find_law
from bayescale.model import Model, build_model
from bayescale.noise import LINKS
from bayescale.one_design import OneDesign
from bayescale.posterior import Fit, evaluate_draws, flat_draws, model_of, prior_draws, replicate
from bayescale.runs import Runs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Simulated:
    """Simulated tables by name, and what was true of each.

    `truth` has one row a table and a column for every parameter and derived quantity; `flat` holds the same as the
    flat vectors of `model`, shape (tables, dimension).
    """

    tables: Mapping[str, Runs]
    truth: pd.DataFrame
    model: Model
    flat: np.ndarray

    def __repr__(self) -> str:
        return f"<Simulated: {len(self.tables)} tables of {len(self.model.runs)} runs by {self.model.law.spec}>"


def simulate(
    law: str | Law,
    design: Runs | Mapping[str, Any] | pd.DataFrame,
    *,
    tables: int = 1,
    seed: int = 0,
    noise: str = "student_t",
    group: str | Sequence[str] = "auto",
    given: Fit | Mapping[str, float] | None = None,
) -> Simulated:
    """Simulate tables at a design: parameters from the prior, effects of groups, then noise on the response's scale.

    `design` gives the inputs and groups of every run; a response that it holds is replaced. `given` takes the
    parameters from a fit's posterior instead (with its noise and the effects of its groups, so at its own runs only),
    or fixes some of them: `{"alpha": 0.34}`; the others follow their priors.

    Raises `LawError` (BS-F001) for a law with an exact likelihood that declares no sampler, and for a design other than
    the runs of a fit that is given.

    Example:
        >>> made = bs.simulate("chinchilla", bs.load_runs("byte-ladder"), tables=3, seed=1)  # doctest: +SKIP
        >>> made.truth["alpha"].shape  # doctest: +SKIP
        (3,)
    """
    law = find_law(law)
    if tables < 1:
        raise LawError(f"at least one table can be simulated, got {tables}", code="BS-U001", remedy="Ask for more.")
    rng = np.random.default_rng([require_seed(seed), 3])
    runs = _as_design(design, law)
    if isinstance(given, Fit):
        model = model_of(given)
        own = {n: runs.values(i.column) for n, i in ((i.name, i) for i in law.inputs) if runs.has(i.column)}
        if any(not np.array_equal(v, model.inputs[n]) for n, v in own.items()):
            raise LawError(
                "the fit was made at other runs: effects of its groups are those of its own runs",
                code="BS-F001",
                remedy="Give the design that was fitted, or parameters as given={'alpha': 0.34}.",
            )
        runs = model.runs
        posterior = flat_draws(given, model)
        flat = posterior[rng.choice(len(posterior), tables, replace=tables > len(posterior))]
    else:
        model = build_model(law, runs, noise=noise, group=group, fix=given)
        flat = prior_draws(model, rng, tables)
    if law.likelihood is not None and law.sampler is None:
        raise LawError(
            f"law {law.name!r} has an exact likelihood and declares no sampler: it cannot be simulated",
            code="BS-F001",
            remedy="Give the law a sampler=.",
        )
    out = evaluate_draws(model, flat)
    made = replicate(model, out, rng, np.arange(tables)[None])
    columns = {r.source: made[r.name][0] for r in law.responses}
    base = Runs(runs.frame, "simulated", runs.loss_unit, column_map=runs.column_map, convention=runs.convention)
    names = tuple(f"simulated-{k}" for k in range(tables))
    return Simulated(OneDesign(base, columns | _errors(model, columns), names), _truth(model, out), model, flat)


def _errors(model: Model, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Standard errors of simulated responses: what they were on the link's scale, where they were simulated."""
    found = {}
    for r in model.law.responses:
        if model.structure.observing.error and model.runs.has(f"{r.source}_se"):
            error = model.data["responses"][r.name]["error"][: len(model.runs)]
            found[f"{r.source}_se"] = error / np.exp(LINKS[r.support].log_slope(columns[r.source]))
    return found


def _as_design(design: Runs | Mapping[str, Any] | pd.DataFrame, law: Law) -> Runs:
    """The design as a table; responses that it lacks are ones until they are simulated."""
    import pandas as pd

    if isinstance(design, Runs):
        return design
    frame = pd.DataFrame(design).astype(float, errors="ignore")
    missing = {r.source: 1.0 for r in law.responses if r.source not in frame}
    frame = frame.assign(**missing)
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return Runs(frame, "design")


def _truth(model: Model, out: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    hidden = {i.ratio for i in model.structure.intercepts}
    columns = {}
    for name, v in out["values"].items():
        values = np.asarray(v).reshape(len(v), -1)
        if name not in hidden:
            labels = [name] if values.shape[1] == 1 else [f"{name}[{k}]" for k in range(values.shape[1])]
            columns.update(dict(zip(labels, values.T, strict=True)))
    frame = pd.DataFrame(columns)
    frame.index = pd.Index([f"simulated-{k}" for k in range(len(frame))], name="dataset")
    return frame
