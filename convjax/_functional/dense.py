"""The dense convolution and its plain variants."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core import checks
from convjax._core.aliases import ArrayLike, Ints
from convjax._core.options import ConvOptions, HoldOptions, PointwiseOptions, takes
from convjax._core.public import public
from convjax._functional.prepare import Names, conv_recipe
from convjax._operation.grouping import apply


@public
@takes(ConvOptions)
def conv(x: ArrayLike, kernel: ArrayLike, **options: Unpack[ConvOptions]) -> jax.Array:
    """Convolution as deep learning means it (cross-correlation), of any rank.

    ``out[n, p, o] = sum_{t, i} x_padded[n, p*strides + t*kernel_dilation, g*I/G + i] *
    kernel[t, i, o]``, with ``g`` the group of output channel ``o``. Extents are
    ``floor((i + lo + hi - k̂) / s) + 1`` with ``k̂ = (k - 1)*d + 1`` (relations 6 and 15).

    Under "CAUSAL" an output does not depend on the inputs after it. It is the same to the last bit
    for groups of few channels (see `depthwise_conv`). Otherwise it is the same up to rounding: the
    order in which XLA sums many channels may depend on the extents.

    Args:
        x: (N, *space, I), or as `dimension_numbers` says. The rank is ``kernel.ndim - 2``.
        kernel: (*K, I/G, O).
        strides: steps between outputs; an int, or one per spatial axis.
        padding: one of these. "SAME": the result has extents ``ceil(n / strides)``, and the odd
            element of padding is at the high end. "SAME_LOWER": it is at the low end. "VALID":
            none. "FULL": ``k̂ - 1`` at both ends. "CAUSAL" looks back: on the first spatial axis
            output ``t`` sees the inputs up to ``t * strides``, the other axes are "SAME". An int,
            or one int per axis: so many at both ends. A (low, high) pair per axis: so many at each
            end, where negative numbers crop.
        padding_mode: what lies beyond the edge: "constant" (zeros), "reflect", "symmetric",
            "edge" or "wrap" (numpy's words), or one per axis.
        input_dilation: distance between inputs; zeros are inserted between them.
        kernel_dilation: distance between taps.
        feature_group_count: G; group g maps its own I/G input channels to its own O/G outputs.
        dimension_numbers: None (channels-last), or lax's triple, as ("NCHW", "OIHW", "NCHW").
        precision: as in ``jax.lax``; None takes ``jax.default_matmul_precision`` at this call.
        preferred_element_type: dtype of the result (and of its accumulation), such as int32 for
            int8 operands.
        out_sharding: sharding of the result, under explicit mesh axes.
        algorithm: the lowering, by name, or a triple of names for (forward, input_gradient,
            kernel_gradient). None chooses one for the platform when the program is lowered.
            "direct" is ``lax.conv_general_dilated``.

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
    return apply(conv_recipe(Names("conv"), x, kernel, options), x, kernel)


def _conv_of_rank(function: str, rank: int, x: Any, kernel: Any, options: Any) -> jax.Array:
    if getattr(kernel, "ndim", rank + 2) != rank + 2:
        checks.fail(
            function,
            "kernel",
            tuple(kernel.shape),
            f"must have {rank + 2} axes, {rank} of them spatial",
            f"For a {kernel.ndim - 2}-D kernel use `conv`." if kernel.ndim > 2 else "",
        )
    return apply(conv_recipe(Names(function), x, kernel, options), x, kernel)


@public
@takes(ConvOptions)
def conv1d(x: ArrayLike, kernel: ArrayLike, **options: Unpack[ConvOptions]) -> jax.Array:
    """`conv` with one spatial axis; other ranks raise an error.

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


@public
@takes(ConvOptions)
def conv2d(x: ArrayLike, kernel: ArrayLike, **options: Unpack[ConvOptions]) -> jax.Array:
    """`conv` with two spatial axes; other ranks raise an error.

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


@public
@takes(ConvOptions)
def conv3d(x: ArrayLike, kernel: ArrayLike, **options: Unpack[ConvOptions]) -> jax.Array:
    """`conv` with three spatial axes; other ranks raise an error.

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


@public
@takes(ConvOptions)
def correlate(x: ArrayLike, kernel: ArrayLike, **options: Unpack[ConvOptions]) -> jax.Array:
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
    return apply(conv_recipe(Names("correlate"), x, kernel, options), x, kernel)


@public
@takes(ConvOptions)
def convolve(x: ArrayLike, kernel: ArrayLike, **options: Unpack[ConvOptions]) -> jax.Array:
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
    recipe = conv_recipe(Names("convolve"), x, kernel, options)
    return apply(recipe, x, lax.rev(jnp.asarray(kernel), recipe.layout.kernel.space))


@public
@takes(PointwiseOptions)
def pointwise_conv(
    x: ArrayLike, kernel: ArrayLike, **options: Unpack[PointwiseOptions]
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
    names = Names("pointwise_conv", form="pointwise", larger="conv")
    recipe = conv_recipe(names, x, kernel, {**options, "padding": "VALID"})
    return apply(recipe, x, kernel)


@public
@takes(HoldOptions)
def dilated_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    kernel_dilation: Ints,
    **options: Unpack[HoldOptions],
) -> jax.Array:
    """Dilated (atrous) convolution: the distance between taps is `kernel_dilation`.

    ``out[n, p, o] = sum_{t, i} x[n, p + kernel_dilation*t, i] * kernel[t, i, o]``. It has the
    parameters of a dense convolution. One layer sees ``k̂ = (k - 1)*kernel_dilation + 1`` inputs. A
    stack of 3-wide kernels with dilations 1, 2, 4 sees 3, 7, 15 inputs.

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
    given = {**options, "kernel_dilation": kernel_dilation}
    return apply(conv_recipe(Names("dilated_conv"), x, kernel, given), x, kernel)
