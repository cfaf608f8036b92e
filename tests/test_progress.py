"""The time left of a piece of work."""

import pytest

from bayescale.sampling import Settings
from bayescale.sampling.engine import WARM_UP_WORK
from bayescale.sampling.progress import Timer


def test_the_time_left_of_steady_work_is_right_and_counts_down_between_reports():
    now = [0.0]
    timer = Timer(lambda: now[0])
    timer.hear(0.0)
    assert timer.said() == ""
    now[0] = 50.0  # what came before the first share, compiling too, tells nothing of the rest
    timer.hear(0.1)
    assert timer.said() == ""
    for share in (0.25, 0.5, 0.9):
        now[0] = 30 + 200 * share
        timer.hear(share)
        assert timer.left() == pytest.approx(200 * (1 - share))
    now[0] += 15
    assert timer.left() == pytest.approx(5.0) and timer.said() == "0:05 left"
    now[0] += 15
    assert timer.left() == 0.0, "late, and never negative"
    timer.hear(1.0)
    assert timer.left() is None and timer.said() == ""


def test_the_pace_is_that_of_the_later_half():
    """Nothing is told at first; a slow beginning, as a warm-up that was taken for lighter than it is, is forgotten."""
    now = [0.0]
    timer = Timer(lambda: now[0])
    timer.hear(0.01)
    now[0] = 30.0
    timer.hear(0.1)
    assert timer.said() == ""
    for k in range(2, 7):
        now[0] = 30.0 + 10 * (k - 1)
        timer.hear(0.1 * k)
    assert timer.left() == pytest.approx(40.0)  # 10 s a tenth, not the average


def test_work_that_is_done_again_is_timed_anew():
    now = [0.0]
    timer = Timer(lambda: now[0])
    timer.hear(0.0)
    now[0] = 10.0
    timer.hear(1.0)
    now[0] = 100.0
    timer.hear(0.0)
    assert timer.left() is None
    timer.hear(0.25)
    now[0] = 130.0
    timer.hear(0.5)
    assert timer.said() == "1:00 left"


def test_draws_of_the_warm_up_are_more_work():
    settings = Settings(draws=1000, warmup=500)
    assert settings.work(500) == 500 * WARM_UP_WORK and settings.work(1500) == settings.work(500) + 1000
    assert settings.work(0) == 0


def test_a_module_that_is_imported_is_no_kernel(monkeypatch):
    """A bar is drawn for a running kernel, not for a program that imports its package."""
    import sys
    from types import SimpleNamespace

    from bayescale.sampling import progress

    monkeypatch.setattr(progress, "find_spec", lambda name: object())
    for running in (False, True):
        app = SimpleNamespace(IPKernelApp=SimpleNamespace(initialized=lambda running=running: running))
        monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", app)
        assert progress.wanted() is running
