"""One interface for every sampler: a model in, draws of the flat vector and their statistics out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bayescale.errors import FitError, LawError, nearest
from bayescale.model import Model
from bayescale.model.programs import double_precision, load_numpyro, one_blas_thread
from bayescale.sampling.nuts import BLOCK, RECORDED, Chain, Kernel
from bayescale.sampling.start import Potential, Start, find_start

#: Called with the share of the work that is done (0 to 1) and what is being done.
Progress = Callable[[float, str], None]

#: Fewer draws of a chain tell nothing about its convergence.
FEWEST_DRAWS = 4
#: A draw of the warm-up takes about as long as this many later ones, on the tables it was measured on (1.1 to 1.6).
WARM_UP_WORK = 1.3


@dataclass(frozen=True)
class Settings:
    """How long and how carefully to sample."""

    chains: int = 4
    draws: int = 1000
    warmup: int = 1000
    target_accept: float = 0.8
    seed: int = 0

    def work(self, done: int) -> float:
        """How much work this many draws of a chain are, in draws after the warm-up."""
        return WARM_UP_WORK * min(done, self.warmup) + max(0, done - self.warmup)


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of the flat vector, shape (chains, draws, dimension), with statistics of shape (chains, draws).

    `stats` has ArviZ's names: energy, acceptance_rate, step_size, n_steps, diverging. `gradients` counts every
    gradient of the call, warm-up included; `interrupted` marks a run that Ctrl-C cut short. With `chains` a later call
    can go on.
    """

    flat: np.ndarray
    stats: Mapping[str, np.ndarray]
    sampler: str
    settings: Settings
    seconds: Mapping[str, float]
    start: Start
    gradients: int
    interrupted: bool = False
    chains: Sequence[Chain] = ()


class Sampler(Protocol):
    """A sampler: `(model, settings, after=, progress=) -> Draws`."""

    def __call__(
        self,
        model: Model,
        settings: Settings,
        *,
        after: Draws | None = None,
        progress: Progress | None = None,
    ) -> Draws:
        """Draws of a model's flat vector.

        `after` holds earlier draws of the same model: where the settings ask for more of them and for nothing else,
        their chains go on; else new chains begin from the same start.
        """
        ...


def _chains(name: str, kernel: Kernel) -> Sampler:
    """A sampler that runs independent chains of one kernel in threads."""

    def sample(
        model: Model,
        settings: Settings,
        *,
        after: Draws | None = None,
        progress: Progress | None = None,
    ) -> Draws:
        import jax
        import scipy.optimize
        import scipy.special  # imported here: two threads must not be first to import the same package

        load_numpyro()
        del scipy
        report = progress or (lambda share, doing: None)
        same = after is not None and replace(after.settings, draws=settings.draws) == settings
        if after is not None and after.chains and same and settings.draws > after.settings.draws:
            return _sampled(name, after.chains, after.start, settings, 0.0, report)
        report(0.0, "compiling")
        began = time.perf_counter()
        with double_precision():
            keys = [jax.random.fold_in(jax.random.key(settings.seed), c) for c in range(settings.chains)]
        with ThreadPoolExecutor(1) as background:  # the long compilation runs while the modes are searched
            compiling = background.submit(_compile, model, kernel, settings, keys[0])
            with one_blas_thread():
                rng = np.random.default_rng([settings.seed, 1])
                known = after is not None and after.settings.chains == settings.chains
                start = after.start if after is not None and known else find_start(model, settings.chains, rng)
            compiling.result()
        potential = Potential(start.model)
        chains = []
        for c in range(settings.chains):
            chain = Chain(kernel, start, settings.warmup, settings.target_accept, potential.data)
            chain.prepare(start.initial[c], keys[c], potential)
            chains.append(chain)
        return _sampled(name, chains, start, settings, time.perf_counter() - began, report)

    return sample


