"""What kinds made of several convolutions share: checks in the caller's words, then the stages."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from convjax._core import checks
from convjax._core import padding as paddings
from convjax._core.layout import Axes, Layout, layout_of
from convjax._core.options import DEFAULTS
from convjax._core.recipe import Recipe
from convjax._functional.prepare import Names, check_depthwise, resolved
from convjax._operation.grouping import apply


class Kernel(NamedTuple):
    """One stage's kernel, and what the caller calls it."""

    name: str
    array: Any
    window: tuple[int, ...]
    in_features: int
    out_features: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)


Stage = tuple[Kernel, Mapping[str, Any]]  # a kernel, and the options of its convolution


def per_axis(function: str, rank: int, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The options of one convolution, as options of one convolution per spatial axis.

    A policy's name goes to every stage as it is: along an axis where kernel and stride are 1,
    each of them pads nothing.
    """
    given = {**DEFAULTS, **options}
    spread: dict[str, tuple[Sequence[Any], Any]] = {
        name: (checks.ints(function, name, given[name], rank, minimum=1), 1)
        for name in ("strides", "kernel_dilation")
    }
    if not isinstance(given["padding"], str):
        spread["padding"] = paddings.pairs(function, given["padding"], rank), (0, 0)

    def along(axis: int) -> dict[str, Any]:
        return {
            name: tuple(value if a == axis else neutral for a, value in enumerate(values))
            for name, (values, neutral) in spread.items()
        }

    return [{**options, **along(axis)} for axis in range(rank)]


class Stages:
    """The convolutions of one public function, one after the other, all in one kernel layout."""

    def __init__(self, function: str, x: Any, options: Mapping[str, Any]) -> None:
        self.function = function
        self.x = checks.array(function, "x", x)
        self.shape = tuple(x.shape)
        if x.ndim < 3:
            rule = "must have a batch axis, at least one spatial axis, and channels"
            checks.fail(function, "x", self.shape, rule)
        self.rank = x.ndim - 2
        self.layout = layout_of(function, options.get("dimension_numbers"), x.ndim)
        self.channels: int = self.shape[self.layout.x.contract[0]]
        self.dtype: Any = None

    def kernel(self, name: str, array: Any) -> Kernel:
        """`array` as the kernel that the caller calls `name`."""
        checks.array(self.function, name, array)
        if array.ndim != len(self.shape):
            hint = "Keep the axes of extent 1."
            if array.ndim == len(self.shape) + 1:
                hint = "For one example without a batch axis use `jax.vmap` or `x[None]`."
            rule = f"must have {len(self.shape)} axes, as `x` has"
            checks.fail(self.function, name, tuple(array.shape), rule, hint)
        self.dtype = checks.one_dtype(self.function, "x", name, self.x, array)
        axes, shape = self.layout.kernel, array.shape
        (i,), (o,) = axes.sizes(shape, "contract"), axes.sizes(shape, "out")
        return Kernel(name, array, axes.sizes(shape, "space"), i, o)

    def kernels(self, name: str, arrays: Any) -> list[Kernel]:
        """`arrays`, one kernel for every spatial axis, with taps along that axis only."""
        if not isinstance(arrays, (list, tuple)):
            checks.fail_type(
                self.function,
                name,
                type(arrays).__name__,
                f"must be a list or tuple of kernels, one per spatial axis ({self.rank})",
            )
        if len(arrays) != self.rank:
            checks.fail(
                self.function,
                name,
                f"{len(arrays)} kernels",
                f"must have one kernel per spatial axis of `x`, {self.rank}",
            )
        found = [self.kernel(f"{name}[{axis}]", array) for axis, array in enumerate(arrays)]
        for axis, kernel in enumerate(found):
            if any(extent != 1 for a, extent in enumerate(kernel.window) if a != axis):
                self._fail(
                    kernel,
                    f"must have extent 1 on every spatial axis but {axis}, not {kernel.window}",
                    "The kernels come in the order of the spatial axes.",
                )
        return found

    def expect_pointwise(self, kernel: Kernel, hint: str = "") -> None:
        """Refuse a kernel with more than one tap."""
        if any(extent != 1 for extent in kernel.window):
            rule = f"must have extent 1 on every spatial axis, not {kernel.window}"
            self._fail(kernel, rule, hint)

    def expect_channels(self, kernel: Kernel, giver: Kernel) -> None:
        """Refuse a kernel that does not take the channels that the stage before it gives."""
        if kernel.in_features != giver.out_features:
            self._fail(
                kernel,
                f"must have {giver.out_features} input channels, as many as `{giver.name}` gives, "
                f"not {kernel.in_features}",
            )

    def expect_depthwise(self, kernel: Kernel) -> None:
        """Refuse a kernel that is not depthwise: M output channels for every channel of `x`."""
        names = Names(self.function, kernel=kernel.name)
        check_depthwise(names, self.layout, self.shape, kernel.shape)

    def expect_one_each(self, kernel: Kernel, giver: Kernel) -> None:
        """Refuse a kernel that has not one output for each channel that the stage before gives."""
        features = giver.out_features
        if kernel.in_features == 1 and kernel.out_features == features:
            return
        hint = ""
        if kernel.in_features == features:
            hint = f"Reshape TensorFlow's (*K, {features}, M) to (*K, 1, {features}*M)."
        self._fail(
            kernel,
            f"must have 1 input channel and {features} output channels, as `{giver.name}` gives "
            f"{features}, not {kernel.in_features} and {kernel.out_features}",
            hint,
        )

    def per_axis(self, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The options of one convolution, as options of one per spatial axis: see `per_axis`."""
        return per_axis(self.function, self.rank, options)

    def in_result_layout(self, y: jax.Array) -> jax.Array:
        """`y`, whose axes are those of `x`, with the axes of the result."""
        x, out = self.layout.x, self.layout.out
        order = dict(
            zip((*out.batch, *out.out, *out.space), (*x.batch, *x.contract, *x.space), strict=True)
        )
        return jnp.transpose(y, [order[axis] for axis in range(y.ndim)])

    def recipes(self, stages: Sequence[Stage], options: Mapping[str, Any]) -> list[Recipe]:
        """A recipe for every stage, with its own options and the numerics among `options`.

        A later kernel takes the dtype of what reaches it, which `preferred_element_type` may have
        widened; `out_sharding` speaks of the last result.
        """
        common = {key: options[key] for key in _COMMON if key in options}
        layout, shape, dtype = self.layout, self.shape, self.dtype
        found: list[Recipe] = []
        for kernel, stage in stages:
            given = {**stage, **common}
            if kernel is not stages[-1][0]:
                given.pop("out_sharding", None)
            if found:
                layout, shape = _after(self.layout), found[-1].out_shape
                dtype = found[-1].result_type or dtype
            names = Names(self.function, kernel=kernel.name)
            found.append(resolved(names, layout, shape, kernel.shape, dtype, given))
        return found

    def run(self, stages: Sequence[Stage], options: Mapping[str, Any]) -> jax.Array:
        """The convolutions, one after the other."""
        y = self.x
        for recipe, (kernel, _) in zip(self.recipes(stages, options), stages, strict=True):
            array = kernel.array
            if y is not self.x and array.dtype != y.dtype:
                array = jnp.asarray(array).astype(y.dtype)
            y = apply(recipe, y, array)
        return y

    def _fail(self, kernel: Kernel, rule: str, hint: str = "") -> None:
        checks.fail(self.function, kernel.name, kernel.shape, rule, hint)


_COMMON = ("precision", "preferred_element_type", "out_sharding", "algorithm")


def _after(layout: Layout) -> Layout:
    """The layout of a convolution that reads the result of one with `layout`."""
    out = layout.out
    return layout._replace(x=Axes(batch=out.batch, contract=out.out, space=out.space))
