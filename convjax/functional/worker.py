"""`conv` under any function's name: the worker of every kind that one convolution executes."""

import operator
from typing import Any

import jax

from convjax import _checks
from convjax import padding as paddings
from convjax._symbolic import certainly
from convjax.boundary import Operands, convolve
from convjax.extension import extend
from convjax.functional.arguments import (
    check_algorithm,
    check_groups,
    check_window,
    numerics,
    operands,
    sides,
)
from convjax.geometry import Geometry
from convjax.layout import Axes
from convjax.sharding import as_operand


def conv_as(
    function: str,
    x: Any,
    kernel: Any,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    input_dilation: Any = 1,
    kernel_dilation: Any = 1,
    feature_group_count: Any = 1,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    algorithm: Any = None,
    groups_name: str = "feature_group_count",
) -> jax.Array:
    """`conv` under another function's name in its errors."""
    x, kernel = operands(function, x, kernel)
    where = sides(function, dimension_numbers, kernel.ndim)
    rank = kernel.ndim - 2
    strides = _checks.ints(function, "strides", strides, rank, minimum=1)
    input_dilation = _checks.ints(function, "input_dilation", input_dilation, rank, minimum=1)
    kernel_dilation = _checks.ints(function, "kernel_dilation", kernel_dilation, rank, minimum=1)
    groups = check_groups(function, x, kernel, where, feature_group_count, groups_name)
    space = tuple(x.shape[axis] for axis in where.x[2])
    window = tuple(kernel.shape[axis] for axis in where.kernel[2])
    check_window(function, window)
    pairs = paddings.resolve(
        function,
        padding,
        space=space,
        window=window,
        strides=strides,
        input_dilation=input_dilation,
        kernel_dilation=kernel_dilation,
    )
    modes = paddings.modes(function, padding_mode, rank)
    if any(m != "constant" and d != 1 for m, d in zip(modes, input_dilation, strict=True)):
        _checks.fail(
            function,
            "padding_mode",
            padding_mode,
            f"must be 'constant' where `input_dilation` (={input_dilation}) inserts zeros",
        )
    options = numerics(function, x, precision, preferred_element_type)
    algorithm = check_algorithm(function, algorithm)

    geometry = Geometry(strides, pairs, input_dilation, kernel_dilation)
    _check_fits(function, geometry, space, window, empty=0 in x.shape)
    extended, rest = paddings.split_extension(function, pairs, modes, space)
    if out_sharding is None and any(pair != (0, 0) for pair in extended):
        out_space = geometry.output_space(space, window)
        out_sharding = as_operand(x, kernel, where.x, where.out, out_space)
    x = extend(x, extended, modes, where.x[2])
    return convolve(
        x,
        kernel,
        Operands(
            x=Axes(batch=(where.x[0],), contract=(where.x[1],), space=where.x[2]),
            kernel=Axes(contract=(where.kernel[0],), out=(where.kernel[1],), space=where.kernel[2]),
            out=Axes(batch=(where.out[0],), out=(where.out[1],), space=where.out[2]),
        ),
        groups,
        function=function,
        geometry=Geometry(strides, rest, input_dilation, kernel_dilation),
        out_sharding=out_sharding,
        algorithm=algorithm,
        **options,
    )


def _check_fits(function: str, geometry: Geometry, space: Any, window: Any, empty: bool) -> None:
    """Refuse kernels that do not fit the padded input; only empty inputs have empty outputs."""
    out = geometry.output_space(space, window)
    for axis, size in enumerate(out):
        if empty or not certainly(operator.eq, size, 0):
            continue
        reach = (window[axis] - 1) * geometry.kernel_dilation[axis] + 1
        dilation = geometry.kernel_dilation[axis]
        _checks.fail(
            function,
            "kernel",
            tuple(window),
            f"is larger than the padded input on spatial axis {axis}: it reaches over {reach} "
            f"elements{f' (kernel_dilation {dilation})' if dilation > 1 else ''}, and the input "
            f"has {space[axis]} with padding {geometry.padding[axis]}",
            'Use a smaller kernel, or more padding, such as `padding="SAME"`.',
        )
