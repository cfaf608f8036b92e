"""Where chains start: the modes of the posterior, and coordinates in which it is round near the best one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayescale.model import Model, Structure
from bayescale.model.programs import compiled, double_precision
from bayescale.model.scores import levels_located
from bayescale.noise import LINKS

#: Searches from this many draws of the prior; the best mode sets the coordinates.
SEARCHES = 8
#: A mode this much lower in log density than the best is not worth a chain of its own.
MODE_DEPTH = 10.0
#: Curvature below this (the prior's own is 1) is not trusted: it would stretch a coordinate beyond the prior.
LEAST_CURVATURE = 0.5


@dataclass(frozen=True, eq=False)
class Start:
    """Round coordinates of a model and a start for every chain.

    `shift + scale @ u` are the sampler's coordinates of `model`, which knows the groups' effects at the mode. `modes`
    holds the potential at every mode that was found, best first.
    """

    model: Model
    shift: np.ndarray
    scale: np.ndarray
    initial: np.ndarray
    modes: np.ndarray


class Potential:
    """The potential and its gradient in a sampler's coordinates, as NumPy, for one model.

    With `smooth`, a noise that has a twice differentiable stand-in is replaced by it.
    """

    def __init__(self, model: Model, smooth: bool = False):
        import jax

        structure = model.structure
        self.dimension = structure.dimension
        with double_precision():
            self.data = jax.device_put(model.data)
            self._program = compiled(
                ("potential", smooth, structure.key),
                jax.value_and_grad(lambda flat, data: structure.sampler_potential(flat, data, smooth=smooth)),
                np.zeros(self.dimension),
                self.data,
            )

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient; a value that is not finite becomes a large one with no slope."""
        with double_precision():
            value, slope = self._program(np.asarray(flat, np.float64), self.data)
        value, slope = float(value), np.asarray(slope)
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return 1e12, np.zeros_like(slope)
        return value, slope


def find_start(model: Model, chains: int, rng: np.random.Generator) -> Start:
    """Search for modes from draws of the prior, then round the posterior near the best one.

    The law is searched first, without effects of groups; then the effects with their spreads held at the prior's
    median, which tells where the levels lie, so that spreads and effects are separable; then everything.
    """
    structure = model.structure
    smooth = any(noise.smooth for noise in structure.noises.values())
    potential = Potential(model, smooth)
    n, inner = structure.dimension, structure.coordinates.dimension
    spreads = spread_positions(model.structure)
    law_only = np.setdiff1d(np.arange(inner), spreads)
    found = []
    for k in range(SEARCHES):
        x = np.zeros(n)
        x[law_only] = (0.0 if k == 0 else 0.7) * rng.standard_normal(len(law_only))
        if structure.anchor is not None:
            x[structure.anchor.entry] = _middle_response(model) / structure.anchor.unit
        found.append(_descend(potential, x, law_only))
    found.sort(key=lambda pair: pair[0])
    candidates = [x for value, x in found if value < found[0][0] + MODE_DEPTH]
    if structure.intercepts:
        everything = np.arange(n)
        _, x = _descend(potential, candidates[0], np.setdiff1d(everything, spreads))
        model = model.with_locations(_located(model, x))
        potential = Potential(model, smooth)
        x[inner:] = 0.0
        found = [_descend(potential, x, everything)]
        candidates = [found[0][1]]
    best = candidates[0]
    scale = round_coordinates(potential, best)
    back = np.linalg.pinv(scale)
    modes = [best]
    for x in candidates[1:]:  # a chain of its own for every other mode
        if all(np.abs(back @ (x - m)).max() > 3 for m in modes):
            modes.append(x)
    initial = np.empty((chains, n))
    for c in range(chains):
        mode = modes[c % len(modes)]
        initial[c] = back @ (mode - best) + 1.5 * rng.standard_normal(n) * (1 if mode is best else 0.1)
    return Start(model, best, scale, initial, np.asarray([value for value, _ in found]))


def _descend(potential: Potential, start: np.ndarray, free: np.ndarray) -> tuple[float, np.ndarray]:
    """The mode reached from a start by moving only some of the coordinates: its potential and the full vector."""
    from scipy.optimize import minimize

    def partial(y: np.ndarray) -> tuple[float, np.ndarray]:
        x = start.copy()
        x[free] = y
        value, slope = potential(x)
        return value, slope[free]

    found = minimize(partial, start[free], jac=True, method="L-BFGS-B", options={"maxiter": 500, "maxcor": 20})
    x = start.copy()
    x[free] = found.x
    return float(found.fun), x


def _located(model: Model, x: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Where the levels of the groups lie at a mode, by site."""
    import jax

    structure = model.structure
    with double_precision():
        arguments = (np.asarray(x, float), jax.device_put(model.data))
        program = compiled(("located", structure.key), lambda x, data: levels_located(structure, x, data), *arguments)
        return jax.tree.map(np.asarray, program(*arguments))


def round_coordinates(potential: Potential, x: np.ndarray) -> np.ndarray:
    """The scale matrix of the round coordinates: the inverse square root of the curvature at a point.

    The curvature comes from central differences of the gradient, which costs no second compilation.
    """
    n, step = len(x), 1e-4
    curvature = np.empty((n, n))
    for k in range(n):
        shift = np.zeros(n)
        shift[k] = step
        curvature[k] = (potential(x + shift)[1] - potential(x - shift)[1]) / (2 * step)
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    return vectors / np.sqrt(np.maximum(np.abs(values), LEAST_CURVATURE))


def _middle_response(model: Model) -> float:
    """The observed response at the anchor's row: where the search for its prediction begins."""
    response = model.law.responses[0]
    row = int(model.data["anchor"])
    return float(LINKS[response.support].inverse(model.data["responses"][response.name]["y"][row]))


def spread_positions(structure: Structure) -> np.ndarray:
    """The entries of z behind the spreads of groups."""
    ratios = {i.ratio for i in structure.intercepts}
    return np.asarray([s.start for s in structure.coordinates.slots if s.parameter.name in ratios], int)
