"""A law's formula as it is computed: powers of an input from the input's logarithm, which is known once and for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def with_logs(formula: Callable[..., Any], arguments: Mapping[str, Any], logs: Mapping[str, Any]) -> Any:
    """The formula at these arguments, with `x**p` computed as `exp(p log x)` for every argument whose log is given.

    A general power costs more than the rest of a law together, and its derivative takes the logarithm again: a
    gradient over a table is twice as fast so. The formula itself stays as the paper writes it.

    Example:
        >>> with_logs(lambda N, alpha: N**-alpha, {"N": 100.0, "alpha": 0.5}, {"N": math.log(100.0)})
        Array(0.1, dtype=float32)
    """
    import jax
    import jax.numpy as jnp
    from jax.extend.core import Literal

    if not logs:
        return formula(**arguments)
    names = list(arguments)
    traced = jax.make_jaxpr(lambda *xs: formula(**dict(zip(names, xs, strict=True))))(*arguments.values())
    known = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    log_of = {}
    for name, variable in zip(names, traced.jaxpr.invars, strict=True):
        known[variable] = arguments[name]
        if name in logs:
            log_of[variable] = logs[name]

    def value(v):
        return v.val if isinstance(v, Literal) else known[v]

    for equation in traced.jaxpr.eqns:
        first = equation.invars[0] if equation.invars else None
        if equation.primitive.name == "pow" and not isinstance(first, Literal) and first in log_of:
            found = [jnp.exp(value(equation.invars[1]) * log_of[first])]
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
            made = equation.primitive.bind(*functions, *map(value, equation.invars), **parameters)
            found = made if equation.primitive.multiple_results else [made]
        known.update(zip(equation.outvars, found, strict=True))
    return value(traced.jaxpr.outvars[0])
