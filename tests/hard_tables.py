"""A small simulated table for each hard law: the design, the parameters behind it, and responses drawn from them."""

import numpy as np
import pandas as pd
from hard_laws import LONG_TWO_STEP, MPL_100M, farseer, multi_power_law, vocabulary

from bayescale.law import LOSS_UNITS, Law
from bayescale.laws import find_law
from bayescale.model import Model, build_model, double_precision
from bayescale.noise import LINKS
from bayescale.runs import Runs

#: Spread of the noise that is simulated, on the link scale of each response.
NOISE = {"accuracy": 0.05, "score": 0.1, "loss_u": 0.02}


def cosine(steps: int, peak: float = 3e-4, last: float = 3e-5, warmup: int = 2160) -> np.ndarray:
    """The learning rate at each of the steps 1, 2, …: a linear warm-up, then half a cosine (Luo et al.)."""
    t = np.arange(1, steps + 1)
    decay = last + 0.5 * (peak - last) * (1 + np.cos(np.pi * (t - warmup) / (steps - warmup)))
    return np.where(t <= warmup, peak * t / warmup, decay)


def _grid(**columns: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(columns, map(np.ravel, np.meshgrid(*columns.values())), strict=True))


def _schedules() -> dict[str, np.ndarray]:
    """Checkpoints of three runs: two cosines and a constant rate after the same warm-up."""
    parts = []
    for run, steps in (("short", 8000), ("long", 24000), ("constant", 16000)):
        rate = cosine(steps) if run != "constant" else np.minimum(cosine(steps, last=3e-4), 3e-4)
        step = np.linspace(1000, steps, 12).astype(int)
        parts.append(pd.DataFrame({"run": run, "step": step.astype(float), "lr": rate[step - 1]}))
    return {k: v.to_numpy() for k, v in pd.concat(parts).items()}


def _mixtures() -> dict[str, np.ndarray]:
    shares = np.random.default_rng(0).dirichlet((2.0, 2.0, 2.0), 40)
    return {f"w_{name}": shares[:, k] for k, name in enumerate(("web", "code", "books"))}


def _two_step_rows() -> dict[str, np.ndarray]:
    wide = _grid(params=np.logspace(8, 10, 6), tokens=np.logspace(9.5, 12, 6))
    twice = {k: np.tile(v, 2) for k, v in wide.items()}
    return twice | {"response": np.repeat(["task_loss", "accuracy"], 36)}


def _benchmarks() -> dict[str, np.ndarray]:
    """Six families of five models each on four benchmarks."""
    rows = _grid(family=np.arange(6), model=np.arange(5), benchmark=np.arange(4))
    flops = 10 ** (20 + 0.7 * rows["model"] + 0.3 * rows["family"])
    return {
        "flops": flops,
        "family": np.array([f"family-{k}" for k in rows["family"]]),
        "benchmark": np.array([f"bench-{k}" for k in rows["benchmark"]]),
    }


_EFFICIENCY = np.array([0.4, -0.3, 0.1, 0.2, -0.6, 0.2])[:, None]

