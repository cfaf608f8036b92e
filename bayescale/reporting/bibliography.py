"""What a report cites: the law, the data and the tools, as BibTeX and as text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bayescale.datasets import DATASETS
from bayescale.law import Reference
from bayescale.posterior import Fit
from bayescale.reporting.cells import Written
from bayescale.tables.escaping import html_text, latex_text, markdown_text

NUTS = Reference(
    "Hoffman and Gelman", 2014, "The No-U-Turn Sampler: Adaptively Setting Path Lengths in Hamiltonian Monte Carlo",
    "1111.4246",
)  # fmt: skip
NUMPYRO = Reference(
    "Phan, Pradhan and Jankowiak", 2019, "Composable Effects for Flexible and Accelerated Probabilistic Programming in "
    "NumPyro", "1912.11554",
)  # fmt: skip
JAX = Reference(
    "Bradbury et al.", 2018, "JAX: composable transformations of Python+NumPy programs",
    url="https://github.com/jax-ml/jax",
)  # fmt: skip
R_HAT = Reference(
    "Vehtari, Gelman, Simpson, Carpenter and Bürkner", 2021, "Rank-Normalization, Folding, and Localization: An "
    "Improved R-hat for Assessing Convergence of MCMC", "1903.08008",
)  # fmt: skip
MISFITTING = Reference("Li, Kudugunta and Zettlemoyer", 2025, "(Mis)Fitting: A Survey of Scaling Laws", "2502.18969")


@dataclass(frozen=True)
class Entry:
    """One work with its BibTeX key and what it is cited for."""

    key: str
    reference: Reference
    role: str


def entries_of(fit: Fit) -> tuple[Entry, ...]:
    """The works behind a fit, each once: of the law, of the data, and of the tools."""
    dataset = DATASETS.get(fit.info["runs"]["source"])
    roles: list[tuple[str, Sequence[Reference]]] = [
        ("law", fit.law.references),
        ("data", dataset.references if dataset else ()),
        ("tools", (NUTS, NUMPYRO, JAX, R_HAT, MISFITTING)),
    ]
    found: list[Entry] = []
    for role, references in roles:
        for reference in references:
            if any(_same(reference, e.reference) for e in found):
                continue
            found.append(Entry(_key(reference, [e.key for e in found]), reference, role))
    return tuple(found)


def _same(one: Reference, other: Reference) -> bool:
    if one.arxiv and other.arxiv:
        return one.arxiv == other.arxiv
    return (one.authors, one.year, one.title) == (other.authors, other.year, other.title)


def _key(reference: Reference, taken: Sequence[str]) -> str:
    first = re.split(r",| and | et al", reference.authors)[0].split()[-1]
    plain = unicodedata.normalize("NFKD", first).encode("ascii", "ignore").decode()
    stem = f"{re.sub(r'[^a-z]', '', plain.lower()) or 'ref'}{reference.year}"
    return next(k for k in (stem, *(f"{stem}{c}" for c in "bcdefgh")) if k not in taken)


def cite(entries: Sequence[Entry], *references: Reference) -> Written:
    """A citation of works among the entries, in every notation."""
    keys = [e.key for r in references for e in entries if _same(e.reference, r)]
    if not keys:
        return Written("", "", "", "")
    said = "; ".join(f"{e.reference.authors} {e.reference.year}" for e in entries if e.key in keys)
    return Written(rf"~\cite{{{','.join(keys)}}}", f" ({markdown_text(said)})", f" ({html_text(said)})", f" ({said})")


def bibtex(entries: Sequence[Entry], versions: Mapping[str, str]) -> str:
    """The entries as a BibTeX file, bayescale itself last."""
    blocks = []
    for e in entries:
        r = e.reference
        fields = {"author": _authors(r.authors), "title": f"{{{latex_text(r.title)}}}", "year": str(r.year)}
        if r.arxiv:
            fields |= {"journal": f"arXiv preprint arXiv:{r.arxiv}", "eprint": r.arxiv, "archiveprefix": "arXiv"}
        elif r.url:
            fields |= {"howpublished": rf"\url{{{r.url}}}"}
        blocks.append(_block("article" if r.arxiv else "misc", e.key, fields))
    own = {
        "author": "{The bayescale developers}",
        "title": "{bayescale: Bayesian inference for scaling laws}",
        "note": f"Version {latex_text(versions.get('bayescale', ''))}",
    }
    return "\n".join([*blocks, _block("misc", "bayescale", own)])


def _block(kind: str, key: str, fields: Mapping[str, str]) -> str:
    body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@{kind}{{{key},\n{body}}}\n"


def _authors(authors: str) -> str:
    """ "A, B and C" or "A et al." as BibTeX separates names."""
    names = re.split(r",\s*|\s+and\s+", authors.replace(" et al.", " and others"))
    return " and ".join(latex_text(n) for n in names if n)


def listed(entries: Sequence[Entry], versions: Mapping[str, str]) -> list[tuple[str, Written]]:
    """Each work as a line of text with its key, bayescale itself last."""
    made = [
        (e.key, Written(latex_text(e.reference), markdown_text(e.reference), html_text(e.reference), str(e.reference)))
        for e in entries
    ]
    own = (
        f"The bayescale developers, bayescale: Bayesian inference for scaling laws, version {versions.get('bayescale')}"
    )
    return [*made, ("bayescale", Written(latex_text(own), markdown_text(own), html_text(own), own))]
