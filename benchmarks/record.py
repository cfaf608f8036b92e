"""What every result file says about itself: when, with which versions, on which processor, under which load."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("bayescale", "jax", "jaxlib", "numpyro", "numpy", "scipy", "xarray", "nutpie", "pymc", "numba")
RESULTS = Path(__file__).parent / "results"


def circumstances() -> dict[str, Any]:
    """The header of a result: date, commit, versions, processor, cores, load average over 1, 5 and 15 minutes."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "load_at_start": list(os.getloadavg()),
    }


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a result as JSON; anything not finite becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_plain(document), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    print(f"\nwritten: {os.path.relpath(path)}")


def table(header: list[str], rows: list[list[Any]]) -> None:
    """Print rows under a header, columns aligned; floats to four significant digits."""
    text = [header, *[[f"{x:.4g}" if isinstance(x, float) else str(x) for x in row] for row in rows]]
    widths = [max(len(row[k]) for row in text) for k in range(len(header))]
    for row in text:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The commit that was measured, `-dirty` where the package had changes of its own."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=RESULTS.parent).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _plain(x: Any) -> Any:
    if isinstance(x, dict):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(v) for v in x]
    if hasattr(x, "item"):
        x = x.item()
    return None if isinstance(x, float) and (x != x or abs(x) == float("inf")) else x
