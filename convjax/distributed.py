"""A convolution on several devices: each fetches its neighbours' rows, convolves, and sums.

`partition` says who computes what; here are the arrays. How the operands lie on the devices is known
in two ways: from types (`by_types`, explicit mesh axes), or from XLA when it partitions the program
(`by_callback`, automatic mesh axes).
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.custom_partitioning import (
    ArrayMapping,
    SdyShardingRule,
    custom_partitioning,
)
from jax.experimental.xla_metadata import set_xla_metadata
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from convjax import partition
from convjax.geometry import Geometry
from convjax.layout import Layout
from convjax.partition import PARTIES, Axis, Factor, Plan, Rows, Share, block

# The convolution that one device runs: x, kernel, and by name geometry and preferred_element_type.
Local = Callable[..., jax.Array]
Shape = tuple[int, ...]


class Split:
    """A convolution of operands of these (global) shapes, split over devices as `plan` says."""

    def __init__(
        self,
        layout: Layout,
        geometry: Geometry,
        role: str,
        x: Shape,
        kernel: Shape,
        dtype: Any,
        result: Any,
    ) -> None:
        self.layout, self.geometry = layout, geometry
        self.dtype, self.result = np.dtype(dtype), np.dtype(result)
        self.space = layout.x.sizes(x, "space")
        self.window = layout.kernel.sizes(kernel, "space")
        self.out_space = geometry.output_space(self.space, self.window)
        self.shapes = {"x": x, "kernel": kernel, "out": layout.out_shape(x, kernel, self.out_space)}
        self.factors = partition.factors(layout, role == "kernel_gradient")

    def plan(self, specs: Mapping[str, Sequence[partition.Names]]) -> Plan:
        """Which mesh axes split what, if operands and result lie as `specs` says."""
        sizes = {
            party: float(math.prod(shape) * (self.result if party == "out" else self.dtype).itemsize)
            for party, shape in self.shapes.items()
        }
        return partition.choose(self.factors, specs, sizes)

    def run(
        self, x: jax.Array, kernel: jax.Array, plan: Plan, mesh: Mapping[str, int], local: Local
    ) -> jax.Array:
        """A device's part of the result from its parts of the operands; `mesh` has the axes' sizes.

        Every mesh axis of `plan` is a manual one here.
        """
        geometry, skips = self.geometry, []
        for factor, names in zip(plan.factors, plan.names, strict=True):
            shards = math.prod(mesh[name] for name in names)
            if shards == 1:
                continue
            if factor.is_summed or factor.kind == "space":
                x = self._existing(x, "x", factor, names, shards)
            if factor.is_summed:
                kernel = self._existing(kernel, "kernel", factor, names, shards)
            if factor.kind not in ("space", "window"):
                continue
            axis = self.layout.x.space.index(factor.x)
            split = partition.split_outputs if factor.kind == "space" else partition.split_window
            share = split(
                Axis.of(self.geometry, axis, self.space, self.window, self.out_space), shards
            )
            x = _needed_rows(x, factor.x, share.rows, names)
            geometry = _with_padding(geometry, axis, share.padding)
            if factor.kind == "window":
                kernel = _among_zeros(kernel, factor.kernel, share, names)
            else:
                skips.append((factor.out, share, names))
        total = _sum_type(self.result) if plan.summed else self.result
        y = local(x, kernel, geometry=geometry, preferred_element_type=total)
        for out_axis, share, names in skips:
            y = _from(y, out_axis, share.skips, share.out_block, names)
        if plan.summed:
            y = lax.psum(y, plan.summed)
        return y.astype(self.result)

    def _existing(
        self, part: jax.Array, party: str, factor: Factor, names: Any, shards: int
    ) -> jax.Array:
        """`part` of an operand, with zeros where the last blocks hold elements that do not exist."""
        axis = factor.axis(party)
        assert axis is not None
        size, own = self.shapes[party][axis], part.shape[axis]
        if own * shards == size:
            return part
        first = lax.axis_index(names) * own
        index = first + lax.broadcasted_iota(np.int32, part.shape, axis)
        return jnp.where(index < size, part, jnp.zeros((), part.dtype))


def _sum_type(dtype: np.dtype) -> np.dtype:
    """The type in which devices' results are summed: 16-bit floats in float32."""
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return np.dtype(np.float32) if narrow else dtype


def _with_padding(geometry: Geometry, axis: int, pair: tuple[int, int]) -> Geometry:
    padding = (*geometry.padding[:axis], pair, *geometry.padding[axis + 1 :])
    return Geometry(
        geometry.strides,
        padding,
        geometry.input_dilation,
        geometry.kernel_dilation,
        geometry.reversal,
    )


