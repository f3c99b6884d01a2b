"""Mesh axes in types: over which axes results are sharded (explicit), or vary (manual)."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from convjax._core.layout import Axes, Layout


def is_explicit(mesh: Any) -> bool:
    return not mesh.empty and AxisType.Explicit in mesh.axis_types


def mesh_size(mesh: Any, entry: Any) -> int:
    names = entry if isinstance(entry, tuple) else (entry,)
    return math.prod(mesh.shape[name] for name in names if name is not None)


def out_spec(
    mesh: Any, x: Any, kernel: Any, layout: Layout, shape: tuple[Any, ...]
) -> PartitionSpec:
    """Sharding of the result where it follows from the operands': N and space from x, O from the
    kernel, G from either. A sharded contraction or window has more than one answer."""

    def entries(aval: Any, axes: Axes, role: str) -> list[Any]:
        spec = aval.sharding.spec
        return [spec[axis] for axis in getattr(axes, role)]

    undecided = (
        entries(x, layout.x, "contract")
        + entries(kernel, layout.kernel, "contract")
        + entries(kernel, layout.kernel, "space")
    )
    if any(entry is not None for entry in undecided):
        raise TypeError(
            "convolution: `out_sharding` must be given where the channels that are summed over, or "
            "the kernel's extents, are sharded "
            f"(x: {x.str_short()}, kernel: {kernel.str_short()})."
        )
    spec: list[Any] = [None] * len(shape)
    sources = (
        (layout.out.batch, entries(x, layout.x, "batch")),
        (layout.out.space, entries(x, layout.x, "space")),
        (layout.out.group, entries(kernel, layout.kernel, "group")),
        (layout.out.group, entries(x, layout.x, "group")),
        (layout.out.out, entries(kernel, layout.kernel, "out")),
    )
    used: set[Any] = set()
    for axes, values in sources:
        for axis, entry in zip(axes, values, strict=True):
            names = set(entry) if isinstance(entry, tuple) else {entry} - {None}
            if entry is None or spec[axis] == entry:
                continue
            if spec[axis] is not None or used & names:
                raise TypeError(
                    "convolution: `out_sharding` must be given: the operands' shardings do not "
                    f"combine into one (x: {x.str_short()}, kernel: {kernel.str_short()})."
                )
            if shape[axis] % mesh_size(mesh, entry) != 0:
                raise TypeError(
                    f"convolution: `out_sharding` must be given: the result's extent {shape[axis]} "
                    f"is not divisible by the mesh axes {entry!r} that shard it in the operand."
                )
            spec[axis] = entry
            used |= names
    return PartitionSpec(*spec)


def divisible(sharding: Any, axes: Any, sizes: Any) -> Any:
    """`sharding`, without the mesh axes that do not divide the `sizes` of these array axes."""
    if sharding is None:
        return None
    spec = list(sharding.spec)
    for axis, size in zip(axes, sizes, strict=True):
        if spec[axis] is not None and size % mesh_size(sharding.mesh, spec[axis]) != 0:
            spec[axis] = None
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))


def as_operand(x: Any, kernel: Any, layout: Layout, out_space: Sequence[Any]) -> Any:
    """The result of a convolution with a boundary mode sharded as x is, under explicit mesh axes.

    The extended input has extents that the mesh may not divide, so that its type says less. None
    where the types do not say how the result lies: channels that are summed, or the kernel, are
    sharded. No axis of `layout` is a group.
    """
    held, others = jax.typeof(x).sharding, jax.typeof(kernel).sharding
    if not is_explicit(held.mesh) or held.spec[layout.x.contract[0]] is not None:
        return None
    if is_explicit(others.mesh) and any(entry is not None for entry in others.spec):
        return None
    spec: list[Any] = [None] * x.ndim
    spec[layout.out.batch[0]] = held.spec[layout.x.batch[0]]
    for axis, source in zip(layout.out.space, layout.x.space, strict=True):
        spec[axis] = held.spec[source]
    return divisible(NamedSharding(held.mesh, PartitionSpec(*spec)), layout.out.space, out_space)


def named_sharding(function: str, sharding: Any, ndim: int) -> Any:
    """`out_sharding` as a NamedSharding of `ndim` entries over the abstract mesh, or None."""
    if sharding is None:
        return None
    if isinstance(sharding, NamedSharding):
        mesh = getattr(sharding.mesh, "abstract_mesh", sharding.mesh)
        spec = sharding.spec
    elif isinstance(sharding, PartitionSpec):
        mesh, spec = jax.sharding.get_abstract_mesh(), sharding
        if mesh.empty:
            raise ValueError(
                f"{function}: `out_sharding` (={sharding}) needs a mesh. Call inside "
                "`jax.set_mesh(mesh)`, or give a NamedSharding."
            )
    else:
        raise TypeError(
            f"{function}: `out_sharding` must be a NamedSharding, a PartitionSpec or None, not "
            f"{type(sharding).__name__}."
        )
    spec, beyond = spec[:ndim], spec[ndim:]
    if any(entry is not None for entry in beyond):
        raise ValueError(
            f"{function}: `out_sharding` (={sharding}) must have at most one entry per axis of the "
            f"result ({ndim})."
        )
    return NamedSharding(mesh, PartitionSpec(*spec, *(None,) * (ndim - len(spec))))


def same_varying(*operands: jax.Array) -> list[jax.Array]:
    """The operands, all varying over the same manual mesh axes, as ``shard_map`` wants them."""
    union = frozenset().union(*map(varying, operands))
    return [
        lax.pcast(x, tuple(sorted(union - varying(x), key=str)), to="varying")
        if union - varying(x)
        else x
        for x in operands
    ]


def varying(x: Any) -> frozenset[Any]:
    """The manual mesh axes over which `x` varies, by its type."""
    return frozenset(jax.typeof(x).manual_axis_type.varying)
