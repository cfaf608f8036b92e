"""How it is tested: every figure is read from the results of the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bayescale_pages.markdown import section, table


def evidence_page(benchmarks: Path) -> str:
    """Calibration, coverage, accuracy, replication and speed, from the JSON files of the benchmarks."""
    results, honesty = benchmarks / "results", benchmarks / "honesty" / "results"
    lines = [
        *section(1, "How it is tested"),
        "The numbers on this page are read from the files of `benchmarks/` when it is built; each file names the",
        "commit, versions and machine that made it. The scripts beside them make them again.",
        "",
    ]
    shown: set[Path] = set()
    for path in sorted(results.glob("*calibration*.json")):
        lines += calibration(_read(path, shown), path.name)
    lines += _coverage_head()
    for path in sorted(honesty.glob("coverage*.json")):
        lines += coverage(_read(path, shown), path.name)
    for path, make in (
        (honesty / "replicates.json", replicates),
        (results / "batch_accuracy.json", accuracy),
        (results / "batch_accuracy_student_t.json", accuracy),
        (results / "evidence_core_replication.json", replication),
        (results / "evidence_core_weak.json", weak),
        (results / "single_fit.json", single_fit),
        (results / "batch_speed.json", batch_speed),
    ):
        if path.exists():
            lines += make(_read(path, shown), path.name)
    others = [p for p in sorted(results.glob("*.json")) if p not in shown]
    if others:
        lines += section(2, "More results")
        rows = [(f"`{p.name}`", *_made(json.loads(p.read_text(encoding="utf-8")))) for p in others]
        lines += table(("file", "date", "commit"), rows)
    lines += [
        *section(2, "The suite"),
        "Besides these, `uv run pytest` holds every law to its paper's numbers, derivatives, optimum and priors;",
        "simulates and recovers; fits golden tables; shuffles rows, changes units and repeats rows; reads malformed",
        "tables of every documented kind; executes the notebooks; and compares the README with what is printed.",
        "Tolerances on anything random are multiples of its Monte Carlo error.",
        "",
    ]
    return "\n".join(lines)


def _read(path: Path, shown: set[Path]) -> dict[str, Any]:
    shown.add(path)
    return json.loads(path.read_text(encoding="utf-8"))


def _made(document: Mapping[str, Any]) -> tuple[str, str]:
    about = document.get("circumstances", document)
    return str(about.get("date", ""))[:10], str(about.get("revision", ""))


def _origin(document: Mapping[str, Any], name: str) -> list[str]:
    """Where the numbers above come from."""
    about = document.get("circumstances", document)
    date, revision = _made(document)
    said = [f"`{name}`", f"made {date}" if date else "", f"at {revision}" if revision else ""]
    said += [f"on {about['cpu']}, {about['cores']} cores" if "cpu" in about else ""]
    return ["From " + ", ".join(part for part in said if part) + ".", ""]


def _percent(x: float, digits: int = 1) -> str:
    return f"{100 * x:.{digits}f}\u00a0%"


def calibration(document: Mapping[str, Any], name: str) -> list[str]:
    """Simulation-based calibration: ranks and central coverage of every quantity."""
    levels = sorted({k for c in document["coverage"].values() for k in c if k.endswith("%")})
    passed = sum(f["status"] == "pass" for f in document["findings"])
    lines = [
        *section(2, f"Is the computation of {len(document['coverage'])} quantities right?"),
        "Simulation-based calibration: truths are drawn from the priors, tables are simulated at a real design, each",
        "is fitted, and each truth is ranked among its posterior's draws. If the computation is right, every rank is",
        f"as likely as any other. Here: {document['simulations']:,} tables of {document['rows']} rows of",
        f"`{document['law']}`, {document['noise']} noise. {passed} of {len(document['findings'])} findings passed,",
        f"with simultaneous bands of {document['prob']:.0%}. How often intervals held the truth (Monte Carlo error in",
        "parentheses):",
        "",
    ]
    rows = [
        (f"`{quantity}`", *(f"{_percent(c[k])} ({_percent(c[f'{k} mcse'])})" for k in levels))
        for quantity, c in document["coverage"].items()
    ]
    return [*lines, *table(("quantity", *levels), rows), *_origin(document, name)]


def _coverage_head() -> list[str]:
    return [
        *section(2, "Do intervals cover, and do alarms keep their promise?"),
        "Tables with a known truth, simulated at the inputs of `besiroglu2024`, fitted by default and examined as",
        "every fit is. *Own* is the posterior's interval, *headline* the one that is printed, widened where an",
        "alarm went off. A table that follows its model should raise any alarm at most 5 % of the time. `L10` is the",
        "loss at ten times the largest compute.",
        "",
    ]


def coverage(document: Mapping[str, Any], name: str) -> list[str]:
    """Coverage of 80 % and 95 % intervals, and how often alarms went off, a cell a row."""
    rows = []
    for cell in document["cells"]:
        quantities = [k.removeprefix("headline ") for k in cell if k.startswith("headline ")]
        for quantity in quantities:
            shares = [
                f"{_percent(cell[f'{kind} {quantity}'][level]['coverage'])} "
                f"({_percent(cell[f'{kind} {quantity}'][level]['mcse'])})"
                for kind in ("own", "headline")
                for level in ("80%", "95%")
                if level in cell[f"{kind} {quantity}"]
            ]
            first = quantity == quantities[0]
            about = (f"`{cell['cell']}`", cell["tables"], _percent(cell["alarm"])) if first else ("", "", "")
            rows.append((*about, f"`{quantity}`", *shares))
    head = ("simulated", "tables", "any alarm", "of", "own 80 %", "own 95 %", "headline 80 %", "headline 95 %")
    said = f"Noise {document['noise']}, groups {document['group']}."
    return [*section(3, f"`{name.removesuffix('.json')}`"), said, "", *table(head, rows), *_origin(document, name)]


def replicates(document: Mapping[str, Any], name: str) -> list[str]:
    """How often alarms went off on tables that repeat runs, where the law holds and where it is bent."""
    rows = [
        (
            world,
            w["tables"],
            f"{_percent(w['any'])} ({_percent(w['mcse'])})",
            _percent(w["alarms"].get("lack-of-fit", 0)),
        )
        for world, w in document.items()
        if "tables" in w
    ]
    return [
        *section(2, "Do repeated runs tell a law that does not fit?"),
        "Simulated tables in which designs are run more than once; the law holds, or bends by that much at the ends.",
        "",
        *table(("simulated", "tables", "any alarm (mcse)", "of which lack of fit"), rows),
        *_origin(document, name),
    ]


def accuracy(document: Mapping[str, Any], name: str) -> list[str]:
    """Certified results against importance sampling."""
    rows = [
        (
            cell,
            c["tables"],
            c["certified"],
            f"{c['right']} of {c['references']}",
            f"{c['largest_mean']:.2f}",
            f"{c['largest_sd']:.2f}",
        )
        for cell, c in document["cells"].items()
    ]
    return [
        *section(2, f"Are certified results right, with {document['noise']} noise?"),
        "Means and standard deviations of every quantity of a batch against importance sampling with 40,000 draws. The",
        "largest deviations are in units of what was allowed: below 1 is right.",
        "",
        *table(("rows a table", "tables", "certified", "right", "largest of means", "largest of sds"), rows),
        *_origin(document, name),
    ]


def replication(document: Mapping[str, Any], name: str) -> list[str]:
    """Published numbers of the Chinchilla replication against least squares here."""
    found = document["least_squares"]["Huber, delta 1e-7"]
    rows = [
        (f"`{k}`", f"{v:.6g}", f"{found[k]:.6g}", f"{document['relative_difference'].get(k, found[k] / v - 1):.1e}")
        for k, v in document["published"].items()
    ]
    posterior = [
        (noise, f"{v['a']['mean']:.4f}", f"{v['a']['sd']:.4f}", f"{v['E']['mean']:.4f}", f"{v['E']['sd']:.4f}")
        for noise, v in document["posterior"].items()
    ]
    return [
        *section(2, "Are published numbers found again?"),
        "The least-squares fit of Besiroglu et al. (2024) to `besiroglu2024`:",
        "",
        *table(("coefficient", "published", "here", "relative difference"), rows),
        "The posterior without group effects, by noise:",
        "",
        *table(("noise", "mean of a", "sd", "mean of E", "sd"), posterior),
        *_origin(document, name),
    ]


def weak(document: Mapping[str, Any], name: str) -> list[str]:
    """Small tables of small runs: what diverged, what converged, after how many attempts."""
    names = list(next(iter(document["summary"].values())))
    rows = [(k, *(_short(v[n]) for n in names)) for k, v in document["summary"].items()]
    return [
        *section(2, "Does sampling hold on weak tables?"),
        "25 rows at random from the 100 smallest runs of `besiroglu2024`:",
        "",
        *table(("groups", *names), rows),
        *_origin(document, name),
    ]


def _short(x: Any) -> str:
    return f"{x:.3g}" if isinstance(x, float) else str(x)


def single_fit(document: Mapping[str, Any], name: str) -> list[str]:
    """One fit against other samplers on the same table."""
    rows = [
        (
            f"{k}",
            f"{c['seconds']:.2f}",
            f"{c['ess_per_second']:,.0f}",
            f"{c['a']['mean']:.4f} ± {c['a']['sd']:.4f}",
            f"{c['compile_seconds']:.1f}",
        )
        for k, c in document["contestants"].items()
    ]
    about = document["settings"]
    busy = " Others used the processor meanwhile: provisional." if document.get("busy") else ""
    return [
        *section(2, "How fast is a fit?"),
        f"{about['rows']} rows, {about['chains']} chains of {about['warmup']} + {about['draws']} draws,",
        f"double precision, on {document['cores']} cores; seconds of sampling once compiled.{busy}",
        "",
        *table(("sampler", "seconds", "effective draws a second", "a", "compiling, s"), rows),
        *_origin(document, name),
    ]


def batch_speed(document: Mapping[str, Any], name: str) -> list[str]:
    """Milliseconds a table, by how many tables there are."""
    rows = []
    for cell, c in document["cells"].items():
        for entry in c["fit_many"]:
            rows.append(
                (cell, entry["tables"], f"{entry['ms_a_table']:.0f}", _percent(entry["certified"]), "`fit_many`")
            )
        if "arithmetic" in c:
            rows.append((cell, "", f"{c['arithmetic']['ms_a_table']:.1f}", "", "its gradients alone"))
        for peer, entry in c.get("peers", {}).items():
            rows.append((cell, entry.get("tables", ""), f"{entry['ms_a_table']:.0f}", "", peer))
    return [
        *section(2, "How fast is a batch?"),
        table_note(document),
        "",
        *table(("rows a table", "tables", "ms a table", "certified", "by"), rows),
        *_origin(document, name),
    ]


def table_note(document: Mapping[str, Any]) -> str:
    """What the speed of a batch was measured with."""
    return (
        f"Everything included, in {document['precision']} on {document['circumstances']['device']}; peers only sample."
    )
