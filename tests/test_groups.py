"""Effects of groups: no funnel at any number of levels, and likelihoods with the effects integrated out."""

import numpy as np
import pandas as pd
import pytest
from test_observing import stand_in
from worlds import TRUTH, chinchilla_world

import bayescale as bs
from bayescale.law import HalfNormal
from bayescale.model import build_model, isoflop_levels, make_groupings
from bayescale.model.grouping import Grouping, parents_of
from bayescale.posterior import evaluate_draws, level_log_likelihood, model_of
from bayescale.sampling import SAMPLERS, Settings


@pytest.mark.parametrize("levels, ratio", [(5, 0.0), (5, 3.0), (42, 0.7)])
def test_no_divergence_at_any_spread(levels, ratio):
    """From no effect at all to one far above the noise, the first attempt has neither divergences nor low ESS."""
    runs = chinchilla_world(240, 3, groups=[("batch", levels, ratio)])
    fit = bs.fit("chinchilla", runs, group=["batch"], seed=0)
    assert fit.converged and len(fit.info["attempts"]) == 1
    q = fit.quantities()
    truth = ratio * 0.005
    assert q["tau_batch"].lower < truth + 1e-3 and truth < 2 * q["tau_batch"].upper


@pytest.mark.slow
def test_three_hundred_levels():
    runs = chinchilla_world(600, 3, groups=[("batch", 300, 0.7)])
    fit = bs.fit("chinchilla", runs, group=["batch"], seed=0)
    assert fit.converged and len(fit.info["attempts"]) == 1


def test_crossed_effects():
    runs = chinchilla_world(240, 5, groups=[("batch", 42, 0.7), ("week", 9, 2.0)])
    fit = bs.fit("chinchilla", runs, group=["batch", "week"], seed=0)
    assert fit.converged
    assert set(fit.group) == {"batch", "week"}
    likelihood = fit.tree["log_likelihood_group"]
    assert likelihood["batch"].dims == ("chain", "draw", "level_batch")
    assert likelihood["week"].sizes["level_week"] == 9


@pytest.mark.parametrize("noise, tolerance", [("student_t", 1e-4), ("normal", 1e-9), ("laplace", 2e-3)])
def test_level_likelihood_against_brute_force(noise, tolerance):
    """The effect of each level integrated out on a grid of 40,001 points; kinks cost digits."""
    import jax

    runs = chinchilla_world(60, 7, groups=[("batch", 6, 1.5)])
    model = build_model("chinchilla", runs, noise=noise, group=["batch"])
    drawn = SAMPLERS["nuts"](model, Settings(chains=1, draws=20, warmup=200))
    flat = drawn.flat[0, ::4]
    ours = level_log_likelihood(model, flat, model.structure.intercepts[0])
    out = evaluate_draws(model, flat)
    y, (index, _) = np.log(runs.values("loss")), runs.labels("batch")
    shape = [p.name for p in model.structure.noises["loss"].shape]
    for s in range(len(flat)):
        tau = out["values"]["tau_batch"][s]
        u = np.linspace(-14 * tau, 14 * tau, 40001)
        residual = y - np.log(out["mean"]["loss"][s, : len(runs)])
        for k in range(6):
            with jax.enable_x64(True):
                terms = np.asarray(
                    model.structure.noises["loss"].log_density(
                        residual[index == k][:, None] - u,
                        out["values"]["sigma"][s],
                        **{n: out["values"][n][s] for n in shape},
                    )
                )
            joint = terms.sum(axis=0) - 0.5 * (u / tau) ** 2 - np.log(tau * np.sqrt(2 * np.pi))
            exact = np.log(np.trapezoid(np.exp(joint - joint.max()), u)) + joint.max()
            assert ours[s, k] == pytest.approx(exact, abs=tolerance)


def test_what_auto_groups_by(ladder):
    found, _ = make_groupings(ladder, "auto")
    assert [g.column for g in found] == ["params", "budget"]  # a run a row says nothing of runs
    assert [len(g.levels) for g in found] == [11, 5]
    assert make_groupings(ladder, "none") == ((), ())


