"""Many tables: what a certified posterior costs, beside the ways people have.

- fit_many, everything in: reading, doctor, ladder, checks, derived quantities;
- NUTS of NumPyro on the same model, compiled once and mapped over tables one after the other (500 + 500 draws);
- the same under vmap, where all tables wait for the longest trajectory;
- MCMC.run in a loop, which compiles for every table;
- the least-squares point with a converged bootstrap of 1,000 (bayescale's own baseline), scaled up from 100;
- simple-scaling-laws, a point with 1,000 bootstrap draws, where it is installed.

Beside them stands the floor of arithmetic: a table's gradients by themselves, without sampler, checks or reading.

Tables are simulated (`cells.py`), different ones for every count. Times are wall clock, compilation apart. What is
compared is the time for 400 effective draws of the worst quantity, the median over tables.

    python benchmarks/batch/speed.py [--counts 10 100 1000] [--cell 240 …] [--precision float64] [--peers 60]
    python benchmarks/batch/speed.py --cell 12 24 60 500 1000 2000 --counts 100 --add   # beside what is there
    python benchmarks/batch/speed.py --draw                                             # the figure alone
    python benchmarks/batch/speed.py --counts 8000 --one-design --engine --peers 2048 --ways vmap --out gpu.json

On a GPU (`jax.devices()` decides), `--engine` also times one full chunk of lanes from arrays to certificates without
fetching the draws, and its compilation.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import bayescale as bs
from bayescale.batch import chunks, ladder
from bayescale.batch.certifying import certified_together
from bayescale.batch.preparing import prepare_all
from bayescale.laws import find_law
from bayescale.model import available_cores, build_model, compiled, double_precision
from bayescale.model.programs import load_numpyro
from bayescale.posterior import convergence
from bayescale.sampling import ensemble

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record
from batch import cells

WARMUP, DRAWS = 500, 500
WAYS = ("mapped", "vmap", "loop", "bootstrap", "simple-scaling-laws")
#: Gradients in a row that the floor of arithmetic is measured on.
IN_A_ROW = 2000


def many(cell: str, count: int, first: int, precision: str, one_design: bool) -> dict:
    """fit_many on new tables; batches before it have compiled what the first rungs need."""
    tables = cells.tables(cell, count, first, one_design)
    began, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bs.NotConverged)
        batch = bs.fit_many("chinchilla", tables, group=cells.group(cell), precision=precision, progress=False)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    status = batch.status
    at_once = [name for name in status.index if str(status.at[name, "rung"]) == "ensemble 1"]
    steps = batch.tree.children["sample_stats"].data_vars["n_steps"].sel(dataset=at_once, chain=0).to_numpy()
    return {
        "tables": count,
        "one_design": one_design,
        "tables_a_second": count / seconds,
        "ms_a_table": 1e3 * seconds / count,
        "cpu_ms_a_table": 1e3 * cpu / count,
        "certified": len(batch.certified) / count,
        "rungs": status["rung"].value_counts().to_dict(),
        "min_ess": float(status["ess_bulk"].min()),
        "median_ess": float(status["ess_bulk"].median()),
        "ms_for_400": 1e3 * seconds / count * 400 / float(status["ess_bulk"].median()),
        "gradients_a_table": float(status["gradients"].mean()),
        # of a trajectory at the first rung; the longest of all tables is what lanes side by side wait for
        "gradients_a_trajectory": float(steps.mean()),
        "gradients_side_by_side": float(steps.max(axis=0).mean()),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def engine(cell: str, precision: str) -> dict:
    """One full chunk of an accelerator's lanes: draws and certificates where they lie, from arrays already there."""
    import jax

    law = find_law("chinchilla")
    options = dict(noise="student_t", group=cells.group(cell), fix=None, tie=(), priors={}, references=None)
    tasks, _ = prepare_all(cells.tables(cell, 512, 800_000, one_design=True), law, 0, (), options)
    lanes, plan = chunks.lanes_for(tasks[0]), ladder.RUNGS[0].plan_for(tasks[0])
    chunk = chunks.Chunk([tasks[k % len(tasks)] for k in range(lanes)], lanes, precision)
    budgets, models = [(1e22, 1e23)] * lanes, [t.design.model for t in chunk.tasks]
    seconds, judged = [], []
    for k in range(4):
        began = time.perf_counter()
        found = jax.block_until_ready(chunk.sample(plan, k))
        seconds.append(time.perf_counter() - began)
        told = certified_together(models, found, chunk.data["references"], budgets)
        judged.append(time.perf_counter() - began - seconds[-1])
    return {
        "lanes": lanes,
        "precision": precision,
        "compile_s": seconds[0] - min(seconds),
        "certificates_compile_s": judged[0] - min(judged),
        "sampled_s": min(seconds),
        "certified_s": min(judged),
        "tables_a_second": lanes / (min(seconds) + min(judged)),
        "tables_a_second_sampled": lanes / min(seconds),
        "passed_at_once": float(told.passed.mean()),
        "gradients_a_table": float(np.asarray(found["gradients"]).mean()),
    }


