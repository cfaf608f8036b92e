"""Tables of one shape sampled by one call of a compiled program: side by side on an accelerator, one on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.batch.certifying import Certificates, certificate_program, certified, certified_together
from bayescale.batch.preparing import Task
from bayescale.model import compiled
from bayescale.sampling.ensemble import CHAINS, DRAWS, WARMUP, Plan, blank_state, drawn_shapes, ensemble_program

#: Tables that one call of a compiled program takes where it runs on an accelerator, as many as find room in its memory.
LANES, LANES_BYTES = 2048, 8e9
#: The few tables that are left over, or go up a rung, take a program of as many times fewer lanes.
FEWER = 8
#: As many times the draws of one ensemble are checked where they lie; more of them on the host, table by table.
POOLED_THERE = 2
#: Draws stay on an accelerator until they are looked at, unless more than this share of its memory is taken.
CROWDED = 0.5
#: What an ensemble returns beside its draws.
_BESIDE = ("state", "potentials")
#: The sampler's numbers of every transition.
_STATS = ("energy", "acceptance_rate", "step_size", "n_steps", "diverging")


def lanes_for(task: Task) -> int:
    """How many tables of this shape are sampled side by side: one on a CPU, on an accelerator a power of two."""
    import jax

    if jax.default_backend() == "cpu":
        return 1
    structure, (_, rows) = task.design.padded.structure, task.design.shape
    sampled = 3 * (WARMUP + DRAWS) * structure.dimension + 16 * rows  # positions, momenta, a copy; a gradient
    checked = 8 * DRAWS * 3 * structure.coordinates.dimension  # ranks, halves and spectra of about so many numbers
    most = LANES_BYTES / (8 * CHAINS * (sampled + checked))
    return int(2 ** np.clip(np.floor(np.log2(most)), 0, np.log2(LANES)))


def in_chunks(tasks: Sequence[Task], lanes: int) -> list[tuple[int, Sequence[Task]]]:
    """Tables of one shape by the chunk, each with the lanes of its program: all, or for what is left, if few, fewer."""
    few = max(lanes // FEWER, 1)
    parts = [tasks[k : k + lanes] for k in range(0, len(tasks), lanes)]
    return [(few if len(part) <= few else lanes, part) for part in parts]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What some tables of one shape drew, in arrays (table, chain, draw, …), and their certificates.

    Kept are `CHAINS` × `DRAWS` draws, thinned where there were more. Arrays lie where they were made: on an accelerator
    nothing is fetched until it is looked at.
    """

    flat: Any
    values: Mapping[str, Any]
    stats: Mapping[str, Any]
    gradients: np.ndarray
    certificates: Certificates

    @classmethod
    def kept(cls, found: Mapping[str, Any], certificates: Certificates) -> Drawn:
        """What is kept of an ensemble's, or NUTS's, result."""
        values = {n: _kept(v) for n, v in found["values"].items()}
        stats = {n: _kept(found[n]) for n in _STATS}
        return cls(_kept(found["flat"]), values, stats, np.asarray(found["gradients"]), certificates)

    @cached_property
    def on_host(self) -> Drawn:
        """The same where NumPy reads it."""
        import jax

        flat, values, stats = jax.device_get((self.flat, self.values, self.stats))
        return Drawn(flat, values, stats, self.gradients, self.certificates)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some tables of one shape, and how many lanes their program has: draws have a leading axis if these are several.

    A chunk that is not full repeats its last table.
    """

    tasks: Sequence[Task]
    lanes: int
    precision: str

    @cached_property
    def data(self) -> Any:
        """The tables' numbers as the program takes them, where it runs."""
        import jax

        if self.lanes == 1:
            return self._exact(self.tasks[0].data)
        with jax.enable_x64(self.precision == "float64"):
            if any(t.design is not self.tasks[0].design for t in self.tasks):
                return jax.device_put(self._exact(side_by_side([t.data for t in self.tasks], self.lanes)))
            shared = self._exact({k: v for k, v in self.tasks[0].data.items() if k != "responses"})
            own = side_by_side([t.responses for t in self.tasks], self.lanes)

            def spread(tree):
                return jax.tree.map(lambda x: jax.numpy.broadcast_to(x, (self.lanes, *x.shape)), tree)

            device = jax.config.jax_default_device
            copied = compiled(("lanes", self.lanes, device and device.id), spread, shared)(shared)
            return {**copied, "responses": jax.device_put(self._exact(own))}

    def _exact(self, tree: Any) -> Any:
        """Numbers in the precision of the chunk."""
        import jax

        if self.precision == "float64":
            return tree
        return jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, tree)

    def sample(self, plan: Plan, repeat: int = 0, state: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The ensemble's draws; another `repeat` draws others, from a `state` its chains go on."""
        import jax

        structure = self.tasks[0].design.padded.structure
        program: Callable[..., Any] = ensemble_program(structure)
        keys = [t.key + np.uint32(repeat) for t in self.tasks]
        begin = state or blank_state(structure, self.tasks[0].data)
        if self.lanes == 1:
            (key,) = keys
        else:  # all go on or none, so that what is not asked for is not computed; one plan, or loops would end apart
            program = jax.vmap(program, (0, None, 0, {k: None if k == "goes_on" else 0 for k in begin}))
            key = side_by_side(keys, self.lanes)
            started = np.asarray(state is not None)
            begin = {**(begin if state else side_by_side([begin], self.lanes)), "goes_on": started}
        with jax.enable_x64(self.precision == "float64"):
            given = (self.data, self._exact(plan.numbers()), key, self._exact(begin))
            device = jax.config.jax_default_device  # a program is compiled for one
            kind = ("ensemble", self.lanes, self.precision, structure.key, device and device.id)
            return compiled(kind, program, *given, alone=self.lanes > 1)(*given)

    def compile_certificates(self, budgets: int) -> None:
        """Compile what certifies one ensemble's draws where they lie, as long as the ensemble is compiled elsewhere."""
        import jax

        task = self.tasks[0]
        with jax.enable_x64(self.precision == "float64"):
            data = self._exact(task.data)
            shapes = drawn_shapes(task.design.padded.structure, data)
        found, references = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.lanes, *x.shape), x.dtype), (shapes, data["references"])
        )
        with jax.enable_x64(True):
            costs = jax.ShapeDtypeStruct((self.lanes, budgets), np.dtype(float))
            certificate_program(task.design.model, found, references, costs)

    def pooled(self, parts: Sequence[Mapping[str, Any]], axis: int) -> dict[str, Any]:
        """Several runs of the ensemble: more chains (axis 0), or chains that went on (axis 1)."""
        import jax

        if len(parts) == 1:
            return dict(parts[0])
        lead = int(self.lanes > 1)

        def joined(*x):
            return jax.numpy.concatenate(x, axis + lead) if np.ndim(x[0]) > lead else sum(x)

        with jax.enable_x64(self.precision == "float64"):
            return jax.tree.map(joined, *({k: v for k, v in p.items() if k not in _BESIDE} for p in parts))

    def drawn(self, found: Mapping[str, Any], budgets: Sequence[Sequence[float]]) -> Drawn:
        """What is kept of the draws, and every table's checks, for which optimal sizes at its budgets count too."""
        import jax

        single, count = self.precision == "float32", len(self.tasks)
        if self.lanes == 1:
            one = jax.tree.map(np.asarray, {k: v for k, v in found.items() if k not in _BESIDE})
            told = certified(self.tasks[0].model, one["values"], one, budgets[0], single)
            return Drawn.kept(jax.tree.map(lambda x: x[None], one), told)
        if found["energy"].size <= POOLED_THERE * self.lanes * CHAINS * DRAWS:
            models = [t.design.model for t in self.tasks]
            told = certified_together(models, found, self.data["references"], budgets, single)
            made = Drawn.kept(found, told)
            return made.on_host if _crowded() else made
        fetched = jax.device_get({k: v for k, v in found.items() if k not in _BESIDE})
        each = [jax.tree.map(lambda x, k=k: x[k], fetched) for k in range(count)]
        given = zip(self.tasks, each, budgets, strict=True)
        told = [certified(t.model, d["values"], d, b, single) for t, d, b in given]
        return Drawn.kept(fetched, Certificates.of_each(told))


