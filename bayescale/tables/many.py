"""A batch and a calibration, for people and for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bayescale.calibration import Calibration
from bayescale.posterior import CERTIFIED, FAILED, Batch, finite
from bayescale.tables.escaping import inert_csv
from bayescale.tables.text import aligned, findings_lines, headlined

BATCH_SCHEMA = "bayescale.batch/1"


def batch_lines(batch: Batch, unread: Mapping[str, str], most: int) -> list[str]:
    """One line a table: what became of it and its first numbers; then what the intervals rest on."""
    counts = batch.status["status"].value_counts()
    told = [f"{n} {s}" for s, n in counts.items()] + ([f"{len(unread)} unreadable"] if unread else [])
    lines = [f"{batch.law.title}, {batch.noise} noise · {len(batch.status) + len(unread)} tables: {', '.join(told)}"]
    names = [n for n in batch.status.index if batch.status.loc[n, "status"] == CERTIFIED]
    if names:
        summary, shown = batch.summary(), headlined(batch)
        ends = f"median ({batch.prob:.0%} credible interval)"
        rows = [["  table", "runs", *(f"{q}: {ends}" if k == 0 else q for k, q in enumerate(shown)), "sampled by"]]
        for name in names[:most]:
            row = [f"  {name}", f"{batch.status.loc[name, 'rows']:.0f}"]
            about = batch.info["datasets"][name]
            if about["headline_source"] == "none":
                told = (*about["audit"], *about["design"])
                found = next((f for f in told if f["status"] == "fail"), told[0])
                rows.append([*row, f"no headline: {found['name']}", *[""] * (len(shown) - 1), ""])
                continue
            for quantity in shown:
                q = summary.loc[(name, quantity)]
                row.append(f"{q['median']:.3f} ({q['lower']:.3f} to {q['upper']:.3f})")
            adjusted = " (adjusted)" if about["headline_source"] == "sandwich" else ""
            rows.append([*row, str(batch.status.loc[name, "rung"]) + adjusted])
        lines += ["", *aligned(rows)]
        if len(names) > most:
            lines.append(f"  … and {len(names) - most} more")
    bad = {n: s for n, s in batch.status["sentence"].items() if batch.status.loc[n, "status"] != CERTIFIED}
    bad |= dict(unread)
    if bad:
        lines += ["", "Not certified", *(f"  {n}: {s}" for n, s in list(bad.items())[:most])]
        if len(bad) > most:
            lines.append(f"  … and {len(bad) - most} more")
    return [*lines, "", honesty_line(batch)]


def honesty_line(batch: Batch) -> str:
    """What the intervals of a batch rest on."""
    if not batch.examined:
        return (
            "Certified is the sampling: these intervals are as honest as the model. Whether one law, these groups and "
            "this noise fit a table is examined by --examine, or bs.examined(batch)."
        )
    found = batch.status.loc[list(batch.certified)]
    verdicts, sources = found["verdict"].value_counts(), found["headline"].value_counts()
    told = ", ".join(f"{verdicts[s]} {s}" for s in ("pass", "warn", "fail") if s in verdicts)
    widened, none = sources.get("sandwich", 0), sources.get("none", 0)
    return (
        f"Verdicts of the {len(found)} certified: {told}. Intervals of {widened} were widened (adjusted), of {none} "
        "none is headlined. A law that holds raises an alarm in one table of twenty."
    )


def batch_document(batch: Batch, unread: Mapping[str, str]) -> dict[str, Any]:
    """The document of a batch: one entry a table."""
    summary = batch.summary() if batch.names else None
    tables: dict[str, Any] = {n: {"status": FAILED, "sentence": why} for n, why in unread.items()}
    for name, row in batch.status.to_dict("index").items():
        entry = {str(k): _plain(v) for k, v in row.items()}
        if summary is not None and name in batch.names:
            info = batch.info["datasets"][name]
            quantities = summary.loc[name].drop(columns=["certified", "headline"]).to_dict("index")
            entry |= {
                "quantities": {q: {k: finite(v) for k, v in values.items()} for q, values in quantities.items()},
                "runs": info["runs"],
                "group": info["group"],
                "verdict": info["verdict"],
                "audit": info["audit"],
                "examined": bool(info["audit"]),
                "headline_source": info["headline_source"],
            }
        tables[str(name)] = entry
    return {
        "schema": BATCH_SCHEMA,
        "law": batch.law.name,
        "options": dict(batch.info["law_options"]),
        "noise": batch.noise,
        "seed": batch.info["seed"],
        "prob": batch.prob,
        "certified": len(batch.certified),
        "interrupted": batch.info["interrupted"],
        "examined": batch.examined,
        "tables": tables,
    }


def _plain(value: Any) -> Any:
    """A cell of the status for JSON."""
    value = value.item() if hasattr(value, "item") else value
    return finite(value) if isinstance(value, float) else value


def write_store(batch: Batch, folder: str | os.PathLike[str], unread: Mapping[str, str]) -> None:
    """Write `status.csv`, `summary.csv` and `batch.json` beside the parts of a store."""
    folder = Path(folder)
    document = json.dumps(batch_document(batch, unread), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    examined = [bool(batch.info["datasets"][n]["audit"]) if n in batch.names else None for n in batch.status.index]
    texts = {"status.csv": inert_csv(batch.status.assign(examined=examined)), "batch.json": document}
    if batch.names:
        texts["summary.csv"] = inert_csv(batch.summary())
    for name, text in texts.items():
        part = folder / f".{name}.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, folder / name)


def calibration_lines(calibration: Calibration) -> list[str]:
    """The verdict, the findings, and how often intervals hold the truth."""
    frame = calibration.coverage()
    probs = [c for c in frame if not str(c).endswith("mcse")]
    error = ", ".join(f"{p} ± {100 * frame[f'{p} mcse'].iloc[0]:.1f} %" for p in probs)
    rows = [["  intervals of", *map(str, probs)]]
    rows += [[f"  {name}", *(f"{row[p]:.1%}" for p in probs)] for name, row in frame.iterrows()]
    return [
        f"{calibration.status.upper()} {calibration.law}, {calibration.noise} noise · "
        f"{len(calibration.ranks)} simulated tables of {calibration.rows} runs",
        *findings_lines(calibration.findings),
        "",
        "How often intervals hold the truth",
        *aligned(rows),
        f"  Monte Carlo error: {error}",
        "",
        "This is about the computation. Whether the law and the noise are right for real runs is the audit's question.",
    ]
