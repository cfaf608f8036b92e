"""Markdown of tables and text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A pipe table; a bar inside a cell is escaped."""
    made = [tuple(_cell(c) for c in row) for row in rows]
    if not made:
        return []
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in made),
        "",
    ]


def _cell(content: object) -> str:
    return re.sub(r"[ \n]+", " ", str(content)).strip().replace("|", r"\|")


def maths(latex: str) -> str:
    """A formula inside a line; bars become commands, which a table's cells can hold."""
    return f"${latex.replace('|', r'\vert ')}$"


def plain(text: str) -> str:
    """Text in which nothing is markup but code in single backticks."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_$<\[`])", r"\\\1", part) for part in parts)


def section(level: int, title: str, target: str | None = None) -> list[str]:
    """A heading, with a name to link to."""
    return [*([f"({target})="] if target else []), "#" * level + " " + title, ""]
