"""How an operation is split over devices: a convolution, and what lies beyond an input's edges.

A split knows the operation's parties (its operands, and "out"), their shapes, the factors that can
be split, and what a device computes of its parts.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import Layout
from convjax._sharding import exchange, partition
from convjax._sharding.partition import Axis, Factor, Names, Plan

Shape = tuple[int, ...]


class Split(Protocol):
    """An operation on whole arrays, as `distributed` splits it."""

    shapes: dict[str, Shape]  # of its parties; "out" comes last
    spatial: dict[str, tuple[int, ...]]  # each party's spatial axes
    factors: list[Factor]
    result: np.dtype
    calls: bool  # whether its parts hold calls that are to stay calls (`_lowerings/tools/xla.py`)

    def plan(self, specs: Mapping[str, Sequence[Names]], independent: bool = False) -> Plan:
        """Which mesh axes split what, if the parties lie as `specs` says (`partition.choose`)."""

    def whole(self, *operands: jax.Array) -> jax.Array:
        """The result on one device."""

    def part(self, plan: Plan, mesh: Mapping[str, int], *operands: jax.Array) -> jax.Array:
        """A device's part of the result from its parts of the operands.

        The axes of `mesh`, a mapping to their sizes, that `plan` uses are manual ones.
        """


class ConvSplit:
    """A convolution of operands of these (whole) shapes.

    `run(*arrays, made=, geometry=, preferred_element_type=)` is the convolution on one device, of
    the operands that ``made(*arrays)`` returns. `widens` says that it makes float32 of 16-bit
    operands without a copy of them: then parts that are summed over devices are rounded once, after
    the sum. `calls` says that it holds calls that are to stay.
    """

    def __init__(
        self,
        layout: Layout,
        geometry: Geometry,
        role: str,
        operands: Sequence[Any],
        result: Any,
        run: Callable[..., jax.Array],
        widens: bool = True,
        calls: bool = False,
    ) -> None:
        x, kernel = (tuple(operand.shape) for operand in operands)
        self.layout, self.geometry, self.run = layout, geometry, run
        self.widens, self.calls = widens, calls
        self.itemsize, self.result = np.dtype(operands[0].dtype).itemsize, np.dtype(result)
        self.space = layout.x.sizes(x, "space")
        self.window = layout.kernel.sizes(kernel, "space")
        self.out_space = geometry.output_space(self.space, self.window)
        self.shapes = {"x": x, "kernel": kernel, "out": layout.out_shape(x, kernel, self.out_space)}
        self.spatial = {
            "x": layout.x.space, "kernel": layout.kernel.space, "out": layout.out.space
        }  # fmt: skip
        self.factors = partition.factors(layout, role == "kernel_gradient")

    def plan(self, specs: Mapping[str, Sequence[Names]], independent: bool = False) -> Plan:
        sizes = {
            party: float(math.prod(shape))
            * (self.result.itemsize if party == "out" else self.itemsize)
            for party, shape in self.shapes.items()
        }
        return partition.choose(self.factors, specs, sizes, independent)

    def whole(self, *operands: jax.Array) -> jax.Array:
        return self.run(
            *operands,
            made=lambda *same: same,
            geometry=self.geometry,
            preferred_element_type=self.result,
        )

    def part(self, plan: Plan, mesh: Mapping[str, int], *operands: jax.Array) -> jax.Array:
        geometry, shares = self.geometry, []
        local = _Local(*operands)
        for factor, names in zip(plan.factors, plan.names, strict=True):
            line = exchange.Line(names, mesh)
            if line.shards == 1:
                continue
            if factor.x is not None and (factor.is_summed or factor.kind == "space"):
                size = self.shapes["x"][factor.x]
                local.becomes(0, exchange.existing, axis=factor.x, size=size, line=line)
            if factor.kernel is not None and factor.is_summed:
                size = self.shapes["kernel"][factor.kernel]
                local.becomes(1, exchange.existing, axis=factor.kernel, size=size, line=line)
            if factor.x is None or factor.kind not in ("space", "window"):
                continue
            number = self.layout.x.space.index(factor.x)
            axis = Axis.of(geometry, number, self.space, self.window, self.out_space)
            split = partition.split_outputs if factor.kind == "space" else partition.split_window
            share = split(axis, line.shards)
            strips = exchange.received(local.operands[0], factor.x, share.rows, line)
            local.becomes(
                0, exchange.surrounded, *strips, axis=factor.x, rows=share.rows, line=line
            )
            geometry = geometry.padded(number, share.padding)
            if factor.kernel is not None:
                local.becomes(1, exchange.among_zeros, axis=factor.kernel, share=share, line=line)
            else:
                shares.append((self.layout.out.space[number], share, line))
        total = _sum_type(self.result) if plan.summed else self.result
        y = self.run(
            *operands,
            *local.received,
            made=local.made,
            geometry=geometry,
            preferred_element_type=total if self.widens else self.result,
        )
        for out_axis, share, line in shares:
            y = exchange.taken(y, out_axis, share.skips, share.out_block, line)
        if plan.summed:
            y = lax.psum(y.astype(total), plan.summed)
        return y.astype(self.result)


class _Local:
    """The operands of a device's convolution, and how they are made of the device's parts.

    They are made in two steps: first all devices send what others need, then each device makes its
    operands of its parts and of what it received (`made`). So the second step, which copies the
    parts, can wait until the convolution runs.
    """

    def __init__(self, *parts: jax.Array) -> None:
        self.operands = list(parts)
        self.received: list[jax.Array] = []
        self._steps: list[tuple[int, Callable[..., jax.Array], int]] = []

    def becomes(
        self, number: int, function: Callable[..., jax.Array], *strips: jax.Array, **options: Any
    ) -> None:
        """Operand `number` becomes ``function(operand, *strips, **options)``."""
        function = functools.partial(function, **options)
        self.operands[number] = function(self.operands[number], *strips)
        self.received += strips
        self._steps.append((number, function, len(strips)))

    def made(self, *arrays: jax.Array) -> list[jax.Array]:
        """The operands, of the device's parts and of what it received."""
        count = len(self.operands)
        operands, rest = list(arrays[:count]), iter(arrays[count:])
        for number, function, strips in self._steps:
            got = itertools.islice(rest, strips)
            operands[number] = function(operands[number], *got)
        return operands


