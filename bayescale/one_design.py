"""Tables of one design: the same runs with other responses, as simulations and bootstraps make them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bayescale.errors import RunsError, nearest
from bayescale.runs import Runs, require_runs


@dataclass(frozen=True, eq=False)
class OneDesign(Mapping[str, Runs]):
    """Tables by name that have the same runs and differ in some columns, such as thousands of simulated losses.

    `columns` holds what differs, each of shape (tables, rows); `names` default to "table-0", "table-1", …. A table is
    made when it is asked for; what is written into `runs` or the arrays later does not matter. Given to `fit_many`,
    what all tables share is looked at once: many times as fast as table by table, with the same results.

    Raises `RunsError` when the runs have no such column, or numbers where text is given, when the shapes do not agree,
    or a name is given twice.

    Example:
        >>> import bayescale as bs, numpy as np
        >>> runs = bs.load_runs("byte-ladder")
        >>> noise = np.random.default_rng(0).normal(0, 0.01, (1000, len(runs)))
        >>> worlds = bs.OneDesign(runs, {"loss": runs.values("loss") * np.exp(noise)})
        >>> len(worlds), len(worlds["table-7"])
        (1000, 30)
    """

    runs: Runs
    columns: Mapping[str, Any]
    names: tuple[str, ...] = ()

    def __post_init__(self):
        require_runs(self.runs)
        columns = {self.runs.resolve(c): np.array(v) for c, v in self.columns.items()}
        for c, v in columns.items():
            if c not in self.runs.columns:
                raise RunsError(
                    f"no column {c!r} to differ in",
                    code="BS-R030",
                    file=self.runs.source,
                    remedy=nearest(c, self.runs.columns),
                )
            if self.runs.frame[c].dtype.kind in "fiu" and v.dtype.kind not in "fiub":
                raise RunsError("must hold numbers", column=c, file=self.runs.source, remedy="Give an array of floats.")
        shapes = {v.shape for v in columns.values()}
        count = len(self.names) or (next(iter(shapes), (0,)) or (0,))[0]
        if shapes != {(count, len(self.runs))}:
            told = ", ".join(f"{c!r} of shape {v.shape}" for c, v in columns.items()) or "no column"
            wanted = f"{len(self.names)} names" if self.names else "tables"
            raise RunsError(
                f"{told}, for {wanted} of {len(self.runs)} runs",
                file=self.runs.source,
                remedy="Give arrays of shape (tables, rows).",
            )
        names = tuple(map(str, self.names)) or tuple(f"table-{k}" for k in range(count))
        for values in columns.values():
            values.setflags(write=False)
        object.__setattr__(self, "runs", self.runs.as_now())
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "names", names)
        if len(self._positions) < count:
            raise RunsError("two tables have one name", file=self.runs.source, remedy="Give every table its own.")

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.names)}

    def __getitem__(self, name: str) -> Runs:
        k = self._positions[name]
        frame = self.runs.frame.assign(**{c: v[k] for c, v in self.columns.items()})
        return replace(self.runs, frame=frame, source=name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def __repr__(self) -> str:
        return f"<OneDesign: {len(self)} tables of {len(self.runs)} runs that differ in {', '.join(self.columns)}>"
