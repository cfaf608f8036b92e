"""For each model size, the data and compute for which it is the optimal one, for every draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayescale.allocation import bisected, parameter_draws
from bayescale.law import argument_names
from bayescale.model import compiled, double_precision
from bayescale.posterior import Fit
from bayescale.runs import FLOPS_PER_PARAM_TOKEN

#: The range of data that is searched, in logs of tokens.
_LOW, _HIGH = 0.0, 115.0


def optimal_tokens(fit: Fit, params: Sequence[float], draws: str = "headline") -> np.ndarray:
    """The tokens D for which each size N is compute-optimal under C = 6ND, shape (sizes, chain, draw).

    Along a budget, dL/dlog N = dL/dlog D at the optimum; nan where no amount of data makes the size optimal.
    """
    import jax
    import jax.numpy as jnp

    law = fit.law
    formula = next(iter(law.formulas().values()))
    names = set(argument_names(formula))
    fixed = {k: float(v) for k, v in fit.references.items() if k in names and np.ndim(v) == 0}
    known = {k: np.asarray(v, float) for k, v in parameter_draws(fit, draws).items() if k in names}

    def program(sizes, known, fixed):
        def one(u, draw):
            def loss(u, v):
                N, D = jnp.exp(u), jnp.exp(v)
                inputs = {"N": N, "D": D, "C": FLOPS_PER_PARAM_TOKEN * N * D, "M": D / N}
                return formula(**{k: x for k, x in {**inputs, **fixed, **draw}.items() if k in names})

            slopes = jax.grad(loss, argnums=(0, 1))

            def too_large(v):
                """Whether so much data would rather be spent on a larger model."""
                along_N, along_D = slopes(u, v)
                return along_N < along_D

            v = bisected(too_large, jnp.asarray(_LOW), jnp.asarray(_HIGH))
            return jnp.where((v > _LOW + 1e-6) & (v < _HIGH - 1e-6), jnp.exp(v), jnp.nan)

        return jax.vmap(lambda u: jax.vmap(lambda draw: one(u, draw))(known))(sizes)

    arguments = (np.log(np.asarray(params, float)), known, fixed)
    with double_precision():
        found = np.asarray(compiled(("optimal_tokens", law), program, *arguments)(*arguments))
    posterior = fit.tree[draws]
    return found.reshape(len(params), posterior.sizes["chain"], posterior.sizes["draw"])
