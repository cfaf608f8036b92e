"""Does the headline narrow where a table gets more rows but no more information?

Tables of 40 runs that follow a law (the design of the cells checkpoints-1 of `coverage.py`), and beside each the same
runs again: every run as 20 checkpoints of its last two percent of training that share its residual, named as one run;
every row ten times over, exactly; and every row ten times over with the last digits changed, which hides the copies.
The ratio of the widths of the headline's 90 % intervals should not fall below .95; or nothing is headlined. One ratio
has a Monte Carlo error of about 4 %, so their geometric mean over tables is told, with its standard error.

    python benchmarks/honesty/metamorphic.py --tables 20
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import bayescale as bs

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import record  # noqa: E402
from coverage import design, simulate  # noqa: E402

QUANTITIES = ("alpha", "beta", "a")
#: Rows that replace one, and the share of a run over which its checkpoints lie.
CHECKPOINTS, LAST, COPIES = 20, 0.02, 10
#: Noise between the checkpoints of a run, and the digits changed in hidden copies, on log loss.
JITTER, DIGITS = 1e-4, 1e-6


def variants(seed: int) -> dict[str, bs.Runs]:
    """A table of 40 runs, and what it becomes with more rows that say no more."""
    rng = np.random.default_rng([seed, 31])
    base, truth = simulate(design(1), "checkpoints", rng)
    N, D, loss = (base.values(c) for c in ("params", "tokens", "loss"))
    run = np.arange(len(N))

    def law(n, d):
        return truth["E"] + truth["A"] * n ** -truth["alpha"] + truth["B"] * d ** -truth["beta"]

    share = np.linspace(1 - LAST, 1, CHECKPOINTS)
    n, d = np.repeat(N, CHECKPOINTS), (D[:, None] * share).ravel()
    residual = np.repeat(np.log(loss / law(N, D)), CHECKPOINTS) + JITTER * rng.standard_normal(len(n))
    again, noise = np.repeat(run, COPIES), DIGITS * rng.standard_normal(COPIES * len(N))
    tables = {
        "as it is": {"params": N, "tokens": D, "loss": loss},
        "20 checkpoints": {
            "params": n,
            "tokens": d,
            "loss": law(n, d) * np.exp(residual),
            "run": [f"run{k:02d}" for k in np.repeat(run, CHECKPOINTS)],
        },
        "rows x 10": {"params": N[again], "tokens": D[again], "loss": loss[again]},
        "rows x 10, digits changed": {
            "params": N[again],
            "tokens": D[again],
            "loss": loss[again] * np.exp(noise),
        },
    }
    return {name: bs.read_runs(table) for name, table in tables.items()}


def widths(fit: bs.Fit) -> dict[str, float] | None:
    """Widths of the headline's intervals; None where nothing is headlined."""
    if fit.headline_source == "none":
        return None
    tail = (1 - fit.prob) / 2
    return {n: float(np.diff(np.quantile(fit.draws()[n], [tail, 1 - tail]))[0]) for n in QUANTITIES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--variant", nargs="*", help="which of them, by default all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "metamorphic.json")
    asked = parser.parse_args()
    document: dict = {"circumstances": record.circumstances(), "tables": []}
    for seed in range(asked.first, asked.first + asked.tables):
        chosen = {n: t for n, t in variants(seed).items() if n == "as it is" or n in (asked.variant or [n])}
        batch = bs.fit_many("chinchilla", chosen, seed=seed, examine=True)
        before, row = widths(batch["as it is"]), {"seed": seed}
        for name in batch.tables:
            made = batch[name] if name in batch.certified else None
            now = widths(made) if made else None
            row[name] = {
                "status": batch.status.loc[name, "sentence"],
                "source": made.headline_source if made else "none",
                "alarms": [f.code for f in made.audit if f.status == "fail"] if made else [],
                "ratio": {n: now[n] / before[n] for n in QUANTITIES} if now and before else None,
            }
            print(seed, name, json.dumps(row[name]), flush=True)
        document["tables"].append(row)
        document["ratios"] = {v: together([r[v]["ratio"] for r in document["tables"]]) for v in row if v != "seed"}
        asked.out.write_text(json.dumps(document, indent=1) + "\n")
    for name, found in document["ratios"].items():
        print(name, json.dumps(found))


def together(ratios: list[dict[str, float] | None]) -> dict[str, dict[str, float]]:
    """The geometric mean of the ratios over tables that headline an interval, and its standard error, by quantity."""
    shown = [r for r in ratios if r]
    made = {}
    for n in QUANTITIES if shown else ():
        logs = np.log([r[n] for r in shown])
        error = float(logs.std(ddof=1) / np.sqrt(len(logs))) if len(logs) > 1 else float("nan")
        made[n] = {"ratio": float(np.exp(logs.mean())), "error": error, "tables": len(logs)}
    return made


if __name__ == "__main__":
    main()
