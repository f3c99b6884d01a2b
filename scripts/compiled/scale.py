"""Training steps of whole networks, compiled for one device and for many: what moves between them.

The work of one device is the same for every number of devices (weak scaling). So what grows with
the number is what the devices exchange. Gradients are summed over all devices. A volume that is
split by depth sends slices to its neighbours. Both have formulas:

    gradients   4 bytes for every parameter
    slices      (k - 1) slices for every convolution k deep: of its input, again of its input for
                the kernel's gradient, and of its result's gradient for the input's gradient
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
    *("collective_bytes", "formula_gradients", "formula_slices", "arguments", "temporaries"),
    *("compile_seconds", "jax", "compiler"),
)


class Case(NamedTuple):
    """A network, how its examples are split, and the extents of one device's part."""

    network: str
    split: str  # "data", or "data and depth": 8 devices share a volume
    part: tuple[int, ...]  # (N, *space, C) of one device


CASES = (
    Case("UNet3D", "data", (1, 32, 32, 32, 1)),
    Case("UNet3D", "data and depth", (1, 32, 32, 32, 1)),
    Case("ResNeXt", "data", (4, 64, 64, 3)),
)
_DEPTH = 8  # devices that share a volume


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
    """The extents of all examples, and the mesh (data, depth)."""
    depth = min(_DEPTH, devices) if case.split == "data and depth" else 1
    n, first, *others = case.part
    return (n * devices // depth, first * depth, *others), (devices // depth, depth)


def slices(step: Any, operands: Any, mesh: tuple[int, int]) -> int:
    """Bytes of the slices that one device receives in a step, by the formula."""
    import jax

    if mesh[1] == 1:
        return 0
    total = 0
    closed = jax.make_jaxpr(step)(*operands)
    for equation in _equations(closed.jaxpr):
        if (
            equation.primitive.name != "convjax_conv"
            or equation.params["role"] == "kernel_gradient"
        ):
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
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

    import convjax

    target = targets.TARGETS[name]
    shape, extents = whole(case, target.devices)
    step, params, rest = step_of(case)
    # XLA for TPU gathers volumes that are split over automatic axes: see docs/sharding.md.
    kind = AxisType.Explicit if extents[1] > 1 and target.platform == "tpu" else AxisType.Auto
    mesh = Mesh(
        np.array(targets.devices(target)).reshape(extents),
        ("data", "depth"),
        axis_types=(kind,) * 2,
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data", "depth" if extents[1] > 1 else None))

    def placed(tree: Any, sharding: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    operands = (
        placed(params, everywhere),
        placed(rest, everywhere),
        jax.ShapeDtypeStruct(shape, np.float32, sharding=split),
    )
    start = time.monotonic()
    with jax.set_mesh(mesh):
        formula = slices(step, operands, extents)
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*operands)
        options: Any = convjax.compiler_options(target.platform)
        compiled = lowered.compile(options or None)
    seconds = time.monotonic() - start
    found, moved = reading.read(compiled), reading.collective_bytes(compiled.as_text() or "")
    memory: Any = compiled.memory_analysis()
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    return {
        "target": name,
        "devices": target.devices,
        "network": case.network,
        "split": case.split if target.devices > 1 else "one device",
        "batch": "x".join(map(str, shape)),
        "parameters": parameters,
        "collectives": found.collectives,
        "collective_bytes": moved,
        "formula_gradients": 4 * parameters if target.devices > 1 else 0,
        "formula_slices": formula,
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
            if case.split == "data and depth" and targets.TARGETS[name].devices == 1:
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
