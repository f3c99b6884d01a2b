"""One equation of a jaxpr: the shapes of its arrays, and the convolution that it may be."""

from typing import Any

import numpy as np
from jax import lax

from convjax._core import checks
from convjax._core.geometry import Geometry
from convjax._lowerings.problem import Problem, problem_of
from convjax._operation.primitive import conv_p


def shapes_of(eqn: Any) -> tuple[tuple[int, ...], ...]:
    """Shapes of the operands and of the result."""
    return tuple(tuple(var.aval.shape) for var in (*eqn.invars, *eqn.outvars))


def posed_by(eqn: Any) -> Problem | None:
    """The problem that `eqn` poses if it is a convolution: this library's, or lax's own."""
    if eqn.primitive is conv_p:
        (x, kernel), params = (var.aval for var in eqn.invars), eqn.params
        return problem_of(x, kernel, params["layout"], params["geometry"], params["role"])
    if eqn.primitive is not lax.conv_general_dilated_p:
        return None
    params, (x, kernel, out) = eqn.params, shapes_of(eqn)
    (_, _, *xs), (ko, ki, *ks), (yn, _, *ys) = params["dimension_numbers"]
    groups = params["feature_group_count"] * params["batch_group_count"]
    return Problem(
        n=out[yn],
        groups=groups,
        i=kernel[ki],
        o=kernel[ko] // groups,
        space=tuple(x[axis] for axis in xs),
        window=tuple(kernel[axis] for axis in ks),
        out_space=tuple(out[axis] for axis in ys),
        geometry=Geometry(
            tuple(params["window_strides"]),
            tuple(params["padding"]),
            tuple(params["lhs_dilation"]),
            tuple(params["rhs_dilation"]),
        ),
        dtype=np.dtype(eqn.invars[0].aval.dtype),
        role="",
    )


def check_callable(function: str, fn: Any) -> None:
    if not callable(fn):
        checks.fail_type(
            function,
            "fn",
            type(fn).__name__,
            "must be a function",
            f"Give its arguments after it: `{function}(fn, *args)`.",
        )
