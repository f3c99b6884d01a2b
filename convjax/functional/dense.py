"""The dense convolution and its plain variants."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from convjax import _checks
from convjax import padding as paddings
from convjax.geometry import Geometry
from convjax.layout import Axes
from convjax.lowerings import LOWERINGS, direct
from convjax.operation import Operands
from convjax.operation import convolve as _convolve


class Sides(NamedTuple):
    """Axis positions that a `dimension_numbers` gives: batch, channels and space of x and result,
    the two channel axes and space of the kernel. Space is in the kernel's order throughout."""

    x: tuple[int, int, tuple[int, ...]]
    kernel: tuple[int, int, tuple[int, ...]]  # I, O, space
    out: tuple[int, int, tuple[int, ...]]


def sides(function: str, dimension_numbers: Any, ndim: int) -> Sides:
    """`dimension_numbers` (None: channels-last; else lax's triple) as axis positions."""
    if dimension_numbers is None:
        space = tuple(range(1, ndim - 1))
        kernel_space = tuple(range(ndim - 2))
        return Sides((0, ndim - 1, space), (ndim - 2, ndim - 1, kernel_space), (0, ndim - 1, space))
    if isinstance(dimension_numbers, lax.ConvDimensionNumbers):
        (xn, xc, *xs), (ko, ki, *ks), (yn, yc, *ys) = dimension_numbers
        return Sides((xn, xc, tuple(xs)), (ki, ko, tuple(ks)), (yn, yc, tuple(ys)))
    rule = (
        f'must be None or three strings of {ndim} distinct letters, such as ("NCHW", "OIHW", '
        '"NCHW"): N and C for `x` and the result, O and I for the kernel, and the same letters for '
        "the spatial axes"
    )
    if (
        not isinstance(dimension_numbers, (tuple, list))
        or len(dimension_numbers) != 3
        or not all(isinstance(spec, str) for spec in dimension_numbers)
    ):
        _checks.fail_type(function, "dimension_numbers", dimension_numbers, rule)
    x, kernel, out = dimension_numbers
    letters = [set(x) - set("NC"), set(kernel) - set("IO"), set(out) - set("NC")]
    if (
        any(len(spec) != ndim or len(set(spec)) != ndim for spec in dimension_numbers)
        or not (set("NC") <= set(x) and set("NC") <= set(out) and set("IO") <= set(kernel))
        or not letters[0] == letters[1] == letters[2]
    ):
        _checks.fail(function, "dimension_numbers", tuple(dimension_numbers), rule)
    order = [letter for letter in kernel if letter not in "IO"]

    def axes(spec: str, first: str, second: str) -> tuple[int, int, tuple[int, ...]]:
        return spec.index(first), spec.index(second), tuple(spec.index(a) for a in order)

    return Sides(axes(x, "N", "C"), axes(kernel, "I", "O"), axes(out, "N", "C"))


def operands(function: str, x: Any, kernel: Any, x_name: str = "x") -> tuple[jax.Array, jax.Array]:
    """`x` and `kernel` as JAX arrays of one rank and dtype, or an error in the caller's words."""
    _checks.array(function, x_name, x)
    _checks.array(function, "kernel", kernel)
    if kernel.ndim < 3:
        _checks.fail(
            function,
            "kernel",
            tuple(kernel.shape),
            "must have at least one spatial axis besides its two channel axes",
            "Its shape is (*kernel_size, in_features / groups, out_features).",
        )
    if x.ndim != kernel.ndim:
        mend = f"The kernel's {kernel.ndim} axes make this a {kernel.ndim - 2}-D convolution"
        if x.ndim == kernel.ndim - 1:
            mend += f"; for one example without a batch axis use `jax.vmap` or `{x_name}[None]`."
        else:
            mend += (
                f", so `{x_name}` needs a batch axis, {kernel.ndim - 2} spatial axes and channels."
            )
        _checks.fail(function, x_name, tuple(x.shape), f"must have {kernel.ndim} axes", mend)
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    for name, operand in ((x_name, x), ("kernel", kernel)):
        if not jnp.issubdtype(operand.dtype, jnp.number):
            _checks.fail_type(
                function, name, str(operand.dtype), "must have a numeric dtype", "Cast it first."
            )
    if x.dtype != kernel.dtype:
        raise TypeError(
            f"{function}: `{x_name}` ({x.dtype}) and `kernel` ({kernel.dtype}) must have one "
            f"dtype. Cast one of them, for example `kernel.astype({x_name}.dtype)`."
        )
    return x, kernel


