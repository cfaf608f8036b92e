"""What a fit's intervals rest on: answers without groups of runs, without any k runs, and by window of compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.auditing.specifying import Specifications, specifications
from bayescale.errors import Finding, LawError, NotFittedFor, nearest, worst
from bayescale.narrowness import (
    Clusters,
    Linearised,
    clusters_of,
    gradients_of,
    leave_out,
    linearise,
    modes_without,
    values_at,
    windows_of,
)
from bayescale.narrowness.clusters import ROW
from bayescale.posterior import Fit, Verdict, flat_draws, flattened, model_of, require_examined, require_one_model
from bayescale.runs import compute_of
from bayescale.verdicts import verdict_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found about the intervals of a fit, and the tables behind it.

    `left_out` has one row a grouping, cluster and quantity: how far the quantity moves, in posterior standard
    deviations, when the cluster is left out. `dropped` holds each quantity after its k most influential runs are left
    out, in either direction, and `highest` after the k runs of highest loss (`row` is the last): the outlier rule that
    papers choose.
    `verdict` is the fit's, with what was found here.
    """

    findings: tuple[Finding, ...]
    windows: Mapping[str, Any] | None
    left_out: pd.DataFrame
    dropped: pd.DataFrame
    source: str
    law: str
    specifications: Specifications | None = None
    highest: pd.DataFrame | None = None
    verdict: Verdict | None = None

    @property
    def status(self) -> str:
        """ "pass", "warn" or "fail"."""
        return worst(self.findings)

    def frame(self) -> pd.DataFrame:
        """One row a finding."""
        import pandas as pd

        return pd.DataFrame([f.to_json() for f in self.findings])

    def to_json(self) -> dict[str, Any]:
        """The document that the command line prints."""
        return {
            "schema": "bayescale.audit/1",
            "law": self.law,
            "source": self.source,
            "status": self.status,
            "findings": [f.to_json() for f in self.findings],
            "windows": self.windows,
            "left_out": self.left_out.to_dict("records"),
            "dropped": self.dropped.to_dict("records"),
            "highest_left_out": None if self.highest is None else self.highest.to_dict("records"),
            "verdict": asdict(self.verdict) | {"lines": list(self.verdict.lines)} if self.verdict else None,
            "specifications": self.specifications.to_json() if self.specifications else None,
        }

    def __repr__(self) -> str:
        lines = [f"<Audit of {self.law} on {self.source}: {self.status}"]
        return "\n".join([*lines, *(f"  {f.status:4} {f.name}: {f.message}" for f in self.findings)]) + ">"

    def _repr_html_(self) -> str:
        return self.frame().to_html(index=False)


def audit(fit: Fit, quantities: Sequence[str] = (), *, refit: bool = False, progress: bool | None = None) -> Audit:
    """The audit of a fit: its findings, how far answers move without each group of runs, and without any k runs.

    Nothing is sampled again: the posterior is taken as weighted least squares about its mode, given noise and spreads
    of groups. With `refit` the runs are fitted under every noise, with groups and without, and the answers compared
    (`specifications`). `quantities` are names of `fit.summary()`; by default the first derived quantity, or all
    parameters.

    Raises `NotFittedFor` for a fit that was not examined (not converged, an exact likelihood, several responses).

    Example:
        >>> bs.audit(fit).left_out.head()  # doctest: +SKIP
    """
    import pandas as pd

    line, names, gradients = linearised_fit(fit, quantities)
    rows = []
    for clusters in clusters_of(line.model.runs, line.model.groupings):
        moves = _moves_of_rows(line, gradients) if clusters.name == ROW else _moves_of(fit, line, clusters, names)
        for q, name in enumerate(names):
            for k, members in enumerate(clusters.rows()):
                label = _label(line, clusters, members)
                rows.append(
                    dict(grouping=clusters.name, cluster=label, runs=len(members), quantity=name, sds=moves[q, k])
                )
    others = specifications(fit, quantities, progress=progress) if refit else None
    findings = (*fit.design, *fit.checks, *fit.audit, *([others.finding] if others else []))
    told = verdict_of(fit, findings, others.span() if others else None)
    return Audit(
        (*fit.audit, *([others.finding] if others else [])),
        fit.info.get("windows"),
        pd.DataFrame(rows),
        _drop_curve(fit, line, names, gradients),
        _of(fit),
        fit.law.spec,
        others,
        _without_highest(fit, line, names),
        Verdict(told["status"], tuple(told["lines"]), told["header"]),
    )


