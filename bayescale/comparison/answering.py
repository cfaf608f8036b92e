"""What a comparison found: scores and their errors, weights, and whether the choice of a model changes a decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.comparison.weighing import FEWEST_FOR_WEIGHTS
from bayescale.posterior import Fit, finite
from bayescale.runs import short
from bayescale.verdicts import SAFE

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: Models are told apart where the difference exceeds what chance does in 95 of 100 comparisons of equals, and this many
#: nats: below that, its standard error cannot be trusted (Sivula, Magnusson, Matamoros and Vehtari 2020).
LEAST_NATS, SURE = 4.0, 0.95
#: A Monte Carlo error above this many nats, or draws that overlap less than this, make a density rough.
ROUGH_NATS, LEAST_OVERLAP = 0.5, 0.02


@dataclass(frozen=True, eq=False)
class Model:
    """One model of a comparison: its name, law, noise and groups, its fit to all rows, and what it answers.

    `value` is median, lower and upper of the comparison's quantity, `params` of the best size at its budget; `kind`
    says what these intervals are.
    """

    name: str
    law: str
    noise: str
    group: tuple[str, ...]
    kind: str
    fit: Fit = field(repr=False)
    value: tuple[float, ...] | None = None
    params: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models compared by what they predict of runs that were left out.

    `dataset` has the dims (model, fold): `elpd`, the log density of all responses of a fold together under the model
    fitted to the others, its Monte Carlo error `mcse`, and the `overlap` of the two posteriors that it was computed
    from (0 to 1); and (model): `later_elpd` and so on, of the runs above the cut. Folds that some model could not be
    refitted without are not-a-number and do not count. `weights` are by stacking, or equal (`weighed`). `regret[i, j]`
    is by what share the loss is above the best at `budget` when the size of model i is trained and model j is right.
    `given` are the positions of `models` among the `asked` models that were asked for.
    """

    dataset: xr.Dataset
    models: tuple[Model, ...]
    weights: np.ndarray
    weighed: str
    over: str
    label: str
    quantity: str | None
    budget: float | None
    regret: np.ndarray | None
    later: tuple[float, int, str, str] | None
    prob: float
    source: str
    loss_unit: str
    notes: tuple[str, ...] = ()
    given: tuple[int, ...] = ()
    asked: int = 0

    @property
    def counted(self) -> np.ndarray:
        """Which folds every model was scored on."""
        return np.isfinite(np.asarray(self.dataset["elpd"])).all(axis=0)

    @property
    def scored(self) -> int:
        """How many folds count."""
        return int(self.counted.sum())

    @property
    def elpd(self) -> np.ndarray:
        """The sum of log predictive densities over the folds that count, a model."""
        return np.asarray(self.dataset["elpd"])[:, self.counted].sum(axis=1)

    @property
    def order(self) -> np.ndarray:
        """The models from the best to the worst prediction of left-out folds."""
        return np.argsort(-self.elpd, kind="stable")

    def difference(self, one: int, other: int) -> tuple[float, float, float]:
        """By how many nats a model is ahead of another, its standard error over folds, and the Monte Carlo error."""
        folds = np.asarray(self.dataset["elpd"])[:, self.counted]
        apart = folds[one] - folds[other]
        noise = np.asarray(self.dataset["mcse"])[:, self.counted]
        simulated = float(np.sqrt((noise[[one, other]] ** 2).sum())) if one != other else 0.0
        return float(apart.sum()), float(np.sqrt(len(apart)) * apart.std(ddof=1)), simulated

    def told_apart(self, one: int, other: int) -> bool:
        """Whether the difference is more than chance makes of equals in 95 of 100, by Student's t over the folds."""
        from scipy.stats import t

        ahead, error, simulated = self.difference(one, other)
        limit = float(t.ppf((1 + SURE) / 2, self.scored - 1)) * error
        return bool(abs(ahead) > max(limit, LEAST_NATS, 3 * simulated))

    def frame(self) -> pd.DataFrame:
        """A tidy table: one row a model, the best first; `behind` and its `error` are against the best."""
        import pandas as pd

        best, rows = int(self.order[0]), []
        ahead = np.asarray(self.dataset["later_elpd"])
        for k in self.order:
            m, (behind, error, _) = self.models[k], self.difference(best, int(k))
            row: dict[str, Any] = {
                "model": m.name,
                "law": m.law,
                "noise": m.noise,
                "group": ", ".join(m.group) or "none",
            }
            row |= {"elpd": self.elpd[k], "behind": behind, "error": error if k != best else np.nan}
            row |= {"weight": self.weights[k], "later_elpd": ahead[k], "later_behind": np.max(ahead) - ahead[k]}
            for name, value in ((self.quantity, m.value), ("params", m.params)):
                if name and value:
                    row |= dict(zip((name, f"{name}_lower", f"{name}_upper"), value, strict=True))
            rows.append(row)
        frame = pd.DataFrame(rows)
        frame.attrs |= {"prob": self.prob, "flops": self.budget}
        return frame

    def folds(self) -> pd.DataFrame:
        """Log predictive densities by fold (rows) and model (columns), with the number of runs."""
        import pandas as pd

        names = [m.name for m in self.models]
        table = pd.DataFrame(np.asarray(self.dataset["elpd"]).T, index=np.asarray(self.dataset["fold"]), columns=names)
        table.insert(0, "runs", np.asarray(self.dataset["rows"]))
        return table

    def to_json(self) -> dict[str, Any]:
        """The document that the command line prints."""
        best = int(self.order[0])
        data = {n: np.asarray(self.dataset[n]) for n in self.dataset.data_vars}
        models = []
        for k in self.order.tolist():
            m, (behind, error, simulated) = self.models[k], self.difference(best, k)
            models.append(
                {
                    "model": m.name,
                    "law": m.law,
                    "noise": m.noise,
                    "group": list(m.group),
                    "elpd": finite(float(self.elpd[k])),
                    "behind": behind,
                    "error": None if k == best else finite(error),
                    "mcse": None if k == best else finite(simulated),
                    "told_apart": None if k == best else self.told_apart(best, k),
                    "weight": float(self.weights[k]),
                    "later_elpd": finite(float(data["later_elpd"][k])),
                    "quantity": _interval(m.value),
                    "params": _interval(m.params),
                    "intervals": m.kind,
                    "headline_source": m.fit.headline_source,
                }
            )
        folds = [
            {
                "fold": str(name),
                "runs": int(rows),
                "counted": bool(self.counted[f]),
                "elpd": {m.name: finite(data["elpd"][k, f]) for k, m in enumerate(self.models)},
                "mcse": {m.name: finite(data["mcse"][k, f]) for k, m in enumerate(self.models)},
                "overlap": {m.name: finite(data["overlap"][k, f]) for k, m in enumerate(self.models)},
            }
            for f, (name, rows) in enumerate(
                zip(np.asarray(self.dataset["fold"]), np.asarray(self.dataset["rows"]), strict=True)
            )
        ]
        later = dict(zip(("cut", "runs", "scale", "unit"), self.later, strict=True)) if self.later else None
        return {
            "schema": "bayescale.compare/1",
            "source": self.source,
            "loss_unit": self.loss_unit,
            "prob": self.prob,
            "over": self.over,
            "weights": self.weighed,
            "quantity": self.quantity,
            "flops": self.budget,
            "models": models,
            "folds": folds,
            "later": later,
            "regret": None if self.regret is None else self._regret(),
            "lines": self.lines(),
            "notes": list(self.notes),
        }

    def _regret(self) -> list[dict[str, Any]]:
        assert self.regret is not None
        names = [m.name for m in self.models]
        return [
            {"size_of": one, "if_right": other, "loss_share": float(self.regret[i, j])}
            for i, one in enumerate(names)
            for j, other in enumerate(names)
            if i != j
        ]

    def lines(self) -> list[str]:
        """The answer in plain lines: which model predicts better, how sure that is, and what it changes."""
        return [*self._inside(), *self._beyond(), *self._answers(), *self._doubts()]

    def _inside(self) -> list[str]:
        best, second = (int(k) for k in self.order[:2])
        ahead, error, _ = self.difference(best, second)
        names, count = [self.models[k].name for k in (best, second)], self.scored
        score = f"{ahead:.1f} ± {error:.1f} nats over {count} folds, one {self.label} left out at a time"
        if self.told_apart(best, second):
            said = f"{names[0]} predicts left-out runs better than {names[1]}, by {score}"
        else:
            same = [self.models[k].name for k in self.order[1:].tolist() if not self.told_apart(best, k)]
            who = same[0] if len(same) == 1 else f"{', '.join(same[:-1])} or {same[-1]}"
            said = f"Left-out runs do not tell {names[0]} from {who}: {score}"
        lines = [f"{said}."]
        if count < FEWEST_FOR_WEIGHTS:
            off = 1 / np.sqrt(2 * (count - 1))
            lines.append(
                f"{count} folds are few: the standard error itself is known to {off:.0%}, and stacking weights would "
                f"follow chance, so they are equal; an axis with at least {FEWEST_FOR_WEIGHTS} levels would say more."
            )
        return lines

    def _beyond(self) -> list[str]:
        if self.later is None:
            return []
        cut, count, name, unit = self.later
        ahead = np.asarray(self.dataset["later_elpd"])
        fine = np.flatnonzero(np.isfinite(ahead))
        what = f"the {count} runs above {cut:.3g} {unit}" if unit else f"the {count} runs above {name} = {cut:.3g}"
        if len(fine) < 2:
            return [f"Fewer than two models could be refitted without {what}: no score of extrapolation."]
        first, second = fine[np.argsort(-ahead[fine], kind="stable")][:2].tolist()
        by = ahead[first] - ahead[second]
        who = self.models[first].name
        lines = [
            f"Of {what}, forecast from those below, {who} says most: {by:.1f} nats ({by / count:.2f} a run) ahead of "
            f"{self.models[second].name}; one split, so without a standard error."
        ]
        if first != self.order[0] and by > LEAST_NATS:
            lines.append(
                f"The scores disagree: {self.models[self.order[0]].name} fills gaps better, {who} extrapolates better, "
                "which is what a decision beyond the runs needs."
            )
        return lines

    def _answers(self) -> list[str]:
        lines = []
        shown = self.order[:4].tolist()
        if self.quantity:
            told = [
                f"{v[0]:.3g} ({v[1]:.3g} to {v[2]:.3g}) by {m.name}"
                for m in (self.models[k] for k in shown)
                if (v := m.value)
            ]
            lines.append(f"{self.quantity} is {'; '.join(told)} ({self.prob:.0%} intervals).")
        if self.budget is not None and self.regret is not None:
            sizes = [f"{short(p[0])} by {self.models[k].name}" for k in shown if (p := self.models[k].params)]
            live = [
                k for k in range(len(self.models)) if k == self.order[0] or not self.told_apart(int(self.order[0]), k)
            ]
            loses = float(self.regret[np.ix_(live, live)].max())
            said = f"At {self.budget:.3g} FLOP the best size is {'; '.join(sizes)}"
            if len(live) == 1:
                loses = float(self.regret[:, live].max())
                who = "the size of another model costs at most {} of loss where the best is right"
            elif len(live) == 2:
                who = "the size of one costs at most {} of loss where the other is right"
            else:
                who = "of those told apart by nothing, the size of one costs at most {} of loss where another is right"
            ends = "the choice does not change the decision" if loses <= SAFE else "the choice matters"
            lines.append(f"{said}; {who.format(_share(loses))}: {ends}.")
        return lines

    def _doubts(self) -> list[str]:
        lines = []
        if (missing := self.dataset.sizes["fold"] - self.scored) > 0:
            names = [str(n) for n in np.asarray(self.dataset["fold"])[~self.counted]]
            lines.append(
                f"{missing} of {len(self.counted)} folds do not count ({', '.join(names[:4])}): not every refit is "
                "certified."
            )
        error, overlap = (np.asarray(self.dataset[n])[:, self.counted] for n in ("mcse", "overlap"))
        if (rough := ((error > ROUGH_NATS) | (overlap < LEAST_OVERLAP)).any(axis=0)).any():
            names = [str(n) for n in np.asarray(self.dataset["fold"])[self.counted][rough]]
            lines.append(
                f"Densities of {', '.join(names[:4])} are good to {max(error.max(), ROUGH_NATS):.1f} nats at best: the "
                "posteriors with and without these runs hardly overlap."
            )
        if self.later is not None:
            beyond = {str(n): np.asarray(self.dataset[f"later_{n}"]) for n in ("mcse", "overlap")}
            bad = (beyond["mcse"] > ROUGH_NATS) | (beyond["overlap"] < LEAST_OVERLAP)
            if names := [m.name for m, rough in zip(self.models, bad, strict=True) if rough]:
                lines.append(
                    f"The posteriors of {', '.join(names)} with and without the later runs hardly overlap: that score "
                    f"is good to {max(float(np.nanmax(beyond['mcse'])), ROUGH_NATS):.1f} nats at best."
                )
        weak = [m.name for m in self.models if m.fit.headline_source == "none"]
        if weak:
            lines.append(f"No number may be headlined from {', '.join(weak)}: see its own verdict.")
        return lines

    @property
    def complete(self) -> bool:
        """Whether every model, fold and the later runs could be scored."""
        later = np.asarray(self.dataset["later_elpd"])
        scored = self.counted.all() and (self.later is None or np.isfinite(later).all())
        return bool(scored) and self.asked == len(self.models)

    def table_lines(self) -> list[str]:
        """The scores as lines of text."""
        frame = self.frame()[["model", "elpd", "behind", "error", "weight", "later_behind"]]
        return frame.to_string(index=False, float_format="%.2f", na_rep="").splitlines()

    def __repr__(self) -> str:
        head = f"<Comparison of {len(self.models)} models on {self.source}, {self.scored} folds over {self.over}"
        body = [*self.table_lines(), *self.lines(), *(f"note: {n}" for n in self.notes)]
        return "\n".join([head, *(f"  {line}" for line in body)]) + ">"

    def _repr_html_(self) -> str:
        import html

        lines = "".join(f"<li>{html.escape(x)}</li>" for x in (*self.lines(), *self.notes))
        table = (
            self.frame().drop(columns=["law", "noise", "group"]).to_html(float_format="%.3g", index=False, na_rep="")
        )
        return f"<p>{self.scored} folds over {html.escape(self.over)}</p>{table}<ul>{lines}</ul>"


def _share(x: float) -> str:
    return "0.01 %" if x < 1e-4 else f"{100 * x:.2g} %"


def _interval(value: tuple[float, ...] | None) -> dict[str, float | None] | None:
    return None if value is None else dict(zip(("median", "lower", "upper"), map(finite, value), strict=True))
