"""Simulation-based calibration: fit tables whose truth is known, and see whether the truth is just another draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.allocation import largest_compute
from bayescale.batch.certifying import by_level
from bayescale.batch.ladder import MANY, climb
from bayescale.batch.preparing import prepare_all
from bayescale.calibration.bands import band, curve
from bayescale.calibration.simulating import simulate
from bayescale.errors import Finding, LawError, require_prob, require_seed, require_workers, worst
from bayescale.law import Law, PooledLaw, argument_names, call, parse_prior, pooled_law
from bayescale.laws import find_law
from bayescale.model import Model, compiled, double_precision, resolved_pool
from bayescale.posterior import Fit
from bayescale.records import Record
from bayescale.runs import Runs
from bayescale.sampling import Progress, progress_bar

if TYPE_CHECKING:
    import pandas as pd

#: Draws of a table that its truth is ranked among: few enough of the kept ones to be nearly independent.
RANKED = 100
#: A band wider than this to either side, of fewer than some fifty simulations, lets all but gross faults pass.
BLIND = 0.3
#: Intervals whose coverage is told.
COVERED = (0.5, 0.8, 0.9, 0.95)
#: A truth so many times the largest run's compute away is asked about.
TIMES = 10.0


@dataclass(frozen=True, eq=False)
class Calibration(Record):
    """Ranks of the truths of simulated tables among their posteriors, 0 to `RANKED`, and what follows.

    `ranks` has one row a simulated table and a column a quantity; `certified` says which tables' sampling is trusted
    (all of them are ranked). Each quantity's finding passes when its ranks lie within a band that all quantities
    together leave with probability 1 - `prob` though everything is right. `left_out` names what some tables have no
    finite number for.
    """

    ranks: pd.DataFrame
    certified: np.ndarray
    law: str
    noise: str
    prob: float
    rows: int
    left_out: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """One finding a quantity, then what so many simulations can see, and whether the tables were certified."""
        lower, upper = self.band
        found = []
        for name in self.ranks:
            shares = curve(self.ranks[name].to_numpy(), RANKED)
            excess = float(np.max(np.maximum(lower - shares, shares - upper)))
            inside = excess <= 0
            message = f"ranks of {name} " + ("are uniform" if inside else _shape(self.ranks[name].to_numpy()))
            found.append(Finding("ranks-uniform", str(name), "pass" if inside else "fail", excess, 0.0, message))
        wide = float(np.max(upper - lower)) / 2
        message = f"of {len(self.ranks)} simulations shares of ranks may be off by {wide:.0%} and lie within the bands"
        message += ": only gross faults show; simulate more tables" if wide > BLIND else ""
        found.append(Finding("simulations", "simulations", "warn" if wide > BLIND else "pass", wide, BLIND, message))
        share = float(self.certified.mean())
        message = f"{self.certified.sum()} of {len(self.certified)} tables were certified; at least 98 % should be"
        found.append(Finding("certified", "certified", "pass" if share >= 0.98 else "warn", share, 0.98, message))
        return tuple(found)

    @property
    def status(self) -> str:
        """The worst status of the findings."""
        return worst(self.findings)

    @property
    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the band around the cumulative share of ranks at most 0, …, `RANKED` - 1."""
        return band(len(self.ranks), RANKED, 1 - (1 - self.prob) / self.ranks.shape[1])

    def coverage(self) -> pd.DataFrame:
        """How often intervals of each probability hold the truth, and the Monte Carlo error of that, by quantity."""
        import pandas as pd

        columns = {}
        for prob in COVERED:
            # The rank at the interval's end counts by the part of it that is inside: uniform ranks give `prob`.
            inside = np.clip(prob * (RANKED + 1) / 2 + 0.5 - np.abs(self.ranks - RANKED / 2), 0, 1)
            columns[f"{prob:.0%}"] = inside.mean()
            columns[f"{prob:.0%} mcse"] = np.sqrt(prob * (1 - prob) / len(self.ranks))
        return pd.DataFrame(columns)

    def frame(self) -> pd.DataFrame:
        """The findings as a table."""
        import pandas as pd

        return pd.DataFrame([f.to_json() for f in self.findings])

    def to_json(self) -> dict[str, Any]:
        """The document of the command line."""
        return {
            "schema": "bayescale.calibration/1",
            "law": self.law,
            "noise": self.noise,
            "simulations": len(self.ranks),
            "rows": self.rows,
            "prob": self.prob,
            "status": self.status,
            "findings": [f.to_json() for f in self.findings],
            "coverage": {n: {k: float(v) for k, v in row.items()} for n, row in self.coverage().iterrows()},
        }

    def __repr__(self) -> str:
        bad = [f.message for f in self.findings if f.status != "pass"]
        told = "; ".join(bad) if bad else f"the ranks of all {self.ranks.shape[1]} quantities are uniform"
        return (
            f"<Calibration of {self.law}, {self.noise} noise, {len(self.ranks)} simulated tables of {self.rows} runs: "
            f"{self.status.upper()}: {told} (bands that hold together with {self.prob:.0%}). This is about the "
            "computation: whether the law and the noise are right for real runs is the audit's question>"
        )


