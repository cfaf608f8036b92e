"""Formulas are plain functions whose arguments are names of the declaration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def argument_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's arguments; a callable object may list them as `argument_names`."""
    return getattr(function, "argument_names", None) or tuple(inspect.signature(function).parameters)


def call(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """A function called with those of the values that it names."""
    return function(**{name: values[name] for name in argument_names(function)})


def contribution_name(name: str) -> str:
    """The name under which a parameter's contribution at the reference is sampled: `A_ref` for `A`."""
    return f"{name}_ref"
