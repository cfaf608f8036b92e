"""Simulation-based calibration in blocks: as many simulated tables as there is time for.

A block is `bs.calibrate` with a seed of its own, kept beside the result in a `.jsonl` file: the same call again goes on
where it stopped. Ranks of all blocks are judged together, by bands that hold for all
quantities at once with 99 %. Beside the verdict stands what a deviation these many simulations would have seen four
times in five: how far a posterior may be shifted, in its standard deviations, and how much too narrow or too wide it
may be.

    BAYESCALE_DATA=tables python benchmarks/batch/calibration.py besiroglu2024 --group auto --simulations 1000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

import bayescale as bs
from bayescale.calibration import bands
from bayescale.calibration.calibrating import RANKED

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record

POWER, REPEATS = 0.8, 400


def seen(simulations: int, quantities: int, prob: float = 0.99) -> dict[str, float]:
    """The smallest deviation of one quantity that leaves its band with probability `POWER`."""
    rng = np.random.default_rng(0)
    lower, upper = bands.band(simulations, RANKED, 1 - (1 - prob) / quantities)
    truth = rng.standard_normal((REPEATS, simulations))

    def power(shift: float, width: float) -> float:
        ranks = rng.binomial(RANKED, norm.cdf((truth - shift) / width))
        out = 0
        for row in ranks:
            shares = bands.curve(row, RANKED)
            out += bool(((shares < lower) | (shares > upper)).any())
        return out / REPEATS

    shifts, widths = np.arange(0.02, 0.6, 0.02), np.arange(0.02, 0.6, 0.02)
    return {
        "shift": next((float(d) for d in shifts if power(d, 1.0) >= POWER), float("inf")),
        "too_narrow": next((float(w) for w in widths if power(0.0, 1 - w) >= POWER), float("inf")),
        "too_wide": next((float(w) for w in widths if power(0.0, 1 + w) >= POWER), float("inf")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--law", default="chinchilla")
    parser.add_argument("--group", default="auto")
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--block", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="seed of the first block")
    parser.add_argument("--minutes", type=float, default=40.0, help="no block begins after this")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "batch_calibration_groups.json")
    given = parser.parse_args()
    circumstances, runs, began = record.circumstances(), bs.load_runs(given.source), time.perf_counter()
    kept = given.out.with_suffix(".jsonl")
    blocks = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for seed in range(given.first, given.first + given.simulations // given.block):
        if seed in {b["seed"] for b in blocks}:
            continue
        if time.perf_counter() - began > 60 * given.minutes:
            break
        since = time.perf_counter()
        made = bs.calibrate(given.law, runs, simulations=given.block, seed=seed, group=given.group, progress=False)
        blocks.append(
            {
                "seed": seed,
                "seconds": time.perf_counter() - since,
                "ranks": {str(n): v.tolist() for n, v in made.ranks.items()},
                "certified": made.certified.tolist(),
                "about": [made.law, made.noise, made.prob, made.rows],
            }
        )
        with kept.open("a") as file:
            file.write(json.dumps(blocks[-1]) + "\n")
    shared = [n for n in blocks[0]["ranks"] if all(n in b["ranks"] for b in blocks)]
    ranks = pd.concat([pd.DataFrame(b["ranks"])[shared] for b in blocks], ignore_index=True)
    left = tuple(sorted({n for b in blocks for n in b["ranks"]} - {*shared}))
    certified = np.concatenate([b["certified"] for b in blocks])
    law, noise, prob, rows = blocks[0]["about"]
    whole = bs.Calibration(ranks, certified, law, noise, prob, rows, left)
    document = {
        "circumstances": circumstances,
        "source": given.source,
        "group": given.group,
        "seeds": [b["seed"] for b in blocks],
        "seconds": sum(b["seconds"] for b in blocks),
        "left_out": [*left],
        "largest_excess": max(f.value for f in whole.findings if f.code == "ranks-uniform"),
        "seen_four_times_in_five": seen(len(ranks), ranks.shape[1]),
        **whole.to_json(),
    }
    record.write(given.out, document)
    print(repr(whole))


if __name__ == "__main__":
    main()