def arithmetic(cell: str, precision: str, gradients: float) -> dict:
    """So many gradients of a table by themselves, on every core, or on all lanes of an accelerator."""
    import jax

    options = dict(noise="student_t", group=cells.group(cell), fix=None, tie=(), priors={}, references=None)
    (task,), _ = prepare_all({"0": cells.table(cell, 0)}, find_law("chinchilla"), 0, (), options)
    structure, lanes = task.design.padded.structure, chunks.lanes_for(task)
    data = chunks.Chunk([task], 1, precision).data
    x = 0.1 * np.random.default_rng(0).standard_normal((lanes * ensemble.CHAINS, structure.dimension))
    with jax.enable_x64(precision == "float64"):
        gradient = ensemble.potential_and_slope(structure, smooth=False)

        def run(x, data):
            return jax.lax.scan(lambda x, _: (x - 1e-9 * gradient(x, data)[1], None), x, length=IN_A_ROW)[0]

        given = (x.astype(precision), data)
        program = compiled(("gradients", precision, structure.key), run, *given, alone=lanes > 1)
        best = min(_seconds(lambda: jax.block_until_ready(program(*given))) for _ in range(5))
    each = best / IN_A_ROW / len(x) / (1 if lanes > 1 else available_cores())
    return {"us_a_gradient": 1e6 * each, "ms_a_table": 1e3 * each * gradients}


def nuts_program(structure):
    """NUTS on a table's data as one function: kept draws of the flat vector."""
    load_numpyro()
    import jax
    from numpyro.infer.hmc import hmc

    def run(data, key):
        start, advance = hmc(potential_fn_gen=lambda data: lambda x: structure.potential(x, data), algo="NUTS")
        state = start(
            jax.numpy.zeros(structure.dimension),
            WARMUP,
            model_args=(data,),
            rng_key=key,
            dense_mass=True,
            max_tree_depth=10,
        )

        def step(state, _):
            state = advance(state, model_args=(data,))
            return state, state.z

        return jax.lax.scan(step, state, length=WARMUP + DRAWS)[1][WARMUP:]

    return run


def peers(cell: str, count: int, first: int, chosen: list[str]) -> dict:
    """The other ways, on the same tables."""
    load_numpyro()
    import jax

    tables = [cells.table(cell, first + s) for s in range(count)]
    models = [build_model("chinchilla", t, group=cells.group(cell)) for t in tables]
    structure = models[0].structure
    found = {}
    if any(m.structure.key != structure.key for m in models):
        print(f"tables of cell {cell} differ in their groups: one NUTS program does not take them all, and is left out")
        chosen = [way for way in chosen if way not in ("mapped", "vmap")]
    with double_precision():
        keys = jax.random.split(jax.random.key(0), count)
        run = nuts_program(structure)
        ways = {"nuts, mapped": lambda d, k: jax.lax.map(lambda a: run(*a), (d, k)), "nuts, vmap": jax.vmap(run)}
        for name, way in ways.items():
            if name.partition(", ")[2] not in chosen:
                continue
            data = jax.tree.map(lambda *x: np.stack(x), *[m.data for m in models])
            began = time.perf_counter()
            program = jax.jit(way).lower(data, keys).compile()
            compiled_in, began, cpu = time.perf_counter() - began, time.perf_counter(), time.process_time()
            flat = np.asarray(program(data, keys))
            found[name] = _entry(time.perf_counter() - began, flat, compiled_in)
            found[name]["cpu_ms_a_table"] = 1e3 * (time.process_time() - cpu) / count
    if "loop" in chosen:
        found["MCMC.run in a loop"] = _looped(models[:5])
    if "bootstrap" in chosen:
        began = time.perf_counter()
        for table in tables[:3]:
            bs.least_squares("chinchilla", table, bootstrap=100)
        found["Huber, bootstrap 1,000"] = {"ms_a_table": 10 * 1e3 * (time.perf_counter() - began) / 3}
    if "simple-scaling-laws" in chosen:
        found |= _simple_scaling_laws(tables[:5])
    return found


