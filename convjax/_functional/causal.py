"""Causal convolution with a state: whole sequences, chunks of them, single steps, packs, shards."""

import operator
from typing import Any, Literal, Unpack, overload

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core import checks
from convjax._core.aliases import ArrayLike, MeshAxis, Shaped
from convjax._core.layout import layout_of
from convjax._core.options import (
    CausalCallOptions,
    CausalOptions,
    StateOptions,
    StepOptions,
    takes,
)
from convjax._core.public import public_with
from convjax._core.symbolic import certainly
from convjax._functional import causal_kernel, sequences
from convjax._functional.causal_plan import Plan, activated, biased, causal_axis, plan


@overload
def causal_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    return_state: Literal[False] = False,
    **options: Unpack[CausalCallOptions],
) -> jax.Array: ...
@overload
def causal_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    return_state: Literal[True],
    **options: Unpack[CausalCallOptions],
) -> tuple[jax.Array, jax.Array]: ...
@overload
def causal_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    return_state: bool,
    **options: Unpack[CausalCallOptions],
) -> jax.Array | tuple[jax.Array, jax.Array]: ...


@public_with(return_state=checks.flag, mesh_axis=sequences.check_mesh_axis)
@takes(CausalOptions)
def causal_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    state: ArrayLike | None = None,
    segment_ids: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    return_state: bool = False,
    mesh_axis: MeshAxis = None,
    **options: Unpack[CausalOptions],
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Convolution that sees only the past along one axis, and continues from a state.

    ``out[n, t, o] = activation(bias[o] + sum_{j, i} x[n, t - (k - 1 - j)*d, g*I/G + i] *
    kernel[j, i, o])``. Inputs before the first one come from `state`, which holds the last
    ``(k - 1)*d`` inputs of the chunk before. Without a state they are zeros. So the results for
    chunks, each with the state that the chunk before it returned, are the result for the whole
    sequence. So are the results for single steps.

    They are equal bit for bit, before an `activation`, on one CPU device, along one spatial axis,
    in float32 or 16 bits, for depthwise kernels (``I/G = 1``, at most 16 times the channels) of at
    most 64 taps. There every output is one sum of its taps in order, and each product and each
    addition is rounded. (XLA may compute a function such as ``exp`` differently for another number
    of elements.) Elsewhere, and with `segment_ids`, they are equal exactly on integers, and up to
    rounding on other numbers.

    Args:
        x: (N, T, *space, I): time T is causal, the other axes are as in `conv`.
        kernel: (K, *window, I/G, O); the causal axis is the first, or the one that `axis` says.
        bias: (O,), added to the result.
        state: (N, S, *space, I), what an earlier call returned or `init_state` makes; None for the
            left edge of a sequence. ``S = (k - 1)*d``, less ``strides - 1`` for output_at="last".
        segment_ids: (N, T) integers. Neighbours with equal ids are one sequence. No tap and no
            gradient crosses from one sequence to another. The given `state` belongs to the first
            sequence of its row, and the returned state to the last. If a chunk begins with a new
            sequence, set the state of that row to zero.
        mask: (N, T) booleans, for rows of different lengths: True for real steps, and False for
            padding before or after them. The given state comes before the first real step of a
            row. The returned state ends with the last real step. Results on padding are zero.
        activation: None, "silu" (or "swish"), "gelu", "relu", "tanh", or a function of an array.
        axis: the causal axis of x; by default its first spatial one.
        strides: steps between outputs; an int, or one per spatial axis.
        output_at: which input of a frame of `strides` inputs has the output: the "first", as in
            ``conv(padding="CAUSAL")``, or the "last", as in audio codecs (EnCodec, SoundStream).
            At the last input an output sees the whole frame, and the state is shorter.
        padding: of the other spatial axes, "SAME", "SAME_LOWER", "VALID", "FULL", an int, or an int
            or (low, high) pair for each of them.
        padding_mode: what lies beyond the edges: a word, or one per spatial axis. Along the causal
            axis "constant" (zeros) or "edge" (the first input again, as video VAEs have it).
        kernel_dilation: d, the distance between taps; an int, or one per spatial axis.
        feature_group_count: G; the number of channels for a depthwise kernel (K, 1, O).
        return_state: whether to return the state as well.
        mesh_axis: inside ``jax.shard_map``, the mesh axis over which T is sharded in order. Each
            shard gets its state from the shard before it, by one exchange between neighbours; the
            gradient has one exchange back. The given and the returned state are those of the whole
            sequence, the same on every shard.
        dimension_numbers, precision, preferred_element_type, out_sharding, algorithm: see `conv`.
            ``algorithm=None`` sums the taps of such a depthwise kernel in order, except on TPU.
            "pallas" computes a depthwise kernel of at most 8 taps on TPU in one pass, with the
            state, the segments, the bias and a named activation.

    Returns:
        (N, ceil(T / strides), *out_space, O), for output_at="last" floor(T / strides) outputs; if
        `return_state`, the pair of it and the state (N, S, *space, I), of x's dtype.

    Raises:
        ValueError: values that do not fit together, such as a state of another length, chunks of a
            strided convolution that `strides` does not divide, and what `conv` raises.
        TypeError: wrong types, such as ids that are no integers.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> x, kernel = jnp.ones((2, 100, 8)), jnp.ones((4, 1, 8))
        >>> depthwise = dict(feature_group_count=8, activation="silu", return_state=True)
        >>> y, state = convjax.causal_conv(x[:, :60], kernel, **depthwise)
        >>> rest, state = convjax.causal_conv(x[:, 60:], kernel, state=state, **depthwise)
        >>> y.shape, rest.shape, state.shape
        ((2, 60, 8), (2, 40, 8), (2, 3, 8))

    Source: van den Oord et al., WaveNet, 2016, https://arxiv.org/abs/1609.03499; Gu & Dao, Mamba,
        2023, https://arxiv.org/abs/2312.00752
    """
    made = plan("causal_conv", x, kernel, options)
    activation = options.get("activation")
    if causal_kernel.fits(made, x, kernel, state, segment_ids, mask):
        surrounds = (bias, state, segment_ids, mesh_axis, activation, return_state)
        y, new = causal_kernel.run(made, x, kernel, *surrounds)
        return (y, new) if return_state else y
    y, new = run(made, x, kernel, state, segment_ids, mask, mesh_axis, return_state)
    y = activated(made.function, biased(made, y, bias), activation)
    if mask is not None:
        y = jnp.where(made.of_out(mask), y, jnp.zeros((), y.dtype))
    return (y, new) if return_state else y


@public_with()
@takes(StepOptions)
def causal_step(
    x_t: ArrayLike,
    kernel: ArrayLike,
    state: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    **options: Unpack[StepOptions],
) -> tuple[jax.Array, jax.Array]:
    """One step of `causal_conv`: one input without the causal axis, one output, and the next state.

    ``out[n, o] = activation(bias[o] + sum_{j, i} z[n, j*d, g*I/G + i] * kernel[j, i, o])``, with
    ``z`` the state followed by the input. A strided convolution makes one output of `strides`
    inputs: give `causal_conv` chunks of that many.

    Args:
        x_t: (N, *space, I), or as `dimension_numbers` says, without the causal axis.
        kernel: (K, *window, I/G, O).
        state: (N, S, *space, I), what the step before returned, or `init_state`. It can be donated.
        bias, activation, padding, padding_mode, kernel_dilation, feature_group_count: as in
            `causal_conv`; `axis` too: the causal axis of the inputs that have one.
        dimension_numbers, precision, preferred_element_type, algorithm: see `conv`.

    Returns:
        The output (N, *out_space, O), and the state (N, S, *space, I).

    Raises:
        ValueError, TypeError: as `causal_conv`.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> x, kernel = jnp.ones((2, 100, 8)), jnp.ones((4, 1, 8))
        >>> state = convjax.init_state(x, kernel)
        >>> y_t, state = convjax.causal_step(x[:, 0], kernel, state, feature_group_count=8)
        >>> y_t.shape, state.shape
        ((2, 8), (2, 3, 8))

    Source: Gu & Dao, Mamba, 2023, https://arxiv.org/abs/2312.00752
    """
    function = "causal_step"
    checks.array(function, "x_t", x_t)
    checks.array(function, "kernel", kernel)
    if x_t.ndim != kernel.ndim - 1:
        checks.fail(
            function,
            "x_t",
            tuple(x_t.shape),
            f"must have {kernel.ndim - 1} axes: all axes of the inputs but the causal one",
            "For several steps use `causal_conv`." if x_t.ndim == kernel.ndim else "",
        )
    layout = layout_of(function, options.get("dimension_numbers"), kernel.ndim)
    place = causal_axis(function, options.get("axis"), kernel.ndim, layout)
    x = lax.expand_dims(jnp.asarray(x_t), (place,))
    made = plan(function, x, kernel, {**options, "axis": place})
    checks.array(function, "state", state)
    y, new = run(made, x, kernel, state, None, None, None)
    y = activated(function, biased(made, y, bias), options.get("activation"))
    return lax.squeeze(y, (made.out_axis,)), new


@public_with(x=checks.shaped, kernel=checks.shaped)
@takes(StateOptions)
def init_state(x: Shaped, kernel: Shaped, **options: Unpack[StateOptions]) -> jax.Array:
    """The state of `causal_conv` before the first input: zeros, or the first input repeated.

    Args:
        x: inputs (N, T, *space, I) with any T, or a ``jax.ShapeDtypeStruct`` of them: only the
            other extents and the dtype matter, unless `padding_mode` is "edge".
        kernel: the kernel (K, *window, I/G, O), or a ``jax.ShapeDtypeStruct`` of it.
        axis, strides, output_at, padding_mode, kernel_dilation, dimension_numbers: what
            `causal_conv` is given.

    Returns:
        (N, S, *space, I) of x's dtype, with ``S = (k - 1)*d``, less ``strides - 1`` for
        output_at="last".

    Raises:
        ValueError, TypeError: as `causal_conv`.

    Example:
        >>> import jax, jax.numpy as jnp, convjax
        >>> x = jax.ShapeDtypeStruct((2, 1, 8), jnp.float32)
        >>> convjax.init_state(x, jnp.ones((4, 1, 8)), kernel_dilation=2).shape
        (2, 6, 8)

    Source: Gu & Dao, Mamba, 2023, https://arxiv.org/abs/2312.00752
    """
    made = plan("init_state", x, kernel, options)
    return made.edge(x, made.held)


def run(
    made: Plan,
    x: Any,
    kernel: Any,
    state: Any,
    segment_ids: Any,
    mask: Any,
    mesh_axis: Any,
    return_state: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """The result of the plan before bias and activation, and the next state.

    Without `return_state` the second result has no meaning.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    state, segment_ids, mask = made.check(x, state, segment_ids, mask, mesh_axis, return_state)
    whole = mesh_axis is None
    left_ids = None
    if certainly(operator.eq, x.shape[made.axis], 0):
        segment_ids = mask = None  # which an empty chunk has none of
    if not whole:
        state, left_ids = sequences.neighbours(made, x, state, segment_ids, mesh_axis)
    if segment_ids is not None:
        y, new = sequences.packed(made, x, kernel, state, segment_ids, left_ids)
    elif mask is not None:
        y, new = _ragged(made, x, kernel, state, mask)
    else:
        y = _one(made, x, kernel, state)
        new = made.tail(x, state) if return_state else x
    if return_state and not whole:
        new = sequences.of_the_last(new, mesh_axis)
    return y, new


