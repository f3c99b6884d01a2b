"""Training steps of whole networks, compiled for one device and for many: what moves between them.

The work of one device is the same for every number of devices (weak scaling). So what grows with
the number is what the devices exchange. Gradients are summed over all devices that hold the same
parameters. A volume that is split by depth sends slices to its neighbours. A residual block whose
filter groups are split sums its result, and its input's gradient. All have formulas:

    gradients   4 bytes for every parameter that a device holds
    slices      (k - 1) slices for every convolution k deep: of its input, again of its input for
                the kernel's gradient, and of its result's gradient for the input's gradient
    sums        4 bytes for every number of a block's result, and of its input
"""

import csv
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from compiled import reading, table, targets

FILE = table.ROOT / "benchmarks" / "results" / "scale" / "devices.csv"
COLUMNS = (
    *("target", "devices", "network", "split", "batch", "parameters", "collectives"),
    *("collective_bytes", "formula_gradients", "formula_slices", "formula_sums", "arguments"),
    *("temporaries", "compile_seconds", "jax", "compiler"),
)


class Case(NamedTuple):
    """A network, how its examples are split, and the extents of one device's part."""

    network: str
    split: str  # "data", or with "depth" or "groups": 8 devices share a volume, or a layer
    part: tuple[int, ...]  # (N, *space, C) of one device


CASES = (
    Case("UNet3D", "data", (1, 32, 32, 32, 1)),
    Case("UNet3D", "data and depth", (1, 32, 32, 32, 1)),
    Case("ResNeXt", "data", (4, 64, 64, 3)),
    Case("ResNeXt", "data and groups", (4, 64, 64, 3)),
)
_SHARED = 8  # devices that share a volume, or a layer


def network(case: Case) -> Any:
    """The module, small: what moves does not depend on how much is computed."""
    from flax import nnx

    from convjax import models

    if case.network == "UNet3D":
        return models.UNet3D(in_features=1, features=8, levels=2, rngs=nnx.Rngs(0))
    return models.ResNeXt(depths=(1, 1, 1, 1), classes=10, rngs=nnx.Rngs(0))


def step_of(case: Case) -> tuple[Any, Any, Any]:
    """A step ``(params, rest, x) -> (params, rest, loss)`` and its first two operands' shapes."""
    import jax
    from flax import nnx

    def parts() -> Any:
        return nnx.split(network(case), nnx.Param, ...)

    definition, params, rest = nnx.eval_shape(parts)

    def loss(params: Any, rest: Any, x: Any) -> Any:
        module = nnx.merge(definition, params, rest, copy=True)
        scores = module(x)
        return (scores * scores).mean(), nnx.state(module, nnx.Not(nnx.Param))

    def step(params: Any, rest: Any, x: Any) -> Any:
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params, rest, x)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)
        return params, rest, value

    return step, params, rest


def whole(case: Case, devices: int) -> tuple[tuple[int, ...], tuple[int, int]]:
    """The extents of all examples, and the mesh: over examples, and over depth or groups."""
    shared = min(_SHARED, devices) if case.split != "data" else 1
    n, first, *others = case.part
    if case.split == "data and depth":
        return (n * devices // shared, first * shared, *others), (devices // shared, shared)
    return (n * devices, first, *others), (devices // shared, shared)


def placed(case: Case, mesh: Any, operands: Any) -> Any:
    """The operands' shapes with their shardings: on a mesh ("data", "shared").

    Filter groups are split as a multilayer perceptron is: the 1x1 convolution before the groups by
    its outputs, the one after them by its inputs.
    """
    import jax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    def spec(path: Any, leaf: Any) -> P:
        names = jax.tree_util.keystr(path)
        if case.split == "data and groups" and ("reduce" in names or "spatial" in names):
            return P(*(None,) * (leaf.ndim - 1), "shared")
        if case.split == "data and groups" and "['expand']['conv']" in names:
            return P(*(None,) * (leaf.ndim - 2), "shared", None)
        return P()

    def held(leaf: Any, where: P) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, where))

    params, rest, x = operands
    params, rest = jax.tree_util.tree_map_with_path(
        lambda path, leaf: held(leaf, spec(path, leaf)), (params, rest)
    )
    return params, rest, held(x, P("data", "shared" if case.split == "data and depth" else None))


def parameters(placed: Any) -> int:
    """How many of them one device holds."""
    import jax

    leaves = jax.tree.leaves(placed)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)


