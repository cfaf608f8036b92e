"""Are certified results right? Against importance sampling with many draws, which shares no Markov chain with them.

The proposal is a mixture of Student-t kernels around the draws that are judged (three quarters) and a wide Student-t
around their mean: where the draws had missed a part of the posterior, the wide part finds it, with large weights. A
reference counts where its Pareto k is below 0.7. For every quantity: |difference of means| <= .05 sd + 4 standard
errors, and |log ratio of standard deviations| <= .05 + 4 standard errors, both of the batch and of the reference. With
4 errors a correct table fails on one of its 14 quantities with probability below 2e-3.

    python benchmarks/batch/accuracy.py --tables 200 --out benchmarks/results/batch_accuracy.json [--cell 24 …]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import bayescale as bs
from bayescale.calibration.calibrating import ranked_quantities
from bayescale.model import compiled, double_precision
from bayescale.posterior import convergence, flat_draws, model_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record
from batch import cells

DRAWS, CENTRES, FREEDOM = 40_000, 200, 5.0
#: Compared on the log scale: their variance on their own hangs on a few draws, or does not exist.
LOGS = ("A", "A_ref", "B", "B_ref", "G", "nu", "sigma", "tau_params")
BUDGET = 1e22


def reference(fit: bs.Fit, rng: np.random.Generator) -> tuple[dict, dict, float]:
    """Values of every quantity at the proposals, their normalised weights, and Pareto k."""
    import jax
    from arviz_stats.base.array import array_stats
    from scipy.special import gammaln, logsumexp

    model = model_of(fit)
    structure, drawn = model.structure, flat_draws(fit, model)
    n = structure.dimension
    mean, root = drawn.mean(axis=0), np.linalg.cholesky(np.cov(drawn.T) + 1e-12 * np.eye(n))
    back = np.linalg.inv(root)
    centres = drawn[rng.choice(len(drawn), CENTRES, replace=False)]
    width = 0.6 * CENTRES ** (-1 / (n + 4)) * 1.6

    def student(size):
        return rng.standard_normal((size, n)) / np.sqrt(rng.chisquare(FREEDOM, (size, 1)) / FREEDOM)

    near = rng.random(DRAWS) < 0.75
    step = student(DRAWS) @ root.T
    x = np.where(near[:, None], centres[rng.integers(0, CENTRES, DRAWS)] + width * step, mean + 1.5 * step)
    scaled, scaled_centres = x @ back.T, centres @ back.T

    def log_t(distance, size):
        constant = (
            gammaln((FREEDOM + n) / 2) - gammaln(FREEDOM / 2) - n / 2 * np.log(FREEDOM * np.pi) - n * np.log(size)
        )
        return constant - (FREEDOM + n) / 2 * np.log1p(distance / FREEDOM / size**2)

    parts = []
    for k in range(0, DRAWS, 4000):
        block = scaled[k : k + 4000]
        apart = (block**2).sum(1)[:, None] - 2 * block @ scaled_centres.T + (scaled_centres**2).sum(1)
        kernels = logsumexp(log_t(np.maximum(apart, 0), width), axis=1) - np.log(CENTRES)
        wide = log_t(((block - back @ mean) ** 2).sum(1), 1.5)
        parts.append(np.logaddexp(np.log(0.75) + kernels, np.log(0.25) + wide))
    with double_precision():
        program = compiled(
            ("reference", structure.key),
            jax.vmap(lambda flat, data: structure.potential(flat, data), (0, None)),
            x[:4000],
            model.data,
        )
        target = -np.concatenate([np.asarray(program(x[k : k + 4000], model.data)) for k in range(0, DRAWS, 4000)])
    log_weights = np.where(np.isfinite(target), target, -np.inf) - np.concatenate(parts)
    log_weights = np.maximum(log_weights - log_weights.max(), -700)
    smoothed, k_hat = array_stats.psislw(-log_weights)
    values = {}
    for start in range(0, DRAWS, 4000):
        for name, v in compared(model, x[start : start + 4000]).items():
            values.setdefault(name, []).append(v)
    return {n: np.concatenate(v) for n, v in values.items()}, np.exp(smoothed - logsumexp(smoothed)), float(k_hat)


def compared(model: bs.Model, flat: np.ndarray) -> dict[str, np.ndarray]:
    """The quantities that are compared, for flat vectors of a model."""
    with np.errstate(divide="ignore"):  # proposals may be anywhere
        found = ranked_quantities(model, flat, BUDGET)
        return {n: np.log(v) if n in LOGS else v for n, v in found.items()}


def moments(values: np.ndarray, weights: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, standard deviation, and the standard errors of the mean and of its logarithm."""
    fine = np.isfinite(values) & (weights > 0)
    values, weights = np.where(fine, values, 0.0), np.where(fine, weights, 0.0) / weights[fine].sum()
    mean = weights @ values
    square = (values - mean) ** 2
    variance = weights @ square
    error = np.sqrt((weights**2) @ square)
    log_error = np.sqrt((weights**2) @ (square - variance) ** 2) / (2 * variance)
    return float(mean), float(np.sqrt(variance)), float(error), float(log_error)


