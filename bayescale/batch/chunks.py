"""Tables of one shape sampled by one call of a compiled program: side by side on an accelerator, one on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.batch.certifying import certified, certified_together
from bayescale.batch.preparing import Task
from bayescale.errors import Finding
from bayescale.model import compiled
from bayescale.sampling.ensemble import CHAINS, DRAWS, WARMUP, Plan, blank_state, ensemble_program

#: Tables that one call of a compiled program takes where it runs on an accelerator, as many as find room in its memory.
LANES, LANES_BYTES = 2048, 8e9
#: As many times the draws of one ensemble are checked where they lie; more of them on the host, table by table.
POOLED_THERE = 2
#: What an ensemble returns beside its draws.
_BESIDE = ("state", "potentials")


def lanes_for(task: Task) -> int:
    """How many tables of this shape are sampled side by side: one on a CPU, on an accelerator a power of two."""
    import jax

    if jax.default_backend() == "cpu":
        return 1
    structure, (_, rows) = task.padded.structure, task.shape
    sampled = 3 * (WARMUP + DRAWS) * structure.dimension + 16 * rows  # positions, momenta, a copy; a gradient
    checked = 8 * DRAWS * 3 * structure.coordinates.dimension  # ranks, halves and spectra of about so many numbers
    most = LANES_BYTES / (8 * CHAINS * (sampled + checked))
    return int(2 ** np.clip(np.floor(np.log2(most)), 0, np.log2(LANES)))


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
            return self._exact(self.tasks[0].padded.data)
        with jax.enable_x64(self.precision == "float64"):
            return jax.device_put(self._exact(side_by_side([t.padded.data for t in self.tasks], self.lanes)))

    def _exact(self, tree: Any) -> Any:
        """Numbers in the precision of the chunk."""
        import jax

        if self.precision == "float64":
            return tree
        return jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, tree)

    def sample(self, plan: Plan, repeat: int = 0, state: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The ensemble's draws; another `repeat` draws others, from a `state` its chains go on."""
        import jax

        structure = self.tasks[0].padded.structure
        program: Callable[..., Any] = ensemble_program(structure)
        keys = [t.key + np.uint32(repeat) for t in self.tasks]
        begin = state or blank_state(structure, self.tasks[0].padded.data)
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
            return compiled(kind, program, *given)(*given)

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

    def fetched(
        self, found: Mapping[str, Any], budgets: Sequence[Sequence[float]]
    ) -> list[tuple[dict[str, Any], tuple[Finding, ...]]]:
        """The draws of every table, and their checks, for which optimal sizes at the table's budgets count too."""
        import jax

        drawn = {k: v for k, v in found.items() if k not in _BESIDE}
        models = [t.model for t in self.tasks]
        there = self.lanes > 1 and found["energy"].size <= POOLED_THERE * self.lanes * CHAINS * DRAWS
        told = certified_together(models, found, self.data["references"], budgets) if there else None
        if self.lanes == 1:
            each = [jax.tree.map(np.asarray, drawn)]
        else:
            leaves, shape = jax.tree.flatten(jax.device_get(drawn))
            each = [shape.unflatten([x[k] for x in leaves]) for k in range(len(self.tasks))]
        if told is None:
            told = [certified(m, d["values"], d, b) for m, d, b in zip(models, each, budgets, strict=True)]
        return [*zip(each, told, strict=True)]


def side_by_side(trees: Sequence[Any], lanes: int) -> Any:
    """The leaves of several trees as lanes of one; the last is repeated where there are fewer."""
    import jax

    def stacked(*leaves):
        made = np.empty((lanes, *np.shape(leaves[0])), np.asarray(leaves[0]).dtype)
        np.stack(leaves, out=made[: len(leaves)])
        made[len(leaves) :] = leaves[-1]
        return made

    return jax.tree.map(stacked, *trees)
