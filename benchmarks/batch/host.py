"""What a table costs beside its sampling: everything that `fit_many` does in Python, as beside an accelerator.

One ensemble and its certificates are computed once and handed out for every chunk of tables, so that no time is spent
on either: what is left is reading numbers, keys, models, verdicts, the status and the batch. An accelerator waits for
it. Tables come as one design, as tables by themselves that share a design, and with designs of their own.

    python benchmarks/batch/host.py [--tables 8192] [--cell 240] [--own 1024] [--out …]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import bayescale as bs
from bayescale.batch import certifying, chunks, ladder

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record
from batch import cells

LANES = 1024


class Canned:
    """Stands in for an accelerator: the first chunk's draws and certificates, given again for every other."""

    def __init__(self):
        self.sample, self.program = chunks.Chunk.sample, certifying.certificate_program
        self.found, self.numbers = None, None

    def __enter__(self) -> Canned:
        import jax

        def repeated(x):
            return np.repeat(np.asarray(x)[None], LANES, axis=0)

        def sample(chunk, plan, repeat=0, state=None):
            _ = chunk.data  # the numbers of every chunk are laid out
            if self.found is None:
                one = chunks.Chunk(chunk.tasks[:1], 1, chunk.precision)
                self.found = jax.tree.map(repeated, self.sample(one, plan, repeat))
            return self.found

        def program(model, found, references, costs):
            if self.numbers is None:
                few = jax.tree.map(lambda x: x[:2], (found, references, costs))
                made, given = self.program(model, *few)
                self.numbers = [np.repeat(np.asarray(x)[:1], LANES, axis=0) for x in made(*given)]
            return lambda *_: self.numbers, ()

        stands = ((chunks.Chunk, "sample", sample), (certifying, "certificate_program", program))
        stands += ((ladder, "lanes_for", lambda task: LANES), (chunks.Chunk, "compile_certificates", lambda *_: None))
        stands += ((chunks, "FEWER", 1),)  # every chunk has all lanes
        self.own = [(where, name, getattr(where, name)) for where, name, _ in stands]
        for where, name, stand in stands:
            setattr(where, name, stand)
        return self

    def __exit__(self, *_) -> None:
        for where, name, own in self.own:
            setattr(where, name, own)


def measured(cell: str, tables, precision: str) -> float:
    """Milliseconds a table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bs.NotConverged)
        began = time.perf_counter()
        batch = bs.fit_many("chinchilla", tables, group=cells.group(cell), precision=precision, progress=False)
    if len(batch.certified) < len(tables):
        raise SystemExit("the ensemble that is handed out is not certified: nothing was measured")
    return 1e3 * (time.perf_counter() - began) / len(tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=8192)
    parser.add_argument("--own", type=int, default=LANES, help="tables with designs of their own")
    parser.add_argument("--cell", nargs="*", default=["24", "240"])
    parser.add_argument("--precision", default="float64")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "batch_host.json")
    given = parser.parse_args()
    document = {"circumstances": record.circumstances(), "tables": given.tables, "precision": given.precision}
    document["ms_a_table"] = {}
    for cell in given.cell:
        one = cells.tables(cell, given.tables, 800_000, one_design=True)
        with Canned():
            measured(cell, cells.tables(cell, 2, 800_000, one_design=True), given.precision)
            document["ms_a_table"][cell] = {
                "one design": measured(cell, one, given.precision),
                "one design, table by table": measured(cell, dict(one), given.precision),
                "designs of their own": measured(cell, cells.tables(cell, given.own, 0), given.precision),
            }
    ways = ["one design", "one design, table by table", "designs of their own"]
    rows = [[f"{cell} rows", *(f"{found[w]:.3f}" for w in ways)] for cell, found in document["ms_a_table"].items()]
    record.table(["milliseconds a table", *ways], rows)
    record.write(given.out, document)


if __name__ == "__main__":
    main()
