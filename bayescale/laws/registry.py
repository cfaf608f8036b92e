"""The catalogue: every law by name, as a function of its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from bayescale.errors import LawError, nearest
from bayescale.law import Law


@dataclass(frozen=True)
class Entry:
    """One law of the catalogue: the function that declares it, its tier and family."""

    build: Callable[..., Law]
    tier: int
    family: str

    def __call__(self, **options: Any) -> Law:
        """The law with these options; raises `LawError` (BS-L002) for an option that it does not have."""
        known = self.options
        for name in options:
            if name not in known:
                raise LawError(
                    f"law {self.build.__name__!r} has no option {name!r}",
                    code="BS-L002",
                    remedy=nearest(name, [*known]) if known else "It has no options.",
                )
        given = known | {k: _typed(v, known[k], k) for k, v in options.items()}
        return _built(self.build, tuple(given.items()))

    @property
    def options(self) -> dict[str, Any]:
        """The options with their defaults."""
        return {k: p.default for k, p in inspect.signature(self.build).parameters.items()}


@cache
def _built(build: Callable[..., Law], options: tuple[tuple[str, Any], ...]) -> Law:
    """One object a law and its options, so that compiled programs are found again."""
    return build(**dict(options))


#: Every law of the catalogue by name.
LAWS: dict[str, Entry] = {}


def catalogued(tier: int, family: str) -> Callable[[Callable[..., Law]], Callable[..., Law]]:
    """Enter a law's declaring function into the catalogue under its own name."""

    def enter(build: Callable[..., Law]) -> Callable[..., Law]:
        LAWS[build.__name__] = Entry(build, tier, family)
        return build

    return enter


def _typed(value: Any, default: Any, name: str) -> Any:
    """An option given as text, as the type of its default."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]
        return type(default)(value)
    except (KeyError, ValueError):
        raise LawError(f"option {name}={value!r} is not a {type(default).__name__}", code="BS-L002") from None


def find_law(spec: str | Law, **options: Any) -> Law:
    """A law of the catalogue by its name, with options after a colon or as arguments; a `Law` passes through.

    Raises `LawError` (BS-L002) for a name or option that the catalogue does not have.

    Example:
        >>> find_law("power_law:x=tokens").inputs[0].column
        'tokens'
    """
    if isinstance(spec, Law):
        return spec
    if not isinstance(spec, str):
        raise LawError(
            f"a law is wanted by its name, not a {type(spec).__name__}",
            code="BS-L002",
            remedy="For example 'chinchilla'; `bayescale laws` lists them.",
        )
    name, _, rest = spec.partition(":")
    if name not in LAWS:
        raise LawError(f"no law {name!r}", code="BS-L002", remedy=nearest(name, [*LAWS]))
    for part in filter(None, rest.split(",")):
        key, sign, value = part.partition("=")
        if not sign:
            raise LawError(f"cannot read the option {part!r} of {spec!r}", code="BS-L002", remedy="Write name=value.")
        options.setdefault(key.strip(), value.strip())
    return LAWS[name](**options)
