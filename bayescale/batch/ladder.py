"""The ladder that a table climbs until its draws can be trusted: ensembles of growing care, then NUTS."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayescale.batch.preparing import Task
from bayescale.diagnostics import check_draws
from bayescale.errors import Finding
from bayescale.law import PooledLaw, call
from bayescale.model import Model, available_cores, compiled
from bayescale.posterior import evaluate_draws
from bayescale.sampling import Settings, sampler_named
from bayescale.sampling.ensemble import CHAINS, DRAWS, Plan, blank_state, ensemble_program

logger = logging.getLogger("bayescale")

#: A table is certified with this many effective draws of every number, in the bulk and in the tails.
ESS = 400
#: And with this share of divergent transitions: where a floor or a spread may be zero, single steps beyond the wall
#: are rejected, as they should be. What is left of a bias is measured against quadrature in the benchmarks.
DIVERGENT = 1e-3
#: In single precision the noise on the log scale must not be smaller: the residuals have about 1e-7 of rounding.
LEAST_NOISE = 1e-3


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: how to sample, how many times over with other random numbers, all draws pooled, and how
    many times its draws every chain goes on for.

    Tables of few rows are sampled by `few`: their posteriors reach walls, where a floor is zero, and their gradients
    are cheap. `work` is about how many times as dear as the first rung a table is.
    """

    name: str
    plan: Plan | Settings
    few: Plan | None = None
    repeats: int = 1
    lengths: int = 1
    work: float = 1.0

    def plan_for(self, task: Task) -> Plan | Settings:
        """How a table is sampled at this rung."""
        return self.few if self.few is not None and len(task.model.runs) < FEW else self.plan


#: Numbers of the random draws that a rung may take, so that no two rungs share one.
SALT = 64
#: Of fewer tables the last ones, which need programs of their own, take as long as the rest: no time left is told.
MANY = 1000
#: Fewer rows than this are few.
FEW = 100
_FIRST = Plan(phases=(30, 40, 0, 20), target=0.92, longest=12)
_CAREFUL = Plan(phases=(40, 60, 0, 30), target=0.97, longest=16)
#: The first rung is what most tables need, the second is two of it: chains that were only too short. Then come longer
#: adaptation, smaller steps and longer trajectories, each about five times dearer. All are one program. At last NUTS,
#: table by table.
RUNGS = (
    Rung("ensemble 1", _FIRST, _CAREFUL),
    Rung("ensemble 1 × 2", _FIRST, _CAREFUL, repeats=2, work=2.0),
    Rung("ensemble 2", Plan(phases=(60, 100, 100, 50), target=0.95, longest=32), repeats=2, lengths=2, work=10.0),
    Rung("ensemble 3", Plan(phases=(100, 150, 200, 50), target=0.98, longest=64), repeats=4, lengths=4, work=50.0),
    Rung("nuts", Settings(chains=4, draws=4000, warmup=2000, target_accept=0.99), work=50.0),
)

