"""The verdict on a fit: at most ten plain lines, in the order of their weight in a decision, each computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bayescale.allocation import (
    ABSURD,
    FAR,
    allocate,
    largest_compute,
    least_compute,
    loss_on_budget,
    optimum_at,
    require_optimum,
)
from bayescale.diagnostics import ProposedRun, ladders_of, proposal
from bayescale.errors import Finding, NotFittedFor, worst
from bayescale.model import isoflop_levels
from bayescale.narrowness.clusters import label_of, labels_of
from bayescale.posterior import Fit
from bayescale.runs import LEVEL_TOLERANCE, distinct, short

MOST_LINES = 10
#: A choice is safe that loses at most this share of the loss under either half of the table, where the halves' own
#: optima are at least this far apart.
SAFE, APART = 0.01, 1.5
#: New runs that leave more than this share of what they are meant to narrow are not worth their compute.
_HARDLY = 0.95
#: Findings in the order of their weight in a decision; those not named come last.
_WEIGHT = (
    "recipe-confounded",
    "setting-sweeps",
    "law-unstable-in-compute",
    "lack-of-fit",
    "narrow-interval",
    "unmodelled-groups",
    "ordered-effects",
    "bayesbag",
    "prior-conflict",
    "prior-held",
)


def verdict_of(fit: Fit, findings: Sequence[Finding] | None = None, noises: tuple[float, float] | None = None) -> dict:
    """The document of a fit's verdict: status, header and lines.

    `findings` are by default those of the fit; `noises` is the range over which other noises and groupings move the
    first derived quantity, once they have been tried.
    """
    findings = (*fit.design, *fit.checks, *fit.audit) if findings is None else findings
    interrupted = bool(fit.info["interrupted"])
    status = "fail" if interrupted else worst(findings)
    body = _Lines(fit, findings, noises).all()
    return {"status": status, "lines": body, "header": header_of(fit)}


def header_of(fit: Fit) -> str:
    """Which table, which law, how many of its rows, and how they are spread."""
    about, runs = fit.info["runs"], fit.runs
    rows = f"{about['used']} runs" if about["used"] == about["rows"] else f"{about['used']} of {about['rows']} rows"
    if runs.sorts("run") and (count := len(runs.labels("run")[1])) < len(runs):
        rows = f"{rows.replace(' runs', ' rows')} of {count} run{'s' if count > 1 else ''}"
    spread = []
    if runs.sorts("recipe") and (count := len(runs.labels("recipe")[1])) > 1:
        spread.append(f"{count} recipes")
    if runs.has("params"):
        spread.append(f"{distinct(runs.values('params'))} sizes")
    if runs.sorts("budget"):
        spread.append(f"{len(runs.labels('budget')[1])} budgets")
    elif made := isoflop_levels(runs):
        spread.append(f"{len(made.levels)} budgets")
    return " · ".join([about["source"], fit.law.spec, rows, *([", ".join(spread)] if spread else [])])


def widened_by(widening: Mapping[str, Any]) -> str:
    """How headline draws were widened, in words."""
    name, count = widening["clusters"], widening["count"]
    if "bags" in widening:
        return f"BayesBag, {widening['bags']} tables of {count} {labels_of(name)} drawn again"
    return f"widened by leaving out one {label_of(name)} at a time ({count})"


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """The verdict on findings alone: those that fail, those that warn, and how many passed."""
    lines = [_sentence(f) for status in ("fail", "warn") for f in _ranked(findings, status)]
    return [*lines[: MOST_LINES - 1], _passed(findings)]


class _Lines:
    """The lines of one verdict, made one by one."""

    def __init__(self, fit: Fit, findings: Sequence[Finding], noises: tuple[float, float] | None):
        self.fit, self.findings, self.noises = fit, findings, noises
        self.failed = {f.code for f in findings if f.status == "fail"}
        self.windows = (fit.info.get("windows") or {}).get("by_compute") or []
        data = fit.tree["posterior"].data_vars
        derived = [n for n in fit.law.derived if n in data and fit.tree["posterior"][n].ndim == 2]
        self.name = derived[0] if derived else None

    def all(self) -> list[str]:
        """At most ten: what fails, what it means, the answers, warnings, what to do next, and how many passed."""
        head = ["Interrupted: these are the draws so far, and nothing was headlined."] * bool(
            self.fit.info["interrupted"]
        )
        failed = _ranked(self.findings, "fail")
        if "recipe-confounded" in self.failed:
            head += self._confounded()
            failed = [f for f in failed if f.code != "recipe-confounded"]
        head += [_sentence(f) for f in failed]
        if self.fit.converged and not self.fit.info["interrupted"]:
            head += [*self._together(), *self._headline()]
            if self.fit.headline_source != "none":
                head += [*self._inside(), *self._asked()]
        told = any("beyond the largest run" in line for line in head)
        head += [_sentence(f) for f in _ranked(self.findings, "warn") if not (told and f.code == "extrapolation")]
        tail = [*self._next(), _passed(self.findings)]
        return [*head[: MOST_LINES - len(tail)], *tail]

    def _confounded(self) -> list[str]:
        """Why recipes do not answer, what the exponent then rests on, and what holds within each."""
        ladders = ladders_of(self.fit.runs)
        tied = [lad for lad in ladders if lad.axis and lad.recipe]
        told = ", ".join(f"{tie} throughout {who}" for tie, who in _joined((lad.tie, lad.recipe) for lad in tied))
        lines = ["Recipe and design are confounded: no recipe separates N from D" + (f" ({told})." if told else ".")]
        if self.name and self.fit.converged:
            low, mid, high = _interval(self.fit.draws("posterior")[self.name], self.fit.prob)
            said = (
                f"{self.name} = {mid:.2f} ({low:.2f} to {high:.2f}, {self.fit.prob:.0%}) comes from comparing recipes"
            )
            prior = self.fit.tree["prior"] if "prior" in self.fit.tree.children else {}
            if self.name in prior:
                low, _, high = _interval(np.asarray(prior[self.name]).reshape(-1), self.fit.prob)
                said += f"; the prior alone says {low:.2f} to {high:.2f}"
            lines.append(f"{said}.")
        within = _joined((lad.symbol, lad.recipe) for lad in tied)
        holds = ", ".join(f"against {symbol} within {who}" for symbol, who in within)
        lines.append(f"No allocation. What holds: loss {holds}." if holds else "No allocation.")
        return lines

    def _together(self) -> list[str]:
        """The quantity over windows of compute and over noises, where one of them moves it."""
        if self.name is None or not ("law-unstable-in-compute" in self.failed or self.noises):
            return []
        x = self.fit.draws("posterior")[self.name]
        said, digits = f"All runs together: {self.name} = {np.median(x):.2f}", 2
        values = [w["values"][self.name] for w in self.windows if self.name in w["values"]]
        if values and "law-unstable-in-compute" in self.failed:
            said += f", between {min(values):.{digits}f} and {max(values):.{digits}f} by window of compute"
        if self.noises:
            said += f"; the noise model alone moves it {self.noises[0]:.{digits}f} to {self.noises[1]:.{digits}f}"
        return [f"{said}."]

    def _headline(self) -> list[str]:
        """What became of the interval where an alarm went off."""
        source, widening = self.fit.headline_source, self.fit.info.get("widening")
        if self.fit.interval_kind() == "adjusted" and widening:
            said = "Do not cite the posterior's own intervals"
            if self.name:
                said = f"Do not cite ± {_digits(float(self.fit.draws('posterior')[self.name].std()))}"
            return [
                f"{said}: it assumes one law, independent rows, exact losses. Adjusted below: {widened_by(widening)}."
            ]
        alarmed = any(f.status == "fail" for f in self.fit.audit)
        if source == "none" and alarmed:
            return ["Nothing is headlined: too few groups of rows show how wide the intervals should be."]
        return []

    def _inside(self) -> list[str]:
        """The best size at the largest power of ten that the runs reach, or else at the compute of the largest."""
        runs, largest = self.fit.runs, largest_compute(self.fit.runs)
        if not np.isfinite(largest):
            return []
        C, least = 10.0 ** np.floor(np.log10(largest) + 1e-9), least_compute(runs)
        if C < least * (1 - 1e-9):
            C = max(least, _rounded_down(largest))
        if (told := self._at(C)) is None:
            return []
        where = f"Inside the data, at {_flop3(C)} FLOP"
        best = {"sizes": ("params", told["params"]), "tokens": ("tokens", told["tokens"])}
        if beyond := [of for of, (column, x) in best.items() if runs.has(column) and _outside(x, runs.values(column))]:
            where = f"Within the runs' compute, at {_flop3(C)} FLOP, but beyond their {' and '.join(beyond)}"
        near = f"{short(told['near'][0])} to {short(told['near'][1])}"
        said = f"{where}: {short(told['params'])}, near-optimal {near} (within 0.1 %)"
        return [f"{said}; {self._by_window(told)}." if told["windows"] else f"{said}."]

    def _asked(self) -> list[str]:
        """The best size at the largest budget asked about, and what it loses where one half of the table is right."""
        budgets = self.fit.info["budgets"]
        largest = largest_compute(self.fit.runs)
        beyond = [C for C in budgets if largest < C <= ABSURD * largest]
        asked = self.fit.info.get("asked") or []
        if not beyond:
            return []
        C = max(c for c in beyond if c in asked) if any(c in asked for c in beyond) else min(beyond)
        if (told := self._at(C)) is None:
            return []
        far = ", mostly the law's form" if C > FAR * largest else ""
        said = f"At {_flop3(C)} ({C / largest:.2g}× beyond the largest run{far}): {short(told['params'])}"
        if told["windows"]:
            said += f"; {self._by_window(told)}"
        if told["regret"] is None:
            return [f"{said}."]
        regret, apart = max(told["regret"]), max(told["halves"]) / min(told["halves"])
        loses = f"{short(told['params'])} loses at most {regret:.2g} % under either half"
        if regret <= 100 * SAFE and apart >= APART:
            return [f"{said}. Yet {loses}: the choice is safer than the exponent."]
        end = (
            ": do not train it on this law alone"
            if "law-unstable-in-compute" in self.failed and regret > 100 * SAFE
            else ""
        )
        return [f"{said}. {loses}{end or ('' if self.failed or regret > 100 * SAFE else ': the choice is safe')}."]

    def _by_window(self, told: Mapping[str, Any]) -> str:
        return f"windows say {short(min(told['windows']))} to {short(max(told['windows']))}"

    def _at(self, C: float) -> dict[str, Any] | None:
        """The optimum at a budget from the headline, from every window, and what it loses under either half."""
        fit = self.fit
        try:
            require_optimum(fit.law, {})
            made = allocate(fit, [C], far_ok=True)
        except NotFittedFor:
            return None
        params, tokens = (float(made.interval(n)[0, 0]) for n in ("params", "tokens"))
        near = [float(np.median(np.asarray(made.dataset[n]))) for n in ("near_lower", "near_upper")]
        told: dict[str, Any] = {"params": params, "tokens": tokens, "near": near}
        told |= {"windows": [], "halves": [], "regret": None}
        own = [p.name for p in fit.law.parameters]
        windows = [w for w in self.windows if all(n in w["values"] for n in own)]
        if len(windows) < 2:
            return told
        values = {n: np.asarray([w["values"][n] for w in windows]) for n in own}
        best = optimum_at(fit.law, values, fit.references, C)
        if not np.isfinite(best["params"]).all():
            return told
        told["windows"], told["halves"] = best["params"].tolist(), best["params"][:2].tolist()
        here = loss_on_budget(fit.law, values, fit.references, C, params)
        told["regret"] = (100 * (here / best["loss"] - 1))[:2].tolist()
        return told

    def _next(self) -> list[str]:
        """What to train next: what the design lacks, repeats where the halves differ, or runs of new sizes."""
        missing = [ProposedRun(**r) for r in self.fit.info.get("next_runs") or []]
        plan = self.fit.info.get("plan")
        if missing and self.fit.headline_source == "none":
            return [proposal(missing)]
        if not plan or not self.fit.converged:
            return []
        runs = [ProposedRun(**r) for r in plan["runs"]]
        total = sum(r.flops for r in runs)
        sd = float(self.fit.draws("posterior")[plan["quantity"]].std())
        if plan["kind"] in ("repeat", "new-halves"):
            half = len(runs) // 2
            parts = [
                f"{', '.join(short(r.params) for r in part)} at {_range(part)}" for part in (runs[:half], runs[half:])
            ]
            what = "repeat with new seeds" if plan["kind"] == "repeat" else "train new sizes"
            error = (self.fit.info["windows"]["quantities"].get(plan["quantity"]) or {}).get("null_sd")
            if error and plan["sd_ratio"] > _HARDLY:
                return [
                    f"Next: more such runs would hardly narrow the ± {_digits(error)} between the halves: look first at"
                    " what else differs between them: settings, schedules, how N and C were counted."
                ]
            gain = (
                f": ± {_digits(error)} between the halves becomes ± {_digits(error * plan['sd_ratio'])}"
                if error
                else ""
            )
            return [f"Next: {what} {' and '.join(parts)} FLOP ({_flop(total)} in all){gain}."]
        told = ", ".join(f"{short(r.params)} on {short(r.tokens)} tokens" for r in runs)
        return [
            f"Next: {told} ({_flop(total)} FLOP in all) would narrow {plan['quantity']} from ± {_digits(sd)} to "
            f"± {_digits(sd * plan['sd_ratio'])}."
        ]


def _joined(pairs: Iterable[tuple[str, str | None]]) -> list[tuple[str, str]]:
    """What recipes share, with their names: at most three of each, joined."""
    groups: dict[str, list[str]] = {}
    for what, who in pairs:
        groups.setdefault(what, []).append(str(who))
    return [(what, " and ".join(names[:3])) for what, names in groups.items()]


def _interval(x: np.ndarray, prob: float) -> tuple[float, float, float]:
    low, mid, high = np.quantile(x, [(1 - prob) / 2, 0.5, (1 + prob) / 2])
    return float(low), float(mid), float(high)


def _rounded_down(C: float) -> float:
    """A budget with its first two digits."""
    unit = 10.0 ** (np.floor(np.log10(C)) - 1)
    return float(np.floor(C / unit + 1e-9) * unit)


def _outside(x: float, tried: np.ndarray) -> bool:
    """Whether a number lies below or above all that were tried, by more than they repeat a level."""
    return not tried.min() * (1 - LEVEL_TOLERANCE) <= x <= tried.max() * (1 + LEVEL_TOLERANCE)


def _digits(error: float) -> str:
    """An error with two digits."""
    return f"{error:.{int(np.clip(1 - np.floor(np.log10(max(error, 1e-12))), 0, 8))}f}"


def _flop(C: float) -> str:
    """Compute with two digits, as people write it: 3.2e21."""
    return f"{C:.2g}".replace("e+", "e")


def _flop3(C: float) -> str:
    """Compute with three digits: 5.76e23."""
    return f"{C:.3g}".replace("e+", "e")


def _range(runs: Sequence[ProposedRun]) -> str:
    """The compute of runs, from the least to the most."""
    first, last = _flop(runs[0].flops), _flop(runs[-1].flops)
    return first if first == last else f"{first} to {last}"


def _passed(findings: Sequence[Finding]) -> str:
    return f"{sum(f.status == 'pass' for f in findings)} of {len(findings)} checks passed."


def _ranked(findings: Sequence[Finding], status: str) -> list[Finding]:
    order = {code: k for k, code in enumerate(_WEIGHT)}
    return sorted((f for f in findings if f.status == status), key=lambda f: order.get(f.code, len(order)))


def _sentence(f: Finding) -> str:
    text = f.message.replace(" → ", ". ")
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
