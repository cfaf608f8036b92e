"""NumPyro's HMC and NUTS kernels on round coordinates, one chain a call, in blocks of draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayescale.model.programs import compiled, double_precision, load_numpyro
from bayescale.sampling.start import Potential, Start

#: Draws between two looks at the progress bar and at Ctrl-C.
BLOCK = 250
#: Up to this dimension the warm-up learns a full mass matrix, above it the diagonal (the coordinates are round).
DENSE_UP_TO = 24
DEEPEST_TREE = 10
#: What is kept of every transition.
RECORDED = ("flat", "energy", "acceptance_rate", "step_size", "n_steps", "diverging")


@dataclass(frozen=True)
class Kernel:
    """A transition kernel by NumPyro's name, with the length of a trajectory where it is fixed."""

    algorithm: str
    trajectory_length: float | None = None


class Chain:
    """One chain of a kernel: advance it by blocks; the compiled program is shared by all chains of a structure.

    `done` transitions are recorded so far, warm-up included.
    """

    def __init__(self, kernel: Kernel, start: Start, warmup: int, target: float, data: Any):
        import jax

        self.done = 0
        self._blocks: list[dict[str, np.ndarray]] = []
        self.arguments = (start.shift, start.scale, data, np.asarray(target, np.float64))
        structure, dimension = start.model.structure, start.model.structure.dimension

        def kernels(potential, u, key, *model_args):
            load_numpyro()
            from numpyro.infer.hmc import hmc

            initialise, advance = hmc(potential_fn_gen=potential, algo=kernel.algorithm)
            state = initialise(
                u,
                warmup,
                model_args=model_args[:-1],
                rng_key=key,
                dense_mass=dimension <= DENSE_UP_TO,
                target_accept_prob=model_args[-1],
                max_tree_depth=DEEPEST_TREE,
                trajectory_length=kernel.trajectory_length or 2 * np.pi,
            )
            return state, lambda s: advance(s, model_args=model_args[:-1])

        def first(u, key, value, slope, target):
            # The flat potential stands in for the model's, whose value and slope at the start are known already.
            state, _ = kernels(lambda: lambda u: (0 * u).sum(), u, key, target)
            return state._replace(potential_energy=value, z_grad=slope)

        def block(state, count, shift, scale, data, target):
            def potential_of(shift, scale, data):
                return lambda u: structure.sampler_potential(shift + scale @ u, data)

            # Binding the kernel again gives this trace its own adaptation schedule; its state is not used.
            _, advance = kernels(potential_of, state.z, state.rng_key, shift, scale, data, target)
            store = {
                "flat": np.zeros((BLOCK, dimension)),
                **{name: np.zeros(BLOCK) for name in ("energy", "acceptance_rate", "step_size")},
                "n_steps": np.zeros(BLOCK, np.int32),
                "diverging": np.zeros(BLOCK, bool),
            }
            store = jax.tree.map(jax.numpy.asarray, store)

            def body(k, carry):
                state, store = carry
                state = advance(state)
                row = {
                    "flat": structure.from_sampler(shift + scale @ state.z, data)[0],
                    "energy": state.energy,
                    "acceptance_rate": state.accept_prob,
                    "step_size": state.adapt_state.step_size,
                    "n_steps": state.num_steps.astype(np.int32),
                    "diverging": state.diverging,
                }
                return state, {name: store[name].at[k].set(row[name]) for name in store}

            return jax.lax.fori_loop(0, count, body, (state, store))

        self._key = (kernel, warmup)
        self._structure = structure.key
        self._first, self._block = first, block

    def prepare(self, u: np.ndarray, key, potential: Potential | None = None) -> None:
        """Compile (or find) the programs and put the chain at its start; without a potential only compile."""
        shift, scale, _, target = self.arguments
        value, slope = potential(shift + scale @ u) if potential else (0.0, np.zeros_like(u))
        with double_precision():
            arguments = (u, key, np.asarray(value), scale.T @ slope, target)
            self.state = compiled(("first", self._key), self._first, *arguments)(*arguments)
            count = np.asarray(0, np.int32)
            key = ("block", self._key, self._structure)
            self._program = compiled(key, self._block, self.state, count, *self.arguments)

    def advance(self, count: int) -> None:
        """Record the next `count` transitions (at most `BLOCK`)."""
        with double_precision():
            self.state, store = self._program(self.state, np.asarray(count, np.int32), *self.arguments)
            self._blocks.append({name: np.asarray(value)[:count] for name, value in store.items()})
        self.done += count

    def recorded(self, name: str) -> np.ndarray:
        """What is kept of every transition so far, by a name of `RECORDED`."""
        return np.concatenate([b[name] for b in self._blocks])