def _simple_scaling_laws(tables) -> dict:
    """The package's fit with its default of 1,000 bootstrap draws, if it is installed."""
    try:
        import polars
        from simple_scaling_laws import fit
    except ImportError:
        print("simple-scaling-laws is not installed and left out")
        return {}
    columns = {"params": "model_size__n_params", "tokens": "dataset_size__n_tokens", "loss": "test_loss__nll"}
    began = time.perf_counter()
    for table in tables:
        given = {there: table.values(here) for here, there in columns.items()}
        fit(polars.DataFrame({"training_run_id": [str(k) for k in range(len(table))], **given}))
    each = 1e3 * (time.perf_counter() - began) / len(tables)
    return {"simple-scaling-laws, bootstrap 1,000": {"tables": len(tables), "ms_a_table": each}}


def _looped(models) -> dict:
    import jax
    from numpyro.infer import MCMC, NUTS

    flats, began = [], time.perf_counter()
    for k, model in enumerate(models):
        with double_precision():
            chain = MCMC(
                NUTS(model.numpyro_model, dense_mass=True), num_warmup=WARMUP, num_samples=DRAWS, progress_bar=False
            )
            chain.run(jax.random.key(k))
            flats.append(np.asarray(chain.get_samples()["z"]))
    return _entry(time.perf_counter() - began, np.stack(flats), None)


def _seconds(work, *given) -> float:
    began = time.perf_counter()
    work(*given)
    return time.perf_counter() - began


def _entry(seconds: float, flat: np.ndarray, compiled_in: float | None) -> dict:
    """What a way cost, from draws of shape (tables, draws, dimension) of one chain a table."""
    size = convergence.ess_bulk(np.moveaxis(flat, -1, 1)[:, :, None]).min(axis=1)
    each, median = 1e3 * seconds / len(flat), float(np.median(size))
    return {
        "tables": len(flat),
        "ms_a_table": each,
        "median_ess": median,
        "min_ess": float(size.min()),
        "ms_for_400": each * 400 / median,
        "compile_s": compiled_in,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="*", type=int, default=[10, 100, 1000])
    parser.add_argument("--cell", nargs="*", default=["240"])
    parser.add_argument("--precision", default="float64")
    parser.add_argument("--peers", type=int, default=0, help="tables that the other ways are timed on")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS), help="which other ways")
    parser.add_argument("--one-design", action="store_true", help="all tables of a batch have the same runs")
    parser.add_argument("--engine", action="store_true", help="time a chunk of an accelerator's lanes alone too")
    parser.add_argument("--lanes", type=int, default=chunks.LANES, help="tables that an accelerator takes at once")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "batch_speed.json")
    parser.add_argument("--add", action="store_true", help="keep the cells that the result has already")
    parser.add_argument("--draw", action="store_true", help="draw the figure of the result that is there")
    given = parser.parse_args()
    chunks.LANES, chunks.LANES_BYTES = given.lanes, chunks.LANES_BYTES * max(1.0, given.lanes / chunks.LANES)
    if given.draw:
        draw(json.loads(given.out.read_text()), given.out.with_suffix(".png"))
        return
    import jax

    document = {
        "circumstances": record.circumstances() | {"device": jax.devices()[0].device_kind},
        "precision": given.precision,
        "cells": {},
    }
    if given.add:
        document["cells"] = json.loads(given.out.read_text())["cells"]
    for cell in given.cell:
        first, full = {}, chunks.LANES // chunks.FEWER + 1
        if given.counts:
            first["compile_and_4_s"] = _seconds(many, cell, 4, 900_000, given.precision, False)
        if jax.default_backend() != "cpu" and max(given.counts, default=0) >= full:  # a program with all lanes
            first["and_all_lanes_s"] = _seconds(many, cell, full, 910_000, given.precision, True)
        document["cells"][cell] = {"circumstances": record.circumstances(), **first, "fit_many": []}
        for k, count in enumerate(given.counts):
            made = many(cell, count, 10_000 * (k + 1), given.precision, given.one_design)
            document["cells"][cell]["fit_many"].append(made)
            if count == max(given.counts):
                floor = arithmetic(cell, given.precision, made["gradients_a_table"])
                document["cells"][cell]["arithmetic"] = floor
        if given.engine:
            document["cells"][cell]["engine"] = engine(cell, given.precision)
            record.table([*document["cells"][cell]["engine"]], [[*document["cells"][cell]["engine"].values()]])
        if given.peers:
            document["cells"][cell]["peers"] = peers(cell, given.peers, 10_000, given.ways)
        _print(cell, document["cells"][cell])
        record.write(given.out, document)
    if jax.default_backend() == "cpu":
        draw(document, given.out.with_suffix(".png"))