def _sum_type(dtype: np.dtype) -> np.dtype:
    """The type in which devices' results are summed: 16-bit floats in float32."""
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return np.dtype(np.float32) if narrow else dtype


class ExtensionSplit:
    """`extension.extend` along one axis, or its adjoint.

    `beyond` says where what lies before and after the edges comes from: the first element of a
    strip of the input, its length, and a function that makes of the strip what lies there (or, for
    the adjoint, of what lies there what is added to the strip).
    """

    calls = False

    def __init__(
        self,
        operand: Any,
        axis: int,
        pair: tuple[int, int],
        beyond: Sequence[tuple[int, int, Callable[[jax.Array], jax.Array]]],
        whole: Callable[[jax.Array], jax.Array],
        adjoint: bool,
    ) -> None:
        shape = tuple(operand.shape)
        change = -sum(pair) if adjoint else sum(pair)
        self.result = np.dtype(operand.dtype)
        self.shapes = {
            "x": shape,
            "out": (*shape[:axis], shape[axis] + change, *shape[axis + 1 :]),
        }
        self.spatial: dict[str, tuple[int, ...]] = {"x": (axis,), "out": (axis,)}
        self.axis, self.pair, self.beyond = axis, pair, beyond
        self.run, self.adjoint = whole, adjoint
        self.factors = [
            Factor("space" if a == axis else "batch", x=a, out=a) for a in range(len(shape))
        ]

    def plan(self, specs: Mapping[str, Sequence[Names]], independent: bool = False) -> Plan:
        sizes = {party: float(math.prod(shape)) for party, shape in self.shapes.items()}
        return partition.choose(self.factors, specs, sizes, independent)

    def whole(self, *operands: jax.Array) -> jax.Array:
        return self.run(*operands)

    def part(self, plan: Plan, mesh: Mapping[str, int], *operands: jax.Array) -> jax.Array:
        (x,) = operands
        axis, line = self.axis, exchange.Line(plan.names[self.axis], mesh)
        if line.shards == 1:
            return self.run(x)
        size, out = self.shapes["x"][axis], self.shapes["out"][axis]
        x = exchange.existing(x, axis, size, line)
        low, high = (-side for side in self.pair) if self.adjoint else self.pair
        share = partition.split_outputs(Axis(size, 1, out, 1, low, high, 1, 1), line.shards)
        y = exchange.needed_rows(x, axis, share.rows, line)
        begins = [p * share.out_block for p in range(line.shards)]
        ends = (0, size - self.pair[1]) if self.adjoint else (0, out - self.pair[1])
        for (first, count, make), length, end in zip(self.beyond, self.pair, ends, strict=True):
            if length == 0:
                continue
            # What is fetched (from, how many), and where what is made of it lies in the result.
            source, to = (first, count), (end, length)
            if self.adjoint:
                source, to = to, source
            readers = [
                p
                for p, begin in enumerate(begins)
                if begin < to[0] + to[1] and begin + share.out_block > to[0]
            ]
            strip = partition.strip(*source, size, line.shards, readers)
            made = make(exchange.fetched(x, axis, strip, line))
            starts = [to[0] - begin for begin in begins]
            put = exchange.increased if self.adjoint else exchange.replaced
            y = put(y, axis, starts, made, line)
        return y