def check_algorithm(function: str, algorithm: Any) -> Any:
    """`algorithm`: None, a lowering's name, or a triple of these."""
    if algorithm is None or isinstance(algorithm, str):
        entries: tuple[Any, ...] = (algorithm,)
    elif isinstance(algorithm, (tuple, list)) and len(algorithm) == 3:
        algorithm = entries = tuple(algorithm)
    else:
        _checks.fail_type(
            function,
            "algorithm",
            algorithm,
            "must be None, a lowering's name, or a triple (forward, input_gradient, "
            "kernel_gradient) of these",
        )
    for entry in entries:
        if entry is not None:
            _checks.choice(function, "algorithm", entry, tuple(LOWERINGS))
    return algorithm


def numerics(
    function: str, x: jax.Array, precision: Any, preferred_element_type: Any
) -> dict[str, Any]:
    """`precision` and `preferred_element_type` as they hold now, at the call."""
    try:
        resolved = direct.resolve_precision(precision)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{function}: `precision` (={precision!r}) must be None, a jax.lax.Precision, its name "
            "such as 'highest', or a pair of these."
        ) from error
    if preferred_element_type is not None:
        try:
            preferred = jnp.dtype(jax.dtypes.canonicalize_dtype(preferred_element_type))
        except TypeError as error:
            raise TypeError(
                f"{function}: `preferred_element_type` (={preferred_element_type!r}) must be a "
                "dtype."
            ) from error
        kinds = (jnp.integer, jnp.floating, jnp.complexfloating)
        same_kind = any(
            jnp.issubdtype(x.dtype, kind) and jnp.issubdtype(preferred, kind) for kind in kinds
        )
        signs = {jnp.issubdtype(d, jnp.unsignedinteger) for d in (x.dtype, preferred)}
        if not same_kind or preferred.itemsize < x.dtype.itemsize or len(signs) > 1:
            _checks.fail(
                function,
                "preferred_element_type",
                str(preferred),
                f"must be of the operands' kind and at least as wide as their dtype {x.dtype}",
                "Cast the result instead.",
            )
        preferred_element_type = preferred
    return {"precision": resolved, "preferred_element_type": preferred_element_type}


def check_groups(
    function: str,
    x: jax.Array,
    kernel: jax.Array,
    where: Sides,
    groups: Any,
    name: str = "feature_group_count",
) -> int:
    """`groups` after checking it against the channels of `x` and `kernel` (I/G, O)."""
    groups = _checks.integer(function, name, groups, minimum=1)
    channels, per_group = x.shape[where.x[1]], kernel.shape[where.kernel[0]]
    out = kernel.shape[where.kernel[1]]
    expected = per_group * groups
    mend = ""
    if channels != expected:
        others = [axis for axis in where.x[2] if x.shape[axis] == expected]
        if others and where.x[1] == x.ndim - 1 and others[0] == 1:
            triple = ("NCHW", "OIHW", "NCHW") if x.ndim == 4 else ("NC...", "OI...", "NC...")
            mend = (
                "`x` looks channels-first: move its channels last, or pass "
                f"`dimension_numbers={triple}`."
            )
        elif others:
            mend = "`x` looks channels-last: drop `dimension_numbers`, or transpose `x`."
    if channels % groups:
        _checks.fail(function, name, groups, f"must divide the channels of `x` (={channels})", mend)
    if channels != expected:
        if not mend and per_group == channels and groups > 1:
            mend = "A grouped kernel's input axis has in_features / groups entries."
        _checks.fail(
            function,
            "kernel",
            tuple(kernel.shape),
            f"must have {channels // groups} input channels (the channels of `x`, {channels}"
            + (f", over {groups} groups" if groups > 1 else "")
            + f"), not {per_group}",
            mend,
        )
    if out % groups:
        _checks.fail(
            function, name, groups, f"must divide the output channels of `kernel` (={out})"
        )
    return groups


