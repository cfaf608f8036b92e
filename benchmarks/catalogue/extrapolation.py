"""The extrapolation benchmark of Alabdulmohsin et al. (2022): 92 learning curves, by M1 to M4 and BNSL.

Each curve is fitted to the first half of its scale and predicts the second. Every law is fitted to all curves by one
call of `fit_many`; a curve is predicted by the posterior median of the law, and 90 % predictive intervals (law and
noise) are counted against the points held out. The error is the benchmark's own: the root mean square over a curve's
test points of log(predicted) - log(observed). Beside it stand point estimates of the same laws (`point.py`). The table
that the paper prints was not at hand: its code and its data are.

    BAYESCALE_DATA=tables python benchmarks/catalogue/extrapolation.py --store store --out result.json

A curve's points are checkpoints of one run. `--noise independent` fits them as if they were not; `correlated`, the
default of `fit` for a table that is one run, learns how far along the curve they err alike. The points held out are of
the same run: what is scored is the run going on from its last checkpoint (`same_group`), and beside it what another run
of the law would reach (`new_group`), which is all that there is without correlation. As points of one curve err
together, a share of points says little: `z` is the mean over a curve of the error of the median over the predictive
sd, whose root mean square over curves is 1 or less where intervals are wide enough. What is chosen by looking at the
coverage is chosen on the curves of one half (`half`) and reported on the other.

With `--store`, a law that was stopped goes on where it was.
`BAYESCALE_DATA` names the folder that holds the benchmark's two files, benchmark.vision.csv and benchmark.lang.csv.
Laws that are already in `--out` and not asked for by `--laws` are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayescale as bs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record
from catalogue import point

#: The paper's estimators and BNSL (with one break) by the catalogue's names. Every response lies in (0, 1).
LAWS = {
    "M1": "power_law:x=examples,y=error",
    "M2": "power_law_offset:x=examples,y=error",
    "M3": "m3_shifted:x=examples,y=error",
    "M4": "m4:x=examples",
    "BNSL": "bnsl:x=examples,y=error,breaks=1",
}
FILES = ("benchmark.vision.csv", "benchmark.lang.csv")
DOMAINS = {"IC": "image classification", "NMT": "translation", "LM": "language modelling", "BB": "BIG-Bench"}
#: Names of the halves: choices are made on the first alone.
HALVES = ("first half", "second half")
#: What `group=` is for a table of one run.
NOISES = {"independent": "none", "correlated": "auto"}
PROB = 0.9
#: So many curves are fitted, and stored, together.
PART = 12
#: Test points are predicted in blocks of these lengths, so that curves share compiled programs.
BLOCKS = (16, 64, 512, 1024)


def load_curves(folder: str | os.PathLike[str]) -> dict[str, pd.DataFrame]:
    """The 92 curves by name, exact duplicates of rows left out: columns examples, error, training."""
    frame = pd.concat([pd.read_csv(Path(folder) / name) for name in FILES]).drop_duplicates()
    frame = frame.rename(columns={"Seen Examples": "examples", "Loss": "error", "Training": "training"})
    frame["name"] = frame["Domain"].str.cat(frame[["Task", "Model"]].astype(str), sep=" · ")
    order = frame.sort_values(["Domain", "Task", "Model", "examples"], kind="stable")
    return {
        str(name): pd.DataFrame(rows[["examples", "error", "training"]]).reset_index(drop=True)
        for name, rows in order.groupby("name", sort=False)
    }


def split(curve: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The benchmark's points to fit and points to predict."""
    columns = ["examples", "error"]
    return curve.loc[curve.training == 1, columns], curve.loc[curve.training == 0, columns]


def log_error(predicted: np.ndarray, observed: np.ndarray) -> float:
    """The benchmark's extrapolation error: root mean square of the difference of logarithms."""
    return float(np.sqrt(np.mean((np.log(predicted) - np.log(observed)) ** 2)))


def half(name: str) -> int:
    """The half of the curves that a curve belongs to, by its name alone."""
    return zlib.crc32(name.encode()) % 2


