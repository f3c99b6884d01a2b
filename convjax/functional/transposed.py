"""The transposed convolution: the adjoint of `conv` with the same options and the same kernel."""

from typing import Any

import jax

from convjax import _checks
from convjax import padding as paddings
from convjax._public import public
from convjax.boundary import Operands, convolve
from convjax.extension import fold
from convjax.functional.arguments import (
    Sides,
    check_algorithm,
    check_window,
    numerics,
    operands,
    sides,
)
from convjax.geometry import Geometry
from convjax.layout import Axes
from convjax.sharding import as_operand, divisible, named_sharding
from convjax.transposed_sizes import check_causal_mode, transposed_extents


@public
def conv_transpose(
    y: jax.Array,
    kernel: jax.Array,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    kernel_dilation: Any = 1,
    feature_group_count: int = 1,
    output_padding: Any = 0,
    output_shape: Any = None,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    algorithm: Any = None,
) -> jax.Array:
    """Transposed convolution: the adjoint of `conv` under the same options, with the same kernel.

    ``<conv(u, kernel, **options), y> == <u, conv_transpose(y, kernel, output_shape=u's extents,
    **options)>`` (bilinear pairing). Every input adds a copy of the kernel to the result:
    ``out[n, p*strides + t*kernel_dilation - lo, o] += y[n, p, i] * kernel[t, o, i]``.
    The extents are ``(n - 1)*s + k̂ - lo - hi + output_padding`` (relation 14), and ``n*s`` for
    "SAME", "SAME_LOWER" and "CAUSAL". The result has the shape of u, not its values.

    It is the adjoint of `conv` with the same options, but for one word. The adjoint of a causal
    convolution looks forward in time: each output sees its input and later inputs. "CAUSAL" here
    looks back, as decoders of sound need it: on the first spatial axis output ``t`` sees the inputs
    up to ``t // s``, and none after them. An output does not depend on how long `y` goes on: to the
    last bit in groups of few channels on one CPU (see `depthwise_conv`), else to rounding.

    Args:
        y: (N, *space, I).
        kernel: (*K, O/G, I), the kernel of the forward `conv` that maps O channels to I. A PyTorch
            weight converts as a forward one does.
        strides: the up-sampling factor; an int, or one per spatial axis.
        padding: the padding of the forward `conv`; it is cropped from the result. "CAUSAL" looks
            back: on the first spatial axis, the time, it crops (0, k̂ - s), which is the end only,
            and the result begins as it would for a longer `y`; the other axes are "SAME". It is
            PyTorch's ``ConvTranspose1d`` without its last k̂ - s outputs. The adjoint of a causal
            `conv` crops the start: its pair there is (k̂ - 1, 0).
        padding_mode: the mode of the forward `conv`; what would lie beyond an edge is added back to
            the element that it copies. It is "constant" on the first axis of "CAUSAL".
        kernel_dilation: distance between taps.
        feature_group_count: G.
        output_padding: extra extent at the high end, less than `strides`, as in PyTorch; 0 for the
            words whose extents are ``n*s``.
        output_shape: spatial extents of the result; a forward `conv` of them has the extents of y.
        dimension_numbers: lax's triple for (y, kernel, result). The kernel's letters are those of
            the forward `conv`: "I" is the axis O/G, and "O" is the axis I.
        precision, preferred_element_type, out_sharding, algorithm: see `conv`.

    Returns:
        (N, *output_shape, O).

    Raises:
        ValueError: values that do not fit together, such as ``output_padding >= strides``.
        TypeError: wrong types.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> y, kernel = jnp.ones((1, 2, 2, 8)), jnp.ones((3, 3, 4, 8))
        >>> convjax.conv_transpose(y, kernel, padding="VALID").shape
        (1, 4, 4, 4)
        >>> convjax.conv_transpose(y, kernel, strides=2, padding="VALID").shape
        (1, 5, 5, 4)
        >>> codes, kernel = jnp.ones((1, 50, 8)), jnp.ones((16, 4, 8))
        >>> convjax.conv_transpose(codes, kernel, strides=8, padding="CAUSAL").shape
        (1, 400, 4)

    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016, section 4,
        https://arxiv.org/abs/1603.07285
    """
    function = "conv_transpose"
    y, kernel = operands(function, y, kernel, "y")
    where = sides(function, dimension_numbers, kernel.ndim)
    rank = kernel.ndim - 2
    strides = _checks.ints(function, "strides", strides, rank, minimum=1)
    kernel_dilation = _checks.ints(function, "kernel_dilation", kernel_dilation, rank, minimum=1)
    groups = _check_groups(function, y, kernel, where, feature_group_count)
    window = tuple(kernel.shape[axis] for axis in where.kernel[2])
    check_window(function, window)
    modes = paddings.modes(function, padding_mode, rank)
    space = tuple(y.shape[axis] for axis in where.x[2])
    check_causal_mode(function, padding, modes)
    out_space, pairs = transposed_extents(
        function,
        padding,
        space=space,
        window=window,
        strides=strides,
        kernel_dilation=kernel_dilation,
        output_padding=output_padding,
        output_shape=output_shape,
    )
    options = numerics(function, y, precision, preferred_element_type)
    algorithm = check_algorithm(function, algorithm)

    # The forward operation reads the extended u, so this one writes it, and folds the extension.
    extension, rest = paddings.split_extension(function, pairs, modes, out_space)
    extended = tuple(n + lo + hi for n, (lo, hi) in zip(out_space, extension, strict=True))
    forward = Geometry(strides, rest, (1,) * rank, kernel_dilation)
    folded, sharding = any(pair != (0, 0) for pair in extension), out_sharding
    if folded:
        sharding = named_sharding(function, out_sharding, y.ndim)
        sharding = sharding or as_operand(y, kernel, where.x, where.out, out_space)
    u = convolve(
        y,
        kernel,
        Operands(
            x=Axes(batch=(where.x[0],), contract=(where.x[1],), space=where.x[2]),
            kernel=Axes(contract=(where.kernel[1],), out=(where.kernel[0],), space=where.kernel[2]),
            out=Axes(batch=(where.out[0],), out=(where.out[1],), space=where.out[2]),
        ),
        groups,
        function=function,
        kernel_groups="contract",
        geometry=forward.input_gradient(extended, window),
        out_sharding=divisible(sharding, where.out[2], extended) if folded else sharding,
        algorithm=algorithm,
        **options,
    )
    if not folded:
        return u
    u = fold(u, extension, modes, where.out[2])
    return u if sharding is None else jax.reshard(u, sharding)


def _check_groups(function: str, y: Any, kernel: Any, where: Sides, groups: Any) -> int:
    groups = _checks.integer(function, "feature_group_count", groups, minimum=1)
    channels, expected = y.shape[where.x[1]], kernel.shape[where.kernel[1]]
    if channels != expected:
        per_group = kernel.shape[where.kernel[0]]
        mend = "The kernel is the forward one, (*K, out_features / groups, in_features)."
        if channels == per_group:
            mend += " Swap its last two axes." if where.kernel[1] == kernel.ndim - 1 else ""
        elif any(y.shape[axis] == expected for axis in where.x[2]):
            mend = "The channels of `y` seem to be on a spatial axis: check `dimension_numbers`."
        _checks.fail(
            function,
            "kernel",
            tuple(kernel.shape),
            f"must have the {channels} channels of `y` on its last channel axis, not {expected}",
            mend,
        )
    if channels % groups:
        _checks.fail(
            function,
            "feature_group_count",
            groups,
            f"must divide the channels of `y` (={channels})",
        )
    return groups