def check_window(function: str, window: Any) -> None:
    """Refuse kernels without taps."""
    if any(paddings.certainly(lambda k=k: k == 0) for k in window):
        _checks.fail(function, "kernel", window, "must have at least one tap on every spatial axis")


def _conv(
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
    extension, rest = paddings.split_extension(function, pairs, modes, space)
    x = paddings.extend(x, extension, modes, where.x[2])
    return _convolve(
        x,
        kernel,
        Operands(
            x=Axes(batch=(where.x[0],), contract=(where.x[1],), space=where.x[2]),
            kernel=Axes(contract=(where.kernel[0],), out=(where.kernel[1],), space=where.kernel[2]),
            out=Axes(batch=(where.out[0],), out=(where.out[1],), space=where.out[2]),
        ),
        groups,
        geometry=Geometry(strides, rest, input_dilation, kernel_dilation),
        out_sharding=out_sharding,
        algorithm=algorithm,
        **options,
    )


def _check_fits(function: str, geometry: Geometry, space: Any, window: Any, empty: bool) -> None:
    """Refuse kernels that do not fit the padded input; only empty inputs have empty outputs."""
    out = geometry.output_space(space, window)
    for axis, size in enumerate(out):
        if empty or not paddings.certainly(lambda size=size: size == 0):
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


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    input_dilation: Any = 1,
    kernel_dilation: Any = 1,
    feature_group_count: int = 1,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    algorithm: Any = None,
) -> jax.Array:
    """Convolution as deep learning means it (cross-correlation), of any rank.

    ``out[n, p, o] = sum_{t, i} x_padded[n, p*strides + t*kernel_dilation, g*I/G + i] *
    kernel[t, i, o]``, with ``g`` the group of output channel ``o``. Extents are
    ``floor((i + lo + hi - k̂) / s) + 1`` with ``k̂ = (k - 1)*d + 1`` (relations 6 and 15).

    Args:
        x: (N, *space, I), or as `dimension_numbers` says. The rank is ``kernel.ndim - 2``.
        kernel: (*K, I/G, O).
        strides: steps between outputs; an int, or one per spatial axis.
        padding: "SAME" (output ``ceil(n / strides)``, odd padding high), "SAME_LOWER" (odd padding
            low), "VALID", "FULL" (``k̂ - 1`` on both sides), "CAUSAL" (the first spatial axis sees
            only its past; the others SAME), an int, one int per axis (both sides), or (low, high)
            pairs per axis; negative ones crop.
        padding_mode: what lies beyond the edge: "constant" (zeros), "reflect", "symmetric",
            "edge" or "wrap" (numpy's words), or one per axis.
        input_dilation: zeros inserted between inputs, plus one.
        kernel_dilation: distance between taps.
        feature_group_count: G; group g maps its own I/G input channels to its own O/G outputs.
        dimension_numbers: None (channels-last), or lax's triple, as ("NCHW", "OIHW", "NCHW").
        precision: as in ``jax.lax``; None means ``jax.default_matmul_precision`` at this call.
        preferred_element_type: dtype of the result (and of its accumulation), such as int32 for
            int8 operands.
        out_sharding: sharding of the result, under explicit mesh axes.
        algorithm: None (chosen for the platform when lowered), a lowering's name, or a triple
            (forward, input_gradient, kernel_gradient). "direct" is ``lax.conv_general_dilated``.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError: values that do not fit together, such as a kernel larger than the padded input.
        TypeError: wrong types, such as operands of two dtypes.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.conv(jnp.ones((2, 32, 32, 3)), jnp.ones((3, 3, 3, 16)), strides=2).shape
        (2, 16, 16, 16)

    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016,
        https://arxiv.org/abs/1603.07285
    """
    return _conv(
        "conv",
        x,
        kernel,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        input_dilation=input_dilation,
        kernel_dilation=kernel_dilation,
        feature_group_count=feature_group_count,
        dimension_numbers=dimension_numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
        algorithm=algorithm,
    )