def _compile(model: Model, kernel: Kernel, settings: Settings, key) -> None:
    """Compile the programs of a model's structure; the start's numbers do not matter."""
    import jax

    n = model.structure.dimension
    blank = Start(model, np.zeros(n), np.eye(n), np.zeros((1, n)), np.zeros(1))
    with double_precision():
        data = jax.device_put(model.data)
    Chain(kernel, blank, settings.warmup, settings.target_accept, data).prepare(np.zeros(n), key)


def _sampled(
    name: str, chains: Sequence[Chain], start: Start, settings: Settings, compiling: float, report: Progress
) -> Draws:
    """The draws of chains that are ready, or that go on."""
    began, before = time.perf_counter(), [c.done for c in chains]
    interrupted = _advance(chains, before, settings, report)
    reached = min(c.done for c in chains)
    if interrupted and reached < settings.warmup + FEWEST_DRAWS:
        raise KeyboardInterrupt
    stats = {k: np.stack([c.recorded(k)[:reached] for c in chains]) for k in RECORDED}
    gradients = int(sum(steps[b:].sum() for steps, b in zip(stats["n_steps"], before, strict=True)))
    kept = {k: v[:, settings.warmup :] for k, v in stats.items()}
    if not np.isfinite(kept["energy"]).any():
        raise FitError(
            "the posterior density is not finite anywhere the sampler looked",
            remedy="Check the units of the table and the priors with `bayescale doctor`.",
        )
    seconds = {"compile": compiling, "sample": time.perf_counter() - began}
    return Draws(kept.pop("flat"), kept, name, settings, seconds, start, gradients, interrupted, tuple(chains))


def _advance(chains: Sequence[Chain], before: Sequence[int], settings: Settings, report: Progress) -> bool:
    """All chains to the end, in as many threads as there are cores; True where Ctrl-C came first.

    A thread takes the chain that is furthest behind for one block: at Ctrl-C all have about as many draws.
    """
    total = settings.warmup + settings.draws
    stop, turn, at_rest = threading.Event(), threading.Lock(), list(chains)

    def run() -> None:
        while not stop.is_set():
            with turn:
                chain = min(at_rest, key=lambda c: c.done, default=None)
                if chain is None or chain.done >= total:  # what is unfinished is in other threads' hands
                    return
                at_rest.remove(chain)
            stage = settings.warmup if chain.done < settings.warmup else total
            chain.advance(min(BLOCK, stage - chain.done))
            with turn:
                at_rest.append(chain)

    threads = max(1, min(len(chains), os.cpu_count() or 1))
    known = sum(settings.work(d) for d in before)
    with ThreadPoolExecutor(threads, thread_name_prefix="bayescale") as pool:
        futures = [pool.submit(run) for _ in range(threads)]
        pending = set(futures)
        try:
            while pending:
                _, pending = wait(pending, timeout=0.1)
                done = [c.done for c in chains]
                share = (sum(settings.work(d) for d in done) - known) / (settings.work(total) * len(chains) - known)
                report(share, "warming up" if min(done) < settings.warmup else "sampling")
        except KeyboardInterrupt:
            stop.set()
            wait(futures)
    for future in futures:
        future.result()
    return stop.is_set()


#: Every sampler by name. `hmc` has trajectories of a quarter turn in round coordinates.
SAMPLERS: dict[str, Sampler] = {
    "nuts": _chains("nuts", Kernel("NUTS")),
    "hmc": _chains("hmc", Kernel("HMC", 1.5)),
}


def sampler_named(name: str) -> tuple[str, Sampler]:
    """The sampler of that name ("auto" is NUTS); raises `LawError` (BS-L002) naming those known."""
    name = "nuts" if name == "auto" else name
    if name not in SAMPLERS:
        raise LawError(f"no sampler {name!r}", code="BS-L002", remedy=nearest(name, ["auto", *SAMPLERS]))
    return name, SAMPLERS[name]
