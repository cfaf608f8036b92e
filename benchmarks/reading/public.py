"""Public tables from CSV to `doctor` and `fit` without options: each is answered, or refused with a reason.

    BAYESCALE_RUNS=tables uv run python benchmarks/reading/public.py [--fit NAME ...] [--limit SECONDS] [--add]

Every CSV file of the folders BAYESCALE_RUNS and BAYESCALE_DATA goes through `bayescale doctor FILE --json`. Those that
`--fit` names, or all that doctor lets through (`--fit all`), go through `bayescale fit FILE --json` as well, in a
process of their own that is stopped after `--limit` seconds. `--add` keeps the fits that the result file holds already.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from record import RESULTS, circumstances, table, write

RESULT = RESULTS / "public_tables.json"


def called(command: str, path: Path, limit: float) -> dict[str, Any]:
    """One command on one file in a process of its own: exit code, seconds, and its document or its error."""
    began = time.perf_counter()
    arguments = [sys.executable, "-m", "bayescale", command, str(path), "--json"]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"exit": None, "seconds": time.perf_counter() - began, "stopped_after": limit}
    document = json.loads(done.stdout)  # whatever happens, --json prints one document
    found: dict[str, Any] = {"exit": done.returncode, "seconds": time.perf_counter() - began}
    if document["schema"].startswith("bayescale.error"):
        found |= {key: document[key] for key in ("code", "message", "remedy")}
    elif command == "doctor":
        found |= {"status": document["status"], "rows": document["runs"]["rows"], "used": document["runs"]["used"]}
        found |= {"refused": document["refused"], "assumptions": document["runs"]["assumptions"]}
    else:
        found |= {"status": document["verdict"]["status"], "rows": document["runs"]["rows"]}
        found |= {"used": document["runs"]["used"], "verdict": document["verdict"]["lines"]}
        found |= {"a": (document["derived"] or {}).get("a"), "headline": document["headline_source"]}
    return found


def told(found: dict[str, Any] | None) -> str:
    """An outcome in few words."""
    if found is None:
        return "-"
    if found["exit"] is None:
        return f"stopped after {found['stopped_after']:.0f} s"
    return f"{found['code']}: {found['message']}" if "code" in found else f"{found['status']}, {found['used']} rows"


def main() -> None:
    """Run the commands over the files, print and keep what came of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", nargs="*", default=(), help="names of files to fit, or 'all'")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds a command may take")
    parser.add_argument("--add", action="store_true", help="keep earlier fits of files that are not fitted again")
    asked = parser.parse_args()
    folders = [Path(os.environ[k]) for k in ("BAYESCALE_RUNS", "BAYESCALE_DATA") if os.environ.get(k)]
    files = sorted(path for folder in folders for path in folder.glob("*.csv"))
    kept = json.loads(RESULT.read_text())["files"] if asked.add and RESULT.is_file() else {}
    document = {**circumstances(), "limit": asked.limit, "files": kept}
    for path in files:
        known = kept.setdefault(path.stem, {"doctor": None, "fit": None})
        known["doctor"] = called("doctor", path, asked.limit)
        lets_through = known["doctor"]["exit"] == 0 and not known["doctor"]["refused"]
        if lets_through and (path.stem in asked.fit or "all" in asked.fit):
            known["fit"] = called("fit", path, asked.limit)
        elif not lets_through:
            known["fit"] = None
        print(f"{path.stem}: {told(known['doctor'])} | {told(known['fit'])}", flush=True)
        write(RESULT, document)
    table(["table", "doctor", "fit"], [[n, told(f["doctor"])[:90], told(f["fit"])[:60]] for n, f in kept.items()])


if __name__ == "__main__":
    main()
