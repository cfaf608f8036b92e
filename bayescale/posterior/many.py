"""Many fits of one law as one record with a `dataset` dimension, and verbs that answer for each of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayescale.errors import FitError, NotFittedFor, nearest
from bayescale.model import available_cores
from bayescale.posterior.fit import Fit, Quantity, kept_runs, summarise
from bayescale.posterior.tree import SLASH, constant_of
from bayescale.runs import Runs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

#: Tables whose draws are summarised at once.
_TOGETHER = 64
#: What became of a table: trusted, sampled but not trusted, or not sampled at all.
CERTIFIED, UNCERTIFIED, FAILED = "certified", "uncertified", "failed"


def of_one_table() -> NotFittedFor:
    """What a batch answers to a question that only one of its tables can."""
    return NotFittedFor(
        "this is a batch of tables, and the question is about one", code="BS-F002", remedy="Ask batch[name]."
    )


class _Shared(dict[str, Any]):
    """What all tables of a batch say of themselves; what each says for itself is refused, not missed."""

    def __missing__(self, key: str) -> Any:
        raise of_one_table()


@dataclass(frozen=True, eq=False)
class Batch(Fit):
    """The fits of many tables: a `Fit` whose arrays have a leading dimension `dataset`.

    `status` has one row a table: whether it is certified, at which rung of the ladder, what it cost, and a sentence;
    then its verdict, which alarms went off if it was examined, and where its headline comes from.
    `batch[name]` is the fit of one table. `allocate`, `forecast`, `check`, `regret`, `reach`, `serve`, `multiplier` and
    `examined` take a batch and answer for its certified tables; what is of one table alone says so.
    `tree` holds those that were sampled; numbers that a table does not have (as the spread of a grouping that only
    others have) are not-a-number there. `tables` holds the runs by name.

    Example:
        >>> batch = bs.fit_many("chinchilla", {"byte-ladder": bs.load_runs("byte-ladder")})  # doctest: +SKIP
        >>> batch.status.loc["byte-ladder", "status"]  # doctest: +SKIP
        'certified'
    """

    status: pd.DataFrame
    tables: Mapping[str, Runs]

    def __post_init__(self):
        options = _Shared(self.info.get("options", {}))
        object.__setattr__(self, "info", _Shared({**self.info, "options": options}))

    @property
    def runs(self) -> Runs:
        """None of its own: raises `NotFittedFor`; `tables` holds the runs by name."""
        raise of_one_table()

    @property
    def names(self) -> tuple[str, ...]:
        """The tables that were sampled, certified or not."""
        return tuple(self.info["datasets"])

    @property
    def certified(self) -> tuple[str, ...]:
        """The tables whose results can be trusted as far as the sampler goes."""
        became = self.status["status"].to_dict()
        return tuple(n for n in self.names if became[n] == CERTIFIED)

    @property
    def examined(self) -> bool:
        """Whether the intervals of every certified table were examined."""
        return bool(self.certified) and all(self.info["datasets"][n]["audit"] for n in self.certified)

    @property
    def converged(self) -> bool:
        """Whether every table is certified."""
        return len(self.certified) == len(self.status)

    def __getitem__(self, name: str) -> Fit:
        import xarray as xr

        if name not in self.tables or name not in self.names:
            why = f": {self.status.loc[name, 'sentence']}" if name in self.status.index else ""
            remedy = None if why else nearest(str(name), list(self.names))
            raise FitError(f"no fit of {name!r} in this batch{why}", code="BS-F004", remedy=remedy)
        info, position = self.info["datasets"][name], self.names.index(name)
        groups = {g: _one(node.to_dataset(), position, info) for g, node in self.tree.children.items()}
        runs = self.tables[name]
        groups["constant_data"] = constant_of(runs)
        groups["headline"] = groups["headline"][info["reported"]]
        return Fit(xr.DataTree.from_dict(groups), self.law, info)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def summary(self, prob: float | None = None) -> pd.DataFrame:
        """Every reported quantity of every sampled table, indexed by data set and quantity.

        Column `headline` says where a table's intervals come from: "posterior", "sandwich" (widened by `examined`), or
        "none": they may not be headlined.
        """
        import pandas as pd

        prob = self.probability(prob)
        headline, posterior = self.tree["headline"].to_dataset(), self.tree["posterior"].to_dataset()
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for variable in headline.data_vars:
            if headline[variable].ndim == 3:  # a number a draw: all tables at once
                there = [n for n in self.names if variable in self.info["datasets"][n]["reported"]]
                shown, own = (d[variable].sel(dataset=there).to_numpy() for d in (headline, posterior))
                found = _summarised(own, prob, shown)
                for n, q in zip(there, found, strict=True):
                    told = [self.info["datasets"][n].get(k, {}).get(variable) for k in ("narrowness", "prior_share")]
                    rows[n, str(variable)] = replace(q, narrowness=told[0], prior_share=told[1]).__dict__
        if any(v.ndim > 3 for v in headline.data_vars.values()):
            rows |= {(n, q): v.__dict__ for n in self.names for q, v in self[n].quantities(prob).items()}
        index = pd.MultiIndex.from_tuples(list(rows), names=["dataset", "quantity"])
        made = pd.DataFrame(list(rows.values()), index=index).astype(float)
        order = {n: k for k, n in enumerate(self.names)}
        made = made.sort_index(level="dataset", key=lambda x: x.map(order), sort_remaining=False, kind="stable")
        certified = {*self.certified}
        made.insert(0, "certified", [name in certified for name, _ in made.index])
        sources = self.status["headline"].to_dict()
        made["headline"] = [sources[name] for name, _ in made.index]
        made.attrs["prob"] = prob
        return made

    def each(self, verb: Callable[..., Any], *arguments: Any, **options: Any) -> Answers:
        """A verb's answer for every certified table; one whose own fit cannot answer is left out with the reason."""
        found: dict[str, Any] = {}
        why = {n: str(self.status.loc[n, "sentence"]) for n in self.status.index}
        for name in self.certified:
            try:
                found[name] = verb(self[name], *arguments, **options)
            except NotFittedFor as error:
                why[name] = str(error)
        if self.certified and not found:  # a fault of the question, not of a table
            return verb(self[self.certified[0]], *arguments, **options)
        sources = {n: self.info["datasets"][n]["headline_source"] for n in found}
        return Answers(found, {n: w for n, w in why.items() if n not in found}, sources)

    def to_json(self) -> dict[str, Any]:
        """The document that `bayescale batch --json` prints: one entry a table."""
        return import_module("bayescale.tables.many").batch_document(self, {})

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the batch to one netCDF file; raises `FitError` when it exists and `force` is not given."""
        import xarray as xr

        if not self.names:
            raise FitError("no table of this batch was sampled: there is nothing to save", code="BS-F004")
        tree = self.tree.copy()
        frames = [self.tables[n].frame.assign(**{_ROW: self.tables[n].frame.index, _NAME: n}) for n in self.names]
        tree["tables"] = xr.DataTree(_columns_of(frames))
        status = [
            {k: v.item() if hasattr(v, "item") else v for k, v in row.items() if v == v}
            for row in self.status.reset_index().to_dict("records")
        ]
        datasets = {n: {**info, "numbers": _numbers(self.tables[n])} for n, info in self.info["datasets"].items()}
        return Fit(tree, self.law, {**self.info, "datasets": datasets, "status": status}).save(path, force=force)

    def __repr__(self) -> str:
        counts = self.status["status"].value_counts()
        told = ", ".join(f"{counts[s]} {s}" for s in (CERTIFIED, UNCERTIFIED, FAILED) if s in counts)
        if self.examined:
            verdicts = self.status.loc[list(self.certified), "verdict"].value_counts()
            honest = ", ".join(f"{verdicts[s]} {s}" for s in ("pass", "warn", "fail") if s in verdicts)
            honest = f"Intervals were examined: {honest}"
        else:
            honest = "Certified is the sampling; whether intervals are honest: bs.examined(batch)"
        return f"<Batch of {self.law.spec} on {len(self.status)} tables: {told}; {self.noise} noise. {honest}>"

    def _repr_html_(self) -> str:
        import html

        return f"<p><b>{html.escape(repr(self)[1:-1])}</b></p>{self.status.to_html(float_format='%.4g')}"


def _summarised(draws: np.ndarray, prob: float, headline: np.ndarray) -> list[Quantity]:
    """`summarise` of many tables, in blocks that fit a core's cache, side by side: NumPy's sorts hold up no thread."""

    def one(k: int) -> list[Quantity]:
        return summarise(draws[k : k + _TOGETHER], prob, headline[k : k + _TOGETHER])

    with ThreadPoolExecutor(available_cores()) as pool:
        return [q for part in pool.map(one, range(0, len(draws), _TOGETHER)) for q in part]


def with_verdicts(status: pd.DataFrame, datasets: Mapping[str, Any]) -> pd.DataFrame:
    """The status with every sampled table's verdict, the alarms of its examination, and its headline's source."""
    columns: dict[str, list[str | None]] = {"verdict": [], "alarms": [], "headline": []}
    for name in status.index:
        info = datasets.get(name)
        columns["verdict"].append(info["verdict"]["status"] if info else None)
        columns["headline"].append(info["headline_source"] if info else None)
        alarms = (
            ", ".join(f["code"] for f in info["audit"] if f["status"] == "fail") if info and info["audit"] else None
        )
        columns["alarms"].append(alarms)
    return status.assign(**columns)


#: Columns of a saved batch's runs beside their own: which table a row is of, and its number there.
_NAME, _ROW = "__dataset__", "__row__"
#: The dimension along which effects of a grouping are kept: `position_<column>`, its labels in the table's info.
POSITION = "position_"


def _one(dataset: xr.Dataset, position: int, info: Mapping[str, Any]) -> xr.Dataset:
    """One table's part of a group: variables that it has, effects with their levels' names."""
    made = dataset.isel(dataset=position, drop=True)
    made = made.drop_vars([n for n in made.data_vars if n in info["absent"]])
    for column, levels in info["levels"].items():
        if (dim := f"{POSITION}{column}") in made.dims:
            made = made.isel({dim: slice(0, len(levels))}).rename({dim: f"level_{column}"})
            made = made.assign_coords({f"level_{column}": list(levels)})
    for dim, labels in info["axes"].items():
        if dim in made.dims:
            made = made.isel({dim: slice(0, len(labels))}).assign_coords({dim: list(labels)})
    if "coordinate" in made.dims:
        made = made.isel(coordinate=slice(0, len(info["coordinates"]))).assign_coords(coordinate=info["coordinates"])
    return made


def _numbers(runs: Runs) -> dict[str, str]:
    """The types of columns of numbers: beside another table's text they are kept as text."""
    return {str(c): str(kind) for c, kind in runs.frame.dtypes.items() if kind.kind in "fiub"}


