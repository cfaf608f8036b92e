"""Units of responses, and how the catalogue's priors follow them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bayescale.errors import UnitError, nearest

#: English text under a sub-word tokenizer carries about four bytes a token; a prior is wide enough not to care.
BYTES_PER_TOKEN = 4.0


@dataclass(frozen=True)
class Unit:
    """A unit of loss: its size in nats per token, and what it counts."""

    name: str
    per_nat: float
    meaning: str


#: Units a loss may be in. `per_nat` converts a prior stated in nats per token.
LOSS_UNITS: dict[str, Unit] = {
    u.name: u
    for u in (
        Unit("nats/token", 1.0, "natural logarithm, per token"),
        Unit("bits/token", 1 / math.log(2), "base-2 logarithm, per token"),
        Unit("nats/byte", 1 / BYTES_PER_TOKEN, "natural logarithm, per byte"),
        Unit("bits/byte", 1 / math.log(2) / BYTES_PER_TOKEN, "base-2 logarithm, per byte"),
    )
}

_SPELLINGS = {
    "nats": "nats/token",
    "nat": "nats/token",
    "bits": "bits/token",
    "bit": "bits/token",
    "bpb": "bits/byte",
    "bits_per_byte": "bits/byte",
    "nats_per_byte": "nats/byte",
    "nats_per_token": "nats/token",
    "bits_per_token": "bits/token",
    "nats/char": "nats/byte",
    "bits/char": "bits/byte",
    "bpc": "bits/byte",
}


def loss_unit(text: str) -> Unit:
    """The unit of a loss from its name or a common spelling of it.

    Raises `UnitError` (BS-R006) for an unknown unit, naming those known and the flag.

    Example:
        >>> loss_unit("bpb").name
        'bits/byte'
    """
    key = text.strip().lower().replace(" ", "")
    key = _SPELLINGS.get(key, key)
    if key not in LOSS_UNITS:
        raise UnitError(
            f"unknown loss unit {text!r}",
            remedy=f"{nearest(key, [*LOSS_UNITS, 'ppl'])} Give it with --loss-unit (in Python: loss_unit=).",
        )
    return LOSS_UNITS[key]