def _one(made: Plan, x: jax.Array, kernel: jax.Array, state: Any) -> jax.Array:
    """The convolution of one sequence per row."""
    if state is None:
        return made.convolve(x, kernel, made.low, made.mode)
    if certainly(operator.eq, x.shape[made.axis], 0):
        return made.convolve(x, kernel, made.low)
    both = lax.concatenate([state, x], made.axis)
    return made.convolve(both, kernel, min(made.low, 0))


def _ragged(
    made: Plan, x: jax.Array, kernel: jax.Array, state: Any, mask: Any
) -> tuple[jax.Array, jax.Array]:
    """Rows with padding before or after their real steps: the state goes where these begin."""
    steps = mask.shape[1]
    any_real = mask.any(1)
    begin = jnp.where(any_real, jnp.argmax(mask, 1), 0)
    end = jnp.where(any_real, steps - jnp.argmax(mask[:, ::-1], 1), 0)
    x = jnp.where(made.of_x(mask), x, jnp.zeros((), x.dtype))
    if state is None:
        state = made.edge(jnp.zeros((), x.dtype), made.held, like=x)
        if made.mode == "edge":
            first = made.at(x, begin[:, None])
            state = jnp.where(made.of_x(any_real[:, None]), first, state)
    both = lax.concatenate([state, x], made.axis)
    # The state is moved up to the first real step; what lies before is nothing.
    index = jnp.arange(made.held + steps)[None]
    moved = index < begin[:, None] + made.held
    both = made.at(both, jnp.where(moved, jnp.maximum(index - begin[:, None], 0), index))
    both = jnp.where(made.of_x(index >= begin[:, None]), both, jnp.zeros((), x.dtype))
    y = made.convolve(both, kernel, min(made.low, 0))
    return y, made.at(both, end[:, None] + jnp.arange(made.held)[None])