def scored(
    law: str,
    curves: dict[str, pd.DataFrame],
    seed: int = 0,
    workers: int | None = None,
    noise: str = "independent",
    store: Path | None = None,
    ell: tuple[float, float] | None = None,
) -> dict[str, dict]:
    """By curve: error of the posterior median, coverage and width of the 90 % interval, and the certificate."""
    fitted = {n: split(c)[0].reset_index(drop=True).assign(run=n) for n, c in curves.items()}
    tables = {n: bs.read_runs(frame, response="error") for n, frame in fitted.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bs.NotConverged)
        asked = dict(seed=seed, group=NOISES[noise], workers=workers, store=store, progress=False)
        prior = {"ell": bs.LogNormal(float(np.log(ell[0])), ell[1])} if ell else None
        names = [*tables]
        parts = [{n: tables[n] for n in names[k : k + PART]} for k in range(0, len(names), PART)]
        batches = [bs.fit_many(law, part, priors=prior, **asked) for part in parts]
    made: dict[str, dict] = {}
    for name, curve in curves.items():
        batch = next(b for b in batches if name in b.status.index)
        status = batch.status.loc[name]
        made[name] = {"status": status["status"], "rung": status["rung"], "seconds": status.get("seconds")}
        made[name]["sentence"] = status["sentence"]
        if name in batch.certified:
            made[name] |= predicted(batch[name], split(curve)[1])
    return made


def predicted(fit: bs.Fit, test: pd.DataFrame) -> dict[str, float]:
    """What a fit says of the points that were held out."""
    x, y = test["examples"].to_numpy(float), test["error"].to_numpy(float)
    length = next(b for b in BLOCKS if b >= len(x))
    at = np.concatenate([x, np.full(length - len(x), x[-1])])
    # The design of a curve never tells all of BNSL from its prior: what the model says is scored all the same.
    made = bs.forecast(fit, inputs={"x": at}, prob=PROB, draws="posterior")
    median = made.interval("mean")[0, : len(x)]
    found = {"error": log_error(median, y), "bias": float(np.mean(np.log(median) - np.log(y)))}
    runs_on = "same_group" if "same_group" in made.dataset else "new_group"
    found |= {"run_error": log_error(made.interval(runs_on)[0, : len(x)], y)}
    for prefix, kind in (("", runs_on), ("new_", "new_group")):
        draws = np.log(np.asarray(made.dataset[kind])[: len(x)].reshape(len(x), -1))
        low, below, middle, above, high = np.quantile(draws, [0.05, 0.1587, 0.5, 0.8413, 0.95], axis=1)
        found |= {
            f"{prefix}covered": float(np.mean((low <= np.log(y)) & (np.log(y) <= high))),
            f"{prefix}width": float(np.mean(high - low)),
            f"{prefix}z": float(np.mean((np.log(y) - middle) / ((above - below) / 2))),
        }
    return found


def wins(errors: dict[str, list[float]]) -> dict[str, float]:
    """The share of curves on which each law errs least, to three decimals; ties are shared, as in the paper's code."""
    names, table = [*errors], np.floor(np.array([*errors.values()]) * 1000) / 1000
    best = table == table.min(axis=0)
    return dict(zip(names, (best / best.sum(axis=0)).mean(axis=1).tolist(), strict=True))


def summary(results: dict[str, dict[str, dict]]) -> list[dict[str, Any]]:
    """One row a domain and law: errors of both, their shares of wins, coverage with its standard error over curves."""
    rows = []
    curves = [*next(iter(results.values()))]
    for domain in (*DOMAINS, "all", *HALVES):
        mine = [c for c in curves if domain in ("all", HALVES[half(c)], c.split(" · ")[0])]
        common = [c for c in mine if all("error" in r[c] for r in results.values())]
        share = wins({law: [r[c]["error"] for c in common] for law, r in results.items()}) if common else {}
        theirs = wins({law: [r[c]["point_error"] for c in mine] for law, r in results.items()}) if mine else {}
        for law, found in results.items():
            done = [c for c in mine if "error" in found[c]]
            covered = np.array([found[c]["covered"] for c in done])
            least = [found[c]["point_error"] for c in mine]
            rows.append(
                {
                    "domain": domain,
                    "law": law,
                    "curves": len(mine),
                    "certified": len(done),
                    "median_error": float(np.median([found[c]["error"] for c in done])) if done else None,
                    "mean_error": float(np.mean([found[c]["error"] for c in done])) if done else None,
                    "wins": share.get(law),
                    "point_median_error": float(np.median(least)) if mine else None,
                    "point_mean_error": float(np.mean(least)) if mine else None,
                    "point_wins": theirs.get(law),
                    "covered": float(covered.mean()) if done else None,
                    "covered_se": float(covered.std(ddof=1) / len(done) ** 0.5) if len(done) > 1 else None,
                    "whole_curves_missed": int((covered == 0).sum()),
                    "run_median_error": float(np.median([found[c]["run_error"] for c in done])) if done else None,
                    "width": _typical(found, done, "width"),
                    "z": _rms(found, done, "z"),
                    "new_covered": float(np.mean([found[c]["new_covered"] for c in done])) if done else None,
                    "new_width": _typical(found, done, "new_width"),
                    "new_z": _rms(found, done, "new_z"),
                }
            )
    return rows


