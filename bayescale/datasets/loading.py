"""Data sets by name: their files, and their runs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from bayescale.datasets.download import pinned_file
from bayescale.datasets.records import Dataset, Subset
from bayescale.datasets.registry import DATASETS
from bayescale.errors import Note, RunsError, nearest
from bayescale.reading import read_runs
from bayescale.runs import Runs

#: What the record of a data set says itself: its columns, how compute was counted, and how finely losses are known.
_RECORDED = ("BS-R030", "BS-R011", "BS-R026")


def load_runs(
    name: str,
    subset: str | None = None,
    where: str | None = None,
    rows_per_run: str | int | None = None,
    learning_rates: str | None = None,
) -> Runs:
    """The runs of a data set, with what its record says about them among the notes.

    `subset` is one of the record's subsets (`"all"` is every row); without it the default is taken. `where` keeps the
    rows for which an expression holds, such as `"params < 1e9"`; `rows_per_run` and `learning_rates` are those of
    `read_runs`, and `learning_rates` starts from every row unless a subset is named. Raises `RunsError` (BS-R037) for
    an unknown name, (BS-R054) for an unknown subset or a filter that cannot be used, (BS-R055) where a download fails.

    Example:
        >>> runs = load_runs("byte-ladder")
        >>> len(runs), runs.loss_unit, len(load_runs("byte-ladder", subset="all"))
        (30, 'nats/byte', 134)
    """
    dataset = find_dataset(name)
    every = learning_rates is not None and subset is None
    label = "all" if every else dataset.default if subset is None else subset
    chosen = _subset(dataset, label)
    with ExitStack() as stack:
        runs = read_runs(
            _open(dataset, stack),
            where=chosen.where,
            columns=dataset.columns,
            loss_unit=dataset.loss_unit,
            rows_per_run=rows_per_run,
            learning_rates=learning_rates,
        )
    said = Note("BS-R052", f"subset {label!r} of {dataset.name}: {chosen.meaning}")
    notes = tuple(n for n in runs.notes if n.code not in _RECORDED)
    runs = replace(runs, source=dataset.name, notes=(said, *notes, *dataset.notes), convention=dataset.convention)
    if dataset.prepare:
        runs = dataset.prepare(runs)
    return runs if where is None else runs.where(where)


def fetch(name: str) -> Path:
    """The path of a data set's file, downloaded and checked first if it is not bundled.

    Raises `RunsError` (BS-R037) for an unknown name, (BS-R055) where the download fails.
    """
    dataset = find_dataset(name)
    return Path(str(_bundled(dataset))) if dataset.bundled else pinned_file(dataset)


def find_dataset(name: str) -> Dataset:
    """The record of a data set.

    Raises `RunsError` (BS-R037) for an unknown name, with those nearest to it.
    """
    if name not in DATASETS:
        raise RunsError(f"no data set is called {name!r}", code="BS-R037", remedy=nearest(str(name), list(DATASETS)))
    return DATASETS[name]


def _subset(dataset: Dataset, label: str) -> Subset:
    if label not in dataset.subsets:
        raise RunsError(
            f"{dataset.name!r} has no subset {label!r}",
            code="BS-R054",
            remedy=nearest(str(label), list(dataset.subsets)),
        )
    return dataset.subsets[label]


def _open(dataset: Dataset, stack: ExitStack) -> Path:
    return stack.enter_context(as_file(_bundled(dataset))) if dataset.bundled else pinned_file(dataset)


def _bundled(dataset: Dataset):
    return files("bayescale.datasets").joinpath(dataset.file)
