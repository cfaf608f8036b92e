"""The catalogue as a whole: what is listed, what follows from a declaration alone, and values of derived formulas."""

import ast
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hard_tables import cosine
from numerics import as_arrays
from scipy import stats
from scipy.optimize import brentq, minimize_scalar

import bayescale
from bayescale.cli import run
from bayescale.law import call
from bayescale.laws import LAWS, find_law
from bayescale.laws.counts import binomial
from bayescale.laws.data import effective
from bayescale.laws.listed import EXAMPLES, planned
from bayescale.laws.trajectory import annealing_areas, critical_batch
from bayescale.model import build_model, double_precision
from bayescale.runs import Runs
from bayescale.tables.catalogue import markdown_table, nested_with
from bayescale.tables.text import law_example, law_lines

PACKAGE = Path(bayescale.__file__).parent


@pytest.fixture(autouse=True)
def x64():
    with double_precision():
        yield


# --- the list --------------------------------------------------------------------------------------------------------


def test_a_name_is_listed_once():
    names = [*LAWS, *EXAMPLES, *(p.name for p in planned())]
    assert len(names) == len(set(names))
    assert all(e.of in LAWS for e in EXAMPLES.values())


@pytest.mark.parametrize("spec", [spec for e in EXAMPLES.values() for spec in e.cases])
def test_examples_are_of_the_law_they_name(spec):
    (example,) = (e for e in EXAMPLES.values() if spec in e.cases)
    assert find_law(spec).name == example.of


#: The laws that were surveyed for the catalogue, by identifier.
SURVEYED = """
abnar_moe_sparsity additive_power algorithmic_progress beta_binomial_passk bimix bjorck_lr bnsl board_games
carbs cbs_power chinchilla chinchilla_a1 chinchilla_gamma clark_routed compute_only d_cpt data_constrained
data_mixing data_pruning deepseek_hparams distillation efficiency_multiplier farseer frantar_sparsity
gadre_error gadre_overtrain gemstones_width_depth generic_other_axis hp_response_surface inference_aware
information_capacity inverse_clip isoflop_parabola joint_moe kaplan_nd kaplan_ns krajewski_moe large_monkeys
lc_zoo log_linear loss_to_loss lr_annealing m3_shifted m4 mccandlish_tradeoff metric_transform model_collapse
multi_power_law multilingual_mix obs_scaling parscale passuntil porian_hparams pow4 power_law power_law_offset
ppl_piecewise precision projektor qqt_filter rectified rl_sigmoid sigmoid_compute sloth step_law surge_lr
test_time_gap theory_exponents time_matters transfer_effective_data two_step u_shape value_rl vocabulary
"""


def test_every_surveyed_law_is_listed(capsys):
    """Built, an example or planned: `bayescale laws --json` lists each of the 74, and what else is built."""
    assert run(["laws", "--json"]) == 0
    listed = [law["name"] for law in json.loads(capsys.readouterr().out)["laws"]]
    assert len(SURVEYED.split()) == 74 and {*SURVEYED.split()} <= {*listed}
    assert {*listed} - {*SURVEYED.split()} <= {*LAWS}


@pytest.mark.skipif("BAYESCALE_SURVEY" not in os.environ, reason="BAYESCALE_SURVEY names no folder with laws.yaml")
def test_the_survey_is_as_it_was_copied():
    text = (Path(os.environ["BAYESCALE_SURVEY"]) / "laws.yaml").read_text()
    assert sorted(re.findall(r"^- id: (\S+)", text, re.MULTILINE)) == SURVEYED.split()


def test_tiers_are_complete():
    """Every law of the first tier is built: none is planned."""
    assert not [p.name for p in planned() if p.tier == 1]
    assert sum(entry.tier == 1 for entry in LAWS.values()) == 24


