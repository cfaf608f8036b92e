"""A progress bar on a terminal or in a notebook, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from bayescale.sampling.engine import Progress


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
    from rich.progress import BarColumn, Progress as Bar, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)

        def report(share: float, doing: str) -> None:
            bar.update(task, completed=share, description=f"{title}: {doing}")

        yield report
