"""Operations on several devices: who splits them, and how each device gets its part.

How the operands lie on the devices is known in two ways: from types (`_by_types`: explicit mesh
axes), or from XLA when it partitions the program (`_by_callback`: automatic mesh axes). Where
neither is to be had, XLA splits the operation.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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
from jax.interpreters import mlir
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from convjax._core.version import __version__
from convjax._sharding import partition
from convjax._sharding.partition import Names, Plan, block
from convjax._sharding.sharding import is_explicit
from convjax._sharding.splits import Split

# Where XLA asks a callback how to split an operation. On TPU it does not.
CALLBACK_PLATFORMS = ("cpu", "cuda", "rocm")


class Place(NamedTuple):
    """Where a program runs, as far as it is known when an operation is lowered."""

    mesh: tuple[tuple[str, int, bool], ...]  # axes' names, sizes, and whether they are manual here
    explicit: bool  # whether the types say how arrays lie along all axes that are not manual

    @classmethod
    def of(cls, ctx: Any) -> "Place":
        """The place for which JAX lowers an operation in this context."""
        context, mesh = ctx.module_context.axis_context, ctx.avals_out[0].sharding.mesh
        manual = getattr(context, "manual_axes", ())
        if is_explicit(mesh):
            axes = tuple((name, size, name in manual) for name, size in mesh.shape.items())
            kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
            auto = any(kind == AxisType.Auto and mesh.shape[name] > 1 for name, kind in kinds)
            return cls(axes, not auto)
        mesh = getattr(context, "mesh", mesh)
        if not mesh.empty:
            axes = tuple((name, size, name in manual) for name, size in mesh.shape.items())
            return cls(axes, False)
        return cls((("", getattr(context, "num_devices", 1), False),), False)

    @property
    def devices(self) -> int:
        """Over how many devices the operation can be split."""
        return math.prod(size for _, size, manual in self.mesh if not manual)

    @property
    def axes(self) -> int:
        """Over how many mesh axes; several are assumed where the mesh is unknown."""
        known = [size for name, size, manual in self.mesh if name and not manual]
        return sum(size > 1 for size in known) if known or self.devices == 1 else 2


def splitter(ctx: Any, place: Place, platform: str) -> str:
    """Who splits an operation: "nobody", "types", "callback" or "XLA"."""
    shapes = [aval.shape for aval in (*ctx.avals_in, *ctx.avals_out)]
    static = all(isinstance(size, int) for shape in shapes for size in shape)
    if place.devices == 1 or (static and any(0 in shape for shape in shapes)):
        return "nobody"
    if static and place.explicit:
        return "types"
    exported = ctx.module_context.lowering_parameters.for_export
    if static and not exported and platform in CALLBACK_PLATFORMS:
        return "callback"
    return "XLA"


def lower(
    ctx: Any,
    operands: Sequence[Any],
    place: Place,
    who: str,
    whole: Callable[..., jax.Array],
    split: Callable[[], Split],
    description: str,
) -> Any:
    """Lower an operation: `whole` where nobody or XLA splits it, else by its `split`.

    `description` distinguishes the operation from others on operands of the same types. XLA's
    program names a callback by an address. So without a description, and without this library's
    version, the persistent compilation cache could take one operation for another.
    """
    (out,) = ctx.avals_out
    implementation: Any = whole
    if who == "XLA" and place.axes > 1 and all(name for name, *_ in place.mesh):
        implementation = functools.partial(_by_xla, split(), whole, ctx.avals_out[0].sharding.mesh)
    elif who == "types":
        shardings = [aval.sharding for aval in (*ctx.avals_in, out)]
        implementation = functools.partial(_by_types, split(), shardings)
    elif who == "callback":
        implementation = functools.partial(_by_callback, split(), place.mesh, description)
        ctx = _with_stand_ins(ctx, place)
    if who != "types" and is_explicit(out.sharding.mesh):
        # What runs pads and reshapes freely, which explicit sharding types would refuse.
        implementation = jax.sharding.auto_axes(implementation, out_sharding=out.sharding)
    return mlir.lower_fun(implementation, multiple_results=False)(ctx, *operands)


# ---- explicit mesh axes: the types say how operands lie ----------------------------------------


def _by_types(split: Split, shardings: Sequence[NamedSharding], *operands: jax.Array) -> jax.Array:
    """The whole result, split over the explicit axes of the mesh."""
    mesh = shardings[-1].mesh
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    explicit = {name for name, kind in kinds if kind == AxisType.Explicit}
    specs = {
        party: _names(sharding.spec, len(shape))
        for (party, shape), sharding in zip(split.shapes.items(), shardings, strict=True)
    }
    plan = split.plan(specs)
    wanted = {party: plan.spec(party, len(shape)) for party, shape in split.shapes.items()}
    sizes = dict(mesh.shape)

    def evenly(operand: jax.Array, party: str) -> jax.Array:
        """`operand` in equal blocks, with zeros behind its end."""
        pads, kept = [], []
        for size, found, names in zip(operand.shape, specs[party], wanted[party], strict=True):
            shards = math.prod(sizes[name] for name in names)
            pads.append((0, block(size, shards) * shards - size, 0))
            kept.append(() if pads[-1][1] else found)
        if any(high for _, high, _ in pads):
            operand = jax.reshard(operand, _sharding(mesh, kept))
            operand = lax.pad(operand, jnp.zeros((), operand.dtype), pads)
        return jax.reshard(operand, _sharding(mesh, wanted[party]))

    parties = list(split.shapes)[:-1]
    y = jax.shard_map(
        functools.partial(split.part, plan, sizes),
        mesh=mesh,
        in_specs=tuple(_spec(wanted[party]) for party in parties),
        out_specs=_spec(wanted["out"]),
        axis_names=explicit,
        check_vma=False,
    )(*map(evenly, operands, parties))
    shape = split.shapes["out"]
    if y.shape != shape:
        sides = zip(wanted["out"], y.shape, shape, strict=True)
        y = jax.reshard(y, _sharding(mesh, [names if a == b else () for names, a, b in sides]))
        y = lax.slice(y, (0,) * y.ndim, shape)
    return jax.reshard(y, shardings[-1])


def _names(spec: Any, ndim: int) -> tuple[Names, ...]:
    entries = [*spec, *(None,) * (ndim - len(spec))]
    return tuple(
        () if entry is None else entry if isinstance(entry, tuple) else (entry,)
        for entry in entries
    )


def _spec(names: Sequence[Names]) -> PartitionSpec:
    return PartitionSpec(*(entry or None for entry in names))


def _sharding(mesh: Any, names: Sequence[Names]) -> NamedSharding:
    return NamedSharding(mesh, _spec(names))


# ---- what XLA splits --------------------------------------------------------------------------


def _by_xla(
    split: Split, whole: Callable[..., jax.Array], mesh: Any, *operands: jax.Array
) -> jax.Array:
    """`whole`, whose spatial axes every device has whole.

    Seen on jaxlib 0.10.2 and 0.12.0: on meshes of several axes XLA's partitioner counts some
    results too often if a spatial axis is sharded (docs/upstream). On meshes of one axis it is
    right.
    """

    def constrained(array: jax.Array, party: str) -> jax.Array:
        spec: list[Any] = [PartitionSpec.UNCONSTRAINED] * array.ndim
        for axis in split.spatial[party]:
            spec[axis] = None
        return lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec(*spec)))

    *parties, out = split.shapes
    return constrained(whole(*map(constrained, operands, parties)), out)


# ---- automatic mesh axes: XLA says how operands lie, when it partitions the program ------------


class _Device:
    """Stands for the device of this number while XLA's shardings are read: no real one is needed,
    and where a program is compiled for devices that are elsewhere there is none."""

    platform = device_kind = "any"
    process_index = 0

    def __init__(self, number: int) -> None:
        self.id = number


def _with_stand_ins(ctx: Any, place: Place) -> Any:
    """`ctx` with devices for `custom_partitioning`: JAX names them only to programs with primitives
    that it knows to need them."""
    context = ctx.module_context.axis_context
    devices = tuple(map(_Device, range(place.devices)))
    if hasattr(context, "device_assignment"):
        context = dataclasses.replace(context, device_assignment=devices, abstract_mesh=None)
    else:
        array = np.array(devices, dtype=object)
        context = dataclasses.replace(context, mesh=Mesh(array, ("_",)), manual_axes=frozenset())
    return ctx.replace(module_context=ctx.module_context.replace(axis_context=context))


def _by_callback(
    split: Split,
    mesh: Sequence[tuple[str, int, bool]],
    description: str,
    *operands: jax.Array,
) -> jax.Array:
    """The whole result; XLA asks, when it partitions the program, what each device is to do.

    One automatic axis of `mesh` may stand for all of them. Where other axes are manual, XLA numbers
    the devices along the automatic ones as it likes, so that nothing can be sent to any of them:
    then only what needs no exchange is split, and XLA gathers the rest.
    """
    shapes = split.shapes
    automatic = [size for _, size, manual in mesh if not manual]
    independent = any(manual and size > 1 for _, size, manual in mesh)
    # Read here: XLA may ask from a thread that knows no context manager.
    x64: bool = jax.config.jax_enable_x64  # type: ignore[attr-defined]

    def planned(shardings: Mapping[str, Any]) -> tuple[AbstractMesh, Plan]:
        """The automatic axes of the mesh, made to axes of prime sizes, and the plan."""
        tables = [_blocks(shardings.get(p), len(shapes[p]), math.prod(automatic)) for p in shapes]
        radices, found = partition.digits_of(tables, automatic)
        names = tuple(f"_{i}" for i in range(len(radices)))
        specs = {
            party: [tuple(names[i] for i in digits) for digits in axes or [()] * len(shapes[party])]
            for party, axes in zip(shapes, found, strict=True)
        }
        return AbstractMesh(radices, names), split.plan(specs, independent)

    def partitioned(_: Any, given: Any, result: Any) -> Any:
        arrays = zip(shapes, (*given, result), strict=True)
        axes, plan = planned({party: array.sharding for party, array in arrays})

        def run(*parts: jax.Array) -> jax.Array:
            # The mesh that the user has set, if any, says nothing about what one device does.
            with jax.enable_x64(x64), jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
                return split.part(plan, dict(axes.shape), *parts)

        *wanted, out = (
            _sharding(axes, plan.spec(party, len(shape))) for party, shape in shapes.items()
        )
        return axes, run, out, tuple(wanted)

    def inferred(_: Any, given: Any, __: Any) -> Any:
        """Only XLA's former partitioner, which knows no rules, asks for this."""
        arrays = zip(shapes, given, strict=False)
        axes, plan = planned({party: array.sharding for party, array in arrays})
        return _sharding(axes, plan.spec("out", len(shapes["out"])))

    call = custom_partitioning(split.whole)
    call.def_partition(
        partitioned,
        infer_sharding_from_operands=inferred,
        sharding_rule=_rule(split),
        decode_shardings=False,
    )
    attributes = {"convjax": f"{__version__} {description}"}
    if split.calls:
        # XLA puts these attributes on all that a part consists of, in place of its own. Calls that
        # may be inlined are inlined by then.
        attributes["inlineable"] = "false"
    with set_xla_metadata(**attributes):
        y: jax.Array = call(*operands)
    return y


def _blocks(sharding: Any, ndim: int, count: int) -> list[list[int]]:
    """For each axis, the number of the block that each of `count` devices holds."""
    if sharding is None:
        return [[0] * count] * ndim
    shape = (count,) * ndim  # a shape that every sharding divides
    part = sharding.shard_shape(shape)
    indices = sharding.devices_indices_map(shape).values()
    return [[(index[axis].start or 0) // part[axis] for index in indices] for axis in range(ndim)]


def _rule(split: Split) -> SdyShardingRule:
    """How shardings spread between operands and result: a label for every factor."""
    labels = {p: [f"{p}{axis}" for axis in range(len(shape))] for p, shape in split.shapes.items()}
    for number, factor in enumerate(split.factors):
        for party, found in labels.items():
            axis = factor.axis(party)
            if axis is not None:
                found[axis] = f"f{number}"
    summed = {f"f{number}" for number, factor in enumerate(split.factors) if factor.is_summed}
    *operands, out = (ArrayMapping(*found) for found in labels.values())
    return SdyShardingRule(
        tuple(operands),
        (out,),
        reduction_factors=tuple(label for label in labels["x"] if label in summed),
    )
