"""The transposed convolution: the adjoint of `conv` with the same options and the same kernel."""

import operator
from typing import Any

import jax

from convjax import _checks
from convjax import padding as paddings
from convjax._symbolic import certainly
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
from convjax.geometry import Geometry, Pair, dilated
from convjax.layout import Axes
from convjax.sharding import as_operand, divisible, named_sharding


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
    "SAME" and "SAME_LOWER". The result has the shape of u, not its values.

    Args:
        y: (N, *space, I).
        kernel: (*K, O/G, I), the kernel of the forward `conv` that maps O channels to I. A PyTorch
            weight converts as a forward one does.
        strides: the up-sampling factor; an int, or one per spatial axis.
        padding: the padding of the forward `conv`; it is cropped from the result.
        padding_mode: the mode of the forward `conv`; what would lie beyond an edge is added back to
            the element that it copies.
        kernel_dilation: distance between taps.
        feature_group_count: G.
        output_padding: extra extent at the high end, less than `strides`, as in PyTorch.
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
    out_space, pairs = _extents(
        function, space, window, strides, padding, kernel_dilation, output_padding, output_shape
    )
    options = numerics(function, y, precision, preferred_element_type)
    algorithm = check_algorithm(function, algorithm)

    # The forward operation reads the extended u, so this one writes it, and folds the extension.
    extension, rest = paddings.split_extension(function, pairs, modes, out_space)
    extended = tuple(n + lo + hi for n, (lo, hi) in zip(out_space, extension, strict=True))
    forward = Geometry(strides, rest, (1,) * rank, kernel_dilation)
    sharding = named_sharding(function, out_sharding, y.ndim)
    if sharding is None and any(pair != (0, 0) for pair in extension):
        sharding = as_operand(y, kernel, where.x, where.out, out_space)
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
        out_sharding=divisible(sharding, where.out[2], extended),
        algorithm=algorithm,
        **options,
    )
    if all(pair == (0, 0) for pair in extension):
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


def _extents(
    function: str,
    space: tuple[Any, ...],
    window: tuple[Any, ...],
    strides: tuple[int, ...],
    padding: Any,
    kernel_dilation: tuple[int, ...],
    output_padding: Any,
    output_shape: Any,
) -> tuple[tuple[Any, ...], tuple[Pair, ...]]:
    """Extents of the result, and the padding of the forward convolution that shrinks them."""
    rank = len(space)
    extra = _checks.ints(function, "output_padding", output_padding, rank, minimum=0)
    out = None
    if output_shape is not None:
        if any(extra):
            _checks.fail(
                function,
                "output_padding",
                output_padding,
                "must be 0 where `output_shape` is given: each fixes the extents",
            )
        out = _checks.ints(function, "output_shape", output_shape, rank, minimum=0)
    is_same = _same_axes(function, padding, rank)
    if out is None and any(e and s for e, s in zip(extra, is_same, strict=True)):
        _checks.fail(
            function,
            "output_padding",
            output_padding,
            f"must be 0 under padding {padding!r}, whose extents are n * strides",
            "Give `output_shape`, or the padding in numbers.",
        )
    k_hat = tuple(dilated(k, d) for k, d in zip(window, kernel_dilation, strict=True))

    def resolve(extents: Any) -> tuple[Pair, ...]:
        return paddings.resolve(
            function,
            padding,
            space=extents,
            window=window,
            strides=strides,
            input_dilation=(1,) * rank,
            kernel_dilation=kernel_dilation,
        )

    if out is None:
        # SAME pads so that the forward output is ceil(u / s): u = n*s. Otherwise relation 14.
        pairs = resolve(tuple(n * s for n, s in zip(space, strides, strict=True)))
        _check_output_padding(function, extra, strides, pairs)
        out = tuple(
            n * s if same else (n - 1) * s + k - lo - hi + a
            for n, s, k, (lo, hi), a, same in zip(
                space, strides, k_hat, pairs, extra, is_same, strict=True
            )
        )
        if any(certainly(operator.lt, u, 0) for u in out) and 0 in space:
            out = tuple(max(u, 0) for u in out)
        elif any(certainly(operator.le, u, 0) for u in out) and 0 not in space:
            _checks.fail(
                function,
                "padding",
                padding,
                f"crops everything: the result would have extents {out}",
                "Crop less, or give a larger kernel.",
            )
        return out, pairs

    pairs = resolve(out)
    for axis in range(rank):
        forward = (out[axis] + sum(pairs[axis]) - k_hat[axis]) // strides[axis] + 1
        if forward != space[axis]:
            least = (space[axis] - 1) * strides[axis] + k_hat[axis] - sum(pairs[axis])
            allowed = (
                f"{(space[axis] - 1) * strides[axis] + 1} to {space[axis] * strides[axis]}"
                if is_same[axis]
                else f"{least} to {least + strides[axis] - 1}"
            )
            _checks.fail(
                function,
                "output_shape",
                output_shape,
                f"must be an extent that `conv` would map to {space[axis]} on spatial axis {axis}: "
                f"{allowed}",
            )
    return out, pairs


def _same_axes(function: str, padding: Any, rank: int) -> tuple[bool, ...]:
    """The axes on which `padding` keeps extents (up to the stride)."""
    if not isinstance(padding, str):
        return (False,) * rank
    _checks.choice(function, "padding", padding, paddings.POLICIES)
    return tuple(
        padding in ("SAME", "SAME_LOWER") or (padding == "CAUSAL" and axis > 0)
        for axis in range(rank)
    )


def _check_output_padding(
    function: str, extra: tuple[int, ...], strides: tuple[int, ...], pairs: tuple[Pair, ...]
) -> None:
    for axis, (a, s, (lo, hi)) in enumerate(zip(extra, strides, pairs, strict=True)):
        if a >= s and a > 0:
            _checks.fail(
                function,
                "output_padding",
                a,
                f"must be less than `strides` (={s}) on spatial axis {axis}: `conv` loses no more",
                f"For a longer result crop less: a padding pair of ({lo}, {hi - a}) on that axis.",
            )