@pytest.mark.parametrize("name", LAWS)
def test_documents_of_a_law(name):
    """Its page names every parameter with unit and prior, what it cannot tell, and an example that runs as printed."""
    law = find_law(name)
    lines = law_lines(law)
    page = "\n".join(lines)
    for p in (*law.parameters, *law.sampled):
        (told,) = (line for line in lines if line.startswith(f"  {p.name} ") and p.meaning in line)
        assert (p.prior.described if p.prior else "computed") in told.split(p.meaning)[1]
        assert p.unit in told or "response" in p.unit
    for i in law.inputs:
        assert any(line.startswith(f"  {i.name} ") and i.unit in line and i.column in line for line in lines)
    assert all(str(r) in lines[-1] for r in law.references)
    assert all(part in page for part in (law.equation, law.validity, *law.unidentified, *law.decisions))
    assert set(nested_with(law)) <= set(LAWS)
    code = law_example(law)
    assert code, "a law has a check of its formula"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec("\n".join(code), {})
    printed, promised = float(out.getvalue()), float(code[-1].split("# ")[1].split(":")[0])
    assert printed == pytest.approx(promised, rel=1e-4)


ONE_FILE = '''
"""A law that was made up on the spot."""

from bayescale.law import Check, Input, Law, LogNormal, Parameter, Reference, Response
from bayescale.laws.registry import catalogued


@catalogued(tier=3, family="made up")
def made_up() -> Law:
    """Answers against questions."""
    return Law(
        name="made_up",
        title="Answers against questions",
        equation=r"y = a q^b",
        mean=lambda q, a, b: a * q**b,
        inputs=(Input("q", "questions", "questions asked", "questions", reference=10.0),),
        parameters=(
            Parameter("a", LogNormal(0.0, 1.0), "answers to one question"),
            Parameter("b", LogNormal(0.0, 0.5), "exponent"),
        ),
        response=Response("answers", "1"),
        references=(Reference("Nobody", 2024, "Nothing", "0000.00000"),),
        validity="Never.",
        relations=("power_law growing",),
        unidentified=("a against b at one q",),
        decisions=("what to ask",),
        checks=(Check("two answers to each of ten questions", dict(a=2.0, b=1.0, q=10.0), 20.0),),
    )
'''


