"""What the users of a law decide beside size and data: optima against brute force per draw, edges, refusals."""

import json

import numpy as np
import pytest
from designs import SPECS
from scipy.optimize import linprog, minimize, minimize_scalar
from test_targets import stand_in

import bayescale as bs
from bayescale.allocation import NEAR_OPTIMAL, answered, require_optimum
from bayescale.cli import run
from bayescale.law import Choice, Decision, call
from bayescale.laws import find_law
from bayescale.model import double_precision

RNG = np.random.default_rng(0)
ROWS = 40
N, D = 10 ** RNG.uniform(8, 10, ROWS), 10 ** RNG.uniform(9, 11, ROWS)
FEW = range(4)


def values_of(fit, k):
    return {n: v[k] for n, v in fit.draws().items() if n in {p.name for p in fit.law.parameters}}


def flat(made, name):
    return np.asarray(made.dataset[name])[0].reshape(-1)


def loss_of(fit, **inputs):
    with double_precision():
        formula = next(iter(fit.law.formulas().values()))
        return np.asarray(call(formula, {**fit.references, **inputs}), float)


@pytest.fixture(scope="module")
def shapes():
    w, d = RNG.choice([256.0, 512.0, 1024.0, 2048.0], ROWS), RNG.choice([4.0, 8.0, 16.0, 32.0], ROWS)
    size = 12 * w**2 * d + 5e4 * w
    return stand_in("gemstones_width_depth", dict(width=w, depth=d, params=size, tokens=20 * size, loss=2.5))


@pytest.fixture(scope="module")
def sparse():
    frame = dict(params=N, tokens=D, sparsity=np.linspace(0, 0.9, ROWS), loss=2.5)
    return stand_in("abnar_moe_sparsity", frame)


@pytest.fixture(scope="module")
def mixed():
    """Three evaluation sets of runs on four domains."""
    r = RNG.dirichlet([2.0] * 4, ROWS)
    frame = {f"w_{n}": r[:, k] for k, n in enumerate(("web", "code", "books", "wiki"))}
    return stand_in("data_mixing:over=eval", {**frame, "eval": np.resize(["a", "b", "c"], ROWS), "loss": 2.5})


def test_width_and_depth_of_a_budget_against_brute_force(shapes):
    """Per draw: no shape of a fine grid, nor a descent from its best, does better; ends of near-optimal widths are."""
    C = 3e19
    made, runs = bs.allocate(shapes, C), shapes.runs
    w, d = (np.log(runs.values(c)) for c in ("width", "depth"))
    design = np.column_stack([np.ones(ROWS), w, d])
    constant, p, q = np.linalg.lstsq(design, np.log(runs.values("params")), rcond=None)[0]
    low, high = (np.array([f(w), f(d)]) + s * np.log(10) for f, s in ((np.min, -1), (np.max, 1)))
    axes = [np.linspace(a, b, 300) for a, b in zip(low, high, strict=True)]
    for k in FEW:
        values = values_of(shapes, k)

        def loss(u, v, values=values):
            size = np.exp(constant + p * u + q * v)
            return loss_of(shapes, w=np.exp(u), d=np.exp(v), N=size, D=C / (6 * size), **values)

        grid = loss(axes[0][:, None], axes[1][None, :])
        start = np.unravel_index(grid.argmin(), grid.shape)
        polished = minimize(
            lambda x: float(loss(*x)), [a[j] for a, j in zip(axes, start, strict=True)],
            bounds=[*zip(low, high, strict=True)], options=dict(ftol=1e-15, gtol=1e-10),
        )  # fmt: skip
        assert flat(made, "loss")[k] == pytest.approx(min(polished.fun, grid.min()), rel=1e-10)
        found = np.log([flat(made, "w")[k], flat(made, "d")[k]])
        np.testing.assert_allclose(found, polished.x, atol=2e-4)
        assert float(loss(*found)) == pytest.approx(flat(made, "loss")[k], rel=1e-12)
        size = flat(made, "params")[k]
        assert size == pytest.approx(np.exp(constant + p * found[0] + q * found[1]), rel=1e-9)
        assert 6 * size * flat(made, "tokens")[k] == pytest.approx(C, rel=1e-9)
        for end in ("lower", "upper"):
            u = np.log(flat(made, f"w_near_{end}")[k])
            if low[0] + 1e-5 < u < high[0] - 1e-5:
                best = minimize_scalar(lambda v, u=u: float(loss(u, v)), bounds=(low[1], high[1]), method="bounded")
                assert best.fun == pytest.approx((1 + NEAR_OPTIMAL) * flat(made, "loss")[k], rel=2e-6)
    assert (flat(made, "regret") > -1e-12).all()
    entry = json.loads(json.dumps(made.to_json()))[0]
    assert entry["choices"]["w"]["unit"] == "units" and entry["choices"]["d"]["unit"] == "layers"
    assert {"near_optimal", "taken", "inside_data", "at_edge", "median"} <= set(entry["choices"]["w"])
    assert entry["regret"]["upper"] >= 0 and entry["near_optimal"] is None
    assert any("by the table's own rows" in n for n in made.notes)