def slices(step: Any, operands: Any, mesh: tuple[int, int]) -> int:
    """Bytes of the slices that one device receives in a step, by the formula."""
    total = 0
    for equation in _convolutions(step, operands):
        if equation.params["role"] == "kernel_gradient":
            continue
        geometry, layout = equation.params["geometry"], equation.params["layout"]
        x, kernel = (variable.aval for variable in equation.invars)
        window = kernel.shape[layout.kernel.space[0]]
        if geometry.strides[0] != 1 or geometry.input_dilation[0] != 1 or window == 1:
            continue
        slice_of_x = x.size * x.dtype.itemsize // x.shape[layout.x.space[0]] // mesh[0]
        again = 2 if equation.params["role"] == "forward" else 1
        total += again * (window - 1) * slice_of_x
    return total


def sums(step: Any, operands: Any, mesh: tuple[int, int]) -> int:
    """Bytes that one device hands to the sums of blocks whose groups are split, by the formula."""
    forward = [
        equation
        for equation in _convolutions(step, operands)
        if equation.params["role"] == "forward"
    ]
    total = 0
    for before, grouped, after in zip(forward, forward[1:], forward[2:], strict=False):
        if grouped.params["layout"].x.group:
            arrays = (before.invars[0].aval, after.outvars[0].aval)
            total += sum(array.size * array.dtype.itemsize for array in arrays) // mesh[0]
    return total


def _convolutions(step: Any, operands: Any) -> list[Any]:
    import jax

    closed = jax.make_jaxpr(step)(*operands)
    found = _equations(closed.jaxpr)
    return [equation for equation in found if equation.primitive.name == "convjax_conv"]


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Those of a program and of the programs in it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


def measured(case: Case, name: str) -> dict[str, Any]:
    """Compile the step for a target, and read it."""
    import jax
    import numpy as np
    from jax.sharding import AxisType, Mesh

    import convjax

    target = targets.TARGETS[name]
    shape, extents = whole(case, target.devices)
    step, params, rest = step_of(case)
    # XLA for TPU gathers volumes that are split over automatic axes: see docs/sharding.md.
    by_depth = extents[1] > 1 and case.split == "data and depth"
    kind = AxisType.Explicit if by_depth and target.platform == "tpu" else AxisType.Auto
    mesh = Mesh(
        np.array(targets.devices(target)).reshape(extents),
        ("data", "shared"),
        axis_types=(kind,) * 2,
    )
    operands = placed(case, mesh, (params, rest, jax.ShapeDtypeStruct(shape, np.float32)))
    start = time.monotonic()
    with jax.set_mesh(mesh):
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*operands)
        options: Any = convjax.compiler_options(target.platform)
        compiled = lowered.compile(options or None)
    seconds = time.monotonic() - start
    found, moved = reading.read(compiled), reading.collective_bytes(compiled.as_text() or "")
    memory: Any = compiled.memory_analysis()
    with jax.set_mesh(mesh):
        slices_of_volumes = slices(step, operands, extents) if by_depth else 0
        sums_of_blocks = sums(step, operands, extents) if case.split == "data and groups" else 0
    of_one = parameters(operands[0])
    return {
        "target": name,
        "devices": target.devices,
        "network": case.network,
        "split": case.split if target.devices > 1 else "one device",
        "batch": "x".join(map(str, shape)),
        "parameters": of_one,
        "collectives": found.collectives,
        "collective_bytes": moved,
        "formula_gradients": 4 * of_one if extents[0] > 1 or by_depth else 0,
        "formula_slices": slices_of_volumes,
        "formula_sums": sums_of_blocks,
        "arguments": int(memory.argument_size_in_bytes),
        "temporaries": int(memory.temp_size_in_bytes),
        "compile_seconds": round(seconds, 1),
        "jax": jax.__version__,
        "compiler": table._compiler(target.platform),
    }


def run(names: list[str], words: list[str]) -> None:
    """Compile the cases for the targets, and replace their lines in the file."""
    kept = {_key(line): line for line in table.read(FILE)}
    for name in names:
        for case in CASES:
            if not any(word in f"{case.network}, {case.split}" for word in words):
                continue
            if case.split != "data" and targets.TARGETS[name].devices == 1:
                continue
            try:
                line = measured(case, name)
            except Exception as error:  # one program less, and the others are kept
                print(f"{name} {case.network} {case.split}: {error!r:.400}", flush=True)
                continue
            print(line, flush=True)
            kept[_key(line)] = line
            _write(list(kept.values()))


def _key(line: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(line[column]) for column in ("target", "network", "split"))


def _write(lines: list[Any]) -> None:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    order = list(targets.TARGETS)
    lines = sorted(
        lines, key=lambda line: (line["network"], order.index(line["target"]), line["split"])
    )
    with FILE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