def _needed_rows(part: jax.Array, axis: int, rows: Rows, names: Any) -> jax.Array:
    """The rows of x that this shard needs, its own `part` and neighbours' rows around it."""

    def zeros(count: int) -> list[jax.Array]:
        shape = (*part.shape[:axis], count, *part.shape[axis + 1 :])
        return [jnp.zeros(shape, part.dtype)] if count else []

    if rows.rows == 0:
        return lax.slice_in_dim(part, 0, 0, axis=axis)
    if rows.whole:
        pieces = [lax.all_gather(part, names, axis=axis, tiled=True)]
    else:
        pieces = [part]
        for count, pairs in rows.hops("before")[::-1]:
            sent = lax.slice_in_dim(part, part.shape[axis] - count, None, axis=axis)
            pieces.insert(0, _sent(sent, names, pairs))
        for count, pairs in rows.hops("after"):
            sent = lax.slice_in_dim(part, 0, count, axis=axis)
            pieces.append(_sent(sent, names, pairs))
    pieces = [*zeros(rows.lead), *pieces, *zeros(rows.trail)]
    buffer = lax.concatenate(pieces, axis) if len(pieces) > 1 else pieces[0]
    return _from(buffer, axis, rows.starts, rows.rows, names)


def _sent(part: jax.Array, names: Any, pairs: Sequence[tuple[int, int]]) -> jax.Array:
    """What this shard gets if senders send `part`; zeros where none sends."""
    return lax.ppermute(part, names, pairs) if pairs else jnp.zeros_like(part)


def _from(x: jax.Array, axis: int, starts: Sequence[int], size: int, names: Any) -> jax.Array:
    """`size` elements of `x` along `axis`, from this shard's entry of `starts` on."""
    if len(set(starts)) > 1:
        start = jnp.array(starts, np.int32)[lax.axis_index(names)]
        return lax.dynamic_slice_in_dim(x, start, size, axis)
    if size == x.shape[axis]:
        return x
    return lax.slice_in_dim(x, starts[0], starts[0] + size, axis=axis)


def _among_zeros(part: jax.Array, axis: int, share: Share, names: Any) -> jax.Array:
    """A window in which this shard's `part` lies where its taps do."""
    if share.window == part.shape[axis]:
        return part
    shape = (*part.shape[:axis], share.window, *part.shape[axis + 1 :])
    start = jnp.array(share.tap_skips, np.int32)[lax.axis_index(names)]
    return lax.dynamic_update_slice_in_dim(jnp.zeros(shape, part.dtype), part, start, axis)


# ---- explicit mesh axes: the types say how operands lie ----------------------------------------


def by_types(
    x: jax.Array,
    kernel: jax.Array,
    split: Split,
    local: Local,
    shardings: Mapping[str, NamedSharding],
) -> jax.Array:
    """The whole result, split over the explicit axes of the mesh."""
    mesh = shardings["out"].mesh
    names = [name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
             if kind == jax.sharding.AxisType.Explicit]  # fmt: skip
    specs = {
        party: _names(shardings[party].spec, len(split.shapes[party])) for party in PARTIES
    }
    plan = split.plan(specs)
    wanted = {party: plan.spec(party, len(split.shapes[party])) for party in PARTIES}
    sizes = dict(mesh.shape)

    def evenly(operand: jax.Array, party: str) -> jax.Array:
        """`operand` in equal blocks, zeros behind its end."""
        pads = []
        kept = []
        for size, found, entry in zip(operand.shape, specs[party], wanted[party], strict=True):
            shards = math.prod(sizes[name] for name in entry)
            pads.append((0, block(size, shards) * shards - size, 0))
            kept.append(found if pads[-1][1] == 0 else ())
        if any(high for _, high, _ in pads):
            operand = jax.reshard(operand, _sharding(mesh, kept))
            operand = lax.pad(operand, jnp.zeros((), operand.dtype), pads)
        return jax.reshard(operand, _sharding(mesh, wanted[party]))

    part = jax.shard_map(
        lambda x, kernel: split.run(x, kernel, plan, sizes, local),
        mesh=mesh,
        in_specs=(_spec(wanted["x"]), _spec(wanted["kernel"])),
        out_specs=_spec(wanted["out"]),
        axis_names=set(names),
        check_vma=False,
    )
    y = part(evenly(x, "x"), evenly(kernel, "kernel"))
    shape = split.shapes["out"]
    if y.shape != shape:
        kept = [entry if a == b else () for entry, a, b in
                zip(wanted["out"], y.shape, shape, strict=True)]  # fmt: skip
        y = jax.reshard(y, _sharding(mesh, kept))
        y = lax.slice(y, (0,) * y.ndim, shape)
    return jax.reshard(y, shardings["out"])


def _names(spec: Any, ndim: int) -> tuple[partition.Names, ...]:
    entries = [*spec, *(None,) * (ndim - len(spec))]
    return tuple(
        () if entry is None else entry if isinstance(entry, tuple) else (entry,)
        for entry in entries
    )


def _spec(names: Sequence[partition.Names]) -> PartitionSpec:
    return PartitionSpec(*(entry or None for entry in names))


def _sharding(mesh: Any, names: Sequence[partition.Names]) -> NamedSharding:
    return NamedSharding(mesh, _spec(names))