def test_a_shape_outside_the_runs_is_said(shapes):
    made = bs.allocate(shapes, 1e24, far_ok=True)
    assert any("lie outside the runs' 256 to 2.0k" in n for n in made.notes)
    assert any("10 times beyond the runs (320), an edge and not an optimum" in n for n in made.notes)
    entry = made.to_json()[0]["choices"]["d"]
    assert entry["inside_data"] < 0.5 < entry["at_edge"]
    fixed = bs.allocate(shapes, 1e21, given={"d": 16.0})
    assert list(fixed.choices) == ["w"]


def test_sparsity_and_size_of_a_budget_against_brute_force(sparse):
    """Compute counts active parameters; the sparsest that the runs have is an edge, and said to be one."""
    C = 1e20
    made = bs.allocate(sparse, C)
    active = flat(made, "params") * (1 - flat(made, "S"))
    np.testing.assert_allclose(6 * active * flat(made, "tokens"), C, rtol=1e-9)
    for k in FEW:
        values = values_of(sparse, k)

        def least(S, values=values):
            def at(u):
                return float(loss_of(sparse, N=np.exp(u), D=C / (6 * np.exp(u) * (1 - S)), S=S, **values))

            return minimize_scalar(at, bounds=(10, 40), method="bounded", options=dict(xatol=1e-9)).fun

        best = min(map(least, np.linspace(0, 0.9, 91)))
        assert best * (1 - 3e-5) <= flat(made, "loss")[k] <= best * (1 + 1e-10)  # the grid's sparsities are .01 apart
        assert flat(made, "loss")[k] == pytest.approx(least(flat(made, "S")[k]), rel=1e-10)
    edge = made.to_json()[0]["choices"]["S"]["at_edge"]
    assert edge > 0.05 and any("take the most that the runs have (0.90), an edge" in n for n in made.notes)
    dense = bs.allocate(sparse, C, given={"S": 0.0})
    assert (flat(dense, "loss") >= flat(made, "loss") * (1 - 1e-9)).all() and not dense.choices
    assert (flat(dense, "near_lower") < flat(dense, "params")).all()
    capped = bs.allocate(sparse, C, given={"S": 0.0}, max_params=1e9)
    assert flat(capped, "params").max() <= 1e9 * (1 + 1e-9)


def test_experts_at_a_size_and_what_they_are_worth():
    fit = stand_in("clark_routed", dict(params=N, experts=2.0 ** (np.arange(ROWS) % 9), loss=2.5))
    made = bs.allocate(fit, given={"N": 1e9})
    with double_precision():
        for k in FEW:
            values = values_of(fit, k)
            at_grid = loss_of(fit, N=1e9, E=np.geomspace(1, 256, 2000), **values)
            assert flat(made, "loss")[k] <= at_grid.min() * (1 + 1e-12)
            worth = loss_of(fit, N=flat(made, "dense_worth")[k], E=1.0, **values)
            assert float(worth) == pytest.approx(flat(made, "loss")[k], rel=1e-10)
    assert np.isnan(made.flops).all() and made.to_json()[0]["flops"] is None
    with pytest.raises(bs.NotFittedFor, match="no budget bears on") as caught:
        bs.allocate(fit, 1e21, given={"N": 1e9})
    assert "Leave the budget out" in str(caught.value)
    with pytest.raises(bs.NotFittedFor, match=r"depends on N \(model size\)"):
        bs.allocate(fit)