def _columns_of(frames: list[pd.DataFrame]) -> xr.Dataset:
    import pandas as pd
    import xarray as xr

    joined = pd.concat(frames, ignore_index=True)
    text = {c for c in joined if joined[c].dtype.kind not in "fiub"}
    columns = {
        c: joined[c].fillna("").astype(str).to_numpy(object) if c in text else joined[c].to_numpy() for c in joined
    }
    return xr.Dataset({str(c).replace("/", SLASH): ("line", v) for c, v in columns.items()})


def loaded(fit: Fit) -> Batch:
    """The batch that a file holds, from what `load_fit` reads of it."""
    import pandas as pd

    joined = fit.tree["tables"].to_dataset().to_dataframe()
    joined.columns = [str(c).replace(SLASH, "/") for c in joined.columns]
    tables = {}
    for name, part in joined.groupby(_NAME, sort=False):
        info = fit.info["datasets"][name]
        frame = pd.DataFrame(part.set_index(_ROW)[info["columns"]])
        frame.index.name = "row"
        numbers = {c: kind for c, kind in info.get("numbers", {}).items() if frame[c].dtype.kind not in "fiub"}
        # A flag beside another table's text is written out as such.
        written = {c: {"": "nan", "True": "1", "False": "0"} for c in numbers}
        frame = frame.replace(written).astype({c: float for c in numbers}).astype(numbers)
        tables[name] = kept_runs(frame, info)
    status = pd.DataFrame(fit.info["status"]).set_index("dataset")
    tree = fit.tree.copy()
    del tree["tables"]
    return Batch(tree, fit.law, {k: v for k, v in fit.info.items() if k != "status"}, status, tables)