def test_groupings_that_hardly_differ_are_one():
    """22 shapes of 20 sizes: the effect of a size cannot be told from that of its shape's runs."""
    rng = np.random.default_rng(0)
    shape = np.arange(110) % 22
    size = np.where(shape >= 20, shape - 20, shape)
    runs = chinchilla_world(110, 0).with_columns(
        {"run": [f"r{k}" for k in shape], "params": 1e8 * 1.2**size, "tokens": 10 ** rng.uniform(9, 11, 110)}
    )
    found, notes = make_groupings(runs, "auto")
    assert [g.column for g in found] == ["run"]
    assert any("hardly be told from that of 'run'" in n.message for n in notes)


def test_budgets_are_read_off_compute(ladder):
    import dataclasses

    frame = ladder.frame.drop(columns="budget")
    detected = isoflop_levels(dataclasses.replace(ladder, frame=frame))
    assert detected is not None and len(detected.levels) == 5
    assert isoflop_levels(chinchilla_world(60, 0)) is None


def test_sizes_that_coincide_by_chance_are_no_groups():
    """Of 1,000 sizes spread at random most lie within .5 % of another; repeated sizes differ by rounding alone."""
    rng = np.random.default_rng(0)
    spread = np.exp(rng.uniform(np.log(3e7), np.log(3e10), 1000))
    rounded = np.repeat(spread[:300], 3) * np.exp(rng.uniform(-0.001, 0.001, 900))
    for params, grouped in ((spread, []), (rounded, ["params"])):
        tokens = np.exp(rng.uniform(np.log(1e9), np.log(1e12), len(params)))
        frame = pd.DataFrame({"params": params, "tokens": tokens, "loss": 1.8 + 900 * params**-0.4})
        runs = bs.read_runs(frame)
        made, notes = make_groupings(runs, "auto")
        assert [g.column for g in made] == grouped
        assert any("happen to lie" in n.message for n in notes) == (not grouped)
        assert [g.column for g in make_groupings(runs, "params")[0]] == ["params"]


def test_few_levels_never_teach_a_spread():
    """Two to four recipes have effects of a fixed, wide spread; of what is noise it is the median of its prior."""
    runs = chinchilla_world(60, 0, groups=[("recipe", 3, 1.0), ("group", 3, 1.0)])
    found, notes = make_groupings(runs, "auto")
    assert [(g.column, g.few, g.fixed) for g in found] == [("recipe", True, 0.1), ("group", True, None)]
    assert any("3 levels of 'recipe'" in n.message for n in notes)
    model = bs.build_model("chinchilla", runs)
    (note,) = [n.message for n in model.notes if "3 levels of 'group'" in n.message]
    assert "fixed at the median of its prior; state another with --fix tau_group_ratio=" in note
    assert model.structure.coordinates.fixed == {"tau_group_ratio": pytest.approx(HalfNormal(1.0).median)}
    assert HalfNormal(1.0).median == pytest.approx(0.67449, abs=1e-5)
    assert model.structure.held_spreads == {"recipe": "0.1", "group": "0.67 sigma"}
    values = evaluate_draws(model, np.random.default_rng(0).standard_normal((5, model.structure.dimension)))["values"]
    np.testing.assert_allclose(values["tau_group"], 0.67449 * values["sigma"], rtol=1e-5)
    told = bs.build_model("chinchilla", runs, priors={"tau_group_ratio": HalfNormal(0.5)})
    assert "tau_group_ratio" in told.structure.coordinates.names and not told.structure.coordinates.fixed
    assert (
        bs.build_model("chinchilla", runs, fix={"tau_group_ratio": 0.1}).structure.held_spreads["group"] == "0.1 sigma"
    )
    with pytest.raises(bs.LawError, match="one level"):
        make_groupings(runs.with_columns({"group": "all"}), "group")


