"""Do the intervals cover, and do the alarms keep their promise? Fits of simulated tables with known truths.

Each cell is a design (the inputs of besiroglu2024, or a part of them) and a truth for the noise and the groups. Truths
of the law vary: alpha, beta ~ U(.2, .6), E ~ U(1.2, 2.2), contributions at the design's middle ~ U(.2, .5). Every
table is fitted with the default model, sampled by the batch's ladder, examined as a fit is, and compared with its
truth: coverage and width of the posterior's own 80 % and 95 % intervals and, where there is one, of the headline's,
and which alarms went off. Every block of 25 tables is kept beside the result, in a `.jsonl` file: the same call again
goes on where it stopped.

    python benchmarks/honesty/coverage.py --tables 400 --out coverage.json [--cell normal-240 …]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

import bayescale as bs
from bayescale.batch.ladder import Outcome, climb
from bayescale.batch.preparing import prepare, unpadded
from bayescale.laws import find_law
from bayescale.narrowness import examine, widened
from bayescale.posterior import evaluate_draws

PROBS = (0.8, 0.95)
QUANTITIES = ("alpha", "beta", "a", "E", "L10")
#: noise: (family, scale); groups: column → sd of its effects on log loss.
TRUTHS = {
    "normal": (("normal", 0.0045), {}),
    "t4": (("t4", 0.0035), {}),
    "size": (("normal", 0.0045), {"params": 0.0029}),
    "budget": (("normal", 0.0045), {"budget": 0.0025}),
    "size-strong": (("normal", 0.0030), {"params": 0.0060}),
    "checkpoints": (("normal", 0.0020), {"run": 0.0040}),
    "wave": (("normal", 0.0045), {"params": 0.0029}),
}
#: Log loss has a wave along log N of this height, which the law lacks and effects of sizes can take up.
WAVES = {"wave": 0.01}
ROWS = (240, 60, 25)
#: Checkpoints of each run, in the cells checkpoints-1, -5 and -20.
CHECKPOINTS = (1, 5, 20)
BLOCK = 25


@cache
def design(rows: int) -> bs.Runs:
    """The inputs of the replication's table, or one draw of fewer rows: 25 from the 100 runs of least compute.

    1, 5 or 20 mean as many checkpoints of each of 40 runs on a grid.
    """
    if rows in CHECKPOINTS:
        N, ratio = (g.ravel() for g in np.meshgrid(np.geomspace(5e7, 5e9, 10), (5, 15, 45, 135)))
        share = np.linspace(1 / rows, 1, rows)
        N, D = np.repeat(N, rows), (N * ratio)[:, None] * share
        run = np.repeat([f"run{k:02d}" for k in range(len(ratio))], rows)
        return bs.read_runs({"params": N, "tokens": D.ravel(), "run": run, "loss": np.linspace(3, 2, len(N))})
    runs, rng = bs.load_runs("besiroglu2024"), np.random.default_rng(rows)
    if rows == len(runs):
        return runs
    pool = np.argsort(runs.values("flops"))[:100] if rows == 25 else np.arange(len(runs))
    keep = np.zeros(len(runs), bool)
    keep[rng.choice(pool, rows, replace=False)] = True
    return runs.take(keep)


def simulate(runs: bs.Runs, truth: str, rng: np.random.Generator) -> tuple[bs.Runs, dict[str, float]]:
    """Losses of a law drawn at random, with noise and effects of groups on log loss."""
    (family, scale), groups = TRUTHS[truth]
    N, D, C = (runs.values(c) for c in ("params", "tokens", "flops"))
    p = {"alpha": rng.uniform(0.2, 0.6), "beta": rng.uniform(0.2, 0.6), "E": rng.uniform(1.2, 2.2)}
    A_ref, B_ref = rng.uniform(0.2, 0.5, 2)
    N0, D0 = (float(np.exp(np.log(x).mean())) for x in (N, D))
    p |= {"A": A_ref * N0 ** p["alpha"], "B": B_ref * D0 ** p["beta"]}
    log_loss = np.log(p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * D ** -p["beta"])
    log_loss = log_loss + scale * (rng.standard_t(4, len(N)) if family == "t4" else rng.standard_normal(len(N)))
    log_loss = log_loss + WAVES.get(truth, 0.0) * np.sin(2 * np.log(N / N0))
    for column, sd in groups.items():
        index, levels = runs.labels(column)
        log_loss = log_loss + sd * rng.standard_normal(len(levels))[index]
    p["a"] = p["beta"] / (p["alpha"] + p["beta"])
    p["L10"] = loss_at(p, *target(p, 10 * C.max()))
    return runs.with_columns({"loss": np.exp(log_loss)}), p


def table_of(cell: str, seed: int) -> tuple[bs.Runs, dict[str, float]]:
    """The table of a seed, and its truth."""
    truth, _, rows = cell.rpartition("-")
    return simulate(design(int(rows)), truth, np.random.default_rng([seed, int(rows), *truth.encode()]))


def efficient(cell: str, seed: int) -> dict[str, float]:
    """Standard deviations that no unbiased estimate beats: variances are known, and of t noise the information.

    S = (J' V^-1 J)^-1 of log losses in (log E, log A, log B, alpha, beta), carried to each quantity by its slope.
    """
    runs, p = table_of(cell, seed)
    (family, scale), groups = TRUTHS[cell.rpartition("-")[0]]
    N, D, C = (runs.values(c) for c in ("params", "tokens", "flops"))
    optimum = target(p, 10 * C.max())
    at = np.array([*np.log([p["E"], p["A"], p["B"]]), p["alpha"], p["beta"]])

    def law(x):
        E, A, B = np.exp(x[:3])
        return {"E": E, "A": A, "B": B, "alpha": x[3], "beta": x[4]}

    def asked(x):
        q = law(x)
        derived = {"a": x[4] / (x[3] + x[4]), "L10": loss_at(q, *optimum)}
        return np.array([{**q, **derived}[n] for n in QUANTITIES])

    def slopes(of):
        return np.array([(of(at + h) - of(at - h)) / 2e-5 for h in 1e-5 * np.eye(len(at))]).T

    variance = np.eye(len(N)) * scale**2 * (7 / 5 if family == "t4" else 1)  # (nu + 3) / (nu + 1)
    for column, sd in groups.items():
        index, _ = runs.labels(column)
        variance = variance + sd**2 * (index[:, None] == index)
    J, G = slopes(lambda x: np.log(loss_at(law(x), N, D))), slopes(asked)
    found = G @ np.linalg.solve(J.T @ np.linalg.solve(variance, J), G.T)
    return dict(zip(QUANTITIES, np.sqrt(np.diag(found)).tolist(), strict=True))


def target(p, C):
    """The compute-optimal N and D of a law at a budget."""
    G = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    N = G * (C / 6) ** (p["beta"] / (p["alpha"] + p["beta"]))
    return N, C / 6 / N


def loss_at(p, N, D):
    return p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * D ** -p["beta"]


def outcomes(cell: str, seeds: Iterable[int], noise: str, group: str | list[str]) -> Iterator[tuple[Outcome, dict]]:
    """The sampled tables of a cell as they are reached, with their truths; every table climbs the batch's ladder."""
    options = dict(noise=noise, group=group, fix=None, tie=(), priors={}, references=None)
    tasks, truths = [], {}
    for seed in seeds:
        runs, truths[str(seed)] = table_of(cell, seed)
        tasks.append(prepare(str(seed), runs, find_law("chinchilla"), seed, (), options))
    budgets = {t.name: () for t in tasks}
    for found in climb(tasks, budgets=budgets, precision="float64", workers=None, report=lambda outcome, share: None):
        yield found, truths[found.task.name]


def quantities(outcome: Outcome, flat: np.ndarray) -> dict[str, np.ndarray]:
    """Parameters, derived quantities and the loss at the optimum of ten times the largest budget, true or not."""
    values = evaluate_draws(outcome.task.model, flat)["values"]
    return {n: v for n, v in values.items() if v.ndim == 1}


def judged(outcome: Outcome, p: dict[str, float]) -> dict:
    """The outcome of one table: its own intervals, the headline's, and the alarms."""
    model, began = outcome.task.model, time.perf_counter()
    flat = unpadded(outcome.task, outcome.flat).reshape(-1, model.structure.dimension)
    seed, optimum = int(outcome.task.name), target(p, 10 * model.runs.values("flops").max())

    def known(flat):
        made = quantities(outcome, flat)
        return made | {"L10": loss_at(made, *optimum)}

    own = headline = known(flat)
    found = examine(model, flat, own, seed=seed)
    source = "posterior"
    if found.failed:
        source = "none" if found.widen_by is None else "sandwich"
        if found.widen_by is not None and found.line is not None:
            headline = known(widened(found.line, flat, found.widen_by, seed))
    return {
        "seed": seed,
        "certified": outcome.certified,
        "rung": outcome.rung,
        "alarms": [f.code for f in found.findings if f.status == "fail"],
        "source": source,
        "seconds": outcome.seconds + time.perf_counter() - began,
        "intervals": {
            name: {
                "truth": float(p[name]),
                "own": {str(p): ends_of(own[name], p) for p in PROBS},
                "headline": {str(p): ends_of(headline[name], p) for p in PROBS},
            }
            for name in QUANTITIES
        },
    }


def oracle(cell: str, seeds: Iterable[int]) -> dict[int, dict[str, float]]:
    """Widths of 95 % intervals of the model that made the tables: its noise, and its groups alone."""
    truth = cell.rpartition("-")[0]
    (family, _), groups = TRUTHS[truth]
    widths: dict[int, dict[str, float]] = {}
    for found, p in outcomes(cell, seeds, "student_t" if family == "t4" else family, list(groups) or "none"):
        flat = unpadded(found.task, found.flat).reshape(-1, found.task.model.structure.dimension)
        made = quantities(found, flat)
        made |= {"L10": loss_at(made, *target(p, 10 * found.task.model.runs.values("flops").max()))}
        widths[int(found.task.name)] = {n: float(np.ptp(ends_of(made[n], 0.95))) for n in QUANTITIES}
    return widths


def results_of(cell: str, chosen: argparse.Namespace, until: float) -> list[dict]:
    """The outcomes of a cell's tables, by seed: those on disk, and the rest until time is up."""
    kept = Path(chosen.out).with_suffix(".jsonl")
    lines = map(json.loads, kept.read_text().splitlines()) if kept.exists() else ()
    wanted = {"cell": cell, "group": chosen.group, "noise": chosen.noise}
    done = {r["seed"]: r for r in lines if wanted.items() <= r.items()}
    seeds = range(chosen.first, chosen.first + chosen.tables)
    left = [s for s in seeds if s not in done or (chosen.oracle and "oracle" not in done[s])]
    for block in (left[k : k + BLOCK] for k in range(0, len(left), BLOCK)):
        if time.perf_counter() > until:
            break
        made = [judged(found, p) for found, p in outcomes(cell, block, chosen.noise, chosen.group)]
        widths = oracle(cell, block) if chosen.oracle else {}
        made = [wanted | r | ({"oracle": widths[r["seed"]]} if chosen.oracle else {}) for r in made]
        with kept.open("a") as file:
            file.writelines(json.dumps(r) + "\n" for r in made)
        done |= {r["seed"]: r for r in made}
        print(f"\r{cell}: {sum(s in done for s in seeds)} of {chosen.tables}", end="", file=sys.stderr, flush=True)
    return [done[s] for s in seeds if s in done]


def ends_of(x: np.ndarray, prob: float) -> list[float]:
    """The ends of an equal-tailed interval."""
    return [float(e) for e in np.quantile(x, [(1 - prob) / 2, (1 + prob) / 2])]


def summary(cell: str, results: list[dict]) -> dict:
    """Coverage with its Monte Carlo standard error, median widths, and the rate of every alarm."""
    made: dict = {"cell": cell, "tables": len(results)}
    alarms = [bool(r["alarms"]) for r in results]
    made["alarm"] = float(np.mean(alarms))
    made["alarms"] = {c: float(np.mean([c in r["alarms"] for r in results])) for r in results for c in r["alarms"]}
    made["certified"] = float(np.mean([r["certified"] for r in results]))
    made["none"] = float(np.mean([r["source"] == "none" for r in results]))
    for kind in ("own", "headline"):
        for name in results[0]["intervals"]:
            made[f"{kind} {name}"] = {}
            for prob in PROBS:
                shown = [r for r in results if kind == "own" or r["source"] != "none"]
                rows = [(r["intervals"][name]["truth"], *r["intervals"][name][kind][str(prob)]) for r in shown]
                inside = np.mean([low <= truth <= high for truth, low, high in rows])
                made[f"{kind} {name}"][f"{prob:.0%}"] = {
                    "coverage": float(inside),
                    "mcse": float(np.sqrt(max(inside * (1 - inside), 1e-4) / len(rows))),
                    "width": float(np.median([high - low for _, low, high in rows])),
                }
    if cell.rpartition("-")[0] not in WAVES:  # where the law holds
        best = [efficient(cell, r["seed"]) for r in results]
        for name in QUANTITIES:
            ends = [r["intervals"][name]["headline"]["0.8"] for r in results]
            sds = np.ptp(ends, axis=1) / 2.5631  # of a normal distribution
            errors = np.mean(ends, axis=1) - [r["intervals"][name]["truth"] for r in results]
            own = np.array([b[name] for b in best])
            made[f"headline {name}"]["over the efficient"] = {
                "width": float(np.median(sds / own)),
                "error": float(np.sqrt(np.mean((errors / own) ** 2))),
            }
    if results and "oracle" in results[0]:
        for name in QUANTITIES:
            ratios = [np.ptp(r["intervals"][name]["headline"]["0.95"]) / r["oracle"][name] for r in results]
            made[f"headline {name}"]["width over the oracle's"] = float(np.median(ratios))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--group", default="auto")
    parser.add_argument("--noise", default="student_t")
    parser.add_argument("--cell", action="append", help="as normal-240; by default every truth and size")
    parser.add_argument("--oracle", action="store_true", help="fit the model that made the tables too, for its widths")
    parser.add_argument("--minutes", type=float, default=np.inf, help="no block begins after this")
    parser.add_argument("--out", default="coverage.json")
    chosen = parser.parse_args()
    cells = chosen.cell or [f"{t}-{n}" for n in ROWS for t in TRUTHS if t != "checkpoints"]
    document = {"group": chosen.group, "noise": chosen.noise, "first": chosen.first, "cells": []}
    until = time.perf_counter() + 60 * chosen.minutes
    for cell in cells:
        if not (results := results_of(cell, chosen, until)):
            continue
        made = summary(cell, results)
        document["cells"].append(made)
        print(f"\n{cell}: alarm {made['alarm']:.3f} {made['alarms']}", flush=True)
        for kind in ("own", "headline"):
            for prob in map("{:.0%}".format, PROBS):
                found = {n: made[f"{kind} {n}"][prob] for n in ("alpha", "a", "L10")}
                told = "  ".join(f"{n} {f['coverage']:.3f} ({f['width']:.3g})" for n, f in found.items())
                print(f"  {kind:8} {prob:4} {told}", flush=True)
        if chosen.oracle:
            ratios = {n: made[f"headline {n}"]["width over the oracle's"] for n in ("alpha", "a", "L10")}
            print(
                "  95 % widths over the oracle's: " + ", ".join(f"{n} {r:.2f}" for n, r in ratios.items()), flush=True
            )
        Path(chosen.out).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
