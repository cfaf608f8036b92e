"""Ctrl-C at any time after the first draws keeps them, marked, and headlines nothing."""

import io
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest

import bayescale as bs
import bayescale.inference as inference
from bayescale.sampling import Settings
from bayescale.sampling.nuts import BLOCK
from bayescale.sampling.progress import Waiting

QUICK = dict(seed=0, group="none", progress=False)


def require_marked(fit):
    assert fit.info["interrupted"] and fit.headline_source == "none"
    assert fit.verdict.lines[0].startswith("Interrupted") and fit.verdict.status == "fail"
    posterior = fit.tree["posterior"]
    assert posterior.sizes["draw"] == fit.info["attempts"][-1]["draws"] >= 1000
    assert np.isfinite(posterior["a"]).all()
    with pytest.raises(bs.NotFittedFor):
        bs.allocate(fit, [1e16])


@pytest.fixture(scope="module")
def runs():
    return bs.load_runs("byte-ladder")


def press(monkeypatch, name):
    """Ctrl-C the first time that a step of a fit begins."""
    real, pressed = getattr(inference, name), []

    def step(*arguments, **options):
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(inference, name, step)


@pytest.mark.parametrize("step", ["_assemble", "_examined"])
def test_ctrl_c_after_sampling_keeps_the_draws(runs, monkeypatch, step):
    press(monkeypatch, step)
    require_marked(bs.fit("chinchilla", runs, **QUICK))


def test_ctrl_c_while_sampling_again_keeps_the_attempt_before(runs, monkeypatch):
    name, sample = inference.sampler_named("auto")

    def diverges_then_stops(model, settings, *, after=None, progress=None):
        if after is not None:
            raise KeyboardInterrupt
        drawn = sample(model, settings, progress=progress)
        diverging = np.ones_like(drawn.stats["diverging"])
        return replace(drawn, stats={**drawn.stats, "diverging": diverging})

    monkeypatch.setattr(inference, "sampler_named", lambda asked: (name, diverges_then_stops))
    with pytest.warns(bs.NotConverged, match="transitions diverged"):
        fit = bs.fit("chinchilla", runs, **QUICK)
    require_marked(fit)
    assert len(fit.info["attempts"]) == 1


def test_ctrl_c_while_chains_go_on_keeps_what_they_have(runs):
    """At least the draws there were, as many of every chain as the shortest has."""
    model, (_, sample) = bs.build_model("chinchilla", runs, group="none"), inference.sampler_named("nuts")
    short = Settings(chains=3, draws=20, warmup=50)
    before = sample(model, short)

    def stop(share, doing):
        raise KeyboardInterrupt

    after = sample(model, replace(short, draws=100_000), after=before, progress=stop)
    assert after.interrupted and 20 <= after.flat.shape[1] < 100_000
    np.testing.assert_array_equal(after.flat[:, :20], before.flat)
    again = sample(model, short, after=before)
    assert again.flat.shape[1] == 20 and not again.interrupted, "no more draws are asked for: chains begin anew"
    np.testing.assert_array_equal(again.flat, before.flat)
    assert sample(model, replace(short, chains=2), after=before).flat.shape[0] == 2


@pytest.mark.parametrize("cores", [1, 3])
def test_chains_wait_for_one_another_where_there_are_few_cores(runs, monkeypatch, cores):
    """Four chains on one core or three: Ctrl-C finds draws of all; on one, no more than a block more of any."""
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    model, (_, sample) = bs.build_model("chinchilla", runs, group="none"), inference.sampler_named("nuts")
    shown = []

    def stop(share, doing):
        shown.append(doing)
        if doing == "sampling" and shown.count("sampling") > 2:
            raise KeyboardInterrupt

    drawn = sample(model, Settings(draws=100_000, warmup=100), progress=stop)
    assert drawn.interrupted and drawn.flat.shape[:1] == (4,)
    done = [c.done for c in drawn.chains]
    assert drawn.flat.shape[1] == min(done) - 100 > 0
    assert cores > 1 or max(done) - min(done) <= BLOCK


def test_ctrl_c_while_warming_up_is_passed_on(runs):
    model, (_, sample) = bs.build_model("chinchilla", runs, group="none"), inference.sampler_named("nuts")

    def stop(share, doing):
        if doing == "warming up":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(model, Settings(draws=1000, warmup=100_000), progress=stop)


def test_ctrl_c_before_the_first_draw_is_passed_on(runs, monkeypatch):
    def stops(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(inference, "sampler_named", lambda asked: ("nuts", stops))
    with pytest.raises(KeyboardInterrupt):
        bs.fit("chinchilla", runs, **QUICK)


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_ctrl_c_in_any_command_is_said_with_code_130(monkeypatch, capsys, json):
    from bayescale.cli import run

    def stops(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("bayescale.diagnostics.doctor", stops)
    assert run(["doctor", "byte-ladder", *json]) == 130
    captured = capsys.readouterr()
    assert "interrupted: doctor was not finished" in captured.err and captured.out == ""


@pytest.mark.parametrize(
    "words, said", [(["audit", "fit"], True), (["fit", "x.csv"], True), (["audit", "fit", "--json"], False)]
)
def test_a_command_that_is_silent_counts_its_seconds(monkeypatch, words, said):
    from bayescale.cli.commands import sign_of_life
    from bayescale.sampling import progress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with sign_of_life(words, patience=1e9):
        assert [line.name for line in progress._waiting] == words[: int(said)]
    assert not progress._waiting


def test_seconds_are_counted_only_while_nothing_else_is_shown():
    now, stream = [0.0], io.StringIO()
    line = Waiting("audit", patience=1.0, stream=stream, clock=lambda: now[0])
    line.tick()
    assert stream.getvalue() == ""
    now[0] = 3.0
    line.tick()
    assert stream.getvalue() == "\raudit: at work … 3 s"
    line.hold(1)
    assert stream.getvalue().endswith("\r") and stream.getvalue().count(" " * 15) == 1, "the line is wiped"
    now[0] = 9.0
    line.tick()
    line.hold(-1)
    line.tick()
    assert "9 s" not in stream.getvalue()
    now[0] = 10.0
    line.tick()
    assert stream.getvalue().endswith("\raudit: at work … 10 s")


@pytest.mark.usefixtures("usual_handler")
def test_ctrl_c_is_answered_before_the_work_in_hand_is_done(capsys):
    from bayescale.cli.commands import ctrl_c_is_heard

    with pytest.raises(KeyboardInterrupt), ctrl_c_is_heard(["batch", "runs.csv"]):
        signal.raise_signal(signal.SIGINT)
    assert "stopping: the tables in hand are finished and kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
