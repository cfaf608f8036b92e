"""What a data set is: where its rows come from, what its columns mean, and what a reader must know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bayescale.errors import Note
from bayescale.law import Reference
from bayescale.runs import Runs


@dataclass(frozen=True)
class Subset:
    """A named choice of rows: a sentence, and the condition that they satisfy (None: all rows)."""

    meaning: str
    where: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A table that bayescale knows by name.

    `file` is bundled with the package, unless `url` says where to download it; `sha256` is then what it must hash to.
    `columns` maps canonical names to headers where the headers do not tell, `prepare` adds what the table lacks, and
    `notes` are part of every reading of it. `default` names the subset that is taken where none is asked for.
    `provenance` answers what a reader asks about how the runs were made: domain, data, repeats, hyperparameters,
    architecture, training code, checkpoints, evaluation; what is not known is left out. `origin` says where a table
    comes from that no work of `references` describes.
    """

    name: str
    title: str
    description: str
    references: tuple[Reference, ...]
    licence: str
    file: str
    loss_unit: str
    subsets: Mapping[str, Subset]
    default: str
    url: str | None = None
    sha256: str | None = None
    convention: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    prepare: Callable[[Runs], Runs] | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""

    def __post_init__(self):
        if self.default not in self.subsets or "all" not in self.subsets:
            raise ValueError(f"data set {self.name!r} needs the subsets 'all' and {self.default!r}")
        if (self.url is None) != (self.sha256 is None):
            raise ValueError(f"data set {self.name!r}: a download is pinned by an address and a checksum")
        if not (self.references or self.origin):
            raise ValueError(f"data set {self.name!r} needs references, or its origin")

    @property
    def bundled(self) -> bool:
        """Whether the table comes with the package."""
        return self.url is None

    @property
    def citation(self) -> str:
        """Where the table comes from, as one would cite it."""
        return "; ".join(map(str, self.references)) or self.origin