def test_a_few_runs_have_checkpoints_that_err_alike():
    """Three training curves are three curves, not independent rows."""
    D = np.geomspace(1e9, 1e11, 12)
    N, D, run = np.repeat([1e8, 4e8, 1.6e9], 12), np.tile(D, 3), np.repeat(["a", "b", "c"], 12)
    loss = 1.7 + 400 * N**-0.34 + 400 * D**-0.28
    model = bs.build_model("chinchilla", bs.read_runs({"params": N, "tokens": D, "run": run, "loss": loss}))
    assert [g.column for g in model.groupings] == ["run"] and model.structure.observing.serial
    recipes = {"params": N, "tokens": D, "run": run, "loss": loss, "recipe": np.repeat(["web", "web", "code"], 12)}
    model = bs.build_model("chinchilla", bs.read_runs(recipes))
    assert model.groupings[0].column == "recipe", "what is held like noise must not displace recipes"
    model = bs.build_model("chinchilla", bs.read_runs(recipes | {"recipe": run}))
    assert [g.column for g in model.groupings] == ["recipe"] and model.structure.observing.serial
    assert model_of(stand_in(model)).structure.key == model.structure.key


def test_recipes_of_other_losses_do_not_move_the_law():
    """Two recipes, one 5 % worse throughout and only at small scale: the exponents must not pay for it."""
    runs = chinchilla_world(120, 6, sigma=0.004)
    worse = runs.values("flops") < np.median(runs.values("flops"))
    worse &= np.random.default_rng(0).random(120) < 0.7
    table = runs.with_columns(
        {"loss": runs.values("loss") * np.where(worse, 1.05, 1.0), "recipe": np.where(worse, "old", "new")}
    )
    fit = bs.fit("chinchilla", table, seed=0)
    assert fit.group == ("recipe",) and np.ptp(fit.draws("posterior")["tau_recipe"]) == 0
    effects = fit.tree["posterior"]["u_recipe"].mean(("chain", "draw"))
    apart = float(effects.sel(level_recipe="old") - effects.sel(level_recipe="new"))
    assert apart == pytest.approx(np.log(1.05), abs=0.005)
    a = fit.draws("posterior")["a"]
    assert abs(a.mean() - TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])) < 4 * a.std()
    made = bs.forecast(fit, N=1e9, D=2e10, levels={"recipe": "old"})
    assert made.interval("same_group")[0, 0] > made.interval("mean")[0, 0]


def test_a_level_for_every_row_is_refused():
    runs = chinchilla_world(40, 0, groups=[("run", 40, 1.0)])
    with pytest.raises(bs.RunsError, match="level of its own for every row"):
        make_groupings(runs, ["run"])


@pytest.fixture(scope="module")
def checkpoints():
    """Checkpoints of 24 runs of 8 model sizes, with an effect of each size and each run."""
    rng = np.random.default_rng(5)
    size, run, k = (x.ravel() for x in np.meshgrid(np.arange(8), np.arange(3), np.arange(6), indexing="ij"))
    N, D = 1e7 * 2.0**size, 2e9 * 1.6**k * 1.3**run
    effects = 0.01 * rng.standard_normal(8)[size] + 0.01 * rng.standard_normal(24)[3 * size + run]
    noise = effects + 0.003 * rng.standard_normal(len(size))
    loss = (1.7 + 0.35 * (N / 1e9) ** -0.3 + 0.5 * (D / 2e10) ** -0.3) * np.exp(noise)
    return bs.read_runs(
        {"run": [f"{s}-{r}" for s, r in zip(size, run, strict=True)], "params": N, "tokens": D, "loss": loss}
    )


