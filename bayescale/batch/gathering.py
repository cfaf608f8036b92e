"""Arrays over all tables, gathered from where they were drawn when they are first looked at."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing


@dataclass(frozen=True, eq=False)
class Part:
    """Some tables' part of an array: their `places` in it, and their `lanes` in what was drawn together.

    `columns` of the last axis are taken where they are given.
    """

    array: Any
    places: np.ndarray
    lanes: np.ndarray
    columns: slice = slice(None)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one table's draws."""
        *lead, last = self.array.shape[1:]
        return (*lead, len(range(*self.columns.indices(last))))


class Gathered(BackendArray):
    """An array (table, chain, draw, …) of the parts, which are let go of once it was looked at.

    Not-a-number where a table has no part, or a smaller one.
    """

    def __init__(self, parts: Sequence[Part], count: int, dtype: Any):
        self.shape = (count, *np.max([p.shape for p in parts], axis=0).tolist())
        self.dtype = np.dtype(dtype)
        self._parts: Sequence[Part] = parts
        self._whole: np.ndarray | None = None
        self._lock = threading.Lock()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, lambda k: self.whole[k]
        )

    @property
    def whole(self) -> np.ndarray:
        """The array, gathered once."""
        with self._lock:
            if self._whole is None:
                self._whole = self._gather()
                self._parts = ()
            return self._whole

    def _gather(self) -> np.ndarray:
        full = sum(len(p.places) for p in self._parts if p.shape == self.shape[1:]) == self.shape[0]
        made = np.empty(self.shape, self.dtype) if full else np.full(self.shape, np.nan, self.dtype)
        for part in self._parts:
            inside = tuple(slice(0, n) for n in part.shape)
            made[(_run(part.places), *inside)] = np.asarray(part.array)[_run(part.lanes)][..., part.columns]
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _held, (self.whole,)


def _run(index: np.ndarray) -> Any:
    """Numbers that follow each other as a slice, which is read without copying them first."""
    return slice(index[0], index[-1] + 1) if (np.diff(index) == 1).all() else index


def _held(array: np.ndarray) -> Gathered:
    every = np.arange(len(array))
    return Gathered([Part(array, every, every)], len(array), array.dtype)


def gathered(parts: Sequence[Part], count: int, dtype: Any = None) -> Any:
    """The parts as data of an xarray variable, read when it is looked at; of their own type where none is given."""
    return indexing.LazilyIndexedArray(Gathered(parts, count, parts[0].array.dtype if dtype is None else dtype))
