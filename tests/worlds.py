"""Simulated tables of runs with a known truth."""

import numpy as np
import pandas as pd

from bayescale.runs import Runs

#: Besiroglu et al. (2024), Table 1.
TRUTH = dict(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)


def chinchilla_world(rows, seed, *, sigma=0.005, tails=4.0, groups=(), compute=(18.0, 21.5), unit="nats/token"):
    """Runs whose log losses scatter around the law with Student-t noise and effects of groups.

    `groups` lists (name, levels, ratio of the effects' sd to sigma).
    """
    rng = np.random.default_rng(seed)
    C = 10 ** rng.uniform(*compute, rows)
    N = np.sqrt(C / 6 / 20) * 10 ** rng.uniform(-0.6, 0.6, rows)
    D = C / 6 / N
    p = TRUTH
    log_loss = np.log(p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * D ** -p["beta"])
    log_loss = log_loss + sigma * rng.standard_t(tails, rows)
    columns = {}
    for name, levels, ratio in groups:
        level = rng.permutation(np.arange(rows) % levels)
        log_loss = log_loss + ratio * sigma * rng.standard_normal(levels)[level]
        columns[name] = [f"{name}{k:03d}" for k in level]
    frame = pd.DataFrame({"params": N, "tokens": D, "flops": 6 * N * D, "loss": np.exp(log_loss), **columns})
    return Runs(frame, "simulated", unit)


def mcse_distance(one, other, name):
    """How far two fits' means of a quantity are, in their joint Monte Carlo standard error."""
    a, b = one.quantities()[name], other.quantities()[name]
    return abs(a.mean - b.mean) / np.hypot(a.mcse_mean, b.mcse_mean)