def test_adding_a_law_touches_one_file(tmp_path):
    """One new file in a copy of the package: the law is listed, documented and found, and its conformance holds."""
    shutil.copytree(PACKAGE, tmp_path / "bayescale", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bayescale" / "laws" / "made_up.py").write_text(ONE_FILE)
    code = "\n".join(
        (
            "from bayescale.laws import LAWS, find_law",
            "from bayescale.tables.text import law_lines",
            "from bayescale.cli import run",
            "assert 'made_up' in LAWS and find_law('made_up').mean(q=10.0, a=2.0, b=1.0) == 20.0",
            "assert 'Answers against questions' in law_lines(find_law('made_up'))[0]",
            "assert run(['laws', '--markdown']) == 0",
        )
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    assert "| `made_up` |" in made.stdout
    tests = Path(__file__).parent
    suite = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "made_up", str(tests / "test_laws.py")],
        cwd=tmp_path,
        env={**__import__("os").environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert suite.returncode == 0, suite.stdout[-2000:]


def test_laws_are_found_without_a_list():
    """No module of the catalogue names another's laws: the package imports whatever modules it has."""
    tree = ast.parse((PACKAGE / "laws" / "__init__.py").read_text())
    named = {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}
    assert named == {"import_module", "iter_modules", "LAWS", "Entry", "find_law"}
    assert markdown_table([find_law("chinchilla")])[2].startswith("| `chinchilla` |")


# --- values of formulas that follow from a law's own -----------------------------------------------------------------

BESIROGLU = as_arrays(dict(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658))
SARDANA = dict(l=2.094449421787097, E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)


def mean(name, **values):
    return float(call(find_law(name).mean, as_arrays(values)))


def muon_ratio():
    """Compute of Muon for the loss of AdamW at 10 PF-days, over 10 (power_law inverted)."""
    target = mean("power_law", x=10.0, x0=1.0, b=2.608, c=0.054)
    return brentq(lambda x: mean("power_law", x=x, x0=1.0, b=2.506, c=0.052) - target, 1, 100) / 10


def muon_crossover():
    """PF-days at which the two curves meet (crossover of efficiency_multiplier, E = 0)."""
    logm = np.log(2.608 / 2.506) / 0.052
    crossover = find_law("efficiency_multiplier").derived["crossover"].function
    return 10 ** float(call(crossover, as_arrays(dict(alpha=0.054, logm=logm, dalpha=-0.002))))


def growth_of_the_optimum():
    """Factor of N_opt for a doubling of compute at a = 1/2 (chinchilla's optimum)."""
    even = BESIROGLU | as_arrays(dict(alpha=0.35, beta=0.35))
    sizes = [float(call(find_law("chinchilla").optimum, even | {"C": np.array(c)})[0]) for c in (1e21, 2e21)]
    return sizes[1] / sizes[0]


def over_training_penalty():
    """Compute at M = 640 over that at M* for one loss (gadre_overtrain inverted)."""
    at = dict(E=0.0, a=521.0, b=1488.0, eta=0.17635, C0=6.0)
    best = call(find_law("gadre_overtrain").derived["M_opt"].function, at)
    target = mean("gadre_overtrain", **at, M=best, C=1e21)
    return brentq(lambda c: mean("gadre_overtrain", **at, M=640.0, C=c * 1e21) - target, 1, 10)


def threshold_scale():
    """x/x0 at which a quantity that grows as 100 (x/x0)^.5 reaches 1e4 (power_law_offset with E = 0)."""
    return brentq(lambda x: mean("power_law_offset", x=x, x0=1.0, E=0.0, a_ref=100.0, alpha=-0.5) - 1e4, 1, 1e6)


def along_the_budget(C):
    law = find_law("chinchilla")
    return lambda u: call(law.mean, BESIROGLU | {"N": jnp.exp(u), "D": C / (6 * jnp.exp(u))})


def curvature_at_the_optimum():
    """kappa of isoflop_parabola: the second derivative of chinchilla in log N at its optimum for 5.76e23."""
    n, _ = call(find_law("chinchilla").optimum, BESIROGLU | {"C": np.array(5.76e23)})
    return float(jax.grad(jax.grad(along_the_budget(5.76e23)))(jnp.log(n)))


def reducible_at_the_optimum():
    """Loss above the floor of chinchilla at its optimum for 5.76e23."""
    n, _ = call(find_law("chinchilla").optimum, BESIROGLU | {"C": np.array(5.76e23)})
    return float(along_the_budget(5.76e23)(jnp.log(n))) - 1.8172


def served_by_search():
    """The least cost of inference_aware by a search over N, not by its own equation."""
    at = SARDANA | dict(Dinf=1e11)
    found = minimize_scalar(
        lambda u: mean("inference_aware", **at, N=np.exp(u)),
        bounds=(np.log(3e9), np.log(7e9)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(np.exp(found.x))


def tokens_of_6b():
    """Training tokens of the 6B model over those of the 7B (cost of inference_aware without inference over 6N)."""
    return mean("inference_aware", **SARDANA, Dinf=0.0, N=6e9) / (6 * 6e9) / 4.676e11


def repeated_at_the_papers_ratio():
    """data_constrained at 8 epochs with U_N = .051 U, as the paper rounds it."""
    size, data = effective(2.8e9, 0.051 * 1e10, 5.31), effective(8e10, 1e10, 15.39)
    return float(1.87 + 521.0 * size**-0.3527 + 1488.0 * data**-0.3527)


def annealed_cosine():
    """lr_annealing of the 100M model at the end of a cosine of 24,000 steps, every step recorded."""
    at = as_arrays(dict(L0=2.79366, A=0.587859, alpha=0.46039, Cc=0.479703, lam=0.999))
    return float(find_law("lr_annealing").mean(jnp.asarray(cosine(24000)), jnp.arange(1.0, 24001.0), **at))


def deficit_far_up():
    """(A - R0)(Cm/C)^B at 1e5, the limit of rl_sigmoid's deficit, carried down from 1e9 by its own power."""
    at = dict(R0=0.2, A=0.61, Cm=2000.0, B=1.2)
    return (0.61 - mean("rl_sigmoid", **at, C=1e9)) * 1e4**1.2


def response_band():
    """e-folds of learning rate that cost .25 % of a loss of 2.5 at k = .02 (hp_response_surface)."""
    flat = dict(N=1.0, D=1.0, N0=1.0, D0=1.0, A=0.0, B=0.0, alpha=0.3, beta=0.3, bs=1.0, bs_ref=1.0)
    flat |= dict(a_lr=0.0, b_lr=0.0, a_bs=0.0, b_bs=0.0, lr_ref=1.0, k=0.02, q=0.02, rho=0.0, E=2.5)
    return brentq(lambda u: mean("hp_response_surface", **flat, lr=np.exp(u)) - 2.5 * 1.0025, 0, 3)


#: What the papers' numbers are, of which function, and the value that it must reproduce.
HELPERS = {
    "Muon, compute ratio to AdamW": (muon_ratio, 0.507293),
    "Muon and AdamW, crossover in PF-days": (muon_crossover, 460532000.0),
    "N_opt for twice the compute at a = 1/2": (growth_of_the_optimum, 1.41421),
    "compute of M = 640": (over_training_penalty, 2.74601),
    "threshold on another axis": (threshold_scale, 10000.0),
    "curvature at Besiroglu's optimum": (curvature_at_the_optimum, 0.020005),
    "reducible loss there": (reducible_at_the_optimum, 0.157241),
    "N for 1e11 tokens served": (served_by_search, 6338700000.0),
    "token ratio of the 6B model": (tokens_of_6b, 1.17571),
    "B_crit at L = 2.5": (lambda: critical_batch(2.5, 2e8, 0.21), 2547290.0),
    "B_crit at L = 2": (lambda: critical_batch(2.0, 2e8, 0.21), 7371470.0),
    "8 epochs at U_N = .051 U": (repeated_at_the_papers_ratio, 2.36748),
    "worth of four epochs, as a share of distinct data": (lambda: float(effective(4.0, 1.0, 15.39)) / 4, 0.931428),
    "100M cosine, end of the annealing": (annealed_cosine, 2.97859),
    "deficit of the RL sigmoid": (deficit_far_up, 0.0037499),
    "near-optimal band of the learning rate": (response_band, 0.790569),
    "S-BASE cut-off": (
        lambda: 10 ** call(find_law("clark_routed").derived["log10_cutoff"].function, dict(b=-0.108, c=0.009)),
        1e12,
    ),
}


@pytest.mark.parametrize("what", HELPERS)
def test_values_that_follow_from_a_law(what):
    function, value = HELPERS[what]
    assert function() == pytest.approx(value, rel=1e-5)


# --- likelihoods of counts, and references at the ends of a design ---------------------------------------------------


def test_counts_have_their_exact_likelihoods():
    """SciPy's binomial, beta-binomial and geometric probabilities, the last cut where every sample failed."""
    k = np.arange(31.0)
    np.testing.assert_allclose(jax.vmap(lambda s: binomial(s, 30.0, 0.3))(k), stats.binom.logpmf(k, 30, 0.3), rtol=1e-9)
    exact = stats.betabinom.logpmf(k, 30, 0.4 * 5, 0.6 * 5)
    likelihood = find_law("sigmoid_compute:counts=beta_binomial").likelihood
    flat = dict(items=30.0, phi=5.0, x=1.0, c=0.4, u=0.4 + 1e-12, s=1.0, xm=1.0)
    np.testing.assert_allclose(jax.vmap(lambda s: likelihood(correct=s, **flat))(k), exact, rtol=1e-9)
    until = find_law("passuntil").likelihood
    at = dict(N=10.0, N0=1.0, c=2.0, alpha=0.3)
    p = mean("passuntil", **at)
    density = jax.vmap(lambda f: until(failures=f, limit=30.0, **at))(k)
    np.testing.assert_allclose(density[:-1], stats.geom.logpmf(k[:-1] + 1, p), rtol=1e-9)
    assert float(density[-1]) == pytest.approx(stats.geom.logsf(30, p), rel=1e-9)
    assert float(np.exp(density).sum()) == pytest.approx(1.0, rel=1e-9)


def test_counts_are_drawn_from_their_likelihoods():
    """Chi-squared over the counts; correct code fails one seed in 10,000, and the seed is fixed."""
    rng, rows = np.random.default_rng(0), 20_000
    at = dict(N=np.full(rows, 10.0), N0=1.0, c=2.0, alpha=0.3)
    p = mean("passuntil", N=10.0, N0=1.0, c=2.0, alpha=0.3)
    draws = find_law("passuntil").sampler(rng, mean=np.full(rows, p), limit=np.full(rows, 12.0))
    density = jax.vmap(lambda f: find_law("passuntil").likelihood(failures=f, limit=12.0, **(at | {"N": 10.0})))
    expected = rows * np.exp(density(np.arange(13.0)))
    assert stats.chisquare(np.bincount(draws.astype(int), minlength=13), expected).pvalue > 1e-4
    law = find_law("sigmoid_compute:counts=beta_binomial")
    counts = law.sampler(rng, mean=np.full(rows, 0.4), items=np.full(rows, 30.0), phi=np.full(rows, 5.0))
    expected = rows * stats.betabinom.pmf(np.arange(31), 30, 2.0, 3.0)
    assert stats.chisquare(np.bincount(counts.astype(int), minlength=31), expected).pvalue > 1e-4


def test_references_at_the_ends_of_a_design():
    """A floor of one loss is a share of the smallest, whatever the table; a schedule's peak is its largest rate."""
    losses = np.array([3.1, 2.47, 2.9, 2.6, 2.75, 3.3])
    paired = build_model("loss_to_loss", Runs(pd.DataFrame(dict(loss_0=losses, loss=losses)), "table"), group="none")
    assert float(paired.references["L00"]) == 2.47
    values = paired.structure.values(np.full(paired.structure.dimension, 3.0), paired.data)
    assert float(values["E0"]) < 2.47
    rates = dict(run=["a"] * 6, step=np.arange(1.0, 7.0), lr=[1e-4, 3e-4, 3e-4, 2e-4, 1e-4, 0.0], loss=losses)
    model = build_model("lr_annealing", Runs(pd.DataFrame(rates), "table"), group="none")
    assert float(model.references["eta0"].max()) == 3e-4


def test_annealing_areas_of_a_schedule():
    """Against the double sum as printed, one term a step; a record of every 50th step is within 1e-4 of it."""
    rate, lam = cosine(3000, warmup=300), 0.999
    momentum, total = 0.0, 0.0
    for k in range(1, len(rate)):
        momentum = lam * momentum + max(rate[k - 1] - rate[k], 0.0)
        total += momentum
    S1, S2 = annealing_areas(jnp.asarray(rate), jnp.arange(1.0, 3001.0), lam)
    assert float(S1) == pytest.approx(rate.sum(), rel=1e-12)
    assert float(S2) == pytest.approx(total, rel=1e-10)
    step = np.r_[np.arange(10, 300, 10), np.arange(300, 3001, 50)]
    coarse = annealing_areas(jnp.asarray(rate[step - 1]), jnp.asarray(step, float), lam)
    assert float(coarse[1]) == pytest.approx(total, rel=1e-4)


def test_kaplan_along_training_solves_its_equation():
    """The roots over five decades of batch size satisfy the formula as printed."""
    law, constants = find_law("kaplan_ns"), dict(Nc=8.8e13, aN=0.076, Sc=2100.0, aS=0.76, Bstar=2e8, aB=0.21)
    for B in 10.0 ** np.arange(3, 9):
        L = float(call(law.mean, as_arrays(dict(constants, N=1e9, S=1e4, B=B))))
        steps = 1e4 / (1 + critical_batch(L, 2e8, 0.21) / B)
        assert L == pytest.approx((8.8e13 / 1e9) ** 0.076 + (2100 / steps) ** 0.76, rel=1e-12)
