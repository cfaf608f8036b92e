"""How results reach the terminal."""

from __future__ import annotations

import json
from typing import Any


def say(lines: list[str], *, style: str | None = None, err: bool = False) -> None:
    """Print lines; a style shows on a terminal only, and text is never read as markup."""
    from rich.console import Console

    from bayescale.sampling.progress import aside

    console = Console(stderr=err, highlight=False, soft_wrap=True)
    with aside():
        for line in lines:
            console.print(line, markup=False, style=style if style and line.strip() else None)


def print_document(document: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(document, ensure_ascii=False, allow_nan=False))