def calibrate(
    law: str | Law,
    design: Runs | Mapping[str, Any],
    *,
    simulations: int = 1000,
    seed: int = 0,
    noise: str = "student_t",
    group: str | Sequence[str] = "auto",
    pool: str | Mapping[str, Any] | None = None,
    given: Fit | None = None,
    simulate_noise: str | None = None,
    prob: float = 0.99,
    workers: int | None = None,
    progress: bool | Progress | None = None,
) -> Calibration:
    """Simulation-based calibration of a law, a noise and its groups at a design, through `fit_many`'s engine.

    Tables are simulated with parameters from the prior and fitted; if the computation is right, the truth of every
    quantity is as likely to lie at any rank among the posterior's draws. Ranked are parameters, derived quantities,
    spreads of groups, the optimal model size and the loss there at ten times the largest compute, and the
    log-likelihood, which notices what no parameter shows. With `pool`, as in `fit`, so are the centre, the spread and
    every level of what differs, by a number in the order of the levels.

    With `given`, a fit of your own table, parameters come from its posterior and each simulated table is added to your
    own runs (posterior calibration): this asks about the region that matters to you. Law, noise, groups, priors,
    pooling and what is fixed are then the fit's. `simulate_noise` simulates with another noise than is fitted, to see
    what that does.

    It proves the computation, not the model.

    Raises `LawError` (BS-U001) for `simulate_noise` or `pool` beside `given`.

    Example:
        >>> bs.calibrate("chinchilla", bs.load_runs("byte-ladder"), simulations=200)  # doctest: +SKIP
    """
    import pandas as pd

    seed, prob, workers = require_seed(seed), require_prob(prob), require_workers(workers)
    if simulations != int(simulations):
        raise LawError(f"{simulations} is no number of simulations", code="BS-U001", remedy="Give a whole one.")
    simulations = int(simulations)
    if given is not None and simulate_noise is not None:
        raise LawError("a fit is simulated with its own noise", code="BS-U001", remedy="Leave out simulate_noise.")
    if given is not None and pool:
        raise LawError("a fit is simulated with its own pooling", code="BS-U001", remedy="Leave out pool.")
    law = find_law(law) if given is None else given.law
    law = pooled_law(law, resolved_pool(pool, design) if isinstance(design, Runs) else pool)
    made = simulate(law, design, tables=simulations, seed=seed, noise=simulate_noise or noise, group=group, given=given)
    fitted = noise if given is None else given.noise
    options: dict[str, Any] = dict(noise=fitted, group=group, fix=None, tie=(), priors={}, references=None)
    if given is not None:
        own = given.info["options"]
        options |= {"group": given.grouped, "references": given.references, "fix": own["fix"]}
        options["min_flops"] = own.get("min_flops")
        options["tie"] = tuple((a, b) for a, b in own["tie"])
        options["priors"] = {name: parse_prior(text) for name, text in own["priors"].items()}
        tables = {name: _joined(given.runs, table) for name, table in made.tables.items()}
    else:
        tables = made.tables
    budget = TIMES * largest_compute(made.model.runs)
    ranks: dict[str, dict[str, int]] = {}
    certified: dict[str, bool] = {}
    positions = {name: k for k, name in enumerate(tables)}
    rng = np.random.default_rng([seed, 4])
    with progress_bar(progress, f"calibrating {law.spec}", steady=len(tables) >= MANY) as report:
        tasks, refused = prepare_all(tables, law, seed, (), options)
        if refused:
            raise next(iter(refused.values()))
        for outcome in climb(
            tasks,
            budgets={name: (budget,) for name in tables},
            precision="float64",
            workers=workers,
            report=lambda outcome, share: report(share, f"fitting simulated tables ({outcome.rung})"),
        ):
            name = outcome.task.name
            position = positions[name]
            step = outcome.flat.shape[0] * outcome.flat.shape[1] // RANKED
            drawn = ranked_quantities(
                outcome.task.padded, outcome.flat.reshape(-1, outcome.flat.shape[-1])[::step], budget
            )
            truth = _truth_of(made.model, outcome.task.model, made.flat[position])
            true = {q: float(v[0]) for q, v in ranked_quantities(outcome.task.model, truth[None], budget).items()}
            ranked = [q for q in drawn if np.ptp(drawn[q]) > 0 and np.isfinite([true[q], *drawn[q]]).all()]
            ranks[name] = {q: _rank(true[q], drawn[q], rng) for q in ranked}
            certified[name] = outcome.certified
    frame = pd.DataFrame.from_dict(ranks, orient="index").reindex(list(tables))
    whole = frame.dropna(axis=1)
    rows = len(next(iter(tables.values())))
    trusted = np.asarray([certified.get(n, False) for n in tables])
    left = tuple(str(n) for n in frame if n not in whole)
    return Calibration(whole.astype(int), trusted, law.spec, fitted, prob, rows, left)


