"""Convolutions in stages: depthwise then pointwise, or one axis after another."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import jax

from convjax._core.aliases import ArrayLike
from convjax._core.options import WindowOptions, takes
from convjax._core.public import public
from convjax._functional.stages import Stage, Stages

Options = Mapping[str, Any]


@public
@takes(WindowOptions)
def depthwise_separable_conv(
    x: ArrayLike,
    depthwise_kernel: ArrayLike,
    pointwise_kernel: ArrayLike,
    **options: Unpack[WindowOptions],
) -> jax.Array:
    """Depthwise convolution (space), then pointwise convolution (channels).

    ``pointwise_conv(depthwise_conv(x, depthwise_kernel, **options), pointwise_kernel)``. With M = 1
    it takes 1/O + 1/prod(K) of the dense convolution's multiply-accumulates. There is no
    non-linearity between the stages.

    Args:
        x: (N, *space, I).
        depthwise_kernel: (*K, 1, I*M).
        pointwise_kernel: (1..., I*M, O).
        strides, padding, padding_mode, kernel_dilation: of the depthwise stage; as in `conv`.
        dimension_numbers, precision, algorithm: of both stages; as in `conv`.
        preferred_element_type: dtype of the result; the pointwise stage computes in it.
        out_sharding: of the result.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError: kernels of another form, or whose channels do not chain; and as `conv`.
        TypeError: as `conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> x, depthwise, pointwise = map(jnp.ones, [(1, 7, 7, 3), (3, 3, 1, 3), (1, 1, 3, 128)])
        >>> convjax.depthwise_separable_conv(x, depthwise, pointwise, padding="VALID").shape
        (1, 5, 5, 128)

    Source: Sifre & Mallat, Rigid-motion scattering, 2014, https://arxiv.org/abs/1403.1687; Howard
        et al., MobileNets, 2017, https://arxiv.org/abs/1704.04861
    """
    stages, found = depthwise_separable(x, depthwise_kernel, pointwise_kernel, options)
    return stages.run(found, options)


def depthwise_separable(
    x: Any, depthwise_kernel: Any, pointwise_kernel: Any, options: Options
) -> tuple[Stages, list[Stage]]:
    """The two stages of `depthwise_separable_conv`."""
    stages = Stages("depthwise_separable_conv", x, options)
    depthwise = stages.kernel("depthwise_kernel", depthwise_kernel)
    stages.expect_depthwise(depthwise)
    pointwise = stages.kernel("pointwise_kernel", pointwise_kernel)
    stages.expect_pointwise(pointwise)
    stages.expect_channels(pointwise, depthwise)
    spatial = {**options, "feature_group_count": stages.channels}
    return stages, [(depthwise, spatial), (pointwise, {})]


@public
@takes(WindowOptions)
def spatially_separable_conv(
    x: ArrayLike, kernels: Sequence[ArrayLike], **options: Unpack[WindowOptions]
) -> jax.Array:
    """One convolution per spatial axis, one after the other.

    ``kernel[t, u, i, o] = sum_m kernels[0][t, 0, i, m] * kernels[1][0, u, m, o]``. The result is
    the result of `conv` with this outer product and the same options. With one channel, m x m taps
    on an N x N image take 2/m + (m - 1)/(m*(N - m + 1)) of the dense multiply-accumulates.

    Args:
        x: (N, *space, I).
        kernels: one per spatial axis, in the order of the axes: (K1, 1, I, M), (1, K2, M, O).
        strides, padding, padding_mode, kernel_dilation: as in `conv`; each stage gets the values
            for its axis.
        dimension_numbers, precision, algorithm: of every stage; as in `conv`.
        preferred_element_type: dtype of the result; stages after the first compute in it.
        out_sharding: of the result.

    Returns:
        (N, *out_space, O).

    Raises:
        ValueError: not one kernel per axis, a kernel with taps along another axis, or channels that
            do not chain; and as `conv`.
        TypeError: as `conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> smooth = jnp.array([1.0, 2.0, 1.0]).reshape(3, 1, 1, 1)
        >>> slope = jnp.array([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
        >>> image = jnp.ones((1, 5, 5, 1))
        >>> convjax.spatially_separable_conv(image, [smooth, slope], padding="VALID").shape
        (1, 3, 3, 1)

    Source: Szegedy et al., Rethinking the Inception architecture, 2015,
        https://arxiv.org/abs/1512.00567
    """
    stages, found = spatially_separable(x, kernels, options)
    return stages.run(found, options)


def spatially_separable(
    x: Any, kernels: Sequence[Any], options: Options
) -> tuple[Stages, list[Stage]]:
    """The stages of `spatially_separable_conv`, one per spatial axis."""
    stages = Stages("spatially_separable_conv", x, options)
    found = stages.kernels("kernels", kernels)
    for before, kernel in zip(found, found[1:], strict=False):
        stages.expect_channels(kernel, before)
    return stages, list(zip(found, stages.per_axis(options), strict=True))


@public
@takes(WindowOptions)
def flattened_conv(
    x: ArrayLike,
    lateral_kernel: ArrayLike,
    spatial_kernels: Sequence[ArrayLike],
    **options: Unpack[WindowOptions],
) -> jax.Array:
    """F rank-1 filters, each as a chain of 1-D convolutions: lateral (channels), then every axis.

    ``kernel[t, u, i, f] = lateral[0, 0, i, f] * vertical[t, 0, 0, f] * horizontal[0, u, 0, f]``.
    The result is the result of `conv` with this product and the same options. It has
    F*(I + K1 + K2) weights instead of F*I*K1*K2.

    Args:
        x: (N, *space, I).
        lateral_kernel: (1..., I, F).
        spatial_kernels: one per spatial axis, in the order of the axes, depthwise:
            (K1, 1, 1, F), (1, K2, 1, F).
        strides, padding, padding_mode, kernel_dilation: as in `conv`; each spatial stage gets the
            values for its axis.
        dimension_numbers, precision, algorithm: of every stage; as in `conv`.
        preferred_element_type: dtype of the result; stages after the first compute in it.
        out_sharding: of the result.

    Returns:
        (N, *out_space, F).

    Raises:
        ValueError: not one spatial kernel per axis, or kernels of another form; and as `conv`.
        TypeError: as `conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> lateral = jnp.ones((1, 1, 3, 8))
        >>> vertical, horizontal = jnp.ones((5, 1, 1, 8)), jnp.ones((1, 5, 1, 8))
        >>> convjax.flattened_conv(jnp.ones((1, 9, 9, 3)), lateral, [vertical, horizontal]).shape
        (1, 9, 9, 8)

    Source: Jin, Dundar & Culurciello, Flattened convolutional neural networks for feedforward
        acceleration, 2014, https://arxiv.org/abs/1412.5474
    """
    stages, found = flattened(x, lateral_kernel, spatial_kernels, options)
    return stages.run(found, options)


def flattened(
    x: Any, lateral_kernel: Any, spatial_kernels: Sequence[Any], options: Options
) -> tuple[Stages, list[Stage]]:
    """The stages of `flattened_conv`: across the channels, then along every spatial axis."""
    stages = Stages("flattened_conv", x, options)
    lateral = stages.kernel("lateral_kernel", lateral_kernel)
    stages.expect_pointwise(lateral)
    found = stages.kernels("spatial_kernels", spatial_kernels)
    for kernel in found:
        stages.expect_one_each(kernel, lateral)
    per_axis = stages.per_axis({**options, "feature_group_count": lateral.out_features})
    return stages, [(lateral, {}), *zip(found, per_axis, strict=True)]