def test_which_grouping_is_part_of_which():
    """Of a chain the finest pair; a parent has one part; crossed groupings and fixed spreads have none."""
    run, size = np.arange(24), np.arange(24) // 3
    made = {
        "run": Grouping("run", "run", run, tuple(map(str, run))),
        "params": Grouping("params", "size", size, tuple("abcdefgh")),
        "recipe": Grouping("recipe", "recipe", size % 5, tuple("abcde")),
        "budget": Grouping("budget", "budget", run % 6, tuple("abcdef")),
        "few": Grouping("few", "recipe", size % 2, tuple("ab")),
    }
    for names in (["run", "params", "recipe", "budget", "few"], ["few", "budget", "recipe", "params", "run"]):
        found = parents_of([made[n] for n in names])
        assert found == {"run": "params", "params": None, "recipe": None, "budget": None, "few": None}
    assert parents_of([made["params"], made["budget"]]) == {"params": None, "budget": None}


def test_effects_of_runs_of_a_size_are_sampled_as_parts_of_it(checkpoints):
    import jax

    from bayescale.model import double_precision
    from bayescale.sampling import find_start

    model = build_model("chinchilla", checkpoints)
    assert [(i.grouping.column, i.parent) for i in model.structure.intercepts] == [("run", "params"), ("params", None)]
    assert model.structure.observing.serial
    start = find_start(model, 2, np.random.default_rng(0))
    s, data, rng = start.model.structure, start.model.data, np.random.default_rng(0)
    with double_precision():
        offsets = []
        for x in 0.5 * rng.standard_normal((4, s.dimension)):
            slope = np.asarray(jax.jacfwd(lambda x: s.from_sampler(x, data)[0])(x))
            offsets.append(np.linalg.slogdet(slope)[1] - float(s.from_sampler(x, data)[1]))
        assert np.ptp(offsets) < 1e-8, "the Jacobian is the map's own, up to a constant"
        x = np.array(start.shift)
        for slot in s.coordinates.slots:  # where both spreads are three times the noise, as they are in truth
            if slot.parameter.name in {i.ratio for i in s.intercepts}:
                x[slot.start] = float(slot.parameter.prior.preimage(3.0))
        own = s.coordinates.dimension
        inner = lambda v: s.sampler_potential(jax.numpy.concatenate([x[:own], v]), data, smooth=False)  # noqa: E731
        covariance = np.linalg.inv(jax.hessian(inner)(x[own:]))
    sd = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(sd, sd)
    assert np.abs(sd - 1).max() < 0.35, "scores of effects are about standard normal"
    assert np.abs(correlation[:24, 24:]).max() < 0.3, "and those of runs hardly know their size's"


def test_effects_follow_a_law_that_moves(checkpoints):
    """Where spreads are wide the law is free to move, and effects make up for it: their scores stay where they were.

    The middle of the scores given law and spreads is found by a Newton step from zero; without following it would lie
    as far off as the law has moved, in units of what the rows of a level tell.
    """
    import jax

    from bayescale.model import double_precision
    from bayescale.sampling import find_start

    start = find_start(build_model("chinchilla", checkpoints), 2, np.random.default_rng(0))
    s, data = start.model.structure, start.model.data
    own = s.coordinates.dimension
    slots = {slot.parameter.name: slot for slot in s.coordinates.slots}

    def middle(moved):
        x = np.array(start.shift)
        for i in s.intercepts:
            x[slots[i.ratio].start] = float(slots[i.ratio].parameter.prior.preimage(6.0))
        x[slots["alpha"].start] += moved
        x[own:] = 0.0
        inner = lambda v: s.sampler_potential(jax.numpy.concatenate([x[:own], v]), data, smooth=False)  # noqa: E731
        step = -np.linalg.solve(jax.hessian(inner)(x[own:]), jax.grad(inner)(x[own:]))
        level = s.values(s.sites(s.from_sampler(x, data)[0])["z"], data)
        return step, np.asarray(s.curve(level, data, s.law.responses[0])), float(level["sigma"])

    with double_precision():
        (near, curve, sigma), (far, other, _) = middle(0.0), middle(0.7)
    rows = len(start.model.runs)
    assert np.abs(curve - other)[:rows].max() > 4 * sigma, "the law has moved by many times the noise"
    assert np.abs(near).max() < 2.0 and np.abs(far).max() < 2.0  # it would be 98 with estimates that stay
