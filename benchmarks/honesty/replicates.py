"""Do the alarms keep their promise where runs are repeated, and does lack of fit see a bent law?

Tables of 64 runs: 10 sizes at 4 compute budgets, and three more seeds at 8 of these designs. Each is taken as the
examination takes a fit, without the sampler: the mode of the law's coordinates given the noise of the truth, draws of
the normal approximation there, and the alarms against a thousand tables simulated from it. The bent truth multiplies
the loss by exp(bend (log10 C - middle)^2).

    python benchmarks/honesty/replicates.py --tables 400 --out replicates.json
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import bayescale as bs
from bayescale.narrowness import alarms, clusters_of, gradients_of
from bayescale.narrowness.grouped import group_alarms
from bayescale.narrowness.linearised import Linearised
from bayescale.narrowness.replicates import lack_of_fit, replicates_of
from bayescale.narrowness.residuals import Residuals
from bayescale.posterior import evaluate_draws

SIGMA = 0.004
#: cell: noise, bend, whether all alarms are asked or lack of fit alone, and the step that losses are rounded to.
CELLS = {
    "law, normal": ("normal", 0.0, True, None),
    "law, t4": ("student_t", 0.0, True, None),
    "law, losses to .01": ("normal", 0.0, True, 0.01),
    "law, losses to .05": ("normal", 0.0, True, 0.05),
    "bent by 0.4 %": ("normal", 0.0025, False, None),
    "bent by 0.8 %": ("normal", 0.005, False, None),
    "bent by 1.6 %": ("normal", 0.01, False, None),
    "bent by 1.6 %, t4": ("student_t", 0.01, False, None),
    "bent by 1.6 %, losses to .05": ("normal", 0.01, False, 0.05),
}


def table(rng: np.random.Generator, noise: str, bend: float, step: float | None) -> bs.Runs:
    """One simulated table."""
    C, ratio = (g.ravel() for g in np.meshgrid(np.geomspace(1e18, 4e20, 4), np.geomspace(0.15, 6.0, 10)))
    again = np.repeat(rng.choice(40, 8, replace=False), 3)
    C, ratio = np.concatenate([C, C[again]]), np.concatenate([ratio, ratio[again]])
    N = np.sqrt(C / 120) * ratio
    D = C / 6 / N
    alpha, beta, E = rng.uniform(0.25, 0.5), rng.uniform(0.25, 0.5), rng.uniform(1.4, 2.0)
    loss = E + rng.uniform(0.2, 0.5) * (N / 4e8) ** -alpha + rng.uniform(0.2, 0.5) * (D / 8e9) ** -beta
    e = rng.standard_normal(64) if noise == "normal" else rng.standard_t(4, 64)
    u = np.log10(C) - np.log10(C).mean()
    loss = loss * np.exp(bend * u**2 + SIGMA * e)
    rounded = {} if step is None else {"loss": np.round(loss / step) * step, "loss_step": np.full(64, step)}
    rounded |= {"seed": np.arange(64)}  # or repeats that round alike would be taken for copies
    return bs.read_runs({"params": N, "tokens": D, "flops": C, "loss": loss} | rounded)


def alarmed(seed: int, noise: str, bend: float, every: bool, step: float | None) -> list[str]:
    """The alarms that go off on one table."""
    rng = np.random.default_rng([seed, 17])
    model = bs.build_model("chinchilla", table(rng, noise, bend, step), noise=noise, group="none")
    slots = {s.parameter.name: s for s in model.structure.coordinates.slots}
    own = [n for n in slots if n not in ("sigma", "nu")]
    positions = np.concatenate([np.arange(slots[n].start, slots[n].start + slots[n].size) for n in own])
    flat, rows = np.zeros(model.structure.coordinates.dimension), len(model.runs)
    observed, none = model.data["responses"]["loss"], np.zeros(rows)
    low, high = (observed[end][:rows] if step else none for end in ("low", "high"))
    shape = {"nu": 4.0} if noise == "student_t" else {}
    near = Linearised(
        model,
        x=np.zeros(len(positions)),
        slopes=np.empty((rows, 0)),
        precision=np.ones(len(positions)),
        residual=np.empty(rows),
        rows=Residuals(model.structure.noises["loss"], shape, np.full(rows, SIGMA), low, high, none.astype(bool)),
        positions=positions,
        flat=flat,
        before=np.arange(rows),
        carried=np.zeros(rows),
    )
    line = near
    for scale in (0.1, 0.02, SIGMA):  # heavy tails have no slope far from the mode
        line = replace(line, rows=replace(line.rows, scale=np.full(rows, scale))).fitted_to(np.ones(rows, bool))
    z = np.repeat(flat[None], 500, axis=0)
    z[:, positions] = rng.multivariate_normal(line.x, line.table.covariance[0], 500)
    values = evaluate_draws(model, z)["values"]
    quantities = {n: np.asarray(values[n]) for n in ("a", "alpha", "beta", "E")}
    names, gradients = gradients_of(z, quantities, line)
    bench = alarms.Bench(
        line,
        tuple(names),
        gradients,
        {n: float(np.median(quantities[n])) for n in names},
        frozenset(names),
        clusters_of(model.runs, ()),
        seed,
    )
    repeats = replicates_of(bench)
    assert repeats is not None
    found = [lack_of_fit(bench, repeats)]
    if every:
        narrow, *_ = alarms.narrow_interval(bench, alarms.NARROW_ALARM - alarms.LACK_ALARM)
        found += [narrow, *alarms.unstable_law(bench, ["a"])[1], *group_alarms(bench)]
    return [f.code for f in found if f.status == "fail"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", default="replicates.json")
    parser.add_argument("--cell", action="append", choices=[*CELLS])
    options = parser.parse_args()
    results = {}
    for cell in options.cell or CELLS:
        began = time.perf_counter()
        told = [alarmed(seed, *CELLS[cell]) for seed in range(options.first, options.first + options.tables)]
        rates = {code: float(np.mean([code in t for t in told])) for code in sorted({c for t in told for c in t})}
        any_rate = float(np.mean([bool(t) for t in told]))
        results[cell] = {
            "tables": options.tables,
            "first": options.first,
            "any": any_rate,
            "mcse": float(np.sqrt(max(any_rate * (1 - any_rate), 1e-4) / options.tables)),
            "alarms": rates,
            "seconds": time.perf_counter() - began,
        }
        print(cell, results[cell], flush=True)
    Path(options.out).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