def _like_conv(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Give `function` the signature of `conv`, whose options it passes on."""
    function.__signature__ = inspect.signature(conv)  # type: ignore[attr-defined]
    return function


def _conv_of_rank(function: str, rank: int, x: Any, kernel: Any, options: Any) -> jax.Array:
    _checks.array(function, "kernel", kernel)
    if kernel.ndim != rank + 2:
        _checks.fail(
            function,
            "kernel",
            tuple(kernel.shape),
            f"must have {rank + 2} axes, {rank} of them spatial",
            f"For a {kernel.ndim - 2}-D kernel use `conv`." if kernel.ndim > 2 else "",
        )
    return _conv(function, x, kernel, **options)


@_like_conv
def conv1d(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    """`conv` of one spatial axis: it only checks the rank.

    ``out[n, p, o] = sum_{t, i} x[n, p*strides + t*kernel_dilation, i] * kernel[t, i, o]``

    Args:
        x: (N, W, I).
        kernel: (K, I/G, O).
        options: those of `conv`.

    Returns:
        (N, W', O).

    Raises:
        ValueError: a kernel of another rank, and what `conv` raises.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.conv1d(jnp.ones((2, 100, 3)), jnp.ones((9, 3, 4)), padding="CAUSAL").shape
        (2, 100, 4)

    Source: Dumoulin & Visin, 2016, https://arxiv.org/abs/1603.07285
    """
    return _conv_of_rank("conv1d", 1, x, kernel, options)


@_like_conv
def conv2d(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    """`conv` of two spatial axes: it only checks the rank.

    ``out[n, p, o] = sum_{t, i} x[n, p*strides + t*kernel_dilation, i] * kernel[t, i, o]``

    Args:
        x: (N, H, W, I).
        kernel: (KH, KW, I/G, O).
        options: those of `conv`.

    Returns:
        (N, H', W', O).

    Raises:
        ValueError: a kernel of another rank, and what `conv` raises.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.conv2d(jnp.ones((2, 7, 7, 3)), jnp.ones((3, 3, 3, 4)), padding="VALID").shape
        (2, 5, 5, 4)

    Source: Dumoulin & Visin, 2016, https://arxiv.org/abs/1603.07285
    """
    return _conv_of_rank("conv2d", 2, x, kernel, options)


@_like_conv
def conv3d(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    """`conv` of three spatial axes: it only checks the rank.

    The third axis is depth or time, not channels: a filter still spans all channels, and moves in
    three directions.

    Args:
        x: (N, D, H, W, I).
        kernel: (KD, KH, KW, I/G, O).
        options: those of `conv`.

    Returns:
        (N, D', H', W', O).

    Raises:
        ValueError: a kernel of another rank, and what `conv` raises.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.conv3d(jnp.ones((1, 8, 9, 9, 2)), jnp.ones((3, 3, 3, 2, 4))).shape
        (1, 8, 9, 9, 4)

    Source: Tran et al., Learning spatiotemporal features with 3D convolutional networks, 2015,
        https://arxiv.org/abs/1412.0767
    """
    return _conv_of_rank("conv3d", 3, x, kernel, options)


@_like_conv
def correlate(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    """Cross-correlation: another name for `conv`, which deep learning calls convolution.

    ``out[n, p, o] = sum_{t, i} x[n, p + t, i] * kernel[t, i, o]`` (nothing is conjugated)

    Args:
        x: (N, *space, I).
        kernel: (*K, I/G, O).
        options: those of `conv`.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError, TypeError: as `conv` does.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.correlate(jnp.ones((1, 6, 1)), jnp.ones((3, 1, 1)), padding="FULL").shape
        (1, 8, 1)

    Source: Dumoulin & Visin, 2016, https://arxiv.org/abs/1603.07285
    """
    return _conv("correlate", x, kernel, **options)


@_like_conv
def convolve(x: jax.Array, kernel: jax.Array, **options: Any) -> jax.Array:
    """True convolution, as signal processing defines it: `conv` with the kernel flipped in space.

    ``out[n, p, o] = sum_{t, i} x[n, p - t, i] * kernel[t, i, o]``, up to the offset that `padding`
    sets. For one channel "FULL", "VALID" and "SAME_LOWER" are ``scipy.signal.convolve``'s full,
    valid and same.

    Args:
        x: (N, *space, I).
        kernel: (*K, I/G, O).
        options: those of `conv`.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError, TypeError: as `conv` does.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> x = jnp.array([1.0, 2.0, 3.0])[None, :, None]
        >>> kernel = jnp.array([0.0, 1.0, 2.0])[:, None, None]
        >>> convjax.convolve(x, kernel, padding="FULL").ravel().tolist()
        [0.0, 1.0, 4.0, 7.0, 6.0]

    Source: Oppenheim & Schafer, Discrete-Time Signal Processing, 2009, chapter 2;
        https://docs.scipy.org/doc/scipy/reference/generated/scipy.signal.convolve.html
    """
    x, kernel = operands("convolve", x, kernel)
    where = sides("convolve", options.get("dimension_numbers"), kernel.ndim)
    return _conv("convolve", x, lax.rev(kernel, where.kernel[2]), **options)


def pointwise_conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Any = 1,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    algorithm: Any = None,
) -> jax.Array:
    """1x1 convolution: one matrix product over the channels, at every position.

    ``out[n, p, o] = sum_i x[n, p*strides, i] * kernel[0, i, o]``

    Args:
        x: (N, *space, I).
        kernel: (1, ..., 1, I, O).
        strides: steps between outputs; an int, or one per spatial axis.
        dimension_numbers, precision, preferred_element_type, out_sharding, algorithm: see `conv`.

    Returns:
        (N, *ceil(space / strides), O).

    Raises:
        ValueError: a kernel that has spatial extent, and what `conv` raises.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> convjax.pointwise_conv(jnp.ones((2, 8, 8, 200)), jnp.ones((1, 1, 200, 1))).shape
        (2, 8, 8, 1)

    Source: Lin, Chen & Yan, Network in network, 2013, https://arxiv.org/abs/1312.4400
    """
    x, kernel = operands("pointwise_conv", x, kernel)
    check_pointwise("pointwise_conv", kernel, dimension_numbers)
    return _conv(
        "pointwise_conv",
        x,
        kernel,
        strides=strides,
        padding="VALID",
        dimension_numbers=dimension_numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
        algorithm=algorithm,
    )


def check_pointwise(
    function: str, kernel: Any, dimension_numbers: Any, name: str = "kernel"
) -> None:
    """Refuse a `kernel` that has spatial extent."""
    where = sides(function, dimension_numbers, kernel.ndim)
    if any(kernel.shape[axis] != 1 for axis in where.kernel[2]):
        _checks.fail(
            function,
            name,
            tuple(kernel.shape),
            "must have extent 1 on every spatial axis",
            "For larger kernels use `conv`.",
        )


def dilated_conv(
    x: jax.Array,
    kernel: jax.Array,
    kernel_dilation: Any,
    *,
    strides: Any = 1,
    padding: Any = "SAME",
    padding_mode: Any = "constant",
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
    algorithm: Any = None,
) -> jax.Array:
    """Dilated (atrous) convolution: taps `kernel_dilation` apart, the parameters of a dense one.

    ``out[n, p, o] = sum_{t, i} x[n, p + kernel_dilation*t, i] * kernel[t, i, o]``; one layer sees
    ``k̂ = (k - 1)*kernel_dilation + 1`` inputs, and a stack of 3-wide kernels with dilations
    1, 2, 4 sees 3, 7, 15.

    Args:
        x: (N, *space, I).
        kernel: (*K, I, O).
        kernel_dilation: distance between taps; an int, or one per spatial axis.
        strides, padding, padding_mode: see `conv`.
        dimension_numbers, precision, preferred_element_type, out_sharding, algorithm: see `conv`.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError, TypeError: as `conv` does.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> x, kernel = jnp.ones((1, 15, 15, 3)), jnp.ones((3, 3, 3, 8))
        >>> convjax.dilated_conv(x, kernel, 4, padding="VALID").shape
        (1, 7, 7, 8)

    Source: Yu & Koltun, Multi-scale context aggregation by dilated convolutions, 2015,
        https://arxiv.org/abs/1511.07122
    """
    return _conv(
        "dilated_conv",
        x,
        kernel,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        kernel_dilation=kernel_dilation,
        dimension_numbers=dimension_numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
        algorithm=algorithm,
    )
