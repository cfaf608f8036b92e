"""The time left: from the sampler's own share to that of a whole fit."""

import pytest

from bayescale.sampling import paced
from bayescale.sampling.progress import _AFTER, _WARM_UP, left_said


def told_left(compiling, sampling, steps=20, warm_up=0.5):
    """What is told and what is true during a fit that behaves as assumed: (time, left as told, left in truth)."""
    now, seen = [0.0], []
    report = paced(lambda share, doing: seen.append((now[0], share)), warm_up, clock=lambda: now[0])
    report(0.0, "compiling")
    now[0] = compiling
    report(0.0, "warming up")
    total = warm_up * _WARM_UP + (1 - warm_up)
    for k in range(1, steps + 1):
        share = k / steps
        work = (min(share, warm_up) * _WARM_UP + max(0.0, share - warm_up)) / total
        now[0] = compiling + sampling * work
        report(share, "sampling" if share > warm_up else "warming up")
    end = compiling + sampling + _AFTER * compiling
    return [(t, t * (1 - share) / share, end - t) for t, share in seen if share > 0]


@pytest.mark.parametrize("compiling, sampling", [(6.0, 2.0), (0.5, 60.0), (3.0, 3.0)])
def test_the_time_left_is_right_where_the_fit_goes_as_assumed(compiling, sampling):
    told = told_left(compiling, sampling)
    assert len(told) == 20
    assert all(left == pytest.approx(truth, rel=1e-9) for _, left, truth in told)


def test_nothing_is_told_before_anything_is_known_and_sampling_again_starts_anew():
    now, seen = [0.0], []
    report = paced(lambda share, doing: seen.append(share), 0.5, clock=lambda: now[0])
    for time, share, doing in (
        (0.0, 0.0, "compiling"),
        (2.0, 0.0, "warming up"),
        (4.0, 1.0, "sampling"),
        (4.0, 1.0, "checking"),
        (5.0, 0.0, "compiling"),
        (5.5, 0.5, "warming up"),
        (9.0, 1.0, "checking"),
        (11.0, 1.0, "examining the intervals"),
    ):
        now[0] = time
        report(share, doing)
    assert seen[0] == seen[1] == seen[4] == 0.0
    assert 0 < seen[2] < seen[3] + 1e-9 < 1 and 0 < seen[5] < seen[6] < seen[7] < 1


def test_the_time_left_as_it_is_written():
    assert left_said(0.5, 0.5) == "" and left_said(60.0, 0.0) == "" and left_said(60.0, 1.0) == "nearly done"
    assert left_said(30.0, 0.25) == "1:30 left" and left_said(10.0, 0.9) == "0:01 left"
