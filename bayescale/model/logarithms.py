"""Logarithms in double precision that a processor computes several of at once.

On CPUs, XLA computes logarithms of float64 one by one: four to eight nanoseconds each, where an exponential takes one.
In the density of a table they are most of the work. Written in elementary operations they become vector instructions,
as exponentials are; a barrier keeps XLA from computing them again wherever they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

#: ln 2 in two parts: the first has trailing zeros, so that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
#: log((1 + s) / (1 - s)) = 2 s + s (c1 s² + c2 s⁴ + …) for |s| < 0.1716, to 2**-58: Remez, as in Sun's fdlibm.
_SERIES = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
#: Smaller numbers count as zero, as they do in all that XLA compiles for CPUs.
_TINY = 2.2250738585072014e-308
#: The bits of the square root of one half, where one power of two ends and the next begins.
_ROOT_HALF = 0x3FE6A09E667F3BCD


def with_vector_logs(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with logarithms of float64 arrays computed by vector instructions, where XLA would not.

    Values are right to two units in the last place, derivatives are those of the logarithm. Logarithms of scalars, and
    all of them on accelerators, are left as they are.

    Example:
        >>> with jax.enable_x64(True):  # doctest: +SKIP
        ...     with_vector_logs(jnp.log)(jnp.array([2.0]))
    """
    import jax

    if jax.default_backend() != "cpu":
        return function

    def replaced(*arguments: Any) -> Any:
        traced, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = _evaluated(traced.jaxpr, traced.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return replaced


def _evaluated(jaxpr: Any, constants: Any, arguments: Any) -> list[Any]:
    """The results of a jaxpr, nested calls opened."""
    from jax.extend.core import Literal

    known: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

    def value(v):
        return v.val if isinstance(v, Literal) else known[v]

    faster: Mapping[str, Callable[..., Any]] = {"log": _log(), "log1p": _log1p()}
    for equation in jaxpr.eqns:
        name, given = equation.primitive.name, [value(v) for v in equation.invars]
        if name in faster and equation.invars[0].aval.dtype == np.float64 and equation.invars[0].aval.ndim:
            found = [faster[name](*given)]
        elif name in ("jit", "pjit"):
            inner = equation.params["jaxpr"]
            found = _evaluated(inner.jaxpr, inner.consts, given)
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
            made = equation.primitive.bind(*functions, *given, **parameters)
            found = made if equation.primitive.multiple_results else [made]
        known.update(zip(equation.outvars, found, strict=True))
    return [value(v) for v in jaxpr.outvars]


@cache
def _log() -> Callable[[Any], Any]:
    import jax

    made = jax.custom_jvp(lambda x: jax.lax.optimization_barrier(_of_positive(x)))
    made.defjvps(lambda t, _, x: t / x)
    return made


@cache
def _log1p() -> Callable[[Any], Any]:
    import jax
    import jax.numpy as jnp

    def log1p(x):
        # What rounding 1 + x lost is put back to first order.
        whole = 1.0 + x
        lost = jnp.where(jnp.isfinite(whole) & (whole > 0), (x - (whole - 1.0)) / whole, 0.0)
        return jax.lax.optimization_barrier(_of_positive(whole) + lost)

    made = jax.custom_jvp(log1p)
    made.defjvps(lambda t, _, x: t / (1.0 + x))
    return made


def _of_positive(x: Any) -> Any:
    """log x: x = 2**k m with m near one, then a series in (m - 1) / (m + 1); what is not positive as IEEE wants it."""
    import jax.numpy as jnp
    from jax.lax import bitcast_convert_type

    bits = bitcast_convert_type(x, np.int64)
    power = (bits - np.int64(_ROOT_HALF)) >> np.int64(52)
    f = bitcast_convert_type(bits - (power << np.int64(52)), np.float64) - 1.0
    k = power.astype(np.float64)
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    c = _SERIES
    rest = w * (c[1] + w * (c[3] + w * c[5])) + z * (c[0] + w * (c[2] + w * (c[4] + w * c[6])))
    half = 0.5 * f * f
    found = k * _LN2_HIGH - ((half - (s * (half + rest) + k * _LN2_LOW)) - f)
    found = jnp.where(x >= _TINY, found, jnp.where(x > -_TINY, -np.inf, np.nan))
    return jnp.where(x == np.inf, np.inf, found)
