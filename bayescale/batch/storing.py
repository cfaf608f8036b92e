"""A batch in parts: joined to one, and kept in a folder so that a long batch can be stopped and gone on with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayescale.batch.assembling import completed
from bayescale.batch.preparing import Task
from bayescale.errors import FitError, cannot_be_written
from bayescale.law import Law
from bayescale.posterior import Batch, load_fit

if TYPE_CHECKING:
    import pandas as pd

#: Tables of one part: written together, and lost together when the machine stops.
BLOCK = 100


class Store:
    """A folder of parts, `part-0000.nc` and so on; each is a batch of its own that `load_fit` reads."""

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_be_written(error, str(folder)) from None
        self.files = sorted(self.folder.glob("part-*.nc"))

    def found(self, tasks: Sequence[Task], law: Law) -> list[Batch]:
        """The finished results of these tables, as long as nothing that they depend on has changed.

        Raises `FitError` (BS-F004) when the folder holds results of another law.
        """
        wanted = {t.name: t.fingerprint for t in tasks}
        parts = []
        for file in self.files:
            part = load_fit(file, law)
            if not isinstance(part, Batch):
                raise FitError("is not part of a batch", code="BS-F004", file=str(file), remedy="Give another folder.")
            same = [n for n in part.names if part.info["datasets"][n]["fingerprint"] == wanted.get(n)]
            if same:
                parts.append(selected(part, same))
                wanted = {n: f for n, f in wanted.items() if n not in same}
        return parts

    def add(self, part: Batch) -> None:
        """Write one more part, if there is anything in it; its name appears only when the file is whole."""
        if not part.names:
            return
        taken = [int(n) for f in self.folder.glob("part-*.nc") if (n := f.stem.removeprefix("part-")).isdigit()]
        for number in count(max(taken, default=-1) + 1):
            try:
                self.files.append(part.save(self.folder / f"part-{number:04d}.nc"))
            except FitError as error:
                if error.code != "BS-U002":  # otherwise another process writes to the same folder
                    raise
            else:
                return


def selected(batch: Batch, names: Sequence[str]) -> Batch:
    """The part of a batch that holds these tables."""
    positions = [batch.names.index(n) for n in names]
    tree = type(batch.tree).from_dict(
        {group: node.to_dataset().isel(dataset=positions) for group, node in batch.tree.children.items()}
    )
    datasets = {n: batch.info["datasets"][n] for n in names}
    tables = {n: batch.tables[n] for n in names}
    return Batch(tree, batch.law, {**batch.info, "datasets": datasets}, batch.status.loc[list(names)], tables)


def joined(parts: Sequence[Batch], law: Law, names: Sequence[str], refused: Mapping[str, str]) -> Batch:
    """One batch of all parts, in the order of the names; tables that were refused are in its status alone."""
    import xarray as xr

    filled = [p for p in parts if p.names] or list(parts)[:1]
    sampled = {n for p in filled for n in p.names}
    order = [n for n in names if n in sampled]
    first = filled[0]
    if len(filled) == 1 and [*first.names] == order:
        return replace(first, law=law, status=_statuses(names, parts, refused))
    tree, datasets = first.tree, dict(first.info["datasets"])
    if len(filled) > 1:
        groups: dict[str, Any] = {}
        for group in first.tree.children:
            found = [p.tree[group].to_dataset() for p in filled]
            groups[group] = xr.concat(found, dim="dataset", join="outer", data_vars="all", combine_attrs="override")
        tree = xr.DataTree.from_dict(groups)
        datasets = {n: info for p in filled for n, info in p.info["datasets"].items()}
        every = [str(v) for v in tree["posterior"].data_vars]
        for part in filled:
            there = {str(v) for v in part.tree["posterior"].data_vars}
            for name in part.names:
                absent = {*datasets[name]["absent"]}
                gone = [v for v in every if v not in there or v in absent]
                datasets[name] = {**datasets[name], "absent": gone}
    whole = Batch(
        tree,
        law,
        {**first.info, "datasets": datasets, "group": sorted({c for i in datasets.values() for c in i["group"]})},
        _statuses(names, parts, refused),
        {n: t for p in filled for n, t in p.tables.items()},
    )
    return whole if list(datasets) == order else replace(selected(whole, order), status=whole.status)


def _statuses(names: Sequence[str], parts: Sequence[Batch], refused: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd

    found = [p.status for p in parts if len(p.status)] or [parts[0].status]
    return completed(found[0] if len(found) == 1 else pd.concat(found), names, refused)