#: Tables that one call of a compiled program takes where it runs on an accelerator; on CPUs every thread takes one.
LANES = 256


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one table at one rung: draws that are kept, their checks, and what they cost.

    `flat` and `values` are of `CHAINS` × `DRAWS` draws, thinned where there were more.
    """

    task: Task
    rung: str
    flat: np.ndarray
    values: Mapping[str, np.ndarray]
    stats: Mapping[str, np.ndarray]
    checks: tuple[Finding, ...]
    gradients: int
    seconds: float

    @property
    def certified(self) -> bool:
        """Whether every check passed."""
        return bool(self.checks) and all(f.status == "pass" for f in self.checks)


@dataclass(frozen=True, eq=False)
class Failure:
    """A table that could not be sampled at a rung, and why."""

    task: Task
    rung: str
    sentence: str
    certified: bool = False


def climb(
    tasks: Sequence[Task],
    *,
    budgets: Mapping[str, Sequence[float]],
    precision: str,
    workers: int | None,
    report: Callable[[Outcome | Failure, float], None],
) -> Iterator[Outcome]:
    """The outcome of every table, as it is reached; those not certified go up, the last rung's are final.

    A table that could not be sampled at any rung has none.

    `report` hears of each attempt, and what share of the work is done by then.
    """
    pending = list(tasks)
    steps = [(rung, "float64") for rung in RUNGS]
    if precision == "float32":
        steps.insert(0, (RUNGS[0], "float32"))
    done = share = 0.0
    for k, (rung, kind) in enumerate(steps):
        failed: list[Task] = []
        tried = 0
        for outcomes in _run(pending, rung, kind, budgets, workers, SALT * k):
            for outcome in outcomes:
                final = outcome.certified or k == len(steps) - 1
                if not final:
                    failed.append(outcome.task)
                tried += 1
                done += rung.work
                # Of the tables that are left, as many will go up one rung as did so far; what comes then is not known.
                above = steps[k + 1][0].work * len(failed) / tried if failed else 0.0
                left = rung.work * (len(pending) - tried) + above * len(pending)
                share = max(share, done / (done + left))
                report(outcome, share)
                if final and isinstance(outcome, Outcome):
                    yield outcome
        pending = failed


def _run(
    tasks: Sequence[Task],
    rung: Rung,
    precision: str,
    budgets: Mapping[str, Sequence[float]],
    workers: int | None,
    salt: int,
) -> Iterator[list[Outcome | Failure]]:
    """The tables of one rung, in whatever order they are done; chunks of one shape share a compilation.

    Where there are several devices, they take the chunks in turn.
    """
    import jax

    on_cpu = jax.default_backend() == "cpu"
    lanes = 1 if on_cpu or isinstance(rung.plan, Settings) else LANES
    by_shape: dict[tuple, list[Task]] = {}
    for task in tasks:
        by_shape.setdefault((task.shape, rung.plan_for(task)), []).append(task)
    chunks = [same[k : k + lanes] for same in by_shape.values() for k in range(0, len(same), lanes)]

    devices = jax.local_devices()

    def work(number: int, chunk: Sequence[Task]) -> list[Outcome | Failure]:
        try:
            with jax.default_device(devices[number % len(devices)]):
                return [*sampled(chunk)]
        except Exception as error:  # whatever is wrong with one table must not cost the others
            logger.exception("%s: %s", rung.name, ", ".join(t.name for t in chunk))
            return [Failure(t, rung.name, f"not sampled by {rung.name}: {error}") for t in chunk]

    def sampled(chunk: Sequence[Task]) -> list[Outcome]:
        began = time.perf_counter()
        plan = rung.plan_for(chunk[0])
        if isinstance(plan, Settings):
            return [_by_nuts(task, plan, budgets, rung.name) for task in chunk]
        parts = []
        for k in range(rung.repeats):
            on = [_by_ensemble(chunk, plan, precision, lanes, salt + rung.lengths * k)]
            for j in range(1, rung.lengths):
                more = replace(plan, phases=(0, 0, 0, 0))
                states = [found["state"] for found in on[-1]]
                on.append(_by_ensemble(chunk, more, precision, lanes, salt + rung.lengths * k + j, states))
            parts.append([_pooled(p, axis=1) for p in zip(*on, strict=True)])
        drawn = [_pooled(p, axis=0) for p in zip(*parts, strict=True)]
        seconds = (time.perf_counter() - began) / len(chunk)
        return [_outcome(t, rung.name, d, budgets, seconds, precision) for t, d in zip(chunk, drawn, strict=True)]

    # NUTS takes a thread a chain itself; an accelerator is kept busy by two chunks, one being checked on the host.
    many = (workers or available_cores()) if on_cpu else 2 * len(devices)
    threads = 1 if isinstance(rung.plan, Settings) else many
    pool = ThreadPoolExecutor(threads)
    waiting: set[Future] = set()
    queue = iter(enumerate(chunks))
    try:
        for _ in range(2 * threads):
            waiting.update(pool.submit(work, *c) for c in _next(queue))
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                waiting.update(pool.submit(work, *c) for c in _next(queue))
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _next(queue: Iterator[tuple[int, Sequence[Task]]]) -> list[tuple[int, Sequence[Task]]]:
    found = next(queue, None)
    return [] if found is None else [found]


def _by_ensemble(
    chunk: Sequence[Task],
    plan: Plan,
    precision: str,
    lanes: int,
    repeat: int = 0,
    states: Sequence[Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """The ensemble's draws for tables of one shape; another `repeat` draws others, from `states` its chains go on."""
    import jax

    structure = chunk[0].padded.structure
    program: Callable[..., Any] = ensemble_program(structure)
    begin = states or [blank_state(structure, t.padded.data) for t in chunk]
    arguments = [(t.padded.data, t.key + np.uint32(repeat), s) for t, s in zip(chunk, begin, strict=True)]
    how = plan.numbers()  # one for all lanes: loops whose ends differed would run for all of them
    with jax.enable_x64(precision == "float64"):
        if lanes == 1:
            (given,) = arguments
        else:  # a chunk that is not full repeats its last table
            filled = [*arguments, *(arguments[-1:] * (lanes - len(chunk)))]
            program, given = jax.vmap(program, (0, None, 0, 0)), jax.tree.map(lambda *x: np.stack(x), *filled)
        given = (given[0], how, *given[1:])
        if precision == "float32":
            given = jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, given)
        device = jax.config.jax_default_device  # a program is compiled for one
        key = ("ensemble", lanes, precision, structure.key, device and device.id)
        found = jax.tree.map(np.asarray, compiled(key, program, *given)(*given))
    if lanes == 1:
        return [found]
    return [jax.tree.map(lambda x, k=k: x[k], found) for k in range(len(chunk))]


