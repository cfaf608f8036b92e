"""Ctrl-C in any command: said on stderr, exit code 130."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class Interruptible(TyperGroup):
    """A group of commands in which Ctrl-C is never silent, and never taken for a failure.

    Commands that keep what they have (`fit`, `batch`) catch it themselves and say so; of the others nothing is left.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from bayescale.cli import INTERRUPTED
            from bayescale.cli.printing import say

            say([f"interrupted: {ctx.invoked_subcommand} was not finished"], err=True)
            raise typer.Exit(INTERRUPTED) from None
