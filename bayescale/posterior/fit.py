"""The record of a fit: a DataTree, the law, and everything needed to read the file without the package."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.errors import Finding, FitError, Note, require_prob
from bayescale.law import Law, PooledLaw, pooled_law
from bayescale.laws import LAWS, find_law
from bayescale.posterior import convergence
from bayescale.posterior.tree import SLASH
from bayescale.runs import Runs

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SCHEMA = "bayescale.posterior/1"
#: Chains of fewer draws tell nothing about their Monte Carlo error.
FEWEST_DRAWS = 4
#: The attribute of the file that holds everything but the arrays, as one JSON document.
ATTRIBUTE = "bayescale"


@dataclass(frozen=True)
class Verdict:
    """What the checks came to: "pass", "warn" or "fail", at most ten plain lines, and what they are about."""

    status: str
    lines: tuple[str, ...] = ()
    header: str = ""

    def __str__(self) -> str:
        numbered = (f"{k} {line}" for k, line in enumerate(self.lines, 1))
        return "\n".join((f"{self.status.upper()} {self.header}".rstrip(), *numbered))


@dataclass(frozen=True)
class Quantity:
    """A number of the posterior with its interval and its Monte Carlo quality.

    `lower` and `upper` bound the headline's equal-tailed interval of probability `prob`; `model_lower` and
    `model_upper` the posterior's. `prior_share` is the prior's share in what is known.

    `narrowness` tells how many times as far leaving out one cluster of runs at a time moves the number as it does in
    tables simulated from the fit (their geometric mean), by the grouping of clusters that stands out most from chance;
    it is at least 1, and 1 where nothing moves farther than it would by chance. It differs from the factor that the
    finding `narrow-interval` names, which is how far the number moves over what its interval says, before chance.
    `narrowness` is None where no such comparison was made: more than a fifth of what is known is the prior's (see
    `prior_share`), the number does not follow the law's own coordinates smoothly (the noise, spreads of groups), the
    law has an exact likelihood or several responses, or the fit was not examined. Both are None before an examination.
    """

    mean: float
    sd: float
    median: float
    lower: float
    upper: float
    model_lower: float
    model_upper: float
    mcse_mean: float
    ess_bulk: float
    ess_tail: float
    r_hat: float
    narrowness: float | None = None
    prior_share: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """The keys of the contract, numbers at full precision, None where a number is not finite."""
        return {k: finite(v) for k, v in self.__dict__.items()}


@dataclass(frozen=True, eq=False)
class Fit:
    """A posterior with its data, checks and verdict.

    `tree` is an `xarray.DataTree` with the groups posterior, unconstrained_posterior, headline, sample_stats,
    log_likelihood, log_likelihood_group, log_prior, posterior_predictive, prior, prior_predictive, observed_data and
    constant_data.
    `info` is what the file's attribute holds: law, options, noise, groups, seed, references, checks, versions.

    Example:
        >>> fit = bs.fit("chinchilla", bs.load_runs("byte-ladder"))  # doctest: +SKIP
        >>> fit.summary(prob=0.9).loc["a", ["median", "lower", "upper"]]  # doctest: +SKIP
    """

    tree: xr.DataTree
    law: Law
    info: Mapping[str, Any]

    @property
    def prob(self) -> float:
        """The probability of the intervals that were asked for at fitting."""
        return self.info["prob"]

    @property
    def noise(self) -> str:
        """The name of the noise."""
        return self.info["noise"]

    @property
    def group(self) -> tuple[str, ...]:
        """The columns whose group effects were fitted."""
        return tuple(self.info["group"])

    @property
    def grouped(self) -> str | list[str]:
        """What `group=` has to be for the same model of the same runs: "auto" where curves have no effect of a run."""
        return "auto" if self.info["options"].get("curve") else list(self.group) or "none"

    @property
    def references(self) -> dict[str, np.ndarray]:
        """The scales at which priors were judged."""
        return {k: np.asarray(v, float) for k, v in self.info["references"].items()}

    @property
    def checks(self) -> tuple[Finding, ...]:
        """What was checked after sampling."""
        return tuple(Finding(**f) for f in self.info["checks"])

    @property
    def design(self) -> tuple[Finding, ...]:
        """What the doctor found before sampling."""
        return tuple(Finding(**f) for f in self.info["design"])

    @property
    def audit(self) -> tuple[Finding, ...]:
        """What the examination of the intervals found, beyond the sampler's own checks."""
        return tuple(Finding(**f) for f in self.info["audit"])

    @property
    def verdict(self) -> Verdict:
        """The verdict over all checks."""
        told = self.info["verdict"]
        return Verdict(told["status"], tuple(told["lines"]), told.get("header", ""))

    def probability(self, asked: float | None = None) -> float:
        """The probability of intervals: what was asked for, or the fit's own.

        Raises `LawError` (BS-U001) for what is no probability.
        """
        return require_prob(self.prob if asked is None else asked)

    @property
    def headline_source(self) -> str:
        """Where headline draws come from: "posterior", "stack", "sandwich", "bayesbag" (both widened), or "none"."""
        return self.info["headline_source"]

    def interval_kind(self, draws: str = "headline") -> str:
        """What intervals of a group of draws are called: credible, or adjusted where they were widened."""
        members = [m["headline_source"] for m in self.info.get("stack", {}).get("members", ()) if m["weight"] > 0]
        widened = draws == "headline" and not {self.headline_source, *members} <= {"posterior", "stack", "none"}
        return "adjusted" if widened else "credible"

    @property
    def converged(self) -> bool:
        """Whether every check of the sampler passed."""
        return all(f.status != "fail" for f in self.checks if f.code != "baseline-agreement")

    @property
    def runs(self) -> Runs:
        """The table that was fitted, as the file holds it."""
        import pandas as pd

        constant = self.tree["constant_data"]
        columns = {
            str(k).replace(SLASH, "/"): np.asarray(v)
            for k, v in constant.data_vars.items()
            if not str(k).startswith("level_of_")
        }
        frame = pd.DataFrame(columns, index=pd.Index(np.asarray(constant["row"]), name="row"))
        return kept_runs(frame, self.info)

    def draws(self, group: str = "headline") -> dict[str, np.ndarray]:
        """The draws of a group by name, chains joined: arrays of shape (samples, ...)."""
        dataset = self.tree[group].to_dataset()
        return {
            str(k): np.asarray(v).reshape(-1, *v.shape[2:])
            for k, v in dataset.data_vars.items()
            if v.dims[:2] == ("chain", "draw")
        }

    def quantities(self, prob: float | None = None) -> dict[str, Quantity]:
        """Every reported quantity by name, elements of vectors as `name[label]`."""
        headline = dict(flattened(self.tree["headline"].to_dataset()))
        posterior = dict(flattened(self.tree["posterior"].to_dataset()))
        names = [n for n in posterior if n in headline]
        made = summarise(
            np.stack([posterior[n] for n in names]),
            self.probability(prob),
            np.stack([headline[n] for n in names]),
        )
        narrow, shares = self.info.get("narrowness", {}), self.info.get("prior_share", {})
        return {
            n: replace(q, narrowness=narrow.get(n), prior_share=shares.get(n)) for n, q in zip(names, made, strict=True)
        }

    def summary(self, prob: float | None = None) -> pd.DataFrame:
        """A table of every reported quantity: mean, sd, median, equal-tailed credible interval, Monte Carlo quality.

        The probability of the interval is in `frame.attrs["prob"]`.
        """
        import pandas as pd

        rows = {name: q.__dict__ for name, q in self.quantities(prob).items()}
        frame = pd.DataFrame.from_dict(rows, orient="index").astype(float)
        frame.index.name = "quantity"
        frame.attrs["prob"] = self.probability(prob)
        return frame

    def at(self, **levels: str) -> Fit:
        """The fit of one level of a pooled law, as `fit.at(recipe="c4")`: every verb and figure takes it.

        It holds the runs and parameters of that level and the law of one; it was fitted together with the others.
        Raises `LawError` (BS-L002) for a column that nothing differs by, `NotFittedFor` for a level that is not there.

        Example:
            >>> bs.plot_frontier(fit.at(recipe="c4"))  # doctest: +SKIP
        """
        from bayescale.posterior.levels import at_level

        return at_level(self, levels)

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """The column whose levels have parameters of their own, with its levels; empty where the law is one for all."""
        from bayescale.posterior.levels import level_column, levels_of

        column = level_column(self.law)
        return {} if column is None else {column: levels_of(self)}

    def with_info(self, **changes: Any) -> Fit:
        """The fit with entries of `info` replaced."""
        return replace(self, info={**self.info, **changes})

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the fit to one netCDF file, losslessly; the name appears only when the file is whole.

        Raises `FitError` when the file exists and `force` is not given.
        """
        path = Path(path)
        taken = FitError(f"{path} exists", code="BS-U002", remedy="Give another name, or force=True.")
        if path.exists() and not force:
            raise taken
        tree = self.tree.copy()
        tree.attrs = {**tree.attrs, "schema": SCHEMA, "law": self.law.spec, ATTRIBUTE: json.dumps(self.info)}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")  # as readable as any new file
        try:
            tree.to_netcdf(temporary, engine="h5netcdf")
            if force or not _linked(temporary, path):
                os.replace(temporary, path)
        except FileExistsError:  # another process was first
            raise taken from None
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def frame(self, prob: float | None = None) -> pd.DataFrame:
        """The table of reported quantities, as `summary` gives it."""
        return self.summary(prob)

    def to_json(self) -> dict[str, Any]:
        """The document that `bayescale fit --json` prints and `fit.json` holds."""
        return import_module("bayescale.tables").fit_document(self)  # which knows more than a posterior may

    def __repr__(self) -> str:
        about, posterior = self.info["runs"], self.tree["posterior"]
        state = "" if self.converged else " NOT CONVERGED;"
        return (
            f"<Fit {self.law.spec} on {about['source']} ({about['used']} runs), {self.noise} noise, "
            f"groups: {', '.join(self.group) or 'none'};{state} "
            f"{posterior.sizes['chain']} × {posterior.sizes['draw']} draws; verdict {self.verdict.status}>"
        )

    def _repr_html_(self) -> str:
        import html

        frame = self.summary()
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self.verdict.lines)
        head = f"<p><b>{html.escape(repr(self)[1:-1])}</b></p><ul>{lines}</ul>"
        return f"{head}<p>{self.prob:.0%} {self.interval_kind()} intervals</p>{frame.to_html(float_format='%.4g')}"


def _linked(file: Path, name: Path) -> bool:
    """Give a file a second name unless that is taken (`FileExistsError`); false where a disk knows no second names."""
    try:
        os.link(file, name)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


_A_FIT = "Give the folder that `bayescale fit --out` made, or its posterior.nc."


def load_fit(path: str | os.PathLike[str], law: Law | None = None) -> Fit:
    """Read a fit from its netCDF file or from the folder that holds `posterior.nc`; the file is closed again.

    The file of a batch gives a `Batch`. A private law must be given as `law`. Raises `FitError` (BS-F004) when the file
    is missing, is not a fit, or was made with another declaration of the law.
    """
    import xarray as xr

    path = Path(path)
    file = path / "posterior.nc" if path.is_dir() else path
    if not file.is_file():
        raise FitError(
            f"no fit at {path}",
            code="BS-F004",
            file=str(path),
            remedy=_A_FIT,
        )
    try:
        with xr.open_datatree(file, engine="h5netcdf") as opened:
            tree = opened.load()
    except (OSError, ValueError) as error:
        raise FitError(f"cannot be read as netCDF: {error}", code="BS-F004", file=str(file), remedy=_A_FIT) from error
    if ATTRIBUTE not in tree.attrs:
        raise FitError("is not a fit of bayescale", code="BS-F004", file=str(file), remedy=_A_FIT)
    info = json.loads(tree.attrs[ATTRIBUTE])
    if law is not None and law.name != info["law"]:
        raise FitError(
            f"is of the law {info['law']!r}, not of {law.name!r}",
            code="BS-F004",
            file=str(file),
            remedy="Give that law, or another file or folder.",
        )
    if law is None:
        if info["law"] not in LAWS:
            raise FitError(
                f"was made with the private law {info['law']!r}",
                code="BS-F004",
                file=str(file),
                remedy="Give it: load_fit(path, law=...).",
            )
        law = find_law(info["law"], **info["law_options"])
    if (pool := info.get("options", {}).get("pool")) and not isinstance(law, PooledLaw):
        law = pooled_law(law, pool)
    if law.digest() != info["law_digest"]:
        raise FitError(
            f"was made with another declaration of {info['law']!r}",
            code="BS-F004",
            file=str(file),
            remedy="Refit, or give the declaration it was made with: load_fit(path, law=...).",
        )
    tree.attrs = {k: v for k, v in tree.attrs.items() if k not in (ATTRIBUTE, "schema", "law")}
    made = Fit(tree, law, info)
    if "datasets" in info:
        from bayescale.posterior.many import loaded

        return loaded(made)
    return made


def kept_runs(frame: pd.DataFrame, info: Mapping[str, Any]) -> Runs:
    """The table of a fit from the columns that a file holds, where a blank label is an empty text, and what it says."""
    about = info["runs"]
    text = {c: frame[c].where(frame[c] != "") for c in frame if frame[c].dtype.kind not in "fiub"}
    frame = frame.assign(**text)
    told = (about["source"], info["loss_unit"])
    runs = Runs(frame, *told, (), about["rows"], about.get("column_map", {}), info.get("convention"))
    known, said = runs.assumptions, tuple(about["assumptions"])  # the columns' names are told anew
    notes = tuple(Note("BS-R052", text) for text in (said[len(known) :] if said[: len(known)] == known else said))
    return replace(runs, notes=notes)


def flattened(dataset: xr.Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """Every scalar of a dataset as (name, draws of shape (chain, draw)); elements of vectors as `name[label]`."""
    for name, variable in dataset.data_vars.items():
        rest = variable.dims[2:]
        if not rest:
            yield str(name), np.asarray(variable)
            continue
        stacked = np.asarray(variable).reshape(*variable.shape[:2], -1)
        for k, position in enumerate(np.ndindex(*variable.shape[2:])):
            labels = ",".join(str(np.asarray(dataset[d])[p]) for d, p in zip(rest, position, strict=True))
            yield f"{name}[{labels}]", stacked[..., k]


def summarise(draws: np.ndarray, prob: float, headline: np.ndarray | None = None) -> list[Quantity]:
    """Quantities from draws of shape (quantities, chain, draw); `headline` draws give the intervals printed."""
    headline = draws if headline is None else headline
    ends = [(1 - prob) / 2, (1 + prob) / 2]
    model = np.quantile(draws, ends, axis=(-2, -1))
    shown = np.quantile(headline, [0.5, *ends], axis=(-2, -1))
    unknown = np.full(len(draws), np.nan)
    few = draws.shape[-1] < FEWEST_DRAWS  # a least-squares fit is one draw
    r_hat, bulk, tail = [unknown] * 3 if few else convergence.diagnose(draws)
    columns = (
        headline.mean(axis=(-2, -1)),
        unknown if headline[0].size < 2 else headline.std(axis=(-2, -1), ddof=1),
        *shown,
        *model,
        unknown if few else convergence.mcse_mean(draws),
        bulk,
        tail,
        r_hat,
    )
    return [Quantity(*(float(c[k]) for c in columns)) for k in range(len(draws))]


def finite(x: float | None) -> float | None:
    """A number for JSON: None where it is missing or not finite."""
    return None if x is None or not np.isfinite(x) else float(x)