def judged(fit: bs.Fit, rng: np.random.Generator) -> dict:
    """How far every quantity of a fit is from the reference, in units of what is allowed."""
    values, weights, k_hat = reference(fit, rng)
    model = model_of(fit)
    shape = (fit.tree["posterior"].sizes["chain"], fit.tree["posterior"].sizes["draw"])
    own = {n: v.reshape(shape) for n, v in compared(model, flat_draws(fit, model)).items()}
    worst = {"mean": 0.0, "sd": 0.0}
    for name, v in own.items():
        mean, sd, error, log_error = moments(values[name], weights)
        square = (v - v.mean()) ** 2
        size = float(convergence.ess_mean(square[None])[0])
        own_log_error = square.std() / np.sqrt(size) / (2 * square.mean())
        allowed = 0.05 * sd + 4 * np.hypot(error, float(convergence.mcse_mean(v[None])[0]))
        worst["mean"] = max(worst["mean"], abs(v.mean() - mean) / allowed)
        worst["sd"] = max(worst["sd"], abs(np.log(v.std() / sd)) / (0.05 + 4 * np.hypot(log_error, own_log_error)))
    return {**worst, "k": k_hat, "effective": float(1 / (weights**2).sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first table")
    parser.add_argument("--cell", nargs="*", default=[c for c in cells.CELLS if c != "grouped"])
    parser.add_argument("--noise", default="normal")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "batch_accuracy.json")
    given = parser.parse_args()
    document, rows = {"circumstances": record.circumstances(), "noise": given.noise, "cells": {}}, []
    for cell in given.cell:
        tables = {str(s): cells.table(cell, s) for s in range(given.first, given.first + given.tables)}
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bs.NotConverged)
            batch = bs.fit_many("chinchilla", tables, noise=given.noise, group=cells.group(cell), flops=[BUDGET])
        seconds = time.perf_counter() - began
        rng = np.random.default_rng(1)
        found = [judged(batch[name], rng) for name in batch.certified]
        trusted = [f for f in found if f["k"] < 0.7]
        right = [f for f in trusted if max(f["mean"], f["sd"]) <= 1]
        document["cells"][cell] = {
            "tables": len(tables),
            "certified": len(batch.certified),
            "rungs": batch.status["rung"].value_counts().to_dict(),
            "references": len(trusted),
            "right": len(right),
            "largest_mean": max(f["mean"] for f in trusted),
            "largest_sd": max(f["sd"] for f in trusted),
            "smallest_effective": min(f["effective"] for f in trusted),
            "seconds": seconds,
            "bars": {"certified": 0.98, "right": 0.995},
        }
        c = document["cells"][cell]
        rows.append(
            [
                cell,
                len(tables),
                len(batch.certified) / len(tables),
                len(trusted),
                len(right) / len(trusted),
                c["largest_mean"],
                c["largest_sd"],
                1000.0 * seconds / len(tables),
            ]
        )
        header = ["cell", "tables", "certified", "references", "right", "mean off", "sd off", "ms a table, compiled in"]
        record.table(header, rows)
        record.write(given.out, document)


if __name__ == "__main__":
    main()
