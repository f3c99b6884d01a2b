"""NNX modules of causal convolutions, with a state for streams."""

from collections.abc import Sequence
from typing import Any, Literal, Unpack, overload

import jax
import jax.numpy as jnp
from flax import nnx

from convjax import _modules
from convjax._core import checks
from convjax._core import options as _options
from convjax._core.aliases import ArrayLike, Ints, Sharding
from convjax.nn.layer import Layer, LayerOptions, takes


class CausalState(nnx.Variable[Any]):
    """The inputs that a causal layer holds between two calls of `stream` or `step`."""


class CausalLayerOptions(LayerOptions, _options.CausalLayerOptions, total=False):
    """The options of `CausalConv`."""


class CausalTransposeLayerOptions(LayerOptions, _options.CausalTransposeLayerOptions, total=False):
    """The options of `CausalConvTranspose`."""


class _Causal(Layer):
    """The base of the two causal layers: whole sequences, and streams with a state."""

    kernel: nnx.Param[Any]
    state: CausalState | None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.state = nnx.data(None)

    @overload
    def __call__(
        self,
        inputs: jax.Array,
        out_sharding: Sharding = None,
        *,
        return_state: Literal[False] = False,
        **options: Unpack[_options.SequenceOptions],
    ) -> jax.Array: ...
    @overload
    def __call__(
        self,
        inputs: jax.Array,
        out_sharding: Sharding = None,
        *,
        return_state: Literal[True],
        **options: Unpack[_options.SequenceOptions],
    ) -> tuple[jax.Array, jax.Array]: ...
    @overload
    def __call__(
        self,
        inputs: jax.Array,
        out_sharding: Sharding = None,
        *,
        return_state: bool,
        **options: Unpack[_options.SequenceOptions],
    ) -> jax.Array | tuple[jax.Array, jax.Array]: ...

    def __call__(
        self,
        inputs: jax.Array,
        out_sharding: Sharding = None,
        *,
        return_state: bool = False,
        **options: Unpack[_options.SequenceOptions],
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """The result for whole sequences; `self.state` is neither read nor changed.

        Args:
            inputs: (N, T, *space, in_features).
            out_sharding: sharding of the result, under explicit mesh axes.
            return_state: whether to return the pair of the result and the state.
            options: `segment_ids`, `mask`, `state` and `mesh_axis`, as the function has them.
        """
        plan, inputs, values = self._prepared(inputs)
        given: dict[str, Any] = {"return_state": return_state, **options}
        if out_sharding is not None:
            given["out_sharding"] = out_sharding
        return plan.causal(inputs, values, **given)

    def reset(self, inputs: ArrayLike | Sequence[int]) -> None:
        """Begin new streams: call it before the first `stream` or `step`.

        Args:
            inputs: the first inputs (N, T, *space, in_features), of which only the shape and the
                dtype matter, unless `padding_mode` is "edge"; or a shape.
        """
        if isinstance(inputs, (tuple, list)):
            if self._repeats_the_edge():
                rule = 'must be the first inputs where `padding_mode` is "edge", which repeats them'
                checks.fail(self.row, "inputs", tuple(inputs), rule)
            inputs = jnp.zeros(inputs, self.param_dtype if self.dtype is None else self.dtype)
        plan, first, values = self._prepared(jnp.asarray(inputs))
        self.state = CausalState(plan.first_state(first, values))

    def stream(self, inputs: jax.Array, **options: Unpack[_options.SegmentOptions]) -> jax.Array:
        """The result for the next chunk of the streams; it updates the state.

        Args:
            inputs: (N, T, *space, in_features), T steps that follow the last call.
            options: `segment_ids` or `mask`, as the function has them.
        """
        if self.state is None:
            raise ValueError(f"{self.row}: `reset` must be called before `stream` and `step`.")
        plan, inputs, values = self._prepared(inputs)
        state = self.state[...]
        outputs, state = plan.causal(inputs, values, state=state, return_state=True, **options)
        self.state[...] = state
        return outputs

    def step(self, inputs: jax.Array) -> jax.Array:
        """The result for one step of the streams, without the time axis; it updates the state.

        Args:
            inputs: (N, *space, in_features).
        """
        axis = getattr(self, "axis", None)
        time = 1 if axis is None else axis % (inputs.ndim + 1)
        outputs = self.stream(jnp.expand_dims(inputs, time))
        return jnp.squeeze(outputs, time) if outputs.shape[time] == 1 else outputs

    def _prepared(self, inputs: jax.Array) -> tuple[_modules.Plan, jax.Array, dict[str, Any]]:
        """The plan, and inputs and parameters of one dtype."""
        plan = _modules.plan(self.row, self, self.in_features, self.out_features)
        plan.check(inputs)
        bias = None if self.bias is None else self.bias[...]
        inputs, kernel, bias = self.promote_dtype(
            (inputs, self.kernel[...], bias), dtype=self.dtype
        )
        return plan, inputs, {"kernel": kernel, "bias": bias}

    def _repeats_the_edge(self) -> bool:
        modes = getattr(self, "padding_mode", "constant")
        return "edge" in ((modes,) if isinstance(modes, str) else modes)


class CausalConv(_Causal):
    """Causal convolution with parameters and a state: see `convjax.causal_conv`.

    ``layer(x)`` is for whole sequences, as in training. For streams, ``layer.reset(x)`` makes the
    state, an `nn.CausalState` in ``layer.state``; ``layer.stream(chunk)`` and ``layer.step(x_t)``
    continue from it.

    Args:
        in_features, out_features: channels.
        kernel_size: one extent per spatial axis; an int means one axis, time.
        feature_group_count: G; the number of channels for a depthwise convolution.
        activation, axis, strides, output_at, padding, padding_mode, kernel_dilation: as in
            `convjax.causal_conv`.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> short = {"feature_group_count": 8, "activation": "silu"}
        >>> layer = nn.CausalConv(8, 8, 4, **short, rngs=flax_nnx.Rngs(0))
        >>> x = jnp.ones((2, 10, 8))
        >>> layer.reset(x)
        >>> layer(x).shape, layer.stream(x).shape, layer.step(x[:, 0]).shape
        ((2, 10, 8), (2, 10, 8), (2, 8))

    Source: van den Oord et al., WaveNet, 2016, https://arxiv.org/abs/1609.03499
    """

    row = "CausalConv"

    @takes(CausalLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        **options: Unpack[CausalLayerOptions],
    ) -> None:
        super().__init__(in_features, out_features, {"kernel_size": kernel_size}, **options)


class CausalConvTranspose(_Causal):
    """Causal transposed convolution with parameters and a state: see
    `convjax.causal_conv_transpose`.

    It is called as `CausalConv` is. A step, one input, gives `strides` outputs (N, strides, O).

    Args:
        in_features, out_features: channels.
        kernel_size: the number of taps.
        strides: the up-sampling factor.
        activation, kernel_dilation, feature_group_count: as in `convjax.causal_conv_transpose`.
        options: the other options of `Layer`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx as flax_nnx
        >>> from convjax import nn
        >>> layer = nn.CausalConvTranspose(8, 4, 16, strides=8, rngs=flax_nnx.Rngs(0))
        >>> layer.reset((1, 1, 8))
        >>> layer.kernel.shape, layer.step(jnp.ones((1, 8))).shape
        ((16, 4, 8), (1, 8, 4))

    Source: Défossez et al., EnCodec, 2022, https://arxiv.org/abs/2210.13438
    """

    row = "CausalConvTranspose"
    convention = "adjoint"  # the kernel is the forward one

    @takes(CausalTransposeLayerOptions)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Ints,
        **options: Unpack[CausalTransposeLayerOptions],
    ) -> None:
        super().__init__(in_features, out_features, {"kernel_size": kernel_size}, **options)