def _crowded() -> bool:
    """Whether too much of an accelerator's memory is taken for draws to stay there; a CPU does not say."""
    import jax

    devices = [jax.config.jax_default_device] if jax.config.jax_default_device else jax.local_devices()
    told = [d.memory_stats() or {} for d in devices]
    return any(t.get("bytes_in_use", 0) > CROWDED * t.get("bytes_limit", np.inf) for t in told)


def _kept(x: Any) -> Any:
    """Draws thinned to `CHAINS` × `DRAWS`: chains that share a row lie one after the other, as halves of it."""
    if x.shape[1:3] == (CHAINS, DRAWS):
        return x
    joined = x.reshape(len(x), CHAINS, -1, *x.shape[3:])
    step = max(1, joined.shape[2] // DRAWS)
    return joined[:, :, step - 1 :: step][:, :, :DRAWS]


def side_by_side(trees: Sequence[Any], lanes: int) -> Any:
    """The leaves of several trees as lanes of one; the last is repeated where there are fewer."""
    import jax

    def stacked(*leaves):
        made = np.empty((lanes, *np.shape(leaves[0])), np.asarray(leaves[0]).dtype)
        np.stack(leaves, out=made[: len(leaves)])
        made[len(leaves) :] = leaves[-1]
        return made

    return jax.tree.map(stacked, *trees)