@dataclass(frozen=True, eq=False)
class Answers(Mapping):
    """The answers of one verb for the certified tables of a batch, by name; `left_out` says why others have none.

    `sources` says where each table's headline comes from.
    """

    records: Mapping[str, Any]
    left_out: Mapping[str, str]
    sources: Mapping[str, str]

    def __getitem__(self, name: str) -> Any:
        return self.records[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def dataset(self) -> xr.Dataset:
        """The answers' own data sets along a dimension `dataset`."""
        import xarray as xr

        names = [*self.records]
        if not names:
            raise NotFittedFor("no table of this batch has an answer", remedy="`left_out` says why.")
        found = [self.records[n].dataset for n in names]
        return xr.concat(found, dim="dataset", join="outer", combine_attrs="drop_conflicts").assign_coords(
            dataset=names
        )

    def frame(self) -> pd.DataFrame:
        """The answers' tables, one below the other, with columns `dataset` and `headline`, its source."""
        import pandas as pd

        frames = {name: _frame_of(record).assign(headline=self.sources[name]) for name, record in self.records.items()}
        if not frames:
            return pd.DataFrame(columns=["dataset"])
        made = pd.concat(list(frames.values()), keys=list(frames), names=["dataset", None])
        made = made.reset_index("dataset").reset_index(drop=True)
        made.attrs = dict(next(iter(frames.values())).attrs)
        return made

    def to_json(self) -> dict[str, Any]:
        """Every answer's document by name."""
        return {name: _document_of(record) for name, record in self.records.items()}

    def __repr__(self) -> str:
        left = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"<Answers for {len(self)} tables{left}>"


def _frame_of(record: Any) -> pd.DataFrame:
    """An answer's own table, or that of its findings."""
    import pandas as pd

    return pd.DataFrame(_document_of(record)) if isinstance(record, tuple) else record.frame()


def _document_of(record: Any) -> Any:
    return [f.to_json() for f in record] if isinstance(record, tuple) else record.to_json()


def for_each_table(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb that takes a fit first take a batch too: it then answers for every certified table."""

    @wraps(verb)
    def answer(fit: Fit, *arguments: Any, **options: Any) -> Any:
        if isinstance(fit, Batch):
            return fit.each(verb, *arguments, **options)
        return verb(fit, *arguments, **options)

    return answer