def test_the_mixture_of_one_loss_is_a_linear_programme(mixed):
    """The loss falls along one combination of shares: within the runs' own shares its best is a vertex."""
    made = bs.allocate(mixed, levels={"eval": "b"})
    names = [f"r[w_{n}]" for n in ("web", "code", "books", "wiki")]
    r = np.stack([flat(made, n) for n in names], axis=1)
    shares = np.stack([mixed.runs.values(f"w_{n}") for n in ("web", "code", "books", "wiki")], axis=1)
    bounds = [*zip(shares.min(axis=0), shares.max(axis=0), strict=True)]
    for k in range(20):
        t = values_of(mixed, k)["t"][1]
        best = linprog(t, A_eq=[[1.0] * 4], b_eq=[1.0], bounds=bounds)
        np.testing.assert_allclose(r[k] @ t, best.fun, atol=1e-9)
        np.testing.assert_allclose(r[k].sum(), 1.0, atol=1e-12)
    near = [flat(made, f"r[w_web]_near_{end}") for end in ("lower", "upper")]
    told = np.isfinite(near[0])
    assert (near[0][told] <= r[told, 0] + 1e-6).all() and (near[1][told] >= r[told, 0] - 1e-6).all()
    assert made.to_json()[0]["params"] is None and "FLOP" not in repr(made)


def test_the_mixture_of_several_losses_against_another_optimiser(mixed, monkeypatch):
    monkeypatch.setattr("bayescale.allocation.deciding._NEAR_DRAWS", 10)
    made = bs.allocate(mixed, weights={"a": 3.0, "c": 1.0})
    names = ("web", "code", "books", "wiki")
    r = np.stack([flat(made, f"r[w_{n}]") for n in names], axis=1)
    shares = np.stack([mixed.runs.values(f"w_{n}") for n in names], axis=1)
    bounds = [*zip(shares.min(axis=0), shares.max(axis=0), strict=True)]
    for k in range(6):
        v = values_of(mixed, k)

        def weighted(r, v=v):
            return float(np.array([0.75, 0.0, 0.25]) @ (v["c"] + v["k"] * np.exp(v["t"] @ r)))

        assert weighted(r[k]) == pytest.approx(flat(made, "loss")[k], rel=1e-12)
        starts = [shares.mean(axis=0), *shares[:3]]
        tried = [
            minimize(
                weighted, s, bounds=bounds, method="SLSQP", options=dict(ftol=1e-14, maxiter=500),
                constraints=dict(type="eq", fun=lambda r: r.sum() - 1),
            ).fun for s in starts
        ]  # fmt: skip
        assert weighted(r[k]) <= min(tried) + 1e-8 and min(tried) <= weighted(r[k]) + 1e-4
    assert any("weighed 0.75 a, 0.25 c" in n for n in made.notes)
    assert any("differs from that of the nearest run" in n for n in made.notes)
    entry = made.to_json()[0]["choices"]
    assert np.isnan(made.dataset["r[w_web]_near_lower"]).mean() == 0.9
    assert all(c["near_optimal"]["lower"] <= c["near_optimal"]["upper"] for c in entry.values())
    taken = [c["taken"] for c in made.to_json()[0]["choices"].values()]
    assert sum(taken) == pytest.approx(1.0, abs=1e-9)
    for weights, message in (({"d": 1.0}, "no level 'd'"), ({"a": -1.0}, "at least zero"), ({"a": 0.0}, "above")):
        with pytest.raises(bs.NotFittedFor, match=message):
            bs.allocate(mixed, weights=weights)


def test_settings_at_the_vertex_of_a_response_surface():
    """Closed forms: the optimum, and how far each setting may be off with the other chosen best."""
    frame = dict(params=N, tokens=D, lr=np.geomspace(1e-4, 1e-2, ROWS), batch_tokens=1e5 * 2.0 ** (np.arange(ROWS) % 6))
    fit = stand_in("hp_response_surface", {**frame, "loss": 2.5}, scale=0.15)
    made, at = bs.allocate(fit, given={"N": 2e9, "D": 3e10}), fit.references
    v = fit.draws()
    n, d = np.log(2e9 / at["N0"]), np.log(3e10 / at["D0"])
    lr = v["lr_ref"] * np.exp(v["a_lr"] * n + v["b_lr"] * d)
    inside = (lr > 1e-5) & (lr < 1e-1)
    np.testing.assert_allclose(flat(made, "lr")[inside], lr[inside], rtol=1e-5)
    best = v["E"] + v["A"] * 2e9 ** -v["alpha"] + v["B"] * 3e10 ** -v["beta"]
    np.testing.assert_allclose(flat(made, "loss")[inside], best[inside], rtol=1e-12)
    half = np.sqrt(2 * NEAR_OPTIMAL * best / (v["k"] * (1 - v["rho"] ** 2)))
    upper = np.log(flat(made, "lr_near_upper") / lr)
    within = inside & (upper < np.log(1e-1 / lr) - 0.01)
    np.testing.assert_allclose(upper[within], half[within], rtol=1e-4)
    split = bs.allocate(fit, 1e21, given={"lr": 1e-3, "bs": 5e5})  # with both given a budget splits as by any law
    assert not split.choices and (flat(split, "near_lower") < flat(split, "params")).all()