def _moves_of_rows(line: Linearised, gradients: np.ndarray) -> np.ndarray:
    """Moves without each run, in posterior sds, by one step: (quantities, rows)."""
    every = Clusters(ROW, np.arange(len(line.residual)), len(line.residual))
    spread = np.sqrt(np.einsum("qi,ij,qj->q", gradients, line.table.covariance[0], gradients))
    return -leave_out(line, line.table, [every], gradients)[0][0] / spread[:, None]


def _moves_of(fit: Fit, line: Linearised, clusters: Clusters, names: Sequence[str]) -> np.ndarray:
    """Moves without each cluster, in posterior sds, by searching the mode anew: (quantities, clusters)."""
    modes = [line, *modes_without(line, clusters)]
    values, posterior = values_at(line, modes), fit.draws("posterior")
    return np.stack([(values[n][1:] - values[n][0]) / posterior[n].std() for n in names])


def _of(fit: Fit) -> str:
    return fit.info["runs"]["source"]


def _label(line: Linearised, clusters: Clusters, members: np.ndarray) -> str:
    runs = line.model.runs
    if clusters.name == ROW:
        return str(runs.rows[int(members[0])])
    if runs.has(clusters.name):
        index, levels = runs.labels(clusters.name)
        return levels[int(index[members[0]])]
    C = compute_of(runs)
    assert C is not None
    ends = dict.fromkeys(f"{end:.3g}" for end in (C[members].min(), C[members].max()))
    return f"{' to '.join(ends)} FLOP"


def linearised_fit(
    fit: Fit, quantities: Sequence[str] = (), elements: bool = False
) -> tuple[Linearised, list[str], np.ndarray]:
    """A fit linearised about its mode, with the names of quantities and their gradients (of the log where positive).

    With `elements` these may be elements of vectors, as `A[c4]`. Raises `NotFittedFor` where that cannot be done,
    `LawError` (BS-L002) for an unknown quantity.
    """
    require_one_model(fit)
    require_examined(fit)
    if not fit.audit or fit.info.get("sampler") == "least_squares":
        raise NotFittedFor("this fit was not examined: it did not converge", code="BS-F002", remedy="Refit it.")
    model = model_of(fit)
    flat = flat_draws(fit, model)
    z = flat[:, : model.structure.coordinates.dimension]
    draws = {n: x.reshape(-1) for n, x in flattened(fit.tree["posterior"].to_dataset()[[*_reported(fit)]])}
    if unknown := [q for q in quantities if q not in draws]:
        raise LawError(f"no quantity {unknown[0]!r}", code="BS-L002", remedy=nearest(unknown[0], [*draws]))
    scalars = fit.draws("posterior")
    if several := [q for q in quantities if q not in scalars and not elements]:
        single = [n for n in draws if n in scalars]
        raise LawError(
            f"{several[0]!r} is one value of several, which is not looked at here",
            code="BS-L002",
            remedy=f"Ask for one of {', '.join(single)}." if single else "No quantity of this law has one value.",
        )
    effects = {
        i.site: np.asarray(fit.tree["posterior"][i.site]).reshape(len(z), -1) for i in model.structure.intercepts
    }
    line = linearise(model, z, effects)
    if line is None:
        raise NotFittedFor("a law with an exact likelihood or several responses has no residuals to leave out")
    # Elements of vectors are not among the values of a mode: without names, scalars are taken, the first derived
    # quantity unless it is fixed (as a is, where exponents are tied).
    derived = [n for n in fit.law.derived if n in draws][:1]
    choices = [list(quantities)] if quantities else [derived, [p.name for p in fit.law.parameters if p.name in draws]]
    names, gradients = [], np.empty((0, len(line.x)))
    for wanted in choices:
        if not names:
            names, gradients = gradients_of(z, {n: draws[n] for n in wanted}, line)
    if not names:
        raise NotFittedFor("nothing asked about depends on the law's coordinates", remedy="Name other quantities.")
    return line, names, gradients


def _reported(fit: Fit) -> list[str]:
    return [str(n) for n in fit.tree["headline"].data_vars]


