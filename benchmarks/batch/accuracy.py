"""Are certified results right? Against importance sampling with many draws, which shares no Markov chain with them.

The proposal is a mixture of Student-t kernels around the draws that are judged (three quarters) and a wide Student-t
around their mean: where the draws had missed a part of the posterior, the wide part finds it, with large weights. A
reference counts where its Pareto k is below 0.7. Effects of groups are integrated out exactly: they are Gaussian given
the rest, under normal noise. For every quantity: |difference of means| <= .05 sd + 4 standard errors, and |log ratio of
standard deviations| <= .05 + 4 standard errors, both of the batch and of the reference. With 4 errors a correct table
fails on one of its 14 quantities with probability below 2e-3. With `--nuts`, the first tables of every cell are
compared with NUTS of 4 × 10,000 draws as well.

Every block of tables is kept beside the result, in a `.jsonl` file: the same call again goes on where it stopped.

    python benchmarks/batch/accuracy.py --tables 200 [--noise student_t --nuts 10] [--cell 24 …]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import bayescale as bs
from bayescale.calibration.calibrating import ranked_quantities
from bayescale.model import available_cores, compiled, double_precision
from bayescale.posterior import convergence, flat_draws, model_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record
from batch import cells

DRAWS, CENTRES, FREEDOM = 40_000, 200, 5.0
BLOCK = 50
#: Compared on the log scale: their variance on their own hangs on a few draws, or does not exist.
LOGS = ("A", "A_ref", "B", "B_ref", "G", "nu", "sigma", "tau_params")
BUDGET = 1e22


def reference(fit: bs.Fit, rng: np.random.Generator) -> tuple[dict, dict, float]:
    """Values of every quantity at the proposals, their normalised weights, and Pareto k."""
    import jax
    import jax.numpy as jnp
    from arviz_stats.base.array import array_stats
    from scipy.special import gammaln, logsumexp

    model = model_of(fit)
    structure, drawn = model.structure, flat_draws(fit, model)
    n = structure.coordinates.dimension  # all of it, or all but the effects, which are integrated out
    drawn = drawn[:, :n]
    mean, root = drawn.mean(axis=0), np.linalg.cholesky(np.cov(drawn.T) + 1e-12 * np.eye(n))
    back = np.linalg.inv(root)
    centres = drawn[rng.choice(len(drawn), CENTRES, replace=False)]
    width = 0.6 * CENTRES ** (-1 / (n + 4)) * 1.6

    def student(size):
        return rng.standard_normal((size, n)) / np.sqrt(rng.chisquare(FREEDOM, (size, 1)) / FREEDOM)

    near = rng.random(DRAWS) < 0.75
    step = student(DRAWS) @ root.T
    x = np.where(near[:, None], centres[rng.integers(0, CENTRES, DRAWS)] + width * step, mean + 1.5 * step)

    def log_t(distance, size):
        constant = (
            gammaln((FREEDOM + n) / 2) - gammaln(FREEDOM / 2) - n / 2 * np.log(FREEDOM * np.pi) - n * np.log(size)
        )
        return constant - (FREEDOM + n) / 2 * jnp.log1p(distance / FREEDOM / size**2)

    def mixture(block, centres, middle):
        apart = (block**2).sum(1)[:, None] - 2 * block @ centres.T + (centres**2).sum(1)
        kernels = jax.nn.logsumexp(log_t(jnp.maximum(apart, 0), width), axis=1) - np.log(CENTRES)
        wide = log_t(((block - middle) ** 2).sum(1), 1.5)
        return jnp.logaddexp(np.log(0.75) + kernels, np.log(0.25) + wide)

    scaled, about = x @ back.T, (centres @ back.T, back @ mean)
    with double_precision():
        program = compiled(
            ("reference", structure.key),
            jax.vmap(lambda z, data: potential(structure, z, data), (0, None)),
            x[:4000],
            model.data,
        )
        proposed = compiled(("proposal", n), mixture, scaled[:4000], *about)
        blocks = [slice(k, k + 4000) for k in range(0, DRAWS, 4000)]
        target = -np.concatenate([np.asarray(program(x[k], model.data)) for k in blocks])
        proposal = np.concatenate([np.asarray(proposed(scaled[k], *about)) for k in blocks])
    log_weights = np.where(np.isfinite(target), target, -np.inf) - proposal
    log_weights = np.maximum(log_weights - log_weights.max(), -700)
    smoothed, k_hat = array_stats.psislw(-log_weights)
    values = {}
    for k in blocks:
        for name, v in compared(model, x[k]).items():
            values.setdefault(name, []).append(v)
    return {n: np.concatenate(v) for n, v in values.items()}, np.exp(smoothed - logsumexp(smoothed)), float(k_hat)


def potential(structure, z, data):
    """Minus the log-density of everything but the effects of one grouping, which are integrated out.

    Rows of a level have residuals r ~ N(0, σ² I + τ² 1 1ᵀ), whose determinant and inverse are known.
    """
    import jax
    import jax.numpy as jnp

    if not structure.intercepts:
        return structure.potential(z, data)
    (i,), (response,) = structure.intercepts, structure.law.responses
    assert (
        structure.noises[response.name].name == "normal" and i.grouping.fixed is None and not structure.observing.error
    )
    values = structure.values(z, data)
    observed = data["responses"][response.name]
    residual = observed["y"] - jnp.log(structure.means(values, data, response))
    residual = jnp.where(observed["used"], residual, 0.0)
    levels = len(i.grouping.levels)
    total = jax.ops.segment_sum(residual, data["levels"][i.grouping.column], levels)
    rows = data["effects"][i.site]["rows"]
    noise, spread = values["sigma"] ** 2, values[i.spread] ** 2
    joint = noise + rows * spread
    quadratic = (residual**2).sum() / noise - (spread * total**2 / (noise * joint)).sum()
    determinant = (rows.sum() - levels) * jnp.log(noise) + jnp.log(joint).sum()
    return 0.5 * (quadratic + determinant + (z**2).sum())


def disagreement(model: bs.Model, flat: np.ndarray) -> float:
    """How much log p(y, u, z) - log p(u | y, z) - log p(y, z) varies over draws: rounding, if `potential` is right."""
    import jax

    structure, data = model.structure, model.data
    (i,) = structure.intercepts
    n = structure.coordinates.dimension
    found = []
    with double_precision():
        for x in flat:
            values = {k: np.asarray(v) for k, v in structure.values(jax.numpy.asarray(x[:n]), data).items()}
            response = structure.law.responses[0]
            residual = data["responses"][response.name]["y"] - np.log(structure.means(values, data, response))
            residual = np.where(data["responses"][response.name]["used"], residual, 0.0)
            rows = np.asarray(data["effects"][i.site]["rows"])
            total = np.bincount(data["levels"][i.grouping.column], residual, len(rows))
            precision = rows / values["sigma"] ** 2 + 1 / values[i.spread] ** 2
            apart = x[n:] - total / values["sigma"] ** 2 / precision
            given = 0.5 * (np.log(precision) - precision * apart**2).sum()
            found.append(float(potential(structure, x[:n], data) - structure.potential(x, data)) - given)
    return float(np.ptp(found))


def compared(model: bs.Model, flat: np.ndarray) -> dict[str, np.ndarray]:
    """The quantities that are compared, for flat vectors of a model, or for those without effects of groups."""
    effects = model.structure.dimension - flat.shape[1]
    flat = np.concatenate([flat, np.zeros((len(flat), effects))], axis=1)
    with np.errstate(divide="ignore"):  # proposals may be anywhere
        found = ranked_quantities(model, flat, BUDGET)
        if model.structure.intercepts:  # of the row's own effects
            del found["log-likelihood"]
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
    found = apart(fit, {n: moments(v, weights) for n, v in values.items()})
    return {**found, "k": k_hat, "effective": float(1 / (weights**2).sum())}


def against_nuts(fit: bs.Fit) -> dict:
    """The same against NUTS with 4 × 10,000 draws of its own seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bs.NotConverged)
        group = list(fit.group) or "none"
        long = bs.fit("chinchilla", fit.runs, noise=fit.noise, group=group, draws=10_000, seed=7, progress=False)
    found = apart(fit, {n: own_moments(v) for n, v in drawn_of(long).items()})
    return {**found, "converged": long.converged, "effective": float(long.summary()["ess_bulk"].min())}