def test_a_share_of_the_domain_and_a_size_within_a_deadline():
    fit = stand_in("d_cpt", dict(params=N, tokens=D, domain_share=np.linspace(0.1, 0.9, ROWS), loss=2.5))
    timed = stand_in(
        "time_matters",
        dict(params=N, seconds=10 ** RNG.uniform(4, 6, ROWS), memory_copies=1e6, loss=2.5, token_seconds=1e-5)
        | dict(response=np.resize(["loss", "token_seconds"], ROWS)),
    )
    ends = np.log([N.min() / 10, N.max() * 10])
    for one, given, name, low, high, log in (
        (fit, dict(N=1e9, D=1e10), "r", 0.1, 0.9, False),
        (timed, dict(T=1e5, m=1e6), "N", *ends, True),
    ):
        made = bs.allocate(one, given=given)
        assert list(made.choices) == [name]
        for k in FEW:
            grid = np.linspace(low, high, 4001)
            at = loss_of(one, **given, **{name: np.exp(grid) if log else grid}, **values_of(one, k))
            assert at.min() * (1 - 1e-6) <= flat(made, "loss")[k] <= at.min() * (1 + 1e-12)
            got = flat(made, name)[k]
            assert abs((np.log(got) if log else got) - grid[at.argmin()]) <= 1.01 * (grid[1] - grid[0])


def test_laws_that_predict_a_setting_are_read():
    fit = stand_in("step_law", dict(params=N, tokens=D, lr=1e-3, batch_tokens=1e6))
    v, made = fit.draws(), bs.allocate(fit, given={"N": 1e9, "D": 1e11})
    np.testing.assert_allclose(flat(made, "lr"), v["c"] * 1e9 ** v["a"] * 1e11 ** v["b"], rtol=1e-10)
    by_budget = bs.allocate(fit, 6e20, given={"N": 1e9})
    np.testing.assert_allclose(flat(by_budget, "lr"), flat(made, "lr"), rtol=1e-12)
    assert flat(by_budget, "tokens")[0] == pytest.approx(1e11)
    assert made.choices == {"lr": "1", "batch_tokens": "tokens"} and made.to_json()[0]["loss"] is None
    assert any("batch_tokens: 100% of the draws lie outside the runs'" in n for n in made.notes)
    envelope = stand_in("chinchilla_a1", dict(flops=np.geomspace(1e18, 1e20, 8), params=np.geomspace(1e8, 1e9, 8)))
    made, v = bs.allocate(envelope, 1e21), envelope.draws()
    np.testing.assert_allclose(flat(made, "params"), v["k"] * (1e21 / envelope.references["C0"]) ** v["a"], rtol=1e-10)
    np.testing.assert_allclose(6 * flat(made, "params") * flat(made, "tokens"), 1e21, rtol=1e-10)
    repeated = stand_in("data_constrained", dict(params=N, tokens=D, unique_tokens=D / 4, loss=2.5))
    made = bs.allocate(repeated, [1e20, 1e21], given={"U": 1e10})
    np.testing.assert_allclose(made.dataset["epochs"], made.dataset["tokens"] / 1e10)
    assert made.choices == {"epochs": "epochs"} and made.to_json()[0]["near_optimal"]["lower"] > 0


def test_questions_that_lack_or_contradict_something(shapes, sparse):
    for ask, message in (
        (lambda: bs.allocate(shapes), r"depends on D \(training tokens\)"),
        (lambda: bs.allocate(shapes, 1e21, given={"D": 1e10}), "no budget bears on"),
        (lambda: bs.allocate(shapes, 1e21, given={"Q": 1.0}), "no input 'Q'"),
        (lambda: bs.allocate(shapes, 1e21, max_params=1e9), "nothing splits a size from a budget"),
        (lambda: bs.allocate(shapes, 1e21, weights={"a": 1.0}), "nothing to weigh"),
        (lambda: bs.allocate(sparse), "splits a budget: say which"),
        (lambda: bs.allocate(sparse, 1e21, given={"D": 1e10}), "D is given"),
        (lambda: bs.allocate(sparse, 1e30), "nothing in the table bears on it"),
        (lambda: bs.regret(sparse, 1e9, 1e21), "more than a size"),
        (lambda: bs.reach(sparse, 2.0, given={"S": 0.5}), "without what else is decided"),
        (lambda: bs.allocate(sparse, -1.0), "positive numbers of FLOP"),
    ):
        with pytest.raises(bs.NotFittedFor, match=message):
            ask()


