"""A progress bar on a terminal or in a notebook, a line that counts seconds between bars, nothing elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TextIO

from bayescale.sampling.engine import Progress


def wanted() -> bool:
    """Whether anybody is looking: standard error is a terminal, or this is a Jupyter kernel that can draw a bar."""
    if sys.stderr.isatty():
        return True
    kernel = sys.modules.get("ipykernel.kernelapp")  # a program that only imports it is no kernel
    return kernel is not None and kernel.IPKernelApp.initialized() and find_spec("ipywidgets") is not None


@contextmanager
def progress_bar(progress: bool | Progress | None, title: str, *, steady: bool = True) -> Iterator[Progress]:
    """A reporter of progress: the caller's own, a bar with the time left, or one that is silent.

    The time left is that of the work whose share is reported, and begins anew where the share goes back to 0. None is
    told of work that is not `steady`: whose parts compile programs of their own, or take longer than one another.
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
            return Text(timer.said() if steady else "", style="progress.remaining")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeLeft(),
    )
    with aside(), Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)

        def report(share: float, doing: str) -> None:
            timer.hear(share)
            bar.update(task, completed=share, description=f"{title}: {doing}")

        yield report


def part_of(report: Progress, begin: float, end: float) -> Progress:
    """A reporter of a part of the work, that from share `begin` to share `end` of the whole."""
    return lambda share, doing: report(begin + (end - begin) * share, doing)


class Waiting:
    """A line of a terminal that counts the seconds of a command while it shows nothing else.

    It appears after `patience` seconds of silence, and is wiped before anything else is written (`aside`).
    """

    def __init__(
        self, name: str, patience: float, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ):
        self.name, self.patience, self.clock = name, patience, clock
        self.stream = sys.stderr if stream is None else stream
        self.began = self.heard = clock()
        self.shown, self.held = 0, 0
        self.lock = threading.Lock()

    def tick(self) -> None:
        """Write the line anew, if nothing else has been shown for long."""
        now = self.clock()
        with self.lock:
            if not self.held and now - self.heard >= self.patience:
                line = f"{self.name}: at work … {now - self.began:.0f} s"
                self.stream.write("\r" + line.ljust(self.shown))
                self.stream.flush()
                self.shown = len(line)

    def hold(self, by: int) -> None:
        """Wipe the line and keep still (1), or let it come again after some patience (-1)."""
        with self.lock:
            self.held += by
            self.heard = self.clock()
            if self.shown:
                self.stream.write("\r" + " " * self.shown + "\r")
                self.stream.flush()
            self.shown = 0


_waiting: list[Waiting] = []


@contextmanager
def waiting(name: str, patience: float, every: float = 0.5) -> Iterator[None]:
    """Count the seconds of a command on standard error whenever it is silent for longer than `patience`."""
    line, ended = Waiting(name, patience), threading.Event()

    def count() -> None:
        while not ended.wait(every):
            line.tick()

    thread = threading.Thread(target=count, name="bayescale-waiting", daemon=True)
    _waiting.append(line)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _waiting.remove(line)
        line.hold(1)


@contextmanager
def aside() -> Iterator[None]:
    """Something else is shown meanwhile: the line that counts seconds is wiped and waits."""
    lines = [*_waiting]
    for line in lines:
        line.hold(1)
    try:
        yield
    finally:
        for line in lines:
            line.hold(-1)


#: Before so much of the work is done nothing is told of the time left: it would be a guess from its first piece.
LEAST_DONE = 0.15


class Timer:
    """The time that is left of a piece of work, from the share of it that is done.

    The clock starts at the first share above 0: until then programs compile and tables are read.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.share, self.end = 0.0, None
        self._first = 0.0
        self._heard: deque[tuple[float, float]] = deque()

    def hear(self, share: float) -> None:
        """Take note of a share: at 0, or where it falls, the work begins anew.

        The pace is that of the later half of what is done: a warm-up is not the pace of what follows it.
        """
        now = self.clock()
        if share <= 0 or self.share <= 0 or share < self.share:
            self._first, self._heard, self.end = share, deque([(now, share)]), None
        elif share > self.share:
            half = (self._first + share) / 2
            while len(self._heard) > 1 and self._heard[1][1] <= half:
                self._heard.popleft()
            began, done = self._heard[0]
            self.end = now + (now - began) * (1 - share) / (share - done)
            self._heard.append((now, share))
        self.share = share

    def left(self) -> float | None:
        """Seconds left, or None while or once there is nothing to tell."""
        if not LEAST_DONE <= self.share < 1 or self.end is None:
            return None
        return max(0.0, self.end - self.clock())

    def said(self) -> str:
        """The time left in minutes and seconds."""
        left = self.left()
        return "" if left is None else f"{round(left) // 60}:{round(left) % 60:02d} left"