def drawn_of(fit: bs.Fit) -> dict[str, np.ndarray]:
    """What is compared, of a fit's own draws, (chain, draw)."""
    model, sizes = model_of(fit), fit.tree["posterior"].sizes
    return {n: v.reshape(sizes["chain"], sizes["draw"]) for n, v in compared(model, flat_draws(fit, model)).items()}


def own_moments(v: np.ndarray) -> tuple[float, float, float, float]:
    """As `moments`, of draws of Markov chains."""
    square = (v - v.mean()) ** 2
    log_error = square.std() / np.sqrt(float(convergence.ess_mean(square[None])[0])) / (2 * square.mean())
    return float(v.mean()), float(v.std()), float(convergence.mcse_mean(v[None])[0]), float(log_error)


def apart(fit: bs.Fit, known: dict[str, tuple[float, float, float, float]]) -> dict[str, float]:
    """The largest distance of means and of standard deviations from what is known, in units of what is allowed."""
    worst = {"mean": 0.0, "sd": 0.0}
    for name, v in drawn_of(fit).items():
        mean, sd, error, log_error = known[name]
        own_mean, own_sd, own_error, own_log_error = own_moments(v)
        allowed = 0.05 * sd + 4 * np.hypot(error, own_error)
        worst["mean"] = max(worst["mean"], abs(own_mean - mean) / allowed)
        worst["sd"] = max(worst["sd"], abs(np.log(own_sd / sd)) / (0.05 + 4 * np.hypot(log_error, own_log_error)))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first table")
    parser.add_argument("--cell", nargs="*", default=[*cells.CELLS])
    parser.add_argument("--noise", default="normal")
    parser.add_argument("--precision", default="float64", help="of the batch; references are double")
    parser.add_argument("--nuts", type=int, default=0, help="tables of a cell that NUTS is run on as well")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no block begins after this")
    parser.add_argument("--out", type=Path, help="by default results/batch_accuracy.json, or …_student_t.json")
    given = parser.parse_args()
    suffix = "" if given.noise == "normal" else f"_{given.noise}"
    out = given.out or record.RESULTS / f"batch_accuracy{suffix}.json"
    document = {"circumstances": record.circumstances(), "noise": given.noise, "cells": {}}
    chosen = [c for c in given.cell if c != "grouped" or given.noise == "normal"]
    parts = out.with_suffix(".jsonl")
    blocks = [json.loads(line) for line in parts.read_text().splitlines()] if parts.exists() else []
    began = time.perf_counter()
    for first in range(given.first, given.first + given.tables, BLOCK):
        for cell in chosen:
            if (cell, first) in {(b["cell"], b["first"]) for b in blocks}:
                continue
            if time.perf_counter() - began > 60 * given.minutes:
                return
            blocks.append(block(cell, first, min(BLOCK, given.first + given.tables - first), given))
            with parts.open("a") as file:
                file.write(json.dumps(blocks[-1]) + "\n")
            begun = [c for c in chosen if any(b["cell"] == c for b in blocks)]
            document["cells"] = {c: entry([b for b in blocks if b["cell"] == c]) for c in begun}
            record.write(out, document)
    shown = ("tables", "certified", "references", "right", "largest_mean", "largest_sd", "largest_k", "seconds")
    record.table(["cell", *shown], [[c, *(document["cells"][c][n] for n in shown)] for c in document["cells"]])


