"""The ladder that a table climbs until its draws can be trusted: ensembles of growing care, then NUTS."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import numpy as np

from bayescale.batch.certifying import certified
from bayescale.batch.chunks import Chunk, Drawn, in_chunks, lanes_for
from bayescale.batch.preparing import Task
from bayescale.errors import Finding
from bayescale.model import available_cores
from bayescale.posterior import evaluate_draws
from bayescale.sampling import Settings, sampler_named
from bayescale.sampling.ensemble import Plan

logger = logging.getLogger("bayescale")


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
        return self.few if self.few is not None and len(task.design.model.runs) < FEW else self.plan


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


#: Seconds after which Ctrl-C is noticed at the latest.
_PATIENCE = 0.2


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one table at one rung: its place among what was drawn at once, its checks, and what it cost."""

    task: Task
    rung: str
    drawn: Drawn
    place: int
    seconds: float

    @property
    def certified(self) -> bool:
        """Whether every check passed."""
        return bool(self.drawn.certificates.passed[self.place])

    @property
    def checks(self) -> tuple[Finding, ...]:
        """What was checked."""
        return self.drawn.certificates.findings(self.place)

    @property
    def flat(self) -> np.ndarray:
        """The flat vectors of the draws that are kept, (chain, draw, dimension)."""
        return np.asarray(self.drawn.on_host.flat[self.place], float)

    @property
    def values(self) -> dict[str, np.ndarray]:
        """Every parameter and derived quantity of the draws that are kept, by name."""
        return {n: v[self.place] for n, v in self.drawn.on_host.values.items()}

    @property
    def gradients(self) -> int:
        """How many gradients the draws took."""
        return int(self.drawn.gradients[self.place])


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
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome]:
    """The outcome of every table, as it is reached; those not certified go up, the last rung's are final.

    A table that could not be sampled at any rung has none.

    `report` hears of each attempt, and what share of the work is done by then. Once `stop` says so what is in hand is
    finished and no more begun; then `KeyboardInterrupt` is raised.
    """
    pending = list(tasks)
    steps = [(rung, "float64") for rung in RUNGS]
    if precision == "float32":
        steps.insert(0, (RUNGS[0], "float32"))
    done = share = 0.0
    for k, (rung, kind) in enumerate(steps):
        failed: list[Task] = []
        tried = 0
        for outcomes in _run(pending, rung, kind, budgets, workers, SALT * k, stop):
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
    stop: Callable[[], bool],
) -> Iterator[list[Outcome | Failure]]:
    """The tables of one rung, in whatever order they are done; chunks of one shape share a compilation.

    Where there are several devices, they take the chunks in turn.
    """
    import jax

    by_shape: dict[tuple, list[Task]] = {}
    kinds: dict[tuple[int, int], tuple] = {}  # a shape is long to compare: once a design
    for task in tasks:
        asked = len(budgets[task.name])
        if (id(task.design), asked) not in kinds:
            kinds[id(task.design), asked] = (task.design.shape, asked, rung.plan_for(task))
        by_shape.setdefault(kinds[id(task.design), asked], []).append(task)
    chunks = []
    ahead: list[Chunk] = []
    for same in by_shape.values():
        lanes = 1 if isinstance(rung.plan, Settings) else lanes_for(same[0])
        made = in_chunks(same, lanes)
        chunks += made
        if rung.repeats * rung.lengths == 1:
            ahead += [Chunk(some, width, precision) for width, some in dict(made).items() if width > 1]

    devices = jax.local_devices()

    def compile_ahead(chunk: Chunk) -> None:
        with (
            contextlib.suppress(Exception),
            jax.default_device(devices[0]),
        ):  # what is wrong is told by whoever needs it
            chunk.compile_certificates(len(budgets[chunk.tasks[0].name]))

    def work(number: int, lanes: int, chunk: Sequence[Task]) -> list[Outcome | Failure]:
        try:
            with jax.default_device(devices[number % len(devices)]):
                return [*sampled(lanes, chunk)]
        except Exception as error:  # whatever is wrong with one table must not cost the others
            logger.exception("%s: %s", rung.name, ", ".join(t.name for t in chunk))
            return [Failure(t, rung.name, f"not sampled by {rung.name}: {error}") for t in chunk]

    def sampled(lanes: int, tasks: Sequence[Task]) -> list[Outcome]:
        began = time.perf_counter()
        plan, own = rung.plan_for(tasks[0]), [budgets[t.name] for t in tasks]
        if isinstance(plan, Settings):
            return [_by_nuts(t, plan, b, rung.name) for t, b in zip(tasks, own, strict=True)]
        chunk, parts = Chunk(tasks, lanes, precision), []
        for k in range(rung.repeats):
            on = [chunk.sample(plan, salt + rung.lengths * k)]
            for j in range(1, rung.lengths):
                more = replace(plan, phases=(0, 0, 0, 0))
                on.append(chunk.sample(more, salt + rung.lengths * k + j, on[-1]["state"]))
            parts.append(chunk.pooled(on, axis=1))
        drawn = chunk.drawn(chunk.pooled(parts, axis=0), own)
        seconds = (time.perf_counter() - began) / len(tasks)
        return [Outcome(t, rung.name, drawn, k, seconds) for k, t in enumerate(tasks)]

    # NUTS takes a thread a chain itself. Cores and devices are kept busy by more threads than these: some check draws.
    cores = available_cores()
    many = (workers or cores + (cores + 1) // 2) if jax.default_backend() == "cpu" else 2 * len(devices)
    threads = 1 if isinstance(rung.plan, Settings) else many
    pool = ThreadPoolExecutor(threads)
    waiting: set[Future] = set()
    queue = iter([(k, *c) for k, c in enumerate(chunks)])
    try:
        for chunk in ahead:
            pool.submit(compile_ahead, chunk)
        for _ in range(2 * threads):
            waiting.update(pool.submit(work, *c) for c in _next(queue))
        while waiting:
            done, waiting = wait(waiting, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
            for future in done:
                if not stop():
                    waiting.update(pool.submit(work, *c) for c in _next(queue))
                yield future.result()
            if stop():
                waiting = {future for future in waiting if not future.cancel()}
        if stop():
            raise KeyboardInterrupt
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _next(queue: Iterator[tuple[int, int, Sequence[Task]]]) -> list[tuple[int, int, Sequence[Task]]]:
    found = next(queue, None)
    return [] if found is None else [found]


def _by_nuts(task: Task, settings: Settings, budgets: Sequence[float], rung: str) -> Outcome:
    """NUTS, with smaller steps still where transitions diverge."""
    import jax

    began = time.perf_counter()
    seed = int(task.key.view(np.uint64)[0] >> np.uint64(1))
    _, sample = sampler_named("nuts")
    drawn = sample(task.padded, replace(settings, seed=seed))
    if drawn.stats["diverging"].any():
        drawn = sample(task.padded, replace(settings, seed=seed, target_accept=0.998), after=drawn)
    out = evaluate_draws(task.padded, drawn.flat.reshape(-1, drawn.flat.shape[-1]))["values"]
    values = {n: v.reshape(*drawn.flat.shape[:2], *v.shape[1:]) for n, v in out.items()}
    found = {"flat": drawn.flat, "values": values, **drawn.stats, "gradients": np.asarray(drawn.gradients)}
    kept = Drawn.kept(
        jax.tree.map(lambda x: np.asarray(x)[None], found), certified(task.model, values, drawn.stats, budgets)
    )
    return Outcome(task, rung, kept, 0, time.perf_counter() - began)