def _drop_curve(fit: Fit, line: Linearised, names: Sequence[str], gradients: np.ndarray) -> pd.DataFrame:
    """Each quantity without its k most influential runs, by adding up the moves of leaving out one."""
    import pandas as pd

    moves = _moves_of_rows(line, gradients)
    posterior = fit.draws("posterior")
    rows = []
    for q, name in enumerate(names):
        x = posterior[name]
        middle, spread = float(np.median(x)), float(x.std())
        for direction, order in (("down", np.argsort(moves[q])), ("up", np.argsort(-moves[q]))):
            steps = np.cumsum(moves[q][order])[: max(1, len(order) // 10)]
            for k, total in enumerate(steps, 1):
                rows.append(dict(quantity=name, direction=direction, k=k, value=middle + spread * float(total)))
    return pd.DataFrame(rows)


def _without_highest(fit: Fit, line: Linearised, names: Sequence[str]) -> pd.DataFrame:
    """Each quantity at the mode of the runs without the k of highest response, k up to a tenth of the runs."""
    import pandas as pd

    order = np.argsort(-line.observed, kind="stable")
    most = max(1, len(order) // 10)
    counts = sorted({k for k in (0, 1, 2, 3, 5, 10, 15, 20, 50, most) if k <= most})
    modes = []
    for k in counts:
        kept = np.ones(len(order), bool)
        kept[order[:k]] = False
        modes.append(line.fitted_to(kept))
    values = values_at(line, modes)
    rows = line.model.runs.rows
    made = [(n, k, float(x)) for n in names if n in values for k, x in zip(counts, values[n], strict=True)]
    frame = pd.DataFrame(made, columns=["quantity", "k", "value"])
    last = [rows[int(order[k - 1])] if k else None for k in frame["k"]]
    return frame.assign(row=pd.Series(last, dtype=object, index=frame.index))


@dataclass(frozen=True, eq=False)
class Stability:
    """A quantity from part of the runs: those up to a compute, and those from a compute on.

    `frame()` has the columns window ("up to", "from"), flops, runs, value, sd: the mode and the curvature's standard
    deviation, given noise and spreads of groups.
    """

    table: pd.DataFrame
    quantities: tuple[str, ...]
    source: str

    def frame(self) -> pd.DataFrame:
        """The table itself."""
        return self.table

    def to_json(self) -> list[dict[str, Any]]:
        """One record a quantity and window."""
        return self.table.to_dict("records")

    def __repr__(self) -> str:
        return f"<Stability of {', '.join(self.quantities)} on {self.source}>\n{self.table.to_string(index=False)}"

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False, float_format="%.4g")


def stability(fit: Fit, quantities: Sequence[str] = ()) -> Stability:
    """How the answer depends on which runs are used: quantities against the largest and the smallest compute kept.

    Where one law holds, the windows agree within their errors. Nothing is sampled again: every window's value is the
    mode of its runs, given noise and spreads of groups.

    Raises `NotFittedFor` for a table without compute, or a fit that was not examined.

    Example:
        >>> bs.stability(fit, ["a"]).frame()  # doctest: +SKIP
    """
    import pandas as pd

    line, names, gradients = linearised_fit(fit, quantities)
    if compute_of(line.model.runs) is None:
        raise NotFittedFor("the table has no compute to cut it by", code="BS-F002")
    windows = windows_of(line)
    fits = [line.fitted_to(rows) for _, _, rows in windows]
    values = values_at(line, fits)
    posterior = fit.draws("posterior")
    rows = []
    for q, name in enumerate(names):
        if name not in values:
            continue
        for (window, cut, kept), f, value in zip(windows, fits, values[name], strict=True):
            covariance = f.covariance_of(np.where(kept, f.rows.information, 0.0))
            unit = abs(float(value)) if (posterior[name] > 0).all() else 1.0
            sd = unit * float(np.sqrt(gradients[q] @ covariance @ gradients[q]))
            rows.append(dict(quantity=name, window=window, flops=cut, runs=int(kept.sum()), value=float(value), sd=sd))
    table = pd.DataFrame(rows).sort_values(["quantity", "window", "flops"], kind="stable").reset_index(drop=True)
    return Stability(table, tuple(names), _of(fit))
