"""The extrapolation benchmark of Alabdulmohsin et al. 2022: what its script does, on a few curves and on all of them.

The files are the benchmark's own, from the folder named by BAYESCALE_DATA. The table that the paper prints was not at
hand, so no number of it is asserted; what is asserted follows from the laws and from the point estimates beside them.
"""

import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from bayescale.laws import find_law
from bayescale.model import double_precision

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from catalogue import extrapolation, point

FOLDER = Path(os.environ.get("BAYESCALE_DATA", "."))
pytestmark = pytest.mark.skipif(
    not all((FOLDER / name).is_file() for name in extrapolation.FILES),
    reason="the benchmark's files are not in the folder that BAYESCALE_DATA names",
)


@pytest.fixture(scope="module")
def curves():
    return extrapolation.load_curves(FOLDER)


def test_the_benchmark_is_read_as_released(curves):
    """72 few-shot curves, 5 of translation, 5 of language models, 10 of BIG-Bench; the second half of the scale is held
    out; every response is a share, or a perplexity scaled to one."""
    domains = [name.split(" · ")[0] for name in curves]
    assert {d: domains.count(d) for d in extrapolation.DOMAINS} == {"IC": 72, "NMT": 5, "LM": 5, "BB": 10}
    for curve in curves.values():
        fitted, test = extrapolation.split(curve)
        assert len(fitted) >= 9 and len(test) >= 1
        assert fitted.examples.max() < test.examples.min()
        assert 1.6 < test.examples.max() / fitted.examples.max() < 2.3  # about as far again
        assert curve.error.between(0, 1, inclusive="neither").all() and curve.examples.is_unique
    assert {find_law(spec).name for spec in extrapolation.LAWS.values()} == {
        "power_law",
        "power_law_offset",
        "m3_shifted",
        "m4",
        "bnsl",
    }


def test_point_estimates_are_of_the_catalogues_formulas():
    """A curve drawn from each law of the catalogue is what its point estimate returns, within the data and beyond."""
    x, further = np.geomspace(1e6, 1e9, 40), np.geomspace(1e9, 2e9, 5)
    truths = {
        "M1": dict(x0=1e8, b=0.3, c=0.2),
        "M2": dict(x0=1e8, E=0.1, a_ref=0.2, alpha=0.4),
        "M3": dict(b=6.0, g=2e-9, c=0.15),
        "M4": dict(e_inf=0.1, e0=0.95, a=0.5, b=200.0, c=0.35),
        "BNSL": dict(a=0.02, b=3.0, c0=0.1, c=np.array([0.3]), d=np.array([3e7]), f=np.array([0.4])),
    }
    for law, truth in truths.items():
        mean = find_law(extrapolation.LAWS[law]).mean
        with double_precision():
            every = np.asarray(jax.vmap(lambda v, mean=mean, truth=truth: mean(x=v, **truth))(np.r_[x, further]))
        y, beyond = every[: len(x)], every[len(x) :]
        found = point.estimate(law, x, y, "IC")(further)
        assert extrapolation.log_error(found, beyond) < 2e-3, law


def test_a_few_curves_of_the_pure_power_law(curves):
    """Three BIG-Bench curves by M1: straight enough that the posterior's median predicts as least squares does."""
    few = {n: c for n, c in curves.items() if n.startswith("BB · ('mult'") or n.startswith("BB · ('qa', '2")}
    assert len(few) == 3
    made = extrapolation.scored(extrapolation.LAWS["M1"], few)
    for name, curve in few.items():
        fitted, test = extrapolation.split(curve)
        best = point.estimate("M1", *fitted.to_numpy(float).T, "BB")
        least = extrapolation.log_error(best(test.examples.to_numpy(float)), test.error.to_numpy(float))
        assert made[name]["status"] == "certified"
        assert made[name]["error"] == pytest.approx(least, abs=0.01)  # outliers weigh less in the posterior
        assert 0 <= made[name]["covered"] <= 1 and made[name]["width"] > 0


@pytest.mark.slow
def test_the_whole_benchmark(curves):
    """All curves by M1, M2 and M4: laws that bend extrapolate better; intervals of independent noise are too narrow.

    Checkpoints of one run are not independent, and what lies beyond the fitted half is the law's form: 90 % predictive
    intervals hold less than 90 % of the points there for every law, which is what this asserts, so that a change of
    either direction is seen.
    """
    results = {law: extrapolation.scored(extrapolation.LAWS[law], curves) for law in ("M1", "M2", "M4")}
    for found in results.values():
        for row in found.values():
            row["point_error"] = 0.0
    rows = {(r["domain"], r["law"]): r for r in extrapolation.summary(results)}
    assert rows["IC", "M4"]["median_error"] < rows["IC", "M2"]["median_error"] < rows["IC", "M1"]["median_error"]
    assert all(rows["all", law]["certified"] >= 75 for law in results)
    assert rows["all", "M1"]["covered"] < rows["all", "M2"]["covered"] < 0.9
