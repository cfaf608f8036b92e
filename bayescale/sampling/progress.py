"""A progress bar on a terminal or in a notebook, nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from bayescale.sampling.engine import Progress

#: A draw of the warm-up takes about as long as this many later ones: its first trajectories are long.
_WARM_UP = 3.5
#: What comes after sampling takes about this many times as long as compiling: it compiles programs of its own.
_AFTER = 1.1
#: The part of that which is left when the checks are done and the intervals are examined.
_EXAMINING = 0.6


def wanted() -> bool:
    """Whether anybody is looking: standard error is a terminal, or this is a Jupyter kernel that can draw a bar."""
    return sys.stderr.isatty() or ("ipykernel" in sys.modules and find_spec("ipywidgets") is not None)


@contextmanager
def progress_bar(progress: bool | Progress | None, title: str) -> Iterator[Progress]:
    """A reporter of progress: the caller's own, a bar with the time left, or one that is silent."""
    if callable(progress):
        yield progress
        return
    if progress is False or (progress is None and not wanted()):
        yield lambda share, doing: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress as Bar, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """The time left if the rest takes as long for its share as what is done did."""

        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            return Text(left_said(task.elapsed or 0.0, task.completed), style="progress.remaining")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeLeft(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)

        def report(share: float, doing: str) -> None:
            bar.update(task, completed=share, description=f"{title}: {doing}")

        yield report


def left_said(elapsed: float, share: float) -> str:
    """The time left after some seconds at a share of the work, in minutes and seconds; empty while it is unknown."""
    if share <= 0 or elapsed < 1:
        return ""
    if share >= 1:
        return "nearly done"
    seconds = round(elapsed * (1 - share) / share)
    return f"{seconds // 60}:{seconds % 60:02d} left"


def paced(report: Progress, warm_up: float, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Progress of a whole fit, by time, from what its sampler and the steps after it report.

    `warm_up` is the share of the draws that are warm-up. A sampler tells only how far it is itself; what compiling took
    tells what the checks after it will, and draws of the warm-up are slower than those after it. Sampling again puts
    the share back.
    """
    origin = clock()
    began, sampling, compiling = origin, None, 0.0
    total = warm_up * _WARM_UP + (1 - warm_up)

    def told(share: float, doing: str) -> None:
        nonlocal began, sampling, compiling
        now = clock()
        left: float | None = 0.0
        if doing == "compiling":
            began, sampling, left = now, None, None
        elif doing in ("warming up", "sampling"):
            if sampling is None:
                sampling, compiling = now, max(compiling, now - began)
            done = (min(share, warm_up) * _WARM_UP + max(0.0, share - warm_up)) / total
            left = (now - sampling) * (1 - done) / done if done > 0 else None
        if left is None:  # nothing is known yet
            report(0.0, doing)
            return
        after = _AFTER * compiling * (_EXAMINING if doing == "examining the intervals" else 1.0)
        elapsed = max(now - origin, 1e-9)
        report(elapsed / (elapsed + left + after), doing)

    return told
