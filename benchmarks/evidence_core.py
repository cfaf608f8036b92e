"""Evidence for what the project says about its statistics: weak tables, a published fit, scales of the inputs.

    uv run python benchmarks/evidence_core.py --weak         25 small runs at a time: does the default fit converge?
    uv run python benchmarks/evidence_core.py --replication  the fits of Besiroglu et al. (2024), by every noise
    uv run python benchmarks/evidence_core.py --rescale      N and D in other units: same answer, same work

Each prints a table and writes `results/evidence_core_NAME.json`. The first two need the data set besiroglu2024.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from record import RESULTS, circumstances, table, write

import bayescale as bs
from bayescale.posterior import convergence

#: Tables drawn, rows a table, and how many of the smallest runs they are drawn from.
TABLES, ROWS, POOL = 20, 25, 100
#: Hoffmann et al. (2022), as printed: where the early stop begins.
ROUNDED = dict(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
#: Besiroglu et al. (2024), Table 1.
PUBLISHED = dict(A=482.0, B=2085.4, E=1.8169, alpha=0.3478, beta=0.3658)
#: What is compared between fits of rescaled tables; A and B change with the unit, their contributions do not.
NAMES = ("E", "A_ref", "B_ref", "alpha", "beta", "a", "sigma", "nu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, does in EVIDENCE.items():
        parser.add_argument(f"--{name}", action="store_true", help=does.__doc__)
    options = parser.parse_args()
    chosen = [name for name in EVIDENCE if getattr(options, name)]
    if not chosen:
        parser.error("choose at least one of " + ", ".join(f"--{name}" for name in EVIDENCE))
    for name in chosen:
        began, document = time.perf_counter(), circumstances()
        document |= EVIDENCE[name]()
        write(RESULTS / f"evidence_core_{name}.json", document | {"seconds": time.perf_counter() - began})


def weak() -> dict[str, Any]:
    """25 rows at random from the 100 smallest runs, 20 tables, with the default groups and with none."""
    runs = bs.load_runs("besiroglu2024")
    smallest = np.argsort(runs.values("flops"), kind="stable")[:POOL]
    fits = []
    for group in ("auto", "none"):
        for seed in range(TABLES):
            keep = np.zeros(len(runs), bool)
            keep[np.random.default_rng(seed).choice(smallest, ROWS, replace=False)] = True
            fits.append({"groups": group, "seed": seed, **_one(runs.take(keep), group)})
            print(*(f"{k} {v}" for k, v in fits[-1].items() if k != "failed"), sep=", ", flush=True)
    summary = {}
    for group in ("auto", "none"):
        fitted = [f for f in fits if f["groups"] == group and not f["refused"]]
        summary[group] = {
            "tables": TABLES,
            "with effects": sum(bool(f["effects"]) for f in fitted),
            "refused by the doctor": TABLES - len(fitted),
            "divergences at first": sum("divergences" in f["failed_at_first"] for f in fitted),
            "divergences at the end": sum(f["divergences"] > 0 for f in fitted),
            "not converged": sum(not f["converged"] for f in fitted),
            "median attempts": float(np.median([f["attempts"] for f in fitted])),
            "median s": float(np.median([f["seconds"] for f in fitted])),
            "longest s": max(f["seconds"] for f in fitted),
        }
    print()
    table(["groups", *summary["auto"]], [[group, *s.values()] for group, s in summary.items()])
    return {"summary": summary, "fits": fits}


def _one(runs: bs.Runs, group: str) -> dict[str, Any]:
    """One fit of a weak table: what was tried, what still fails, and how wide the answer is."""
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit = bs.fit("chinchilla", runs, seed=0, group=group)
    except bs.BayescaleError as error:
        return {"refused": str(error), "seconds": time.perf_counter() - began}
    checks, (mean, sd, _) = {f.code: f for f in fit.checks}, _moments(fit, "a")
    return {
        "refused": None,
        "converged": not any(isinstance(w.message, bs.NotConverged) for w in caught),
        "attempts": len(fit.info["attempts"]),
        "failed_at_first": fit.info["attempts"][0]["failed"],
        "divergences": checks["divergences"].value,
        "failed": [f.message for f in fit.checks if f.status == "fail"],
        "effects": list(fit.group),
        "a_mean": mean,
        "a_sd": sd,
        "seconds": time.perf_counter() - began,
    }


def replication() -> dict[str, Any]:
    """besiroglu2024 by every noise, by least squares as published, and by a fit that stops early."""
    runs = bs.load_runs("besiroglu2024")
    posterior = {}
    for noise in bs.NOISES:
        fit = bs.fit("chinchilla", runs, noise=noise, group="none", seed=0)
        posterior[noise] = {n: dict(zip(("mean", "sd", "mcse"), _moments(fit, n), strict=True)) for n in ("a", "E")}
    table(
        ["noise", "a", "sd", "E", "sd"],
        [[n, p["a"]["mean"], p["a"]["sd"], p["E"]["mean"], p["E"]["sd"]] for n, p in posterior.items()],
    )
    stopped = dict(starts=[ROUNDED], coordinates="paper", scaled=False, options={})
    points = {
        "Huber, delta 1e-3": bs.least_squares("chinchilla", runs),
        "Huber, delta 1e-7": bs.least_squares("chinchilla", runs, delta=1e-7),
        "stopped early": bs.least_squares("chinchilla", runs, **stopped, polish=False),
        "the same, descended again": bs.least_squares("chinchilla", runs, **stopped),
    }
    names = ("A", "B", "E", "alpha", "beta", "a")
    least = {}
    for label, fit in points.items():
        checks = {f.code: f for f in fit.checks}
        least[label] = {n: float(fit.draws("posterior")[n][0]) for n in names} | {
            "objective": fit.info["objective"],
            "optimiser says success": fit.info["optimiser_success"],
            "early stop": checks["early-stop"].status,
            "gain of a second descent": checks["early-stop"].value,
        }
    published = PUBLISHED | {"a": PUBLISHED["beta"] / (PUBLISHED["alpha"] + PUBLISHED["beta"])}
    small = least["Huber, delta 1e-7"]
    off = {n: small[n] / PUBLISHED[n] - 1 for n in PUBLISHED}
    print()
    rows = [[label, *(f"{p[n]:.6g}" for n in names), p["early stop"]] for label, p in least.items()]
    rows.append(["published", *(f"{published[n]:.6g}" for n in names), ""])
    table(["least squares", *names, "early-stop check"], rows)
    print(f"\nlargest relative difference of delta 1e-7 from the published: {max(map(abs, off.values())):.2%}")
    return {"posterior": posterior, "least_squares": least, "published": published, "relative_difference": off}


def rescale() -> dict[str, Any]:
    """byte-ladder with N, D or both in units 1e4 times smaller or larger, the same rows and seed."""
    ladder = bs.load_runs("byte-ladder")
    plain = bs.fit("chinchilla", ladder, seed=0, group="none")
    fits = []
    for columns in (("params",), ("tokens",), ("params", "tokens")):
        for factor in (1e4, 1e-4):
            scaled = ladder.with_columns({c: ladder.values(c) * factor for c in columns})
            fit = bs.fit("chinchilla", scaled, seed=0, group="none")
            distances = {n: _distance(fit, plain, n) for n in NAMES}
            worst = max(distances, key=lambda n: distances[n])
            gradients = [f.info["attempts"][0]["gradients"] for f in (fit, plain)]
            fits.append(
                {
                    "columns": " and ".join(columns),
                    "factor": factor,
                    "largest_distance_mcse": distances[worst],
                    "of": worst,
                    "distances": distances,
                    "gradients_ratio": gradients[0] / gradients[1],
                    "attempts": len(fit.info["attempts"]),
                }
            )
    keys = ("columns", "factor", "largest_distance_mcse", "of", "gradients_ratio")
    table(
        ["scaled", "factor", "largest distance, MCSE", "of", "gradients, ratio"], [[f[k] for k in keys] for f in fits]
    )
    return {"fits": fits}


def _distance(one: bs.Fit, other: bs.Fit, name: str) -> float:
    """How far two fits' means lie apart, in their joint Monte Carlo standard error."""
    x, _, x_error = _moments(one, name)
    y, _, y_error = _moments(other, name)
    return abs(x - y) / float(np.hypot(x_error, y_error))


def _moments(fit: bs.Fit, name: str) -> tuple[float, float, float]:
    """Mean, sd and Monte Carlo error of the mean of the posterior itself, whatever the headline was widened to."""
    draws = np.asarray(fit.tree["posterior"][name])
    return float(draws.mean()), float(draws.std(ddof=1)), float(convergence.mcse_mean(draws))


EVIDENCE = {"weak": weak, "replication": replication, "rescale": rescale}


if __name__ == "__main__":
    main()
