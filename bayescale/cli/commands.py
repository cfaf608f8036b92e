"""The group of commands: a sign of life where one takes long, and what Ctrl-C does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

#: Seconds after which a command says that it is at work.
PATIENCE = 1.0
#: What commands do with what they have when Ctrl-C comes.
_KEPT = {
    "fit": "the draws so far are kept, if there are enough",
    "batch": "the tables in hand are finished and kept",
    "calibrate": "the tables in hand are finished first",
}


class Commands(TyperGroup):
    """A group of commands in which nothing on a terminal is silent for long and Ctrl-C is never taken for a failure.

    Commands that keep what they have (`fit`, `batch`) catch Ctrl-C themselves and say so; others leave nothing.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        held = vars(ctx)  # the command's name is under one of two names, by the version of Typer
        words = [*held.get("_protected_args", held.get("protected_args", ())), *ctx.args]
        try:
            with sign_of_life(words), ctrl_c_is_heard(words):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            from bayescale.cli import INTERRUPTED
            from bayescale.cli.printing import say

            say([f"interrupted: {ctx.invoked_subcommand} was not finished"], err=True)
            raise typer.Exit(INTERRUPTED) from None


@contextmanager
def sign_of_life(words: list[str], patience: float = PATIENCE) -> Iterator[None]:
    """A line on stderr that counts the seconds while a command shows nothing, if anybody looks and wants to know."""
    name = next(iter(words), "")
    if not name or {"--json", "--quiet"} & set(words) or not sys.stderr.isatty():
        yield
        return
    from bayescale.sampling.progress import waiting

    with waiting(name, patience):
        yield


@contextmanager
def ctrl_c_is_heard(words: list[str]) -> Iterator[None]:
    """The first Ctrl-C of a command that keeps what it has is answered at once: ending may take some seconds."""
    kept = _KEPT.get(next(iter(words), ""))
    usual = signal.getsignal(signal.SIGINT)
    if kept is None or usual is not signal.default_int_handler:  # another thread, or a caller's own handler
        yield
        return

    def hear(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, usual)
        print(f"\nstopping: {kept} (Ctrl-C again: at once)", file=sys.stderr, flush=True)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
