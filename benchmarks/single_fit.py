"""One fit of 240 simulated runs: seconds of sampling, effective draws a second, seconds of a whole process.

    uv run --with nutpie --with pymc python benchmarks/single_fit.py

Everything is measured in one run on one table. Each contestant has a process of its own; those that are not installed
are left out, which is said. The exit code is 0 whatever the numbers: goals are printed beside what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, circumstances, table, write

#: Seconds of sampling once compiled, without group effects: short enough to fit again rather than wonder.
SAMPLING_GOAL = 1.5
#: Seconds of the first `bayescale fit` after installing: nothing compiled yet.
COLD_GOAL = 20.0
#: Seconds of every later `bayescale fit`: programs come from the disk.
WARM_GOAL = 8.0
#: Effective draws a second of the worst reported quantity, bulk or tail, once compiled.
ESS_GOAL = 2500.0

ROWS, CHAINS, WARMUP, DRAWS = 240, 4, 1000, 1000
#: Besiroglu et al. (2024), Table 1.
TRUTH = dict(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
REPEATS = 5


def simulated(seed: int = 0):
    """A frame of 240 runs: ten budgets, twelve model sizes around the best, each twice; Student-t(4) noise."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    sizes = 10 ** np.arange(7.0, 11.5, 0.125)
    N, C = [], []
    for budget in np.logspace(18, 21.5, 10):
        best = int(np.argmin(np.abs(np.log(sizes**2 * 6 * 20 / budget))))
        N += 2 * list(sizes[best - 6 : best + 6])
        C += 24 * [budget]
    N, C = np.asarray(N), np.asarray(C)
    D = C / 6 / N * np.exp(0.004 * rng.uniform(-1, 1, len(N)))
    p = TRUTH
    loss = p["E"] + p["A"] * N ** -p["alpha"] + p["B"] * D ** -p["beta"]
    loss = loss * np.exp(0.005 * rng.standard_t(4, len(N)))
    return pd.DataFrame({"params": N, "tokens": D, "flops": 6 * N * D, "loss": loss})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "single_fit.json", help="the JSON; a PNG lies beside it")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="fits and processes behind each median")
    parser.add_argument("--part", choices=[*PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--table", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.table, options.repeats)))
        return
    document = circumstances()
    document["settings"] = {
        "rows": ROWS,
        "chains": CHAINS,
        "warmup": WARMUP,
        "draws": DRAWS,
        "repeats": options.repeats,
    }
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs.csv"
        simulated().to_csv(runs, index=False)
        document["contestants"] = contestants(runs, Path(folder), options.repeats)
        document["processes"] = processes(runs, Path(folder), options.repeats)
    document["load_at_end"] = list(os.getloadavg())
    document["busy"] = busy(document)
    document["goals"] = goals(document)
    report(document)
    write(options.out, document)
    draw(document, options.out.with_suffix(".png"))


# Contestants: sampling, each in its own process.


def contestants(runs: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """What every part reports, or why it was left out."""
    made: dict[str, Any] = {}
    for part in PARTS:
        print(f"measuring {part} …", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--part", part, "--table", str(runs), "--repeats", str(repeats)]
        environment = {**os.environ, "BAYESCALE_CACHE": str(folder / "programs")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            made[part] = {"skipped": reason}
            print(f"  left out: {reason}", file=sys.stderr)
        else:
            made[part] = json.loads(done.stdout.splitlines()[-1]) | {"load_after": os.getloadavg()[0]}
    return made


def measured(seconds: list[float], draws: list[dict[str, np.ndarray]], divergences: int, **more: Any) -> dict[str, Any]:
    """Medians over repeats: seconds, and the smallest bulk and tail ESS over quantities, by our own functions."""
    from bayescale.posterior import convergence

    bulk, tail = [], []
    for named in draws:
        stacked = np.stack([x for x in named.values() if np.ptp(x) > 0])
        bulk.append(float(convergence.ess_bulk(stacked).min()))
        tail.append(float(convergence.ess_tail(stacked).min()))
    least = [min(b, t) / s for b, t, s in zip(bulk, tail, seconds, strict=True)]
    last = draws[-1]["a"]
    return {
        "seconds": float(np.median(seconds)),
        "ess_bulk": float(np.median(bulk)),
        "ess_tail": float(np.median(tail)),
        "ess_per_second": float(np.median(least)),
        "divergences": divergences,
        "a": {"mean": float(last.mean()), "sd": float(last.std())},
        "each": {"seconds": seconds, "ess_bulk": bulk, "ess_tail": tail},
        **more,
    }


def reported(tree) -> dict[str, np.ndarray]:
    """The posterior's own draws of every number a fit reports, by name, shape (chain, draw)."""
    from bayescale.posterior import flattened

    return dict(flattened(tree["posterior"].to_dataset()[list(tree["headline"].data_vars)]))


def bayescale_part(path: str, repeats: int, group: str = "none") -> dict[str, Any]:
    """`bs.fit` with its defaults; the first fit compiles and is not counted."""
    import bayescale as bs

    runs = bs.read_runs(path, loss_unit="nats/token")
    first = bs.fit("chinchilla", runs, seed=0, group=group)
    fits = [bs.fit("chinchilla", runs, seed=seed, group=group) for seed in range(1, repeats + 1)]
    return measured(
        [fit.info["seconds"]["sample"] for fit in fits],
        [reported(fit.tree) for fit in fits],
        int(sum(np.asarray(fit.tree["sample_stats"]["diverging"]).sum() for fit in fits)),
        compile_seconds=first.info["seconds"]["compile"],
        attempts=[len(fit.info["attempts"]) for fit in fits],
        gradients=float(np.median([fit.info["attempts"][-1]["gradients"] for fit in fits])),
        total_seconds=float(np.median([fit.info["seconds"]["total"] for fit in fits])),
    )


def bayescale_groups_part(path: str, repeats: int) -> dict[str, Any]:
    """The same with group effects, of model size and budget here."""
    return bayescale_part(path, repeats, group="auto")


def numpyro_part(path: str, repeats: int) -> dict[str, Any]:
    """NumPyro's own `MCMC.run`: NUTS, dense mass, the textbook model in natural units and log-amplitudes.

    Chains run beside each other on forced host devices. JAX keeps programs on disk: the first run alone compiles.
    """
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={CHAINS}"
    import jax
    import numpyro  # before any of its submodules
    import numpyro.distributions as dist
    import pandas as pd
    from numpyro.infer import MCMC, NUTS

    numpyro.enable_x64()
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        frame = pd.read_csv(path)
        N, D, y = (jax.numpy.asarray(v) for v in (frame.params, frame.tokens, np.log(frame.loss)))

        def textbook():
            E = numpyro.sample("E", dist.LogNormal(np.log(1.5), 0.6))
            A = jax.numpy.exp(numpyro.sample("log_A", dist.Normal(6.0, 3.0)))
            B = jax.numpy.exp(numpyro.sample("log_B", dist.Normal(6.0, 3.0)))
            alpha = numpyro.sample("alpha", dist.LogNormal(np.log(0.35), 0.5))
            beta = numpyro.sample("beta", dist.LogNormal(np.log(0.35), 0.5))
            sigma = numpyro.sample("sigma", dist.LogNormal(np.log(0.01), 1.5))
            nu = 1 + numpyro.sample("nu_less_1", dist.LogNormal(np.log(8), 1.0))
            mean = E + A * N**-alpha + B * D**-beta
            numpyro.sample("y", dist.StudentT(nu, jax.numpy.log(mean), sigma), obs=y)

        def run(seed: int) -> tuple[float, dict[str, np.ndarray], int]:
            kernel = NUTS(textbook, dense_mass=True)
            mcmc = MCMC(kernel, num_warmup=WARMUP, num_samples=DRAWS, num_chains=CHAINS, progress_bar=False)
            began = time.perf_counter()
            mcmc.run(jax.random.key(seed), extra_fields=("diverging",))
            jax.block_until_ready(mcmc.get_samples())
            taken = time.perf_counter() - began
            samples = {k: np.asarray(v) for k, v in mcmc.get_samples(group_by_chain=True).items()}
            return taken, samples, int(np.asarray(mcmc.get_extra_fields()["diverging"]).sum())

        cold, *_ = run(0)
        done = [run(seed) for seed in range(1, repeats + 1)]
    draws = []
    for _, s, _ in done:
        alpha, beta = s["alpha"], s["beta"]
        s |= {"A": np.exp(s.pop("log_A")), "B": np.exp(s.pop("log_B")), "nu": 1 + s.pop("nu_less_1")}
        s |= {"a": beta / (alpha + beta), "G": (alpha * s["A"] / (beta * s["B"])) ** (1 / (alpha + beta))}
        draws.append(s)
    seconds = [taken for taken, *_ in done]
    return measured(seconds, draws, sum(d for *_, d in done), compile_seconds=cold - float(np.median(seconds)))


def nutpie_part(path: str, repeats: int) -> dict[str, Any]:
    """nutpie's low-rank adaptation on bayescale's own density and gradient through JAX, started around the mode."""
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    import bayescale as bs
    from bayescale.model import double_precision
    from bayescale.posterior import make_tree
    from bayescale.sampling import find_start
    from bayescale.sampling.start import Potential

    began = time.perf_counter()
    model = bs.build_model("chinchilla", bs.read_runs(path, loss_unit="nats/token"), group="none")
    potential, structure, n = Potential(model), model.structure, model.structure.dimension
    start = find_start(model, CHAINS, np.random.default_rng(0))

    def density(x):
        value, slope = potential(x)
        return -value, -slope

    def initial(seed):
        return start.shift + start.scale @ np.random.default_rng(seed).standard_normal(n)

    compiled = from_pyfunc(
        n,
        lambda: density,
        lambda *_: lambda x, **__: {"x": x},
        [np.dtype("float64")],
        [(n,)],
        ["x"],
        make_initial_point_fn=initial,
    )
    compile_seconds = time.perf_counter() - began
    seconds, draws, divergences = [], [], 0
    for seed in range(1, repeats + 1):
        trace, taken = _nutpie(nutpie, compiled, seed)
        x = np.asarray(trace["posterior"]["x"])
        with double_precision():
            import jax

            flat = jax.vmap(lambda v: structure.from_sampler(v, model.data)[0])(x.reshape(-1, n))
        diverging = np.asarray(trace["sample_stats"]["diverging"])
        tree = make_tree(model, np.asarray(flat).reshape(x.shape), {"diverging": diverging}, np.random.default_rng(0))
        seconds.append(taken)
        draws.append(reported(tree))
        divergences += int(diverging.sum())
    return measured(seconds, draws, divergences, compile_seconds=compile_seconds)


def nutpie_numba_part(path: str, repeats: int) -> dict[str, Any]:
    """nutpie's low-rank adaptation on a PyMC model through Numba: the same priors, contributions at the references."""
    import nutpie
    import pymc as pm
    import pytensor.tensor as pt

    import bayescale as bs

    model = bs.build_model("chinchilla", bs.read_runs(path, loss_unit="nats/token"), group="none")
    N0, D0 = (float(model.references[k]) for k in ("N0", "D0"))
    N, D = model.inputs["N"] / N0, model.inputs["D"] / D0
    began = time.perf_counter()
    with pm.Model() as declared:
        E = pm.LogNormal("E", np.log(1.5), 0.6)
        A = pm.LogNormal("A_ref", np.log(0.5), 1.2)
        B = pm.LogNormal("B_ref", np.log(0.5), 1.2)
        alpha = pm.LogNormal("alpha", np.log(0.35), 0.5)
        beta = pm.LogNormal("beta", np.log(0.35), 0.5)
        sigma = pm.LogNormal("sigma", np.log(0.01), 1.5)
        nu = pm.LogNormal("nu_less_1", np.log(8), 1.0) + 1
        mean = E + A * N**-alpha + B * D**-beta
        pm.StudentT("y", nu=nu, mu=pt.log(mean), sigma=sigma, observed=np.log(model.runs.values("loss")))
    compiled = nutpie.compile_pymc_model(declared)
    compile_seconds = time.perf_counter() - began
    seconds, draws, divergences = [], [], 0
    for seed in range(1, repeats + 1):
        trace, taken = _nutpie(nutpie, compiled, seed)
        s = {str(k): np.asarray(v) for k, v in trace["posterior"].data_vars.items() if v.ndim == 2}
        alpha, beta = s["alpha"], s["beta"]
        s |= {"A": s["A_ref"] * N0**alpha, "B": s["B_ref"] * D0**beta, "a": beta / (alpha + beta)}
        s |= {"G": (alpha * s["A"] / (beta * s["B"])) ** (1 / (alpha + beta))}
        seconds.append(taken)
        draws.append(s)
        divergences += int(np.asarray(trace["sample_stats"]["diverging"]).sum())
    return measured(seconds, draws, divergences, compile_seconds=compile_seconds)


def _nutpie(nutpie, compiled, seed: int) -> tuple[Any, float]:
    cores = min(CHAINS, os.cpu_count() or 1)
    began = time.perf_counter()
    trace = nutpie.sample(
        compiled,
        draws=DRAWS,
        tune=WARMUP,
        chains=CHAINS,
        cores=cores,
        seed=seed,
        adaptation="low_rank",
        progress_bar=False,
        save_warmup=False,
    )
    return trace, time.perf_counter() - began


PARTS = {
    "bayescale": bayescale_part,
    "bayescale-groups": bayescale_groups_part,
    "numpyro": numpyro_part,
    "nutpie-jax": nutpie_part,
    "nutpie-numba": nutpie_numba_part,
}

#: What the figure calls them.
LABELS = {
    "bayescale": "bayescale",
    "bayescale-groups": "bayescale, group effects",
    "numpyro": "NumPyro, textbook model",
    "nutpie-jax": "nutpie, our density (JAX)",
    "nutpie-numba": "nutpie, PyMC model (Numba)",
}
#: Keeps a bar's label readable where a goal's line crosses it.
PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 1}


# Processes: `bayescale fit FILE` from outside.


def processes(runs: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Wall and processor seconds of `bayescale fit FILE`, by group effects and by what is there already.

    `first` finds neither Python's byte code nor compiled programs; `cold` finds byte code; `warm` finds both;
    `warm, no byte code` is what PYTHONDONTWRITEBYTECODE costs, which containers often set.
    """
    made: dict[str, Any] = {}
    for group in ("none", "auto"):
        print(f"measuring processes, --group {group} …", file=sys.stderr, flush=True)
        bytecode = str(folder / f"bytecode-{group}")
        keep = {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        programs = [str(folder / f"programs-{group}-{k}") for k in range(2)]
        first = [_process(runs, group, {**keep, "BAYESCALE_CACHE": programs[0]})]
        cold = [_process(runs, group, {**keep, "BAYESCALE_CACHE": programs[1]})]
        warm = [_process(runs, group, {**keep, "BAYESCALE_CACHE": programs[1]}) for _ in range(repeats)]
        without = {"PYTHONPYCACHEPREFIX": str(folder / "nothing"), "PYTHONDONTWRITEBYTECODE": "1"}
        bare = [_process(runs, group, {**without, "BAYESCALE_CACHE": programs[1]})]
        for name, taken in (("first", first), ("cold", cold), ("warm", warm), ("warm, no byte code", bare)):
            made[f"{group}: {name}"] = {
                "wall": float(np.median([t["wall"] for t in taken])),
                "cpu": float(np.median([t["cpu"] for t in taken])),
                "each": taken,
            }
    return made


def _process(runs: Path, group: str, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bayescale", "fit", str(runs), "--loss-unit", "nats/token", "--group", group]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, env={**os.environ, **environment})
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 4):
        raise SystemExit(f"bayescale fit failed: {done.stderr.strip()}")
    fitted = json.loads(done.stdout)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall": wall,
        "cpu": cpu,
        "load_after": os.getloadavg()[0],
        "group": fitted["group"],
        "exit": done.returncode,
        "said": fitted["seconds"],
    }


# Goals, table, figure.


def goals(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every goal beside what was measured."""
    own, times = document["contestants"]["bayescale"], document["processes"]
    lines = [
        ("sampling once compiled, s", SAMPLING_GOAL, own.get("seconds"), False),
        ("min ESS a second", ESS_GOAL, own.get("ess_per_second"), True),
        ("whole process, cold, s", COLD_GOAL, times["none: cold"]["wall"], False),
        ("whole process, warm, s", WARM_GOAL, times["none: warm"]["wall"], False),
        ("whole process with groups, cold, s", COLD_GOAL, times["auto: cold"]["wall"], False),
        ("whole process with groups, warm, s", WARM_GOAL, times["auto: warm"]["wall"], False),
    ]
    return [
        {"what": what, "goal": goal, "measured": value, "met": value is not None and (value >= goal) == more}
        for what, goal, value, more in lines
    ]


def busy(document: dict[str, Any]) -> bool:
    """Whether others used the processor too: a fit alone never loads more cores than there are."""
    taken = [t["load_after"] for p in document["processes"].values() for t in p["each"]]
    taken += [c.get("load_after", 0.0) for c in document["contestants"].values()]
    return max(*taken, *document["load_at_start"], *document["load_at_end"]) > (document["cores"] or 1) + 0.5


def report(document: dict[str, Any]) -> None:
    print(f"{document['cpu']}, {document['cores']} cores, load {document['load_at_start'][0]:.2f} at the start")
    print("PROVISIONAL: others used the processor during this run.\n" if document["busy"] else "")
    rows = []
    for name, c in document["contestants"].items():
        if "skipped" in c:
            rows.append([name, f"left out: {c['skipped']}", *7 * [""]])
            continue
        keys = ("seconds", "ess_bulk", "ess_tail", "ess_per_second", "compile_seconds")
        rows.append([name, *(c[k] for k in keys), c["divergences"], c["a"]["mean"], c["a"]["sd"]])
    table(["sampler", "sample s", "bulk ESS", "tail ESS", "min ESS/s", "compile s", "divergences", "a", "sd a"], rows)
    print()
    table(
        ["bayescale fit FILE", "wall s", "processor s"],
        [[name, p["wall"], p["cpu"]] for name, p in document["processes"].items()],
    )
    print()
    table(
        ["goal", "wanted", "measured", ""],
        [[g["what"], g["goal"], g["measured"], "met" if g["met"] else "NOT MET"] for g in document["goals"]],
    )


def draw(document: dict[str, Any], path: Path) -> None:
    """Bars of effective draws a second and of process time, goals as dashed lines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    entered = {k: c for k, c in document["contestants"].items() if "skipped" not in c}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    values = [c["ess_per_second"] for c in entered.values()]
    colours = ["#2b6cb0" if name.startswith("bayescale") else "#a0aec0" for name in entered]
    bars = left.barh([LABELS[name] for name in entered], values, color=colours)
    left.axvline(ESS_GOAL, color="black", linestyle="--", linewidth=1, label=f"goal without groups: {ESS_GOAL:,.0f}")
    left.bar_label(bars, fmt="{:,.0f}", padding=3, bbox=PLATE)
    left.set(xlabel="smallest ESS (bulk or tail) a second of sampling", xlim=(0, 1.2 * max(*values, ESS_GOAL)))
    names = [f"{group}: {state}" for group in ("none", "auto") for state in ("cold", "warm")]
    taken = [document["processes"][name]["wall"] for name in names]
    colours = ["#2b6cb0" if "warm" in name else "#63b3ed" for name in names]
    bars = right.barh([f"--group {name.replace(':', ',')}" for name in names], taken, color=colours)
    right.axvline(COLD_GOAL, color="black", linestyle="--", linewidth=1, label=f"goal, cold: {COLD_GOAL:g} s")
    right.axvline(WARM_GOAL, color="black", linestyle=":", linewidth=1, label=f"goal, warm: {WARM_GOAL:g} s")
    right.bar_label(bars, fmt="{:.1f}", padding=3, bbox=PLATE)
    right.set(xlabel="seconds of a whole `bayescale fit FILE`", xlim=(0, 1.15 * max(*taken, COLD_GOAL)))
    for axes in (left, right):
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0)
    title = f"{ROWS} runs, {CHAINS} × ({WARMUP} + {DRAWS}) draws, float64; {document['cpu']}, {document['cores']} cores"
    figure.suptitle(title + (" (provisional: busy machine)" if document["busy"] else ""), fontsize=9)
    figure.savefig(path, dpi=150)
    print(f"written: {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