def draw(document: dict, path: Path) -> None:
    """What a table costs, by how many there are and by its rows."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    measured = {cell: entry["fit_many"] for cell, entry in document["cells"].items() if entry["fit_many"]}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for cell, found in measured.items():
        if len(found) > 1:
            left.plot(
                [f["tables"] for f in found], [f["ms_a_table"] for f in found], "o-", label=f"{cell} rows, fit_many"
            )
    peers = document["cells"].get("240", {}).get("peers", {})
    styles = (":", "--", "-.", (0, (1, 3)), (0, (6, 3)))[: len(peers)]
    for style, (name, peer) in zip(styles, peers.items(), strict=True):
        left.axhline(peer["ms_a_table"], color="0.5", linestyle=style, label=f"{name} (240 rows)")
    left.set(xscale="log", yscale="log", xlabel="tables in the batch", ylabel="milliseconds a table, two cores")
    left.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    rows = sorted((int(c), found[-1]) for c, found in measured.items() if c.isdigit())
    right.plot([n for n, _ in rows], [f["ms_a_table"] for _, f in rows], "o-", label="wall clock")
    right.plot([n for n, _ in rows], [f["cpu_ms_a_table"] for _, f in rows], "s--", color="0.5", label="CPU")
    floors = [document["cells"][str(n)].get("arithmetic", {}).get("ms_a_table", np.nan) for n, _ in rows]
    right.plot([n for n, _ in rows], floors, "v:", color="0.5", label="gradients alone, wall clock")
    right.set(xscale="log", yscale="log", xlabel="rows of a table", ylabel="milliseconds a table")
    right.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    right.set_xticks([n for n, _ in rows], [f"{n}" for n, _ in rows])
    shown = [t for t in (2, 5, 10, 20, 50, 100, 200, 500, 1000) if right.get_ylim()[0] <= t <= right.get_ylim()[1]]
    right.set_yticks(shown, [f"{t}" for t in shown])
    right.minorticks_off()
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.2)
    cores = document["circumstances"]["cores"]
    figure.suptitle(f"Certified posteriors, Chinchilla law, Student-t noise, float64, {cores} cores", fontsize=10)
    figure.savefig(path, dpi=150)
    print(f"drawn: {path}")


def _print(cell: str, entry: dict) -> None:
    rows = [[f"fit_many, {m['tables']}", *_row(m), f"{m['certified']:.1%}"] for m in entry["fit_many"]]
    if "arithmetic" in entry:
        rows.append(["gradients alone", *_row(entry["arithmetic"]), ""])
    rows += [[name, *_row(p), "not checked"] for name, p in entry.get("peers", {}).items()]
    print(f"\ncell {cell}")
    header = ["way", "ms a table", "of which CPU", "ms for 400 effective draws", "median of smallest ESS", "certified"]
    record.table(header, rows)


def _row(entry: dict) -> list:
    return [entry.get(k) or "" for k in ("ms_a_table", "cpu_ms_a_table", "ms_for_400", "median_ess")]


if __name__ == "__main__":
    main()
