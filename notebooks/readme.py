"""Refresh what the README shows: the figure, the terminal output and the table of laws.

Run it from the repository's root after a change to laws, reports or figures: `uv run python notebooks/readme.py`.
"""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import bayescale as bs

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FIGURE = ROOT / "notebooks" / "figures" / "frontier.png"


def printed(*arguments: str) -> str:
    """What a command prints on stdout."""
    command = [sys.executable, "-m", "bayescale", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout.rstrip()


def replaced(text: str, name: str, block: str) -> str:
    """The text with what stands between `<!-- name -->` and `<!-- /name -->` replaced."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
    text, count = pattern.subn(lambda m: m[1] + block + m[2], text)
    assert count == 1, f"the README has {count} blocks named {name}"
    return text


def draw() -> None:
    """The frontier of the bundled ladder, with its bands."""
    from matplotlib import pyplot

    fit = bs.fit("chinchilla", bs.load_runs("byte-ladder"), seed=0)
    figure, ax = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    bs.plot_frontier(fit, ax=ax)
    FIGURE.parent.mkdir(exist_ok=True)
    # No date and no version of matplotlib in the file: the same picture is the same bytes.
    figure.savefig(FIGURE, dpi=140, metadata={"Software": None})


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    text = replaced(text, "fit", f"```text\n{printed('fit', 'byte-ladder')}\n```")
    text = replaced(text, "laws", printed("laws", "--markdown"))
    README.write_text(text, encoding="utf-8")
    draw()