def _pooled(parts: Sequence[Mapping[str, Any]], axis: int) -> dict[str, Any]:
    """Several runs of an ensemble on one table: more chains (axis 0), or chains that went on (axis 1)."""
    import jax

    if len(parts) == 1:
        return dict(parts[0])
    drawn = [{k: v for k, v in p.items() if k not in ("state", "potentials")} for p in parts]
    pooled = jax.tree.map(lambda *x: np.concatenate(x, axis) if np.ndim(x[0]) else np.sum(x), *drawn)
    return {**pooled, "potentials": parts[0]["potentials"]}


def _by_nuts(task: Task, settings: Settings, budgets: Mapping[str, Sequence[float]], rung: str) -> Outcome:
    """NUTS, with smaller steps still where transitions diverge."""
    began = time.perf_counter()
    seed = int(task.key.view(np.uint64)[0] >> np.uint64(1))
    _, sample = sampler_named("nuts")
    drawn = sample(task.padded, replace(settings, seed=seed))
    if drawn.stats["diverging"].any():
        drawn = sample(task.padded, replace(settings, seed=seed, target_accept=0.998), after=drawn)
    out = evaluate_draws(task.padded, drawn.flat.reshape(-1, drawn.flat.shape[-1]))["values"]
    values = {n: v.reshape(*drawn.flat.shape[:2], *v.shape[1:]) for n, v in out.items()}
    found = {"flat": drawn.flat, "values": values, **drawn.stats, "gradients": drawn.gradients}
    return _outcome(task, rung, found, budgets, time.perf_counter() - began, "float64")


def _outcome(
    task: Task,
    rung: str,
    found: Mapping[str, Any],
    budgets: Mapping[str, Sequence[float]],
    seconds: float,
    precision: str,
) -> Outcome:
    """The draws that are kept, and the certificate: the checks of a single fit on every number that is reported."""
    stats = {n: found[n] for n in ("energy", "acceptance_rate", "step_size", "n_steps", "diverging")}
    named = _reported(task, {n: np.asarray(v, float) for n, v in found["values"].items()}, budgets[task.name])
    checks = list(check_draws(named, stats, ess=ESS, divergent=DIVERGENT))
    values = {n: np.asarray(_kept(v), float) for n, v in found["values"].items()}
    if precision == "float32":
        checks.append(_noise_is_large(values))
    return Outcome(
        task,
        rung,
        np.asarray(_kept(found["flat"]), float),
        values,
        {n: _kept(v) for n, v in stats.items()},
        tuple(checks),
        int(found["gradients"]),
        seconds,
    )


def _kept(x: np.ndarray) -> np.ndarray:
    """Draws thinned to `CHAINS` × `DRAWS`: chains that share a row lie one after the other, as halves of it."""
    joined = x.reshape(CHAINS, -1, *x.shape[2:])
    step = max(1, joined.shape[1] // DRAWS)
    return joined[:, step - 1 :: step][:, :DRAWS]


def _reported(task: Task, values: Mapping[str, np.ndarray], budgets: Sequence[float]) -> dict[str, np.ndarray]:
    """Every number of a fit by name, (chain, draw): parameters, derived quantities, spreads, and optimal sizes."""
    hidden = {i.ratio for i in task.model.structure.intercepts}
    named = {}
    for name, v in values.items():
        if name not in hidden:
            flat = v.reshape(*v.shape[:2], -1)
            labels = [name] if flat.shape[-1] == 1 else [f"{name}[{k}]" for k in range(flat.shape[-1])]
            named.update({label: flat[..., k] for k, label in enumerate(labels)})
    optimum = task.model.law.optimum
    if optimum is not None:
        known = {k: float(v) for k, v in task.model.references.items() if np.ndim(v) == 0} | dict(values)
        for level, own in by_level(task.model, known).items():
            for C in budgets:
                sizes = np.asarray(call(optimum, {**own, "C": C})[0], float)
                named[f"N_opt of {level} at {C:.3g}" if level else f"N_opt at {C:.3g}"] = np.log(sizes)
    return named


def by_level(model: Model, values: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The values of every level whose parameters differ, the rest beside them; all under no name where nothing does."""
    law = model.law
    if not isinstance(law, PooledLaw):
        return {"": values}
    differs = {n for n in values if f"level_{law.column}" in model.structure.coordinates.axes(n)}
    _, levels = model.runs.labels(law.column)
    return {level: {n: v[..., k] if n in differs else v for n, v in values.items()} for k, level in enumerate(levels)}


def _noise_is_large(values: Mapping[str, np.ndarray]) -> Finding:
    """Whether single precision resolves the residuals."""
    smallest = min((float(np.median(v)) for n, v in values.items() if n.startswith("sigma")), default=float("inf"))
    fine = smallest >= LEAST_NOISE
    message = f"noise of {smallest:.2g}; single precision needs at least {LEAST_NOISE:g}"
    return Finding("precision", "precision", "pass" if fine else "fail", smallest, LEAST_NOISE, message)
