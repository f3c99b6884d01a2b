"""What kinds made of several convolutions share: checks in the caller's words, then the stages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from convjax import _checks
from convjax import padding as paddings
from convjax.functional.arguments import operands, sides
from convjax.functional.worker import conv_as


class Kernel(NamedTuple):
    """One stage's kernel, and what the caller calls it."""

    name: str
    array: jax.Array
    window: tuple[int, ...]
    in_features: int
    out_features: int


def split(
    function: str, rank: int, strides: Any, padding: Any, padding_mode: Any, kernel_dilation: Any
) -> list[dict[str, Any]]:
    """The options of one convolution, as options of one convolution per spatial axis.

    A policy's name goes to every stage as it is: along an axis where kernel and stride are 1,
    each of them pads nothing.
    """
    strides = _checks.ints(function, "strides", strides, rank, minimum=1)
    dilation = _checks.ints(function, "kernel_dilation", kernel_dilation, rank, minimum=1)
    named = isinstance(padding, str)
    pairs = () if named else paddings.pairs(function, padding, rank)

    def only(axis: int, values: Sequence[Any], neutral: Any) -> tuple[Any, ...]:
        return tuple(value if a == axis else neutral for a, value in enumerate(values))

    return [
        {
            "strides": only(axis, strides, 1),
            "padding": padding if named else only(axis, pairs, (0, 0)),
            "padding_mode": padding_mode,
            "kernel_dilation": only(axis, dilation, 1),
        }
        for axis in range(rank)
    ]


class Stages:
    """The convolutions of one public function, one after the other, all in one kernel layout."""

    def __init__(self, function: str, x: Any, dimension_numbers: Any) -> None:
        self.function = function
        self.x = jnp.asarray(_checks.array(function, "x", x))
        if self.x.ndim < 3:
            _checks.fail(
                function,
                "x",
                tuple(self.x.shape),
                "must have a batch axis, at least one spatial axis, and channels",
            )
        self.rank = self.x.ndim - 2
        self.where = sides(function, dimension_numbers, self.x.ndim)
        self.channels: int = self.x.shape[self.where.x[1]]

    def kernel(self, name: str, array: Any) -> Kernel:
        """`array` as the kernel that the caller calls `name`."""
        _checks.array(self.function, name, array)
        if array.ndim != self.x.ndim:
            mend = "Keep the axes of extent 1."
            if array.ndim == self.x.ndim + 1:
                mend = "For one example without a batch axis use `jax.vmap` or `x[None]`."
            _checks.fail(
                self.function,
                name,
                tuple(array.shape),
                f"must have {self.x.ndim} axes, as `x` has",
                mend,
            )
        with self._words(name):
            _, array = operands(self.function, self.x, array)
        i, o, space = self.where.kernel
        window = tuple(array.shape[axis] for axis in space)
        return Kernel(name, array, window, array.shape[i], array.shape[o])

    def kernels(self, name: str, arrays: Any) -> list[Kernel]:
        """`arrays`, one kernel for every spatial axis, with taps along that axis only."""
        if not isinstance(arrays, (list, tuple)):
            _checks.fail_type(
                self.function,
                name,
                type(arrays).__name__,
                f"must be a list or tuple of kernels, one per spatial axis ({self.rank})",
            )
        if len(arrays) != self.rank:
            _checks.fail(
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

    def expect_pointwise(self, kernel: Kernel, mend: str = "") -> None:
        """Refuse a kernel with more than one tap."""
        if any(extent != 1 for extent in kernel.window):
            self._fail(
                kernel, f"must have extent 1 on every spatial axis, not {kernel.window}", mend
            )

    def expect_channels(self, kernel: Kernel, giver: Kernel) -> None:
        """Refuse a kernel that does not take the channels that the stage before it gives."""
        if kernel.in_features != giver.out_features:
            self._fail(
                kernel,
                f"must have {giver.out_features} input channels, as many as `{giver.name}` gives, "
                f"not {kernel.in_features}",
            )

    def expect_depthwise(self, kernel: Kernel, giver: Kernel | None = None) -> None:
        """Refuse a kernel that is not depthwise: M output channels for every channel of `x`.

        After another stage, `giver`, there is one output channel for every channel of its own.
        """
        features = giver.out_features if giver else self.channels
        out = kernel.out_features
        fits = out == features if giver else features > 0 and out % features == 0
        if kernel.in_features == 1 and fits:
            return
        mend = ""
        if kernel.in_features == features:
            mend = f"Reshape TensorFlow's (*K, {features}, M) to (*K, 1, {features}*M)."
        elif giver is None and any(
            extent and out % extent == 0 for extent in (self.x.shape[a] for a in self.where.x[2])
        ):
            mend = "`x` looks as if its channels were on another axis: see `dimension_numbers`."
        source = f"`{giver.name}` gives" if giver else "`x` has"
        self._fail(
            kernel,
            f"must have 1 input channel and {'' if giver else 'a multiple of '}{features} output "
            f"channels, as {source} {features}, not {kernel.in_features} and {out}",
            mend,
        )

    def split(self, *options: Any, **named: Any) -> list[dict[str, Any]]:
        """The options of one convolution, as options of one per spatial axis: see `split`."""
        return split(self.function, self.rank, *options, **named)

    def in_result_layout(self, y: jax.Array) -> jax.Array:
        """`y`, whose axes are those of `x`, with the axes of the result."""
        (xn, xc, xs), (yn, yc, ys) = self.where.x, self.where.out
        order = dict(zip((yn, yc, *ys), (xn, xc, *xs), strict=True))
        return jnp.transpose(y, [order[axis] for axis in range(y.ndim)])

    def run(
        self,
        stages: Sequence[tuple[Kernel, dict[str, Any]]],
        *,
        preferred_element_type: Any,
        out_sharding: Any,
        **options: Any,
    ) -> jax.Array:
        """The convolutions, each with its own options and the common ones.

        A later kernel takes the dtype of what reaches it, which `preferred_element_type` may have
        widened; `out_sharding` speaks of the last result.
        """
        y = self.x
        (xn, xc, xs), (ki, ko, ks), (yn, yc, ys) = self.where
        layout, out_layout = (xn, xc, *xs), (yn, yc, *ys)
        for number, (kernel, stage) in enumerate(stages, start=1):
            with self._words(kernel.name):
                y = conv_as(
                    self.function,
                    y,
                    kernel.array.astype(y.dtype),
                    dimension_numbers=lax.ConvDimensionNumbers(layout, (ko, ki, *ks), out_layout),
                    preferred_element_type=preferred_element_type,
                    out_sharding=out_sharding if number == len(stages) else None,
                    **stage,
                    **options,
                )
            layout = out_layout
        return y

    @contextmanager
    def _words(self, name: str) -> Iterator[None]:
        """Errors about `kernel` under the name that the caller gave the kernel, `name`."""
        try:
            yield
        except (TypeError, ValueError) as error:
            if name == "kernel" or not str(error).startswith(f"{self.function}: "):
                raise
            raise type(error)(str(error).replace("`kernel", f"`{name}")) from None

    def _fail(self, kernel: Kernel, rule: str, mend: str = "") -> None:
        _checks.fail(self.function, kernel.name, tuple(kernel.array.shape), rule, mend)