# ---- automatic mesh axes: XLA says how operands lie, when it partitions the program ------------


class _Device:
    """Stands for the device of this number while XLA's shardings are read: no real one is needed,
    and where a program is compiled for devices that are elsewhere there is none."""

    platform = device_kind = "any"
    process_index = 0

    def __init__(self, number: int) -> None:
        self.id = number


def stand_ins(count: int) -> tuple[Any, ...]:
    """As many devices as `by_callback` is told of."""
    return tuple(map(_Device, range(count)))


def by_callback(
    x: jax.Array,
    kernel: jax.Array,
    split: Split,
    local: Local,
    *,
    mesh: Sequence[tuple[str, int, bool]],
    description: str,
) -> jax.Array:
    """The whole result; XLA asks, when it partitions the program, what each device is to do.

    Args:
        mesh: names and sizes of the mesh's axes, and whether they are manual here. Only what is
            known: one automatic axis may stand for all of them.
        description: all that distinguishes this convolution from others of operands of the same
            types. XLA's program names this callback by an address, so without a description the
            persistent compilation cache could take one convolution for another.
    """

    def whole(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return local(x, kernel, geometry=split.geometry, preferred_element_type=split.result)

    def planned(shardings: Mapping[str, Any]) -> tuple[Any, Any, Plan]:
        """The mesh with automatic axes of prime sizes, its automatic part, and the plan."""
        count = math.prod(size for _, size, manual in mesh if not manual)
        tables = [_blocks(shardings.get(p), len(split.shapes[p]), count) for p in PARTIES]
        radices, found = partition.digits_of(
            tables, [size for _, size, manual in mesh if not manual]
        )
        names = tuple(f"_{i}" for i in range(len(radices)))
        specs = {}
        for party, axes in zip(PARTIES, found, strict=True):
            axes = axes or [()] * len(split.shapes[party])
            specs[party] = [tuple(names[i] for i in digits) for digits in axes]
        return _refined(mesh, radices, names), AbstractMesh(radices, names), split.plan(specs)

    def partitioned(_: Any, operands: Any, result: Any) -> Any:
        found = dict(zip(PARTIES, (a.sharding for a in (*operands, result)), strict=True))
        full, automatic, plan = planned(found)

        def part(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return split.run(x, kernel, plan, dict(full.shape), local)

        x, kernel, out = (
            _sharding(automatic, plan.spec(party, len(split.shapes[party]))) for party in PARTIES
        )
        return full, part, out, (x, kernel)

    def inferred(_: Any, operands: Any, __: Any) -> Any:
        """Only for XLA's former partitioner, which knows no rules."""
        found = dict(zip(PARTIES, (a.sharding for a in operands), strict=False))
        _, automatic, plan = planned(found)
        return _sharding(automatic, plan.spec("out", len(split.shapes["out"])))

    call = custom_partitioning(whole)
    call.def_partition(
        partitioned,
        infer_sharding_from_operands=inferred,
        sharding_rule=_rule(split),
        decode_shardings=False,
    )
    with set_xla_metadata(convjax=description):
        y: jax.Array = call(x, kernel)
    return y


def _refined(mesh: Sequence[tuple[str, int, bool]], radices: Sequence[int], names: Sequence[str]) -> Any:
    """The mesh whose automatic axes are split into those of sizes `radices`."""
    sizes: list[int] = []
    labels: list[str] = []
    rest = list(zip(radices, names, strict=True))
    for name, size, manual in mesh:
        if manual:
            sizes.append(size)
            labels.append(name)
            continue
        while size > 1:
            radix, label = rest.pop(0)
            sizes.append(radix)
            labels.append(label)
            size //= radix
    return AbstractMesh(tuple(sizes), tuple(labels))


def _blocks(sharding: Any, ndim: int, count: int) -> list[list[int]]:
    """For each axis, the number of the block that each of `count` devices holds."""
    if sharding is None:
        return [[0] * count] * ndim
    shape = (count,) * ndim  # a shape that every sharding divides
    part = sharding.shard_shape(shape)
    indices = sharding.devices_indices_map(shape).values()
    return [[(index[axis].start or 0) // part[axis] for index in indices] for axis in range(ndim)]


def _rule(split: Split) -> SdyShardingRule:
    """How shardings spread between operands and result: a name for every factor."""
    labels = {party: [f"{party}{i}" for i in range(len(split.shapes[party]))] for party in PARTIES}
    for number, factor in enumerate(split.factors):
        for party in PARTIES:
            axis = factor.axis(party)
            if axis is not None:
                labels[party][axis] = f"f{number}"
    summed = {f"f{number}" for number, factor in enumerate(split.factors) if factor.is_summed}
    return SdyShardingRule(
        (ArrayMapping(*labels["x"]), ArrayMapping(*labels["kernel"])),
        (ArrayMapping(*labels["out"]),),
        reduction_factors=tuple(label for label in labels["x"] if label in summed),
    )
