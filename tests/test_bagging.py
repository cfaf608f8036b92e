"""BayesBag against what drawing clusters again must give, in a model whose posterior is known."""

import numpy as np
import pytest
from worlds import chinchilla_world

import bayescale as bs
from bayescale.auditing.bagging import FALSE_ALARM, _drawn
from bayescale.narrowness import Clusters

CLUSTERS, ROWS, NOISE = 20, 4, 0.02


def floor_only(effect: float):
    """A fit of a law of which only the floor is unknown, to 20 recipes of 4 runs that share an error of sd `effect`."""
    rng = np.random.default_rng(5)
    x = np.geomspace(1e6, 1e9, CLUSTERS * ROWS)
    recipe = np.arange(CLUSTERS * ROWS) % CLUSTERS
    error = effect * rng.standard_normal(CLUSTERS)[recipe] + NOISE * rng.standard_normal(len(x))
    loss = (2 + 0.1 * (x / 3e7) ** -0.3) * np.exp(error)
    runs = bs.read_runs({"params": x, "loss": loss, "recipe": [f"r{k:02d}" for k in recipe]}, loss_unit="nats/token")
    fixed = {"a_ref": 0.1, "alpha": 0.3, "sigma": NOISE}
    return bs.fit(
        "power_law_offset:x=params", runs, seed=0, noise="normal", group="none", fix=fixed, references={"x0": 3e7}
    )


@pytest.fixture(scope="module")
def shared():
    return floor_only(0.03)


def test_bags_spread_by_the_posterior_and_by_the_clusters(shared):
    """The floor is a mean of the residuals: drawing 20 clusters again moves it by their standard error."""
    runs, floor = shared.runs, shared.draws("posterior")["E"]
    fitted = floor.mean() + 0.1 * (runs.values("params") / 3e7) ** -0.3
    residual = (np.log(runs.values("loss")) - np.log(fitted)) * fitted  # of the floor, to first order
    index = runs.labels("recipe")[0]
    means = np.array([residual[index == k].mean() for k in range(CLUSTERS)])
    bags = 60
    bagged = bs.bayesbag(shared, "recipe", bags=bags, seed=1, progress=False)
    spread = bagged.draws()["E"].var()
    meant = floor.var() + means.var() / CLUSTERS
    # The variance of 60 bags' means is known to sqrt(2/59) of it: four times that, once in 16,000 by chance.
    assert abs(spread / meant - 1) < 4 * np.sqrt(2 / (bags - 1))
    assert spread > 4 * floor.var(), "rows of a recipe share an error that the model does not know"
    (found,) = (f for f in bagged.audit if f.code == "bayesbag")
    assert found.status == "warn" and found.value == pytest.approx(np.sqrt(spread / floor.var()), rel=0.1)
    assert bagged.headline_source == "bayesbag" and bagged.interval_kind() == "adjusted"
    assert any("BayesBag, 60 tables of 20 recipes drawn again" in line for line in bagged.verdict.lines)
    again = bs.bayesbag(shared, "recipe", bags=bags, seed=1, progress=False)
    np.testing.assert_array_equal(again.draws()["E"], bagged.draws()["E"])


def test_where_the_model_holds_bags_spread_by_sqrt_two():
    fit = floor_only(0.0)
    (found,) = (f for f in bs.bayesbag(fit, "row", progress=False).audit if f.code == "bayesbag")
    assert found.status == "pass" and 1.2 < found.value < found.threshold, FALSE_ALARM


def test_what_cannot_be_drawn_again_is_refused(shared, ladder):
    with pytest.raises(bs.LawError, match="no grouping 'seed'"):
        bs.bayesbag(shared, "seed")
    point = bs.least_squares("chinchilla", ladder, bootstrap=0)
    with pytest.raises(bs.NotFittedFor, match="not examined"):
        bs.bayesbag(point)


def test_bags_have_every_level_and_leave_what_the_law_reads():
    """Copies of clusters are levels of a column of their own where the law reads the column, as compute."""
    world = chinchilla_world(48, 920)
    budget = np.repeat([1e18, 1e19, 1e20, 1e21], 12)
    runs = world.with_columns({"flops": budget, "recipe": ["rare"] * 2 + ["usual"] * 46})
    clusters = Clusters("flops", np.arange(48) // 4, 12, True)
    for seed in range(20):
        bag = _drawn(runs, clusters, np.random.default_rng(seed), True, ["recipe"])
        assert bag.labels("recipe")[1] == ("rare", "usual") and bag.values("flops").min() == 1e18
        assert len(bag.labels("flops drawn")[1]) == 12
    with pytest.raises(bs.NotFittedFor, match="hardly ever have every level of run"):
        _drawn(runs.with_columns({"run": np.arange(48).astype(str)}), clusters, np.random.default_rng(0), True, ["run"])
