"""What is tried next where the checks of a run of the sampler fail: more draws of the same chains, or smaller steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bayescale.errors import Finding
from bayescale.sampling.engine import Settings

#: Checks that more draws of the same chains can mend; others (divergences, E-BFMI) ask for smaller steps.
_TOO_SHORT = {"r-hat", "ess-bulk", "ess-tail"}
#: By how much chains are lengthened at once, at least and at most, and beyond what their effective draws ask for.
_LEAST, _MOST, _MARGIN = 2.0, 4.0, 1.3


@dataclass(frozen=True)
class Escalation:
    """Target acceptances in turn, and how many times the draws that were asked for are taken at each at first.

    Chains go on to at most `longest` times the draws that were asked for.
    """

    rungs: Sequence[tuple[float, int]]
    longest: int = 8

    def first(self, asked: Settings) -> Settings:
        """The settings of the first attempt."""
        return _at(asked, *self.rungs[0])

    def after(self, asked: Settings, tried: Settings, failed: Sequence[Finding]) -> Settings | None:
        """The settings after an attempt whose checks failed; None where nothing is left to try.

        Chains that were long enough, and still fail for their length, are tried once more, with the smallest steps.
        """
        left = [rung for rung in self.rungs if rung[0] > tried.target_accept]
        if {f.code for f in failed} <= _TOO_SHORT:
            longest = self.longest * asked.draws
            if tried.draws < longest:
                factor = min(_MOST, max(_LEAST, _MARGIN * max(map(_shortfall, failed))))
                return replace(tried, draws=min(longest, int(factor * tried.draws)))
            left = left[-1:]
        return _at(asked, *left[0]) if left else None


#: Without effects of groups, and with them: spreads of groups need small steps near zero, so a run with a lower target
#: would only have to be repeated.
PLAIN = Escalation(((0.9, 1), (0.97, 2), (0.99, 4), (0.998, 4)))
GROUPED = Escalation(((0.98, 1), (0.99, 2), (0.998, 4), (0.9995, 4)))


def _shortfall(failed: Finding) -> float:
    """How many times the effective draws should be what they are; unknown (a lot) where chains disagree."""
    return failed.threshold / failed.value if failed.code != "r-hat" and failed.value and failed.threshold else _MOST


def _at(asked: Settings, target_accept: float, factor: int) -> Settings:
    return replace(asked, target_accept=target_accept, draws=asked.draws * factor, warmup=asked.warmup * min(factor, 2))
