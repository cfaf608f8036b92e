"""The group of commands: a sign of life where one takes long, and what Ctrl-C does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

#: Seconds after which a command says that it is at work.
PATIENCE = 1.0
#: Commands with a bar of their own.
_BARS = frozenset({"fit", "batch", "calibrate", "report"})


class Commands(TyperGroup):
    """A group of commands in which nothing on a terminal is silent for long and Ctrl-C is never taken for a failure.

    Commands that keep what they have (`fit`, `batch`) catch Ctrl-C themselves and say so; others leave nothing.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        held = vars(ctx)  # the command's name is under one of two names, by the version of Typer
        words = [*held.get("_protected_args", held.get("protected_args", ())), *ctx.args]
        try:
            with sign_of_life(words):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            from bayescale.cli import INTERRUPTED
            from bayescale.cli.printing import say

            say([f"interrupted: {ctx.invoked_subcommand} was not finished"], err=True)
            raise typer.Exit(INTERRUPTED) from None


@contextmanager
def sign_of_life(words: list[str], patience: float = PATIENCE) -> Iterator[None]:
    """A line on stderr once a command without a bar has taken long, if anybody is looking and wants to hear it."""
    name = next(iter(words), "")
    if not name or name in _BARS or {"--json", "--quiet"} & set(words) or not sys.stderr.isatty():
        yield
        return
    timer = threading.Timer(patience, lambda: print(f"{name}: at work …", file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
