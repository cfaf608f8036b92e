"""What is given to a batch and asked of it: nothing is dropped, ignored or lost without a word."""

import json
import signal

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.batch import fitting
from bayescale.cli import run

QUIET = dict(seed=0, group="none", progress=False)


@pytest.fixture(scope="module")
def frame(ladder):
    return pd.DataFrame({c: ladder.values(c) for c in ("params", "tokens", "loss")})


@pytest.fixture(scope="module")
def batch(ladder, frame):
    return bs.fit_many("chinchilla", {"ladder": ladder, "frame": frame}, **QUIET)


@pytest.fixture(scope="module")
def by_task(frame, tmp_path_factory):
    """Three tasks in one file, one of which has a loss that is blank."""
    tasks = [frame.assign(task=t, loss=frame["loss"] * (1 + 0.1 * k)) for k, t in enumerate(["web", "it's", "code"])]
    tasks[1].loc[3, "loss"] = np.nan
    path = tmp_path_factory.mktemp("by") / "runs.csv"
    pd.concat(tasks).to_csv(path, index=False)
    return path


def test_runs_below_a_compute_are_left_out_as_in_a_single_fit(ladder, frame):
    kept = int((ladder.values("flops") >= 2e13).sum())
    assert 10 < kept < len(ladder)
    made = bs.fit_many("chinchilla", {"x": ladder}, min_flops=2e13, **QUIET)
    assert len(made.tables["x"]) == made.status.loc["x", "rows"] == kept
    losses = ladder.values("loss") * np.array([[1.0], [1.1]])
    design = bs.fit_many("chinchilla", bs.OneDesign(ladder, {"loss": losses}), min_flops=2e13, **QUIET)
    assert (design.status["rows"] == kept).all()
    np.testing.assert_array_equal(design["table-0"].draws("posterior")["a"], made["x"].draws("posterior")["a"])
    held = np.zeros(30, bool)
    held[np.argmax(ladder.values("flops"))] = True
    left = bs.fit_many("chinchilla", {"x": ladder}, min_flops=2e13, held_out={"x": held}, **QUIET)
    assert left.certified == ("x",)
    for bad in ("banana", -1, float("nan")):
        with pytest.raises(bs.LawError, match="min_flops"):
            bs.fit_many("chinchilla", {"x": frame}, min_flops=bad, **QUIET)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (lambda f: {1: f, "1": f}, "two tables are named '1'"),
        (lambda f: f, "one table was given"),
        (lambda f: bs.read_runs(f), "one table was given"),
        (lambda f: "runs.csv", "one table was given"),
        (lambda f: f.to_dict("list"), "the columns of one table"),
        (lambda f: {}, "no tables"),
        (lambda f: iter(()), "no tables"),
        (lambda f: None, "no collection of tables"),
        (lambda f: {"a\0b": f}, "null character"),
    ],
)
def test_what_is_no_collection_of_tables_is_refused(frame, tables, said):
    with pytest.raises(bs.BayescaleError, match=said) as caught:
        bs.fit_many("chinchilla", tables(frame), **QUIET)
    assert caught.value.code == "BS-U001" and caught.value.remedy


def test_any_collection_of_tables_will_do(frame):
    both = pd.concat([frame.assign(task="p"), frame.assign(task="q", loss=frame["loss"] * 1.1)])
    assert bs.fit_many("chinchilla", both.groupby("task"), **QUIET).certified == ("p", "q")
    assert len(bs.fit_many("chinchilla", (f for f in (frame, frame)), **QUIET).certified) == 2


def test_a_design_differs_in_columns_that_there_are(ladder):
    with pytest.raises(bs.RunsError, match=r"no column 'losses'.*loss"):
        bs.OneDesign(ladder, {"losses": np.ones((6, 30))})
    with pytest.raises(bs.RunsError, match="must hold numbers"):
        bs.OneDesign(ladder, {"loss": np.full((6, 30), "x")})


