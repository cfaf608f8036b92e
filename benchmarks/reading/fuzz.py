"""Read a hundred thousand messy tables and hold each against what it stands for.

    uv run python benchmarks/reading/fuzz.py --tables 100000

The tables, and what is asked of each, are those of `tests/messy_tables.py`; the tests read the first 600. A fault is
an error without a type, a value that changed or a row that is gone without a word, a number that is none, or text of a
cell that stays a formula or markup where it is written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

import record  # noqa: E402
from messy_tables import examine, messy  # noqa: E402


def main() -> None:
    """Read the tables and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="The first seed.")
    parser.add_argument("--minutes", type=float, help="Stop after so long, and say how many tables were read.")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "reading_fuzz.json")
    asked = parser.parse_args()
    document = record.circumstances()
    outcomes, defects, faults = Counter(), Counter(), []
    began, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.first, asked.first + asked.tables):
            made = messy(seed)
            defects.update(set(made.defects))
            path = Path(folder) / f"runs{made.suffix}"
            try:
                outcomes[examine(made, path)] += 1
            except Exception as fault:
                outcomes["fault"] += 1
                faults.append(
                    {"seed": seed, "defects": made.defects, "fault": f"{type(fault).__name__}: {fault}"[:300]}
                )
                print(faults[-1], flush=True)
            path.unlink(missing_ok=True)
            if asked.minutes and time.perf_counter() - began > 60 * asked.minutes:
                break
            if (seed - asked.first + 1) % 10_000 == 0:
                print(f"{seed - asked.first + 1} tables, {len(faults)} faults", flush=True)
    document |= {
        "tables": sum(outcomes.values()),
        "first_seed": asked.first,
        "faults": faults,
        "outcomes": dict(outcomes.most_common()),
        "tables_with_defect": dict(defects.most_common()),
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - began,
    }
    record.table(["outcome", "tables"], [[k, n] for k, n in outcomes.most_common()])
    record.write(asked.out, document)


if __name__ == "__main__":
    main()
