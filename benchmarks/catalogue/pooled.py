"""Pooled laws: simulation-based calibration, and whether intervals of compute multipliers hold their truths.

Six recipes of Chinchilla's law, twelve runs each, whose amplitudes (or what `--pool` names) are drawn from the priors
and partially pooled. Calibration ranks the truth of every parameter, centre, spread, level and optimum among its
posterior's draws, and says what a deviation these many tables would have shown. Multipliers are fitted by `fit_many`,
and 50, 90 and 95 % intervals counted against the truth, which is solved here from the law's closed form; the pairs of a
table share its posterior, so errors are those of means over tables.

    python benchmarks/catalogue/pooled.py --calibrate 200 --multipliers 60

The same call with `--first` draws other tables and adds them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import root_scalar

import bayescale as bs
from bayescale.law import pooled_law
from bayescale.laws import find_law

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record
from batch.calibration import seen

RECIPES = ("a", "b", "c", "d", "e", "f")
PROBS = (0.5, 0.9, 0.95)
OUT = record.RESULTS / "pooled.json"


def design() -> bs.Runs:
    """Twelve runs a recipe: four sizes, three ratios of tokens to parameters."""
    N = np.repeat(np.geomspace(2e7, 1e9, 4), 3)
    D = N * np.tile([5.0, 20.0, 80.0], 4)
    one = {"params": N, "tokens": D, "flops": 6 * N * D, "loss": 3.0}
    return bs.Runs(pd.concat([pd.DataFrame({"recipe": r, **one}) for r in RECIPES], ignore_index=True), "recipes")


def frontier(C: float, E: float, A: float, B: float, alpha: float, beta: float) -> float:
    """The least loss of Chinchilla's law at C = 6ND."""
    N = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (C / 6) ** (beta / (alpha + beta))
    return E + A * N**-alpha + B * (C / 6 / N) ** -beta


def true_multiplier(truth: dict[str, np.ndarray], x: int, y: int, C: float) -> float:
    """What the compute of recipe x must be multiplied by to reach what y reaches with C; infinite if it never does."""
    one, other = ({n: float(v[min(k, len(v) - 1)]) for n, v in truth.items()} for k in (x, y))
    target = frontier(C, **other)

    def excess(log_m: float) -> float:
        return frontier(C * np.exp(log_m), **one) - target

    if excess(40.0) > 0:
        return np.inf
    return 0.0 if excess(-40.0) < 0 else float(np.exp(root_scalar(excess, bracket=(-40.0, 40.0)).root))


def multipliers(tables: int, seed: int, pool: Any) -> list[dict[str, Any]]:
    """By simulated table and compute: the share of pairs whose truth each interval holds, and how good P(better) is."""
    runs, law = design(), pooled_law(find_law("chinchilla"), pool)
    made = bs.simulate(law, runs, tables=tables, seed=seed, group="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bs.NotConverged)
        batch = bs.fit_many("chinchilla", made.tables, seed=seed, group="none", pool=pool, progress=False)
    largest = float(runs.values("flops").max())
    at, pairs, rows = (largest, 100 * largest), [*combinations(range(len(RECIPES)), 2)], []
    for name in made.tables:
        row = made.truth.loc[name]
        levels = {
            n: [c for c in row.index if c == n or c.startswith(f"{n}[")] for n in ("E", "A", "B", "alpha", "beta")
        }
        truth = {n: row[columns].to_numpy(float) for n, columns in levels.items()}
        kept = {"table": f"{seed}/{name}", "certified": name in batch.certified}
        if not kept["certified"]:
            rows.append(kept)
            continue
        found = bs.multiplier(batch[name], flops=at, draws="posterior").dataset
        order = [(RECIPES.index(x), RECIPES.index(y)) for x, y in zip(found.x.values, found.y.values, strict=True)]
        assert sorted(order) == pairs
        for k, C in enumerate(at):
            true = np.array([true_multiplier(truth, x, y, C) for x, y in order])
            draws = found["multiplier"].isel(flops=k).to_numpy().reshape(len(order), -1)
            better = found["better"].isel(flops=k).to_numpy().reshape(len(order), -1).mean(axis=1)
            for prob in PROBS:
                low, high = np.quantile(draws, [(1 - prob) / 2, (1 + prob) / 2], axis=1)
                kept[f"{prob:.0%} at {C / largest:g}x"] = float(np.mean((low <= true) & (true <= high)))
            kept[f"P(better) less share at {C / largest:g}x"] = float(np.mean(better - (true > 1)))
            kept[f"Brier at {C / largest:g}x"] = float(np.mean((better - (true > 1)) ** 2))
        rows.append(kept)
    return rows


def told(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over tables with their standard errors."""
    frame = pd.DataFrame([r for r in rows if r["certified"]]).drop(columns=["table", "certified"])
    return {str(c): {"mean": float(v.mean()), "se": float(v.std(ddof=1) / len(v) ** 0.5)} for c, v in frame.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibrate", type=int, default=0, help="simulated tables to rank")
    parser.add_argument("--multipliers", type=int, default=0, help="simulated tables to fit")
    parser.add_argument("--pool", default="recipe", help="recipe, or recipe=A,B,alpha")
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    column, _, names = given.pool.partition("=")
    pool: Any = {column: tuple(names.split(","))} if names else column
    document = json.loads(given.out.read_text()) if given.out.exists() else {}
    mine = document.setdefault(given.pool, {"multipliers": [], "ranks": {}, "certified": [], "seconds": {}})
    document |= record.circumstances()
    if given.calibrate:
        began = time.perf_counter()
        found = bs.calibrate(
            "chinchilla",
            design(),
            simulations=given.calibrate,
            seed=given.first,
            group="none",
            pool=pool,
            progress=False,
        )
        earlier = pd.DataFrame(mine["ranks"])
        ranks = pd.concat([earlier, found.ranks.reset_index(drop=True)], ignore_index=True).dropna(axis=1).astype(int)
        mine["certified"] += found.certified.tolist()
        mine["ranks"] = {str(n): v.tolist() for n, v in ranks.items()}
        whole = bs.Calibration(ranks, np.array(mine["certified"]), found.law, found.noise, found.prob, found.rows)
        mine["seconds"]["calibrate"] = mine["seconds"].get("calibrate", 0.0) + time.perf_counter() - began
        mine["calibration"] = whole.to_json() | {"seen_four_times_in_five": seen(len(ranks), ranks.shape[1])}
        record.write(given.out, document)
        print(repr(whole))
        print("would have been seen four times in five:", mine["calibration"]["seen_four_times_in_five"])
    if given.multipliers:
        began = time.perf_counter()
        mine["multipliers"] += multipliers(given.multipliers, given.first, pool)
        mine["coverage"] = told(mine["multipliers"])
        mine["seconds"]["multipliers"] = mine["seconds"].get("multipliers", 0.0) + time.perf_counter() - began
        record.write(given.out, document)
        certified = sum(r["certified"] for r in mine["multipliers"])
        print(f"{certified} of {len(mine['multipliers'])} tables certified")
        for name, v in mine["coverage"].items():
            print(f"  {name}: {v['mean']:.3f} ± {v['se']:.3f}")


if __name__ == "__main__":
    main()