@pytest.mark.parametrize("spec", SPECS)
def test_every_law_answers_or_says_what_to_ask_instead(spec):
    law = find_law(spec)
    answers, told = answered(law)
    if answers:
        assert law.decides is not None or told.startswith("N and D at a budget")
        return
    with pytest.raises(bs.NotFittedFor, match="no compute-optimal model size at a budget") as caught:
        require_optimum(law, {i.name: 1.0 for i in law.inputs if i.name not in ("N", "D", "C", "M")})
    assert str(caught.value) == told
    assert any(word in told for word in ("forecast", "reach", "serve", "quantities"))


def test_a_decision_that_contradicts_its_law_is_refused():
    from dataclasses import replace

    law = find_law("gemstones_width_depth")
    for decision, message in (
        (Decision((Choice("q"),)), "'q', which is not an input"),
        (Decision((Choice("w", beyond=0.5),)), "beyond must be at least 1"),
        (Decision((Choice("w"), Choice("d"), Choice("N"))), "two at most"),
        (Decision((Choice("w", scale="square"),)), "log or linear"),
        (Decision((Choice("w"),), follows={"N": {"q": 1.0}}), "follows"),
        (Decision((Choice("w"),), instead="Ask."), "either"),
    ):
        with pytest.raises(bs.LawError, match=message):
            replace(law, decides=decision)


def test_the_command_tells_what_is_chosen(sparse, mixed, tmp_path, capsys):
    for name, fit in (("sparse", sparse), ("mixed", mixed)):
        fit.save(tmp_path / f"{name}.nc")
    assert run(["allocate", str(tmp_path / "sparse.nc"), "--flops", "1e20", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["allocation"] == json.loads(json.dumps(bs.allocate(sparse, 1e20).to_json()))
    assert run(["allocate", str(tmp_path / "mixed.nc"), "--weight", "a=3", "--weight", "c=1"]) == 0
    printed = capsys.readouterr().out
    assert "Best choice" in printed and "r[w_web]" in printed and "within 0.1 % of the best loss" in printed
    assert run(["allocate", str(tmp_path / "sparse.nc")]) == 3
    assert "splits a budget" in capsys.readouterr().err
    plain = stand_in("chinchilla", dict(params=N, tokens=D, loss=2.5))
    plain.save(tmp_path / "plain.nc")
    assert run(["allocate", str(tmp_path / "plain.nc")]) == 2  # as where a flag is missing


def test_what_was_given_is_held_to_the_same_reach_as_a_budget(sparse):
    law = stand_in("step_law", dict(params=N, tokens=D, lr=1e-3, batch_tokens=1e5))
    with pytest.raises(bs.NotFittedFor, match="times the largest run") as error:
        bs.allocate(law, given={"N": 1e16, "D": 1e18})
    assert error.value.code == "BS-R027"
    assert bs.allocate(law, given={"N": 1e16, "D": 1e18}, far_ok=True).notes
    assert any("S = 0.95 is outside" in n for n in bs.allocate(sparse, [1e21], given={"S": 0.95}).notes)
    capped = bs.allocate(sparse, [1e21], max_params=1e8)
    assert any("cap of 1e+08 parameters binds" in n for n in capped.notes)
    (entry,) = capped.to_json()
    assert entry["params_taken"] == pytest.approx(1e8, rel=1e-6), "the regret is of this size too"


def test_a_column_that_does_not_vary_is_inside_the_runs():
    frame = dict(params=N, experts=24.0, loss=2.5)
    (entry,) = bs.allocate(stand_in("clark_routed", frame), given={"N": 1e9}).to_json()
    assert entry["choices"]["E"]["inside_data"] == 1.0


def test_levels_and_weights_that_cannot_both_hold_are_refused(mixed):
    with pytest.raises(bs.NotFittedFor, match="no mean is taken"):
        bs.allocate(mixed, levels={"eval": "a"}, weights={"b": 1.0})
    with pytest.raises(bs.NotFittedFor, match="no levels of 'foo'"):
        bs.allocate(mixed, levels={"foo": "a"})


def test_a_law_that_predicts_an_optimum_has_no_regret():
    fit = stand_in("chinchilla_a1", dict(flops=6 * N * D, params=N))
    with pytest.raises(bs.NotFittedFor, match="no loss"):
        bs.regret(fit, N=1e9, flops=1e21)
    made = bs.allocate(fit, [1e20])
    with np.errstate(invalid="ignore"):  # the draws have no energy
        assert "loss" not in made.dataset and bs.check(fit, made)
