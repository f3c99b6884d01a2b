"""Causal transposed convolution: every input gives its outputs at once, and none of the past."""

from typing import Any

import jax
import jax.numpy as jnp

from convjax import _checks
from convjax._public import public_with
from convjax.functional import sequences
from convjax.functional.arguments import operands, sides
from convjax.functional.causal import run
from convjax.functional.causal_plan import activated, biased, plan
from convjax.geometry import dilated


@public_with(return_state=_checks.flag, mesh_axis=sequences.check_mesh_axis)
def causal_conv_transpose(
    y: jax.Array,
    kernel: jax.Array,
    *,
    bias: jax.Array | None = None,
    state: jax.Array | None = None,
    segment_ids: jax.Array | None = None,
    activation: Any = None,
    strides: int = 1,
    kernel_dilation: int = 1,
    feature_group_count: int = 1,
    return_state: bool = False,
    mesh_axis: Any = None,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    algorithm: Any = None,
) -> Any:
    """Transposed convolution along time that goes on from a state: the up-sampling of audio codecs.

    ``out[n, t*s + j*d, o] += y[n, t, i] * kernel[j, o, i]`` for the ``T*s`` outputs that begin with
    the first input; bias and activation follow. It equals ``conv_transpose(y, kernel, strides=s,
    padding=((0, k̂ - s),))``, the ends that SoundStream and EnCodec cut off. Input t has given its
    outputs up to ``(t + 1)*s - 1`` when it has come: no output waits for the next input. The state
    is the last ``ceil(k̂ / s) - 1`` inputs; so chunks, and single steps (chunks of one input, which
    give `strides` outputs), equal the whole sequence, exactly on integers and otherwise up to
    rounding. It is computed as a `causal_conv` with `strides` times the outputs.

    Args:
        y: (N, T, I).
        kernel: (K, O/G, I), the forward kernel, as in `conv_transpose`.
        bias: (O,), added to the result.
        state: (N, S, I), what an earlier call returned; None, or zeros, for the first inputs.
        segment_ids: (N, T) integers, as in `causal_conv`: inputs of one run give no outputs to
            another.
        activation: as in `causal_conv`.
        strides: s, the up-sampling factor.
        kernel_dilation: distance between taps.
        feature_group_count: G.
        return_state, mesh_axis: as in `causal_conv`.
        dimension_numbers: lax's triple for (y, kernel, result), as in `conv_transpose`.
        precision, preferred_element_type, algorithm: see `conv`.

    Returns:
        (N, T*s, O); if `return_state`, the pair of it and the state (N, S, I).

    Raises:
        ValueError, TypeError: as `causal_conv`; a kernel of more than one spatial axis.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> y, kernel = jnp.ones((1, 5, 8)), jnp.ones((16, 4, 8))
        >>> out, state = convjax.causal_conv_transpose(y, kernel, strides=8, return_state=True)
        >>> out.shape, state.shape
        ((1, 40, 4), (1, 1, 8))

    Source: Zeghidour et al., SoundStream, 2021, https://arxiv.org/abs/2107.03312; Défossez et al.,
        EnCodec, 2022, https://arxiv.org/abs/2210.13438
    """
    function = "causal_conv_transpose"
    y, kernel = operands(function, y, kernel, "y")
    if kernel.ndim != 3:
        rule = "must have one spatial axis, (K, O/G, I)"
        _checks.fail(function, "kernel", tuple(kernel.shape), rule)
    where = sides(function, dimension_numbers, 3)
    (s,) = _checks.ints(function, "strides", strides, 1, minimum=1)
    (step,) = _checks.ints(function, "kernel_dilation", kernel_dilation, 1, minimum=1)
    groups = _checks.integer(function, "feature_group_count", feature_group_count, minimum=1)
    channels = y.shape[where.x[1]]
    if kernel.shape[where.kernel[1]] != channels:
        rule = f"must have the {channels} channels of `y` on its last channel axis"
        mend = "The kernel is the forward one, (K, out_features / groups, in_features)."
        _checks.fail(function, "kernel", tuple(kernel.shape), rule, mend)
    if channels % groups:
        rule = f"must divide the channels of `y` (={channels})"
        _checks.fail(function, "feature_group_count", groups, rule)

    y = jnp.transpose(y, (where.x[0], *where.x[2], where.x[1]))
    kernel = jnp.transpose(kernel, (*where.kernel[2], *where.kernel[:2]))
    out = kernel.shape[1] * groups
    forward = _phases(kernel, s, step, groups)
    made = plan(
        function,
        y,
        forward,
        axis=None,
        strides=1,
        output_at="first",
        padding="SAME",
        padding_mode="constant",
        kernel_dilation=1,
        feature_group_count=groups,
        dimension_numbers=None,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=None,
        algorithm=algorithm,
    )
    if state is not None:
        _checks.array(function, "state", state)
        if state.ndim == 3:
            state = jnp.transpose(jnp.asarray(state), (where.x[0], *where.x[2], where.x[1]))
    z, new = run(made, y, forward, state, segment_ids, None, mesh_axis, return_state)
    rows, steps = z.shape[:2]
    z = z.reshape(rows, steps, groups, s, out // groups).swapaxes(2, 3)
    z = activated(function, biased(made, z.reshape(rows, steps * s, out), bias), activation)
    places = (where.out[0], *where.out[2], where.out[1])
    z = jnp.moveaxis(z, (0, 1, 2), places)
    if not return_state:
        return z
    return z, jnp.moveaxis(new, (0, 1, 2), (where.x[0], *where.x[2], where.x[1]))


def _phases(kernel: jax.Array, strides: int, step: int, groups: int) -> jax.Array:
    """(S + 1, I/G, G*s*O/G): what the last S + 1 inputs add to the `strides` outputs of one."""
    taps, out, channels = kernel.shape
    reach = dilated(taps, step)
    lags = -(-reach // strides)
    if step > 1:
        spread = jnp.zeros((reach, out, channels), kernel.dtype)
        kernel = spread.at[::step].set(kernel)
    kernel = jnp.pad(kernel, ((0, lags * strides - reach), (0, 0), (0, 0)))
    # An output at u = lag*s + phase reads the input `lag` steps before: the oldest comes first.
    kernel = kernel.reshape(lags, strides, out, groups, channels // groups)[::-1]
    return kernel.transpose(0, 4, 3, 1, 2).reshape(lags, channels // groups, -1)