def _typical(found: dict[str, dict], curves: list[str], name: str) -> float | None:
    """The geometric mean over curves."""
    return float(np.exp(np.mean([np.log(found[c][name]) for c in curves]))) if curves else None


def _rms(found: dict[str, dict], curves: list[str], name: str) -> float | None:
    return float(np.sqrt(np.mean([found[c][name] ** 2 for c in curves]))) if curves else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=os.environ.get("BAYESCALE_DATA", "."))
    parser.add_argument("--laws", nargs="*", default=[*LAWS], choices=[*LAWS])
    parser.add_argument("--every", type=int, default=1, help="take every so many-th curve")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--noise", default="correlated", choices=[*NOISES])
    parser.add_argument("--ell", type=float, nargs=2, help="another prior of the range: its median and log sd")
    parser.add_argument("--half", type=int, choices=(0, 1), help="one half of the curves alone")
    parser.add_argument("--store", type=Path, help="folder for what was fitted, to go on from")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    every = load_curves(given.folder)
    names = [n for n in every if given.half in (None, half(n))]
    curves = {name: every[name] for name in names[:: given.every]}
    results: dict[str, dict] = {}
    if given.out and given.out.exists():  # laws that are not asked for are kept
        earlier = json.loads(given.out.read_text())
        results = {law: found for law, found in earlier["curves"].items() if [*found] == [*curves]}
    for law in given.laws:
        start = time.perf_counter()
        asked = [law, given.noise, given.every, *(given.ell or ()), *([] if given.half is None else [given.half])]
        store = given.store / "-".join(map(str, asked)) if given.store else None
        options = dict(workers=given.workers, noise=given.noise, store=store, ell=given.ell)
        results[law] = scored(LAWS[law], curves, **options)
        for name, curve in curves.items():
            fitted, test = split(curve)
            x, y = fitted.to_numpy(float).T
            best = point.estimate(law, x, y, name.split(" · ")[0])
            results[law][name]["point_error"] = log_error(
                best(test["examples"].to_numpy(float)), test["error"].to_numpy(float)
            )
        results = {n: results[n] for n in LAWS if n in results}
        document = record.circumstances() | {
            "prob": PROB,
            "noise": given.noise,
            "laws": LAWS,
            "summary": summary(results),
            "curves": results,
        }
        print(f"{law}: {time.perf_counter() - start:.0f} s", flush=True)
        if given.out:
            record.write(given.out, document)
    print(", ".join(f"{k} = {v}" for k, v in LAWS.items()))
    show(summary(results))


def show(rows: list[dict[str, Any]]) -> None:
    """Print the summary, errors in hundredths of a logarithm (about percent)."""
    header = ["domain", "law", "certified", "median", "mean", "wins", "LSQ median", "mean", "wins"]
    header += ["run on", "covered", "missed", "width", "z", "another run", "width", "z"]
    lines = []
    for r in rows:
        errors = [100 * r[k] if r[k] is not None else float("nan") for k in ("median_error", "mean_error")]
        theirs = [r[f"point_{k}"] for k in ("median_error", "mean_error")]
        lines.append(
            [r["domain"], r["law"], f"{r['certified']}/{r['curves']}", *errors, _percent(r["wins"])]
            + [100 * t if t is not None else "" for t in theirs]
            + [_percent(r["point_wins"]), 100 * r["run_median_error"] if r["run_median_error"] is not None else ""]
            + [_percent(r["covered"], r["covered_se"]), r["whole_curves_missed"], _percent(r["width"]), r["z"] or ""]
            + [_percent(r["new_covered"]), _percent(r["new_width"]), r["new_z"] or ""]
        )
    record.table(header, lines)


def _percent(value: float | None, error: float | None = None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.0f} %" if error is None else f"{100 * value:.0f} ± {100 * error:.0f} %"


if __name__ == "__main__":
    main()