def block(cell: str, first: int, count: int, given: argparse.Namespace) -> dict:
    """Fit and judge some tables of a cell."""
    tables = {str(s): cells.table(cell, s) for s in range(first, first + count)}
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bs.NotConverged)
        batch = bs.fit_many(
            "chinchilla",
            tables,
            noise=given.noise,
            group=cells.group(cell),
            flops=[BUDGET],
            precision=given.precision,
        )
    made = {"cell": cell, "first": first, "tables": count, "seconds": time.perf_counter() - began}
    made |= {"rungs": {str(r): int(n) for r, n in batch.status["rung"].value_counts().items()}}
    for name in batch.certified[:1] if cell == "grouped" else ():
        fit = batch[name]
        model = model_of(fit)
        off = disagreement(model, flat_draws(fit, model)[::320])
        assert off < 1e-6, f"the effects were not integrated out: off by {off:.2g}"

    def one(name: str) -> dict:
        return {"table": int(name), **judged(batch[name], np.random.default_rng([1, int(name)]))}

    with ThreadPoolExecutor(available_cores()) as pool:
        found = [*pool.map(one, batch.certified)]
    few = [name for name in batch.certified if int(name) < given.first + given.nuts]
    nuts = [{"table": int(name), **against_nuts(batch[name])} for name in few]
    return made | {"found": found, "nuts": nuts}


def entry(blocks: list[dict]) -> dict:
    """What is written of a cell."""
    found, nuts = [f for b in blocks for f in b["found"]], [f for b in blocks for f in b["nuts"]]
    trusted = [f for f in found if f["k"] < 0.7]
    wrong = [f for f in trusted if max(f["mean"], f["sd"]) > 1]
    made = {
        "tables": sum(b["tables"] for b in blocks),
        "certified": len(found),
        "references": len(trusted),
        "right": len(trusted) - len(wrong),
        "largest_mean": max((f["mean"] for f in trusted), default=None),
        "largest_sd": max((f["sd"] for f in trusted), default=None),
        "largest_k": max((f["k"] for f in found), default=None),
        "smallest_effective": min((f["effective"] for f in trusted), default=None),
        "seconds": sum(b["seconds"] for b in blocks),
        "rungs": {
            r: sum(b["rungs"].get(r, 0) for b in blocks) for r in sorted({r for b in blocks for r in b["rungs"]})
        },
        "wrong": {str(f["table"]): f for f in wrong},
        "bars": {"certified": 0.98, "right": 0.995},
    }
    return made | ({"nuts": {str(f["table"]): f for f in nuts}} if nuts else {})


if __name__ == "__main__":
    main()
