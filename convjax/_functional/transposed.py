"""The transposed convolution: the adjoint of `conv` with the same options and the same kernel."""

from typing import Unpack

import jax

from convjax._core.aliases import ArrayLike
from convjax._core.options import TransposeOptions, takes
from convjax._core.public import public
from convjax._functional.prepare import Names, transpose_recipe
from convjax._operation.grouping import apply


@public
@takes(TransposeOptions)
def conv_transpose(
    y: ArrayLike, kernel: ArrayLike, **options: Unpack[TransposeOptions]
) -> jax.Array:
    """Transposed convolution: the adjoint of `conv` under the same options, with the same kernel.

    ``<conv(u, kernel, **options), y> == <u, conv_transpose(y, kernel, output_shape=u's extents,
    **options)>`` (bilinear pairing). Every input adds a copy of the kernel to the result:
    ``out[n, p*strides + t*kernel_dilation - lo, o] += y[n, p, i] * kernel[t, o, i]``.
    The extents are ``(n - 1)*s + k̂ - lo - hi + output_padding`` (relation 14), and ``n*s`` for
    "SAME", "SAME_LOWER" and "CAUSAL". The result has the shape of u, not its values.

    "CAUSAL" is an exception. The adjoint of a causal convolution looks forward in time: each output
    sees its input and later inputs. "CAUSAL" here looks back, as decoders of sound need it:
    on the first spatial axis output ``t`` sees the inputs up to ``t // s``, and none after them. An
    output does not depend on later inputs: it is the same to the last bit in groups of few channels
    on one CPU (see `depthwise_conv`), and up to rounding elsewhere.

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
    recipe = transpose_recipe(Names("conv_transpose", x="y"), y, kernel, options)
    return apply(recipe, y, kernel)
