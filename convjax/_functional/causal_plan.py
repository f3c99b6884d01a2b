"""What a causal convolution checks and resolves before it computes."""

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core import checks
from convjax._core import padding as paddings
from convjax._core.aliases import Activation, OutputAt
from convjax._core.geometry import Pair
from convjax._core.layout import Layout, layout_of
from convjax._core.options import DEFAULTS
from convjax._core.recipe import Recipe
from convjax._core.symbolic import certainly
from convjax._functional.prepare import (
    Names,
    check_operands,
    check_window,
    resolved,
    spatial_steps,
)
from convjax._lowerings import select
from convjax._operation.grouping import apply

ACTIVATIONS = get_args(get_args(Activation)[0])
_TAPS, _MULTIPLIER = 64, 16  # what the lowering `taps` writes out in order, at most


@dataclasses.dataclass(frozen=True)
class Plan:
    """A causal convolution, its options resolved.

    Attributes:
        function: the public function's name, for errors.
        layout: the axes of operands and result, groups merged into channels.
        dtype: of the operands.
        index: the causal axis among the spatial ones.
        window, strides, dilation: per spatial axis.
        reach: how far the first tap lies before the last.
        low: the inputs that the first output sees before the first input; negative ones are cut.
        others: (low, high) padding of the other spatial axes, in order.
        modes: padding modes per spatial axis.
        groups: G, or None where only a state is made.
        numerics: the precision, the type and the sharding of the result.
        algorithm: as in `conv`.
        ordered: whether every output is one sum of taps in their order.
    """

    function: str
    layout: Layout
    dtype: Any
    index: int
    window: tuple[Any, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    reach: int
    low: int
    others: tuple[Pair, ...]
    modes: tuple[str, ...]
    groups: Any
    numerics: dict[str, Any]
    algorithm: Any
    ordered: bool

    @property
    def axis(self) -> int:
        """The causal axis of x."""
        return self.layout.x.space[self.index]

    @property
    def out_axis(self) -> int:
        """The causal axis of the result."""
        return self.layout.out.space[self.index]

    @property
    def held(self) -> int:
        """How many inputs the state holds."""
        return max(self.low, 0)

    @property
    def mode(self) -> str:
        """What lies before the first input."""
        return self.modes[self.index]

    def convolve(
        self, x: jax.Array, kernel: jax.Array, low: int, mode: str = "constant"
    ) -> jax.Array:
        """The convolution, with `low` inputs more on the left of the causal axis."""
        recipe = self.recipe(x, kernel, low, mode, self.algorithm)
        if self.ordered:  # whatever the number of outputs: so chunks equal the whole
            gradient = select.IN_ORDER if self.strides == (1,) else None
            recipe = recipe._replace(algorithm=(select.IN_ORDER, gradient, None))
        return apply(recipe, x, kernel)

    def recipe(self, x: Any, kernel: Any, low: int, mode: str, algorithm: Any) -> Recipe:
        """The recipe of `convolve`, by this algorithm."""
        padding, modes = list(self.others), list(self.modes)
        padding.insert(self.index, (low, 0))
        modes[self.index] = mode
        options = {
            "strides": self.strides,
            "padding": tuple(padding),
            "padding_mode": tuple(modes),
            "kernel_dilation": self.dilation,
            "feature_group_count": self.groups,
            "algorithm": algorithm,
            **self.numerics,
        }
        names = Names(self.function)
        return resolved(names, self.layout, x.shape, kernel.shape, self.dtype, options)

    def of_x(self, steps: jax.Array) -> jax.Array:
        """`steps` (N, T) with the axes of x."""
        return _spread(steps, self.layout.x.batch[0], self.axis, len(self.window) + 2)

    def of_out(self, steps: Any) -> jax.Array:
        """`steps` (N, T) with the axes of the result."""
        batch = self.layout.out.batch[0]
        return _spread(jnp.asarray(steps), batch, self.out_axis, len(self.window) + 2)

    def at(self, x: jax.Array, steps: jax.Array) -> jax.Array:
        """What lies at `steps` (N, S) of the causal axis of x."""
        return jnp.take_along_axis(x, self.of_x(steps), self.axis)

    def edge(self, x: Any, steps: Any, like: Any = None) -> jax.Array:
        """`steps` inputs before the first one of x, as `padding_mode` has them; zeros of the shape
        of `like`, if that is given."""
        shape = list((x if like is None else like).shape)
        shape[self.axis] = steps
        if like is not None or self.mode == "constant":
            return jnp.zeros(shape, x.dtype)
        if certainly(operator.eq, x.shape[self.axis], 0) or not hasattr(x, "__array__"):
            rule = 'must hold the first input for `padding_mode` "edge", which repeats it'
            checks.fail(self.function, "x", tuple(x.shape), rule)
        return jnp.broadcast_to(lax.slice_in_dim(jnp.asarray(x), 0, 1, axis=self.axis), shape)

    def tail(self, x: jax.Array, state: Any) -> jax.Array:
        """The next state: the last inputs, of `state` or of the left edge where x is short."""
        steps = x.shape[self.axis]
        if not certainly(operator.ge, steps, self.held):
            before = self.edge(x, self.held) if state is None else state
            x = lax.concatenate([before, x], self.axis)
            steps = steps + self.held
        return lax.slice_in_dim(x, steps - self.held, steps, axis=self.axis)

    def check(
        self,
        x: jax.Array,
        state: Any,
        segment_ids: Any,
        mask: Any,
        mesh_axis: Any,
        return_state: bool,
    ) -> tuple[Any, Any, Any]:
        """State, segment ids and mask as arrays, after checking that they fit."""
        function, shape = self.function, tuple(x.shape)
        steps, stride = shape[self.axis], self.strides[self.index]
        per_step = (shape[self.layout.x.batch[0]], steps)
        if state is not None:
            checks.array(function, "state", state)
            wanted = (*shape[: self.axis], self.held, *shape[self.axis + 1 :])
            if tuple(state.shape) != wanted:
                rule = f"must have the shape {wanted}, {self.held} inputs before `x`"
                checks.fail(
                    function, "state", tuple(state.shape), rule, "`convjax.init_state` makes it."
                )
            if state.dtype != x.dtype:
                raise TypeError(
                    f"{function}: `state` ({state.dtype}) and `x` ({x.dtype}) must have one dtype. "
                    "Cast the state, `state.astype(x.dtype)`."
                )
            state = jnp.asarray(state)
        streams = state is not None or return_state or mesh_axis is not None
        if streams and stride > 1 and certainly(operator.ne, steps % stride, 0):
            rule = f"must divide the {steps} steps of `x`: a state lies between two frames"
            checks.fail(function, "strides", stride, rule)
        for name, value in (("segment_ids", segment_ids), ("mask", mask)):
            if value is None:
                continue
            checks.array(function, name, value)
            if tuple(value.shape) != per_step:
                rule = f"must have the shape {per_step}, one entry per step of `x`"
                checks.fail(function, name, tuple(value.shape), rule)
            if self.numerics["out_sharding"] is not None:
                rule = f"must be None where `{name}` is given"
                value = self.numerics["out_sharding"]
                checks.fail(function, "out_sharding", value, rule, "Reshard the result.")
            if stride > 1:
                rule = f"must be 1 along the causal axis where `{name}` is given"
                hint = "Sequences might begin within a frame."
                checks.fail(function, "strides", stride, rule, hint)
        if segment_ids is not None:
            if not jnp.issubdtype(segment_ids.dtype, jnp.integer):
                rule = "must be integers"
                checks.fail_type(function, "segment_ids", str(segment_ids.dtype), rule)
            segment_ids = jnp.asarray(segment_ids)
        if mask is not None:
            if mask.dtype != np.bool_:
                rule = "must be booleans"
                checks.fail_type(function, "mask", str(mask.dtype), rule, "Write `mask != 0`.")
            if segment_ids is not None:
                rule = "and `segment_ids` must not both be given"
                checks.fail(
                    function, "mask", tuple(mask.shape), rule, "Give the padding another id."
                )
            mask = jnp.asarray(mask)
        if mesh_axis is not None:
            self._check_sharded(steps, segment_ids, mask, mesh_axis)
        return state, segment_ids, mask

    def _check_sharded(self, steps: Any, segment_ids: Any, mask: Any, mesh_axis: Any) -> None:
        function = self.function
        if mask is not None:
            rule = "must not be given together with `mesh_axis`"
            checks.fail(function, "mask", tuple(mask.shape), rule, "Use `segment_ids`.")
        if segment_ids is not None and self.mode == "edge":
            rule = 'must be "constant" for `segment_ids` with `mesh_axis`'
            hint = "The first input of a segment may lie on another shard."
            checks.fail(function, "padding_mode", "edge", rule, hint)
        if certainly(operator.lt, steps, self.held):
            rule = (
                f"leaves {steps} steps on a shard, fewer than the {self.held} inputs that the next "
                "shard needs from it"
            )
            checks.fail(function, "mesh_axis", mesh_axis, rule, "Use fewer shards.")


def plan(function: str, x: Any, kernel: Any, options: Mapping[str, Any]) -> Plan:
    """The plan of a causal convolution with these of its options."""
    given: dict[str, Any] = {**DEFAULTS, **options}
    abstract = any(isinstance(operand, jax.ShapeDtypeStruct) for operand in (x, kernel))
    dtype = x.dtype
    if not abstract:
        dtype = check_operands(Names(function), x, kernel)
    elif len(kernel.shape) < 3 or len(x.shape) != len(kernel.shape):
        rule = f"must have the {len(kernel.shape)} axes of `kernel`, and at least 3"
        checks.fail(function, "x", tuple(x.shape), rule)
    layout = layout_of(function, given["dimension_numbers"], kernel.ndim)
    rank = kernel.ndim - 2
    index = layout.x.space.index(causal_axis(function, given["axis"], kernel.ndim, layout))
    strides, _, dilation = spatial_steps(function, given, rank)
    output_at = checks.choice(function, "output_at", given["output_at"], get_args(OutputAt))
    window = layout.kernel.sizes(kernel.shape, "space")
    check_window(Names(function), window)
    modes = _modes(function, given["padding_mode"], rank, index)
    reach = (window[index] - 1) * dilation[index]
    algorithm, groups = given["algorithm"], given["feature_group_count"]
    ordered = algorithm is None and _is_ordered(kernel, layout, window, groups)
    space = layout.x.sizes(x.shape, "space")
    return Plan(
        function,
        layout,
        dtype,
        index,
        window,
        strides,
        dilation,
        reach,
        reach if output_at == "first" else reach + 1 - strides[index],
        _others(function, given["padding"], space, window, strides, dilation, index),
        modes,
        groups,
        {name: given[name] for name in ("precision", "preferred_element_type", "out_sharding")},
        algorithm,
        ordered,
    )


def _is_ordered(kernel: Any, layout: Layout, window: tuple[Any, ...], groups: Any) -> bool:
    """Whether the lowering `taps` writes it out: few taps of a depthwise kernel on one axis."""
    (per_group,) = layout.kernel.sizes(kernel.shape, "contract")
    (out,) = layout.kernel.sizes(kernel.shape, "out")
    if len(window) != 1 or per_group != 1 or not checks.is_int(groups) or groups < 2:
        return False
    return window[0] <= _TAPS and out <= _MULTIPLIER * groups


def causal_axis(function: str, axis: Any, ndim: int, layout: Layout) -> int:
    """`axis` (None: the first spatial one) as a position among the axes of x."""
    spatial = layout.x.space
    if axis is None:
        return spatial[0]
    place = checks.integer(function, "axis", axis)
    if not -ndim <= place < ndim or place % ndim not in spatial:
        rule = f"must be a spatial axis of `x`, one of {', '.join(map(str, sorted(spatial)))}"
        checks.fail(function, "axis", place, rule)
    return place % ndim


def _modes(function: str, padding_mode: Any, rank: int, index: int) -> tuple[str, ...]:
    modes = paddings.modes(function, padding_mode, rank)
    if modes[index] not in ("constant", "edge"):
        rule = 'must be "constant" or "edge" along the causal axis: others read the future'
        hint = "Give one word per spatial axis." if isinstance(padding_mode, str) else ""
        checks.fail(function, "padding_mode", modes[index], rule, hint)
    return modes


def _others(
    function: str,
    padding: Any,
    space: Any,
    window: Any,
    strides: Any,
    dilation: Any,
    index: int,
) -> tuple[Pair, ...]:
    """The padding of the spatial axes but the causal one."""
    if isinstance(padding, str):
        words = tuple(word for word in paddings.POLICIES if word != "CAUSAL")
        checks.choice(function, "padding", padding, words)

    def others(values: Any) -> list[Any]:
        return [value for place, value in enumerate(values) if place != index]

    steps = others(strides)
    return paddings.resolve(
        function,
        padding,
        space=others(space),
        window=others(window),
        strides=steps,
        input_dilation=(1,) * len(steps),
        kernel_dilation=others(dilation),
    )


def biased(made: Plan, y: jax.Array, bias: Any) -> jax.Array:
    """`y` plus `bias`, one entry per channel."""
    if bias is None:
        return y
    checks.array(made.function, "bias", bias)
    channel = made.layout.out.out[0]
    if tuple(bias.shape) != (y.shape[channel],):
        rule = f"must have the shape {(y.shape[channel],)}, one entry per output channel"
        checks.fail(made.function, "bias", tuple(bias.shape), rule)
    if bias.dtype != y.dtype:
        raise TypeError(
            f"{made.function}: `bias` ({bias.dtype}) must have the dtype of the result ({y.dtype})."
            f" Cast it, `bias.astype({str(y.dtype)!r})`."
        )
    shape = [1] * y.ndim
    shape[channel] = y.shape[channel]
    return y + jnp.asarray(bias).reshape(shape)


def activated(function: str, y: jax.Array, activation: Any) -> jax.Array:
    """`activation` of `y`."""
    if activation is None:
        return y
    if callable(activation):
        return activation(y)
    name = checks.choice(function, "activation", activation, ACTIVATIONS)
    if name == "tanh":
        return jnp.tanh(y)
    return getattr(jax.nn, name)(y)


def _spread(steps: jax.Array, batch: int, time: int, ndim: int) -> jax.Array:
    """`steps` (N, T) with N at `batch` and T at `time` among `ndim` axes."""
    if batch > time:
        steps = steps.T
    return lax.expand_dims(steps, [axis for axis in range(ndim) if axis not in (batch, time)])