def test_whatever_is_wrong_with_one_table_costs_only_itself(frame, monkeypatch):
    tables = {"held": frame, "odd": frame.assign(loss=frame["loss"] * 2), "bounds": frame.assign(undertuned=1)}
    tables["good"] = frame.assign(loss=frame["loss"] * 1.1)
    real = bs.batch.preparing.design_findings

    def stumbles(model, flops):
        if model.data["responses"]["loss"]["y"][0] == np.log(tables["odd"]["loss"][0]):
            raise ZeroDivisionError("of no kind that is known")
        return real(model, flops)

    monkeypatch.setattr("bayescale.batch.preparing.design_findings", stumbles)
    held = {"held": np.ones(30, bool)}
    with pytest.warns(bs.NotConverged):
        made = bs.fit_many("chinchilla", tables, held_out=held, **QUIET)
    told = made.status["sentence"]
    assert made.certified == ("good",)
    assert "every row is held out" in told["held"] and "of no kind that is known" in told["odd"]
    assert "every row tells only a bound" in told["bounds"]


def test_a_question_about_one_table_says_so(batch):
    asked = {
        "audit": bs.audit,
        "stability": bs.stability,
        "next": lambda b: bs.next_runs(b, budget=1e15),
        "needed": lambda b: bs.runs_needed(b, "a", width=0.01),
        "verdict": lambda b: b.verdict,
        "runs": lambda b: b.runs,
        "references": lambda b: b.references,
        "frontier": bs.plot_frontier,
        "compare": lambda b: bs.compare([b, b]),
        "stack": lambda b: bs.stack([b, b]),
        "report": lambda b: bs.report(b, "nowhere"),
    }
    for name, ask in asked.items():
        with pytest.raises(bs.NotFittedFor, match="question is about one") as caught:
            ask(batch)
        assert "batch[name]" in caught.value.remedy, name
    with pytest.raises(bs.FitError, match="no fit of 0"):
        batch[0]


def test_intervals_that_were_not_examined_say_so(batch, tmp_path):
    from bayescale.tables.many import batch_document, write_store

    one = batch["frame"]
    assert any("not examined" in line for line in one.verdict.lines)
    for ask in (bs.audit, bs.stability, bs.plot_pairs, lambda fit: bs.report(fit, tmp_path / "kit")):
        with pytest.raises(bs.NotFittedFor, match="not examined") as caught:
            ask(one)
        assert "examined(fit)" in caught.value.remedy
    examined = bs.examined(batch)
    assert not any("not examined" in line for line in examined["frame"].verdict.lines)
    for made, was in ((batch, False), (examined, True)):
        document = batch_document(made, {})
        assert document["examined"] is was and all(t["examined"] is was for t in document["tables"].values())
        write_store(made, tmp_path, {})
        assert (pd.read_csv(tmp_path / "status.csv")["examined"] == was).all()


def test_a_table_of_a_batch_is_tried_on_held_out_runs(batch):
    from bayescale.reporting.held_out import held_out_runs

    assert held_out_runs(bs.examined(batch["frame"]))["count"] > 0


def test_flags_beside_another_table_s_text_stay_flags(frame, tmp_path):
    tables = {"x": frame.assign(flag=[True, False] * 15), "y": frame.assign(flag="z")}
    made = bs.fit_many("chinchilla", tables, **QUIET)
    again = bs.load_fit(made.save(tmp_path / "batch.nc"))
    flags = again.tables["x"].frame["flag"]
    assert flags.dtype == bool and flags.tolist() == [True, False] * 15
    assert again.tables["y"].frame["flag"].tolist() == ["z"] * 30


def test_a_batch_without_a_sampled_table_has_nothing_to_save(frame, tmp_path):
    with pytest.warns(bs.NotConverged):
        made = bs.fit_many("chinchilla", {"x": frame.head(3)}, **QUIET)
    with pytest.raises(bs.FitError, match="nothing to save"):
        made.save(tmp_path / "batch.nc")
    with pytest.raises(bs.NotFittedFor, match="no table of this batch"):
        _ = bs.allocate(made, [1e20]).dataset


def test_the_quantity_of_a_figure_is_one_that_there_is(batch, ladder):
    with pytest.raises(bs.LawError, match="alpha"):
        bs.plot_tables(batch, "alhpa")
    other = bs.fit_many("compute_only", {r"$\frac$": ladder}, **QUIET)
    ax = bs.plot_tables(other)
    assert len(ax.lines) == 3 and ax.get_xlabel() in {p.name for p in other.law.parameters}
    ax.figure.canvas.draw()


# On the command line.