#: By name: the law, its design and the parameters behind the responses.
CASES: dict[str, tuple[Law, dict[str, np.ndarray], dict]] = {
    "bnsl": (
        find_law("bnsl"),
        {"flops": np.logspace(17, 23, 60)},
        dict(a=1.0, b=30.0, c0=0.05, c=np.array([0.25]), d=np.array([1e20]), f=np.array([0.3])),
    ),
    "bnsl-3": (
        find_law("bnsl:breaks=3"),
        {"flops": np.logspace(15, 25, 40)},
        dict(a=1.0, b=30.0, c0=0.05, c=np.array([0.2, -0.15, 0.2]), d=np.array([1e17, 1e20, 1e23]), f=np.full(3, 0.4)),
    ),
    "data_constrained": (
        find_law("data_constrained"),
        # Rows on both sides of the kinks, and rows exactly on the one of the data: D = U.
        _grid(params=np.logspace(7.5, 10, 4), tokens=np.array([1e9, 1e10, 6e10]), unique_tokens=np.array([1e9, 1e10])),
        dict(E=1.87, A=521.0, B=1488.0, alpha=0.3527, RNs=5.31, RDs=15.39),
    ),
    "farseer": (
        farseer(),
        _grid(params=np.logspace(8.3, 9.8, 6), tokens=np.logspace(9.5, 11.5, 6)),
        dict(s=-0.021, q=0.169, S=-0.091, Bc=88.01, b=-0.1, Q=-6.287, Ac=-0.124, a=0.123, Ee=0.424),
    ),
    "vocabulary": (
        vocabulary(),
        _grid(
            params_non_vocab=np.logspace(7.5, 9, 4), params_vocab=np.logspace(6.5, 8, 4), tokens=np.logspace(9, 11, 3)
        ),
        dict(E=5.5, A1=880.0, a1=0.447, A2=2000.0, a2=0.5, B=60000.0, beta=0.447),
    ),
    "multi_power_law": (multi_power_law(), _schedules(), MPL_100M),
    "data_mixing": (find_law("data_mixing"), _mixtures(), dict(c=2.0, k=0.9, t=np.array([-0.6, 0.2, 0.4]))),
    "beta_binomial_passk": (
        find_law("beta_binomial_passk"),
        {"samples": np.repeat([50.0, 200.0], 100)},
        dict(al=0.5, be=3.0, pi=0.1),
    ),
    "m4": (find_law("m4"), {"examples": np.logspace(2, 7, 40)}, dict(e_inf=0.1, e0=0.9, a=0.5, b=5.0, c=0.4)),
    "two_step": (
        LONG_TWO_STEP,
        _two_step_rows(),
        dict(E=0.3, A=20.0, alpha=0.25, B=300.0, beta=0.3, a=-0.6, b=0.85, k=5.0, L0=0.8),
    ),
    "obs_scaling": (
        find_law("obs_scaling"),
        _benchmarks(),
        dict(
            theta=np.array([0.35, 0.25, 0.3, 0.4, 0.3, 0.2])[:, None],
            nu_f=_EFFICIENCY,
            beta=np.array([[1.0], [0.7], [1.3], [1.0]]),
            alpha=np.array([-0.5, 0.5, -1.0, 0.0]),
            h=np.array([0.95, 0.9, 0.85, 0.9]),
        ),
    ),
    "obs_scaling-2": (
        find_law("obs_scaling:skills=2"),
        _benchmarks(),
        dict(
            theta=np.stack([np.linspace(0.2, 0.4, 6), np.linspace(0.4, 0.1, 6)], axis=1),
            nu_f=np.hstack([_EFFICIENCY, -_EFFICIENCY[::-1]]),
            beta=np.array([[1.0, 0.0], [0.5, 1.0], [0.8, 0.4], [0.2, 1.1]]),
            alpha=np.array([-0.5, 0.5, -1.0, 0.0]),
            h=np.array([0.95, 0.9, 0.85, 0.9]),
        ),
    ),
}


def simulate(name: str, seed: int = 0) -> Runs:
    """The table of a case: its design with responses drawn from its parameters."""
    law, design, truth = CASES[name]
    rng = np.random.default_rng([seed, *name.encode()])
    responses, rows = law.responses, len(next(iter(design.values())))
    blank = {r.source: np.full(rows, 0.5 if r.support == "unit" else 1.0) for r in responses}
    unit = next((r.unit for r in responses if r.unit in LOSS_UNITS), "nats/token")
    runs = Runs(pd.DataFrame({**design, **blank}), name, loss_unit=unit)
    if law.sampler is not None:
        k = design["samples"]
        arrays = {n: np.asarray(v)[None] for n, v in truth.items()}
        return runs.with_columns({responses[0].source: law.sampler(rng, k, **arrays)})
    model = bind(law, runs)
    columns: dict[str, np.ndarray] = {}
    with double_precision():
        for r in responses:
            mean = np.asarray(model.structure.means(truth, model.data, r))[: len(runs)]
            link = LINKS[r.support]
            drawn = link.inverse(link.forward(mean) + NOISE.get(r.name, 0.01) * rng.standard_normal(len(runs)))
            mine = design["response"] == r.name if "response" in design else True
            columns[r.source] = np.where(mine, drawn, columns.get(r.source, drawn))
    return runs.with_columns(columns)


def bind(law: Law, runs: Runs, **options) -> Model:
    return build_model(law, runs, group="none", **options)
