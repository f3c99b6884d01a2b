"""Causal transposed convolution: an input changes no output that came before it."""

from typing import Literal, Unpack, overload

import jax
import jax.numpy as jnp

from convjax._core import checks
from convjax._core.aliases import ArrayLike, MeshAxis
from convjax._core.geometry import dilated
from convjax._core.layout import layout_of
from convjax._core.options import (
    DEFAULTS,
    CausalTransposeCallOptions,
    CausalTransposeOptions,
    takes,
)
from convjax._core.public import public_with
from convjax._functional import sequences
from convjax._functional.causal import run
from convjax._functional.causal_plan import activated, biased, plan
from convjax._functional.prepare import (
    Names,
    check_operands,
    check_transposed_groups,
    spatial_steps,
)


@overload
def causal_conv_transpose(
    y: ArrayLike,
    kernel: ArrayLike,
    *,
    return_state: Literal[False] = False,
    **options: Unpack[CausalTransposeCallOptions],
) -> jax.Array: ...
@overload
def causal_conv_transpose(
    y: ArrayLike,
    kernel: ArrayLike,
    *,
    return_state: Literal[True],
    **options: Unpack[CausalTransposeCallOptions],
) -> tuple[jax.Array, jax.Array]: ...
@overload
def causal_conv_transpose(
    y: ArrayLike,
    kernel: ArrayLike,
    *,
    return_state: bool,
    **options: Unpack[CausalTransposeCallOptions],
) -> jax.Array | tuple[jax.Array, jax.Array]: ...


@public_with(return_state=checks.flag, mesh_axis=sequences.check_mesh_axis)
@takes(CausalTransposeOptions)
def causal_conv_transpose(
    y: ArrayLike,
    kernel: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    state: ArrayLike | None = None,
    segment_ids: ArrayLike | None = None,
    return_state: bool = False,
    mesh_axis: MeshAxis = None,
    **options: Unpack[CausalTransposeOptions],
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Transposed convolution along time with a state: the up-sampling of audio codecs.

    ``out[n, t*s + j*d, o] += y[n, t, i] * kernel[j, o, i]`` for the ``T*s`` outputs that begin with
    the first input; bias and activation follow. It equals ``conv_transpose(y, kernel, strides=s,
    padding=((0, k̂ - s),))``, without the end that SoundStream and EnCodec cut off. The outputs up
    to ``(t + 1)*s - 1`` need no input after input t. The state is the last ``ceil(k̂ / s) - 1``
    inputs. So the results for chunks are the result for the whole sequence, exactly on integers and
    otherwise up to rounding. A single step is a chunk of one input, and gives `strides` outputs. It
    is computed as a `causal_conv` with `strides` times the outputs.

    Args:
        y: (N, T, I).
        kernel: (K, O/G, I), the forward kernel, as in `conv_transpose`.
        bias: (O,), added to the result.
        state: (N, S, I), what an earlier call returned; None, or zeros, for the first inputs.
        segment_ids: (N, T) integers, as in `causal_conv`: the inputs of one sequence change no
            outputs of another.
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
    names, given = Names(function, x="y"), {**DEFAULTS, **options}
    check_operands(names, y, kernel)
    if kernel.ndim != 3:
        rule = "must have one spatial axis, (K, O/G, I)"
        checks.fail(function, "kernel", tuple(kernel.shape), rule)
    layout = layout_of(function, given["dimension_numbers"], 3)
    (s,), _, (step,) = spatial_steps(function, given, 1)
    groups = check_transposed_groups(
        names, layout, y.shape, kernel.shape, given["feature_group_count"]
    )
    in_order = (*layout.x.batch, *layout.x.space, *layout.x.contract)
    axes = layout.kernel
    y = jnp.transpose(jnp.asarray(y), in_order)
    kernel = jnp.transpose(jnp.asarray(kernel), (*axes.space, *axes.contract, *axes.out))
    out = kernel.shape[1] * groups
    forward = _phases(kernel, s, step, groups)
    computed = ("precision", "preferred_element_type", "algorithm")
    made = plan(
        function,
        y,
        forward,
        {"feature_group_count": groups, **{name: given[name] for name in computed}},
    )
    if state is not None:
        checks.array(function, "state", state)
        if state.ndim == 3:
            state = jnp.transpose(jnp.asarray(state), in_order)
    z, new = run(made, y, forward, state, segment_ids, None, mesh_axis, return_state)
    rows, steps = z.shape[:2]
    z = z.reshape(rows, steps, groups, s, out // groups).swapaxes(2, 3)
    z = biased(made, z.reshape(rows, steps * s, out), bias)
    z = activated(function, z, given["activation"])
    places = (*layout.out.batch, *layout.out.space, *layout.out.out)
    z = jnp.moveaxis(z, (0, 1, 2), places)
    return (z, jnp.moveaxis(new, (0, 1, 2), in_order)) if return_state else z


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
