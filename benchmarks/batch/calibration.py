"""Simulation-based calibration in blocks: as many simulated tables as there is time for, written after every block.

A block is `bs.calibrate` with a seed of its own; ranks of all blocks are judged together, by bands that hold for all
quantities at once with 99 %. Beside the verdict stands what a deviation these many simulations would have seen four
times in five: how far a posterior may be shifted, in its standard deviations, and how much too narrow or too wide it
may be.

    BAYESCALE_DATA=tables python benchmarks/batch/calibration.py besiroglu2024 --group auto --simulations 1000
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
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
    parts: list[bs.Calibration] = []
    for k in range(given.simulations // given.block):
        if time.perf_counter() - began > 60 * given.minutes:
            break
        parts.append(
            bs.calibrate(
                given.law, runs, simulations=given.block, seed=given.first + k, group=given.group, progress=False
            )
        )
        shared = [c for c in parts[0].ranks if all(c in p.ranks for p in parts)]
        ranks = pd.concat([p.ranks[shared] for p in parts], ignore_index=True)
        left = tuple(sorted({n for p in parts for n in {*p.left_out, *p.ranks} - {*shared}}))
        whole = replace(parts[0], ranks=ranks, certified=np.concatenate([p.certified for p in parts]), left_out=left)
        document = {
            "circumstances": circumstances,
            "source": given.source,
            "group": given.group,
            "seeds": [given.first, given.first + k],
            "seconds": time.perf_counter() - began,
            "left_out": [*left],
            "largest_excess": max(f.value for f in whole.findings if f.code == "ranks-uniform"),
            **whole.to_json(),
        }
        record.write(given.out, document)
        print(f"{len(ranks)} simulations: {whole!r}", flush=True)
    record.write(given.out, document | {"seen_four_times_in_five": seen(len(ranks), ranks.shape[1])})


if __name__ == "__main__":
    main()
