"""A progress bar on a terminal or in a notebook, nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from bayescale.sampling.engine import Progress


def wanted() -> bool:
    """Whether anybody is looking: standard error is a terminal, or this is a Jupyter kernel that can draw a bar."""
    return sys.stderr.isatty() or ("ipykernel" in sys.modules and find_spec("ipywidgets") is not None)


@contextmanager
def progress_bar(progress: bool | Progress | None, title: str) -> Iterator[Progress]:
    """A reporter of progress: the caller's own, a bar with the time left, or one that is silent.

    The time left is that of the work whose share is reported, and begins anew where the share goes back to 0.
    """
    if callable(progress):
        yield progress
        return
    if progress is False or (progress is None and not wanted()):
        yield lambda share, doing: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress as Bar, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    timer = Timer()

    class TimeLeft(ProgressColumn):
        """What the timer says, asked at every refresh: it counts down between two reports."""

        def render(self, task: Task) -> Text:
            return Text(timer.said(), style="progress.remaining")

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
            timer.hear(share)
            bar.update(task, completed=share, description=f"{title}: {doing}")

        yield report


class Timer:
    """The time that is left of a piece of work, from the share of it that is done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.began, self.share, self.end = clock(), 0.0, None

    def hear(self, share: float) -> None:
        """Take note of a share: at 0 the work begins, and what is done by then is not counted."""
        now = self.clock()
        if share < self.share or share <= 0:
            self.began = now
        elif share > self.share:
            self.end = now + (now - self.began) * (1 - share) / share
        self.share = share

    def left(self) -> float | None:
        """Seconds left, or None while or once there is nothing to tell."""
        if not 0 < self.share < 1 or self.end is None:
            return None
        return max(0.0, self.end - self.clock())

    def said(self) -> str:
        """The time left in minutes and seconds."""
        left = self.left()
        return "" if left is None else f"{round(left) // 60}:{round(left) % 60:02d} left"
