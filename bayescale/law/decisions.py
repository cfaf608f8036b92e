"""What users of a law decide: the inputs they choose, what ties others to them, and what a budget buys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayescale.law.declaration import Derived


@dataclass(frozen=True)
class Choice:
    """An input that a law's users choose, so that the first response is least.

    It is looked for within the range of the table's runs, or up to a factor `beyond` outside it: only where a law can
    be read beyond its runs, as along a width. `scale` is how it is searched: "log", or "linear" for a share.
    """

    name: str
    beyond: float = 1.0
    scale: str = "log"


@dataclass(frozen=True)
class Decision:
    """What `allocate` answers over the posterior of a law.

    `choices` are the inputs it finds. With `splits`, a budget is split between the size N and the data D as well. `D`
    is otherwise what a budget buys for the size, or given. `follows` names inputs that others fix, as a power law whose
    exponents the table's rows tell, or are these: `{"N": {"w": 2, "d": 1}}`. Compute counts `active` of every
    parameter, a function of the inputs. `shows` are quantities told beside them, functions of inputs and parameters. A
    law that `reads` predicts what is decided: its responses are the answer. `instead` says of a law that decides
    nothing here what to ask in place of `allocate`.

    Example:
        >>> Decision((Choice("S", scale="linear"),), splits=True, active=lambda S: 1 - S).splits
        True
    """

    choices: tuple[Choice, ...] = ()
    splits: bool = False
    follows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    active: Callable[..., Any] | None = None
    shows: Mapping[str, Derived] = field(default_factory=dict)
    reads: bool = False
    instead: str = ""

    @property
    def answers(self) -> bool:
        """Whether there is more to decide than a size and data that a budget splits into."""
        return bool(self.choices) or self.reads or self.active is not None

    @property
    def sizes(self) -> bool:
        """Whether a budget buys by more than the size: only a share of it counts, or a shape makes it."""
        return self.active is not None or bool(self.follows)

    def left(self, given: Mapping[str, float]) -> bool:
        """Whether there is still more to decide than that split once some inputs are given."""
        return self.reads or self.sizes or any(c.name not in given for c in self.choices)
