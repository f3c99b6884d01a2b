"""Which input channels and which places of the input an output depends on, by differentiation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core import checks
from convjax._core.public import public_with


class EmpiricalField(NamedTuple):
    """What the middle output sees; see `empirical_receptive_field`."""

    size: jax.Array
    start: jax.Array
    weights: jax.Array


@public_with(fn=checks.function)
def channel_reachability(
    fn: Callable[[jax.Array], jax.Array], shape: Sequence[int], *, draws: int = 4, seed: int = 0
) -> jax.Array:
    """Which output channels depend on which input channels, anywhere in space.

    ``reach[i, o]`` says whether the derivative of any element of channel o, along a random
    direction within channel i, is not 0 at any of a few random inputs. A dependence is missed
    only if every draw hides it, for example behind a ReLU that is 0 at all of them. Where there is
    no dependence, the derivatives are exactly 0.

    Args:
        fn: from an array of this shape to one with its channels last, such as (N, *space, O).
        shape: of the input, channels last.
        draws: how many random inputs.
        seed: of the draws.

    Returns:
        (I, O), of booleans.

    Raises:
        ValueError: an empty `shape`, extents or `draws` below 1.
        TypeError: sizes that are not integers; an `fn` that returns no single array.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> from convjax.analysis import channel_reachability
        >>> kernel = jnp.ones((1, 1, 2, 6))
        >>> reach = channel_reachability(lambda x: convjax.grouped_conv(x, kernel, 2), (1, 3, 3, 4))
        >>> reach.shape, int(reach.sum())
        ((4, 6), 12)

    Source: the channel connectivity of Zhang, Zhou, Lin & Sun, ShuffleNet, 2017, figure 1,
        https://arxiv.org/abs/1707.01083
    """
    function = "channel_reachability"
    shape = _shape(function, shape, 1)
    channels = jnp.eye(shape[-1])

    def reach(key: jax.Array) -> jax.Array:
        here, there = jax.random.split(key)
        x, direction = (jax.random.normal(k, shape) for k in (here, there))

        def along(channel: jax.Array) -> jax.Array:
            moved = jax.jvp(fn, (x,), (direction * channel,))[1]
            return (moved != 0).any(axis=range(moved.ndim - 1))

        return jax.vmap(along)(channels)

    _output(function, fn, shape)
    return lax.map(reach, _keys(function, seed, draws)).any(axis=0)


@public_with(fn=checks.function)
def empirical_receptive_field(
    fn: Callable[[jax.Array], jax.Array], shape: Sequence[int], *, draws: int = 4, seed: int = 0
) -> EmpiricalField:
    """Which places of the input the middle output sees, by the gradient.

    ``weights[p] = sum_{i,o} |d fn(x)[0, middle, o] / d x[0, p, i]|``, averaged over a few random
    inputs x. Where it is 0, the middle output does not depend on the input: the place is outside
    the receptive field, or in a gap that dilation leaves in it. For one channel and kernels of
    ones the weights count paths.

    Args:
        fn: from (N, *space, I) to (N, *out_space, O), of the same number of axes.
        shape: (N, *space, I) of the input. Where the field reaches the border it is cut off
            there: choose extents larger than the field.
        draws: how many random inputs.
        seed: of the draws.

    Returns:
        An `EmpiricalField`: `size` (rank,), from the first to the last place seen along every
        axis, gaps included, 0 if none is; `start` (rank,), the first of them; `weights` (*space).

    Raises:
        ValueError: a `shape` without spatial axes, extents or `draws` below 1, an `fn` that
            changes the number of axes.
        TypeError: sizes that are not integers; an `fn` that returns no single array.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> from convjax.analysis import empirical_receptive_field
        >>> kernel = jnp.ones((3, 3, 1, 1))
        >>> field = empirical_receptive_field(
        ...     lambda x: convjax.dilated_conv(x, kernel, 2), (1, 9, 9, 1)
        ... )
        >>> field.size.tolist(), field.start.tolist(), int((field.weights > 0).sum())
        ([5, 5], [2, 2], 9)

    Source: Luo, Li, Urtasun & Zemel, Understanding the effective receptive field in deep
        convolutional neural networks, 2016, https://arxiv.org/abs/1701.04128
    """
    function = "empirical_receptive_field"
    shape = _shape(function, shape, 3)
    rank = len(shape) - 2
    out = _output(function, fn, shape)
    if len(out) != len(shape):
        rule = f"must return as many axes as it takes ({len(shape)})"
        checks.fail(function, "fn", out, rule)
    middle = (0, *(extent // 2 for extent in out[1:-1]))

    def seen(key: jax.Array) -> jax.Array:
        x = jax.random.normal(key, shape)
        gradients = jax.jacrev(lambda x: fn(x)[middle])(x)  # (O, N, *space, I)
        return jnp.abs(gradients[:, 0]).sum(axis=(0, -1))

    weights = lax.map(seen, _keys(function, seed, draws)).mean(axis=0)
    first, last = [], []
    for axis in range(rank):
        line = (weights > 0).any(axis=[a for a in range(rank) if a != axis])
        first.append(jnp.argmax(line))
        last.append(jnp.where(line.any(), len(line) - jnp.argmax(line[::-1]), 0))
    start = jnp.stack(first)
    return EmpiricalField(jnp.stack(last) - start, start, weights)


def _shape(function: str, shape: Any, least: int) -> tuple[int, ...]:
    if checks.is_int(shape) or isinstance(shape, str):
        checks.fail_type(function, "shape", shape, "must be a sequence of integers")
    shape = tuple(shape)
    if len(shape) < least:
        words = "(..., I)" if least == 1 else "(N, *space, I)"
        checks.fail(function, "shape", shape, f"must be {words}, of at least {least} axes")
    return checks.ints(function, "shape", shape, len(shape), minimum=1)


def _output(function: str, fn: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what `fn` returns for a float32 array of this shape."""
    out = jax.eval_shape(fn, jax.ShapeDtypeStruct(shape, jnp.float32))
    if not hasattr(out, "shape") or len(out.shape) < 1:
        checks.fail_type(function, "fn", out, "must return one array, channels last")
    return out.shape


def _keys(function: str, seed: Any, draws: Any) -> jax.Array:
    seed = checks.integer(function, "seed", seed)
    return jax.random.split(
        jax.random.key(seed), checks.integer(function, "draws", draws, minimum=1)
    )