def _truth_of(simulated: Model, fitted: Model, flat: np.ndarray) -> np.ndarray:
    """The simulated truth in the fitted model's coordinates; what only the fitted noise has is not-a-number."""
    if simulated.noise == fitted.noise:
        return flat
    own = {s.parameter.name: flat[s.start : s.start + s.size] for s in simulated.structure.coordinates.slots}
    slots = fitted.structure.coordinates.slots
    parts = [own.get(s.parameter.name, np.full(s.size, np.nan)) for s in slots]
    return np.concatenate([*parts, flat[simulated.structure.coordinates.dimension :]])


def _joined(runs: Runs, table: Runs) -> Runs:
    """A simulated table below the runs that were fitted."""
    import pandas as pd

    frame = pd.concat([runs.frame, table.frame], ignore_index=True)
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return replace(table, frame=frame, rows_read=len(frame))


def ranked_quantities(model: Model, flat: np.ndarray, budget: float) -> dict[str, np.ndarray]:
    """What is ranked, for flat vectors of a model: scalars by name, each of shape (samples,)."""
    import jax
    import jax.numpy as jnp

    structure, law = model.structure, model.law
    hidden = {i.ratio for i in structure.intercepts}

    def one(flat, data, budget):
        sites = structure.sites(flat)
        values = structure.values(sites["z"], data)
        values = values | structure.coordinates.derived(values, data["references"])
        made = {}
        for name, v in values.items():
            if name not in hidden:
                entries = jnp.ravel(v)
                labels = [name] if entries.size == 1 else [f"{name}[{k}]" for k in range(entries.size)]
                made.update({label: entries[k] for k, label in enumerate(labels)})
        if law.optimum is not None:
            formula = law.formulas()[law.responses[0].name]
            for k, own in enumerate(by_level(model, values).values()):
                known = {**data["references"], **own, "C": budget}
                N, D = call(law.optimum, known)
                suffix = f"[{k}]" if isinstance(law, PooledLaw) else ""
                made[f"log N_opt{suffix}"] = jnp.log(N)
                if {i.name for i in law.inputs} <= {"N", "D"}:
                    at = {**known, "N": N, "D": D}
                    made[f"loss at N_opt{suffix}"] = formula(**{n: at[n] for n in argument_names(formula)})
        total = 0.0
        for r in law.responses:
            terms = structure.row_log_density(values, sites, data, r, False)
            total = total + jnp.where(data["responses"][r.name]["used"], terms, 0.0).sum()
        made["log-likelihood"] = total
        return made

    with double_precision():
        arguments = (flat, model.data, np.asarray(budget))
        program = compiled(("calibrate", structure.key), jax.vmap(one, (0, None, None)), *arguments)
        return {n: np.asarray(v) for n, v in program(*arguments).items()}


def _rank(truth: float, draws: np.ndarray, rng: np.random.Generator) -> int:
    """How many draws lie below the truth, scaled to 0..`RANKED`; ties are broken at random."""
    draws = draws[:RANKED]
    below, ties = int((draws < truth).sum()), int((draws == truth).sum())
    return below + int(rng.integers(0, ties + 1))


def _shape(ranks: np.ndarray) -> str:
    """In words, how ranks are not uniform."""
    low, high = float((ranks < RANKED / 4).mean()), float((ranks > 3 * RANKED / 4).mean())
    ends = low + high - 0.5
    if abs(low - high) > abs(ends):
        side = "low: the posterior lies too high" if low > high else "high: the posterior lies too low"
        return f"lean {side} ({max(low, high):.0%} in one outer quarter)"
    if ends > 0:
        return f"pile up at the ends ({low + high:.0%} in the outer quarters): the intervals are too narrow"
    return f"pile up in the middle ({low + high:.0%} in the outer quarters): the intervals are too wide"
