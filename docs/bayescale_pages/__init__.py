"""Pages made from the package itself, before Sphinx reads any: laws, codes, commands, names, evidence, notebooks.

Each page is a function that returns Markdown, so that a test can read it without Sphinx.
"""

from __future__ import annotations

from pathlib import Path

from bayescale_pages.codes import codes_page
from bayescale_pages.commands import commands_page
from bayescale_pages.evidence import evidence_page
from bayescale_pages.interface import interface_pages
from bayescale_pages.laws import catalogue_pages, choice_page

ROOT = Path(__file__).resolve().parents[2]
#: Where generated pages go, inside the folder of the sources.
FOLDER = "generated"
#: Not run, and said so, where this table is not at hand.
NEEDS_TABLE = "besiroglu2024"


def pages() -> dict[str, str]:
    """Every generated page by its name, as Markdown."""
    return {
        "choice": choice_page(),
        **{f"catalogue/{name}": page for name, page in catalogue_pages().items()},
        "codes": codes_page(),
        "commands": commands_page(),
        **{f"api/{name}": page for name, page in interface_pages().items()},
        "evidence": evidence_page(ROOT / "benchmarks"),
    }


def notebooks() -> list[Path]:
    """The notebooks, in their order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def write_pages(source: Path) -> None:
    """Write what changed, so that Sphinx reads only that again, and delete what is no longer made."""
    folder = source / FOLDER
    made = {folder / f"{name}.md": text.encode() for name, text in pages().items()}
    made |= {folder / "notebooks" / path.name: path.read_bytes() for path in notebooks()}
    for path, content in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    for path in [p for p in folder.rglob("*") if p.is_file() and p not in made]:
        path.unlink()


def has_table(name: str) -> bool:
    """Whether a data set is bundled, at hand, or can be fetched now."""
    from bayescale.datasets import fetch
    from bayescale.errors import BayescaleError

    try:
        fetch(name)
    except BayescaleError:
        return False
    return True


def _generate(app) -> None:
    source = Path(app.srcdir)
    write_pages(source)
    if not has_table(NEEDS_TABLE):
        from sphinx.util import logging

        without = [p for p in notebooks() if NEEDS_TABLE in p.read_text(encoding="utf-8")]
        app.config.nb_execution_excludepatterns = [f"*/{p.name}" for p in without]
        names = ", ".join(p.name for p in without)
        logging.getLogger(__name__).info(f"{NEEDS_TABLE} is not at hand: {names} is shown without outputs")


def setup(app):
    """Generate the pages when Sphinx has read its configuration."""
    app.connect("builder-inited", _generate, priority=100)
    app.add_css_file("tables.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}


__all__ = ["FOLDER", "ROOT", "notebooks", "pages", "setup", "write_pages"]
