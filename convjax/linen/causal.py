"""Linen modules of causal convolutions, with a state for streams in the collection `STATE`."""

import dataclasses
from typing import Any, Literal, Unpack, overload

import jax
import jax.numpy as jnp
from flax import linen

from convjax._core import checks
from convjax._core.aliases import Activation, Ints, OutputAt
from convjax._core.options import SequenceOptions
from convjax.linen.layer import Layer, Spatial, prepared

STATE = "causal_state"  # the collection


def _causal(
    module: Any, inputs: jax.Array, stream: Any, given: dict[str, Any]
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """A causal layer's result; `stream` says whether and how it goes on from the layer's state."""
    if stream not in (False, True, "step"):
        checks.fail(module.row, "stream", stream, 'must be False, True or "step"')
    time = getattr(module, "axis", None)
    if time is not None:
        time = checks.integer(module.row, "axis", time) % (inputs.ndim + (stream == "step"))
    time = 1 if time is None else time
    if stream == "step":
        inputs = jnp.expand_dims(inputs, time)
    plan, inputs, values = prepared(module, inputs)
    if not stream:
        return plan.causal(inputs, values, **given)
    for name, value in (("state", given.get("state")), ("return_state", given["return_state"])):
        if value is not None and value is not False:
            rule = f"must not be given with `stream`, whose state is in the collection {STATE!r}"
            checks.fail(module.row, name, getattr(value, "shape", value), rule)
    state = module.variable(STATE, "state", plan.first_state, inputs, values)
    given = {**given, "state": state.value, "return_state": True}
    outputs, new = plan.causal(inputs, values, **given)
    if not module.is_initializing():
        state.value = new
    one = stream == "step" and outputs.shape[time] == 1
    return jnp.squeeze(outputs, time) if one else outputs


class CausalConv(Spatial):
    """`convjax.causal_conv`, with parameters and a state.

    ``layer.apply(variables, x)`` is for whole sequences, as in training. For streams, ``y, updates
    = layer.apply({**variables, **updates}, chunk, stream=True, mutable=["causal_state"])``; it
    begins without a state, or with one that ``init`` made, at the left edge of the sequences.

    Attributes:
        features: channels of the result.
        kernel_size: one extent per spatial axis; an int means one axis, time.
        feature_group_count: G; the number of channels for a depthwise convolution.
        activation, axis, output_at: as in `convjax.causal_conv`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer, x = linen.CausalConv(8, 4, feature_group_count=8), jnp.ones((2, 10, 8))
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, updates = layer.apply(variables, x, stream=True, mutable=["causal_state"])
        >>> variables = {**variables, **updates}
        >>> y_t, updates = layer.apply(variables, x[:, 0], stream="step", mutable=["causal_state"])
        >>> y.shape, y_t.shape, updates["causal_state"]["state"].shape
        ((2, 10, 8), (2, 8), (2, 3, 8))
    """

    row = "CausalConv"

    features: int
    kernel_size: Ints
    feature_group_count: int = dataclasses.field(default=1, kw_only=True)
    activation: Activation = dataclasses.field(default=None, kw_only=True)
    axis: int | None = dataclasses.field(default=None, kw_only=True)
    output_at: OutputAt = dataclasses.field(default="first", kw_only=True)

    @overload
    def __call__(
        self,
        inputs: jax.Array,
        *,
        stream: bool | Literal["step"] = False,
        return_state: Literal[False] = False,
        **options: Unpack[SequenceOptions],
    ) -> jax.Array: ...
    @overload
    def __call__(
        self,
        inputs: jax.Array,
        *,
        stream: bool | Literal["step"] = False,
        return_state: Literal[True],
        **options: Unpack[SequenceOptions],
    ) -> tuple[jax.Array, jax.Array]: ...
    @overload
    def __call__(
        self,
        inputs: jax.Array,
        *,
        stream: bool | Literal["step"] = False,
        return_state: bool,
        **options: Unpack[SequenceOptions],
    ) -> jax.Array | tuple[jax.Array, jax.Array]: ...

    @linen.compact
    def __call__(
        self,
        inputs: jax.Array,
        *,
        stream: bool | Literal["step"] = False,
        return_state: bool = False,
        **options: Unpack[SequenceOptions],
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """The result for `inputs` (N, T, *space, channels).

        Args:
            stream: False for whole sequences; True for the next chunk of streams; "step" for their
                next step, without the time axis.
            return_state: for whole sequences, whether to return the state as well.
            options: `segment_ids`, `mask` and, for whole sequences, `state` and `mesh_axis`, as
                `convjax.causal_conv` has them.
        """
        return _causal(self, inputs, stream, {"return_state": return_state, **options})


class CausalConvTranspose(Layer):
    """`convjax.causal_conv_transpose`, with parameters and a state; it is called as `CausalConv`.

    Attributes:
        features: channels of the result.
        kernel_size: the number of taps.
        strides: the up-sampling factor.
        kernel_dilation, feature_group_count, activation: as in `convjax.causal_conv_transpose`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from convjax import linen
        >>> layer = linen.CausalConvTranspose(4, 16, strides=8)
        >>> layer.init_with_output(jax.random.key(0), jnp.ones((1, 5, 8)))[0].shape
        (1, 40, 4)
    """

    row = "CausalConvTranspose"
    convention = "adjoint"  # the kernel is the forward one

    features: int
    kernel_size: Ints
    strides: Ints = dataclasses.field(default=1, kw_only=True)
    kernel_dilation: Ints = dataclasses.field(default=1, kw_only=True)
    feature_group_count: int = dataclasses.field(default=1, kw_only=True)
    activation: Activation = dataclasses.field(default=None, kw_only=True)

    @overload
    def __call__(
        self,
        inputs: jax.Array,
        *,
        stream: bool | Literal["step"] = False,
        return_state: Literal[False] = False,
        **options: Unpack[SequenceOptions],
    ) -> jax.Array: ...
    @overload
    def __call__(
        self,
        inputs: jax.Array,
        *,
        stream: bool | Literal["step"] = False,
        return_state: Literal[True],
        **options: Unpack[SequenceOptions],
    ) -> tuple[jax.Array, jax.Array]: ...
    @overload
    def __call__(
        self,
        inputs: jax.Array,
        *,
        stream: bool | Literal["step"] = False,
        return_state: bool,
        **options: Unpack[SequenceOptions],
    ) -> jax.Array | tuple[jax.Array, jax.Array]: ...

    @linen.compact
    def __call__(
        self,
        inputs: jax.Array,
        *,
        stream: bool | Literal["step"] = False,
        return_state: bool = False,
        **options: Unpack[SequenceOptions],
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """The result for `inputs` (N, T, channels), as of `CausalConv`."""
        return _causal(self, inputs, stream, {"return_state": return_state, **options})