def test_a_bad_cell_costs_only_its_own_part_of_a_file(by_task, capsys):
    assert run(["batch", str(by_task), "--by", "task", "--group", "none", "--json"]) == 5
    made = json.loads(capsys.readouterr().out)["tables"]
    assert {n: t["status"] for n, t in made.items()} == {"web": "certified", "it's": "failed", "code": "certified"}
    assert "row 35" in made["it's"]["sentence"] and "--drop-missing" in made["it's"]["sentence"]
    assert run(["batch", str(by_task), "--by", "nothing", "--json"]) == 3


def test_what_was_understood_is_said_of_which_table(by_task, capsys):
    where = ["--where", 'task != "it\'s"', "--by", "task", "--group", "none"]
    assert run(["batch", str(by_task), *where]) == 0
    said = capsys.readouterr().err
    assert said.count("note: flops is not in the table") == 1, "of all tables in one line"
    assert run(["batch", str(by_task), *where, "--quiet"]) == 0
    assert "note" not in capsys.readouterr().err


def test_one_file_given_again_is_another_table(by_task, capsys):
    where = ["--where", "task == 'web'", "--group", "none", "--json"]
    assert run(["batch", *[str(by_task)] * 3, *where]) == 0
    assert len(json.loads(capsys.readouterr().out)["tables"]) == 3


def test_a_store_s_part_is_no_single_fit(batch, tmp_path, capsys, frame):
    path = str(batch.save(tmp_path / "part-0000.nc"))
    for words in (
        ["allocate", path, "--flops", "1e16"],
        ["check", path],
        ["audit", path],
        ["report", path, "--out", "x"],
    ):
        assert run([*words, "--json"]) == 3
        made = json.loads(capsys.readouterr().out)
        assert made["code"] == "BS-F004" and "2 tables of a batch" in made["message"] and "['ladder']" in made["remedy"]
    with pytest.raises(bs.FitError, match="is of the law 'chinchilla', not of 'kaplan_nd'"):
        bs.fit_many("kaplan_nd", {"x": frame}, store=tmp_path, **QUIET)
    (tmp_path / "file").touch()
    with pytest.raises(bs.FitError, match="cannot be written"):
        bs.fit_many("chinchilla", {"x": frame}, store=tmp_path / "file", **QUIET)


# Ctrl-C.


@pytest.mark.usefixtures("usual_handler")
@pytest.mark.parametrize("place", ["assemble", "climb", "add"])
def test_ctrl_c_loses_no_finished_table(frame, tmp_path, monkeypatch, place):
    """Wherever it comes: while results are put together, while tables are sampled, while a part is written."""
    owner = fitting.Store if place == "add" else fitting
    real, pressed = getattr(owner, place), []

    def step(*arguments, **options):
        if not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, place, step)
    monkeypatch.setattr(fitting, "BLOCK", 4)
    tables = {f"t{k}": frame.assign(loss=frame["loss"] * (1 + 0.01 * k)) for k in range(12)}
    asked = dict(store=tmp_path / place, workers=1, **QUIET)
    with pytest.warns(bs.NotConverged):
        made = bs.fit_many("chinchilla", tables, **asked)
    assert made.info["interrupted"] and made.status.loc["t4", "sentence"] == "interrupted before it"
    assert len(made.certified) == 4 if place != "climb" else 1 <= len(made.certified) <= 2, "what was in hand"
    assert bs.load_fit(tmp_path / place / "part-0000.nc").names == made.certified
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = bs.fit_many("chinchilla", tables, **asked)
    assert len(again.certified) == 12 and not again.info["interrupted"]


@pytest.mark.usefixtures("usual_handler")
def test_what_is_in_hand_at_ctrl_c_is_finished(frame, monkeypatch):
    """Pressed when the first result is heard of: those that are sampled meanwhile are kept, no more are begun."""
    real = fitting.climb

    def climb(tasks, *, report, **options):
        def hear(outcome, share):
            signal.raise_signal(signal.SIGINT) if not heard else None
            heard.append(outcome)
            report(outcome, share)

        yield from real(tasks, report=hear, **options)

    heard = []
    monkeypatch.setattr(fitting, "climb", climb)
    tables = {f"t{k}": frame.assign(loss=frame["loss"] * (1 + 0.01 * k)) for k in range(12)}
    with pytest.warns(bs.NotConverged):
        made = bs.fit_many("chinchilla", tables, workers=2, **QUIET)
    assert made.info["interrupted"] and 1 <= len(made.names) == len(heard) < 12
