"""Random sharded convolutions, and what is wrong with one: compared with one device, exactly."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import convjax

MESHES = ((8,), (4,), (3,), (4, 2), (2, 4), (2, 2), (3, 2), (2, 2, 2), (1, 4, 2))
MODES = ("automatic", "set", "explicit", "manual over some", "drop-in", "accelerate")
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
NAMES = "abc"


@dataclasses.dataclass(frozen=True)
class Program:
    """One convolution on a mesh, all of it in words and numbers."""

    seed: int
    mode: str
    mesh: tuple[int, ...]
    kind: str
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    options: tuple[tuple[str, Any], ...]
    specs: tuple[tuple[Any, ...], ...]  # of x, of the kernel and of the result
    ask: str


def draw(seed: int, modes: tuple[str, ...] = MODES) -> Program:
    """The program of this seed."""
    rng = np.random.default_rng(seed)

    def one(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    mode = one(*modes)
    mesh = one(*MESHES) if mode != "manual over some" else one((4, 2), (2, 4), (2, 2, 2), (3, 2))
    rank = one(1, 2, 2, 2, 3)
    kinds = ("conv", "conv", "conv_transpose", "grouped", "depthwise", "vmapped")
    kind = one(*kinds) if mode not in ("drop-in", "accelerate") else "lax"
    groups = {"grouped": 4, "depthwise": 8, "lax": one(1, 2)}.get(kind, 1)
    extents = (1, 2, 4, 6, 8, 12) if rank < 3 else (2, 4, 6)
    space = [int(one(*extents)) for _ in range(rank)]
    window = [int(one(1, 2, 3, 3, 4, 5)) for _ in range(rank)]
    n = int(one(1, 2, 4))
    i, o = (8, 8 * one(1, 2)) if kind == "depthwise" else (int(one(4, 8)), int(one(4, 8)))
    mode_words = one("constant", "constant", "constant", "wrap", "edge", "symmetric", "reflect")
    options: dict[str, Any] = {
        "strides": tuple(int(one(1, 1, 2, 3)) for _ in range(rank)),
        "kernel_dilation": tuple(int(one(1, 1, 1, 2)) for _ in range(rank)),
    }
    word = one("SAME", "SAME", "VALID", "CAUSAL", "SAME_LOWER", "FULL", "pairs")
    pairs = tuple((int(one(-1, 0, 1, 2, 3)), int(one(0, 1, 2, 4))) for _ in range(rank))
    if kind == "lax":
        options["padding"] = one("SAME", "VALID", pairs)
        options["input_dilation"] = tuple(int(one(1, 1, 2)) for _ in range(rank))
    else:
        options["padding"] = pairs if word == "pairs" else word
        if kind != "conv_transpose" and rng.random() < 0.2:
            options["input_dilation"] = tuple(int(one(1, 2, 3)) for _ in range(rank))
        elif mode_words != "constant" and word != "FULL":
            options["padding_mode"] = mode_words
    if groups > 1:
        options["feature_group_count"] = groups
    x = (n, *space, i)
    kernel = (*window, i // groups, o)
    if kind == "conv_transpose":
        kernel = (*window, o, i)
    if kind == "vmapped":
        x = (int(one(2, 4)), *x)

    def spec(ndim: int) -> tuple[Any, ...]:
        entries: list[tuple[str, ...]] = [()] * ndim
        for name in NAMES[: len(mesh)]:
            if rng.random() < 0.75:
                axis = int(rng.integers(ndim))
                entries[axis] = (*entries[axis], name)
        return tuple(entries)

    specs = (spec(len(x)), spec(len(kernel)), spec(len(x)) if rng.random() < 0.4 else ())
    ask = one("forward", "x", "kernel", "both", "both", "both", "second", "jvp")
    return Program(seed, mode, mesh, kind, x, kernel, tuple(options.items()), specs, ask)


def function_of(program: Program) -> Callable[..., jax.Array]:
    """The convolution, of x and kernel."""
    options = dict(program.options)

    def conv(x: Any, kernel: Any) -> jax.Array:
        if program.kind == "conv_transpose":
            return convjax.conv_transpose(x, kernel, **options)
        return convjax.conv(x, kernel, **options)

    def lax_conv(x: Any, kernel: Any) -> jax.Array:
        rank = x.ndim - 2
        numbers = ("N" + "DHW"[3 - rank :] + "C", "DHW"[3 - rank :] + "IO",
                   "N" + "DHW"[3 - rank :] + "C")  # fmt: skip
        call = (
            convjax.conv_general_dilated
            if program.mode == "drop-in"
            else (lax.conv_general_dilated)
        )
        return call(
            x, kernel, options["strides"], options["padding"],
            lhs_dilation=options["input_dilation"], rhs_dilation=options["kernel_dilation"],
            feature_group_count=options.get("feature_group_count", 1), dimension_numbers=numbers,
        )  # fmt: skip

    if program.kind == "lax":
        return convjax.accelerate(lax_conv) if program.mode == "accelerate" else lax_conv
    return jax.vmap(conv, (0, None)) if program.kind == "vmapped" else conv


def asked(program: Program, function: Callable[..., Any]) -> Callable[..., Any]:
    """What is asked of `function`: its value or derivatives, on integers all of them exact."""

    def loss(x: Any, kernel: Any) -> Any:
        y = function(x, kernel)
        weights = np.random.default_rng(9).integers(-2, 3, y.shape).astype(np.float32)
        return (y * weights).sum()

    def square(x: Any, kernel: Any) -> Any:
        return sum((g * g).sum() for g in jax.grad(loss, (0, 1))(x, kernel))

    if program.ask == "forward":
        return function
    if program.ask == "second":
        return jax.grad(square, (0, 1))
    if program.ask == "jvp":
        return lambda x, k: jax.jvp(function, (x, k), (2 * x, k - 1))[1]
    return jax.grad(loss, {"x": 0, "kernel": 1, "both": (0, 1)}[program.ask])


def wrong(program: Program) -> str | None:
    """What is wrong with the sharded program: None, or a sentence."""
    rng = np.random.default_rng(program.seed)
    batch = program.mesh[0] if program.mode == "manual over some" else 1
    x = rng.integers(-2, 3, (batch * program.x[0], *program.x[1:])).astype(np.float32)
    kernel = rng.integers(-2, 3, program.kernel).astype(np.float32)
    function = function_of(program)
    try:
        shape = jax.eval_shape(function, x, kernel).shape
    except ValueError:
        return "refused"
    if 0 in shape:
        return "refused"
    wanted = jax.jit(asked(program, function), compiler_options=QUICK)(x, kernel)
    explicit = program.mode == "explicit" or (program.mode == "manual over some" and
                                              program.seed % 2 == 1)  # fmt: skip
    kind = AxisType.Explicit if explicit else AxisType.Auto
    size = math.prod(program.mesh)
    mesh = jax.make_mesh(
        program.mesh, tuple(NAMES[: len(program.mesh)]), axis_types=(kind,) * len(program.mesh),
        devices=jax.devices("cpu")[:size],
    )  # fmt: skip

    def entries(shape: tuple[int, ...], spec: tuple[Any, ...], evenly: bool) -> PartitionSpec:
        found = []
        for extent, names in zip(shape, (*spec, *((),) * len(shape)), strict=False):
            while evenly and names and extent % math.prod(mesh.shape[n] for n in names):
                names = names[:-1]
            found.append(names or None)
        return PartitionSpec(*found)

    x_spec, k_spec, out_spec = program.specs
    even = explicit or program.seed % 3 > 0
    specs = [entries(a.shape, s, even) for a, s in ((x, x_spec), (kernel, k_spec))]
    held = [NamedSharding(mesh, s) for s in specs]

    if program.mode == "manual over some":
        manual = _partly_manual(program, function, mesh)
        rest = [tuple(n for n in names or () if n != "a") or None for names in specs[0][1:]]
        held = [PartitionSpec("a", *(rest if explicit else ())), PartitionSpec()]
        with jax.set_mesh(mesh):
            operands = [
                jax.device_put(a, NamedSharding(mesh, s))
                for a, s in zip((x, kernel), held, strict=True)
            ]
            found = jax.jit(asked(program, manual), compiler_options=QUICK)(*operands)
    elif program.mode == "explicit":
        options = dict(program.options)
        out = entries(shape, out_spec or x_spec, True)

        def typed(x: Any, kernel: Any) -> Any:
            call = convjax.conv_transpose if program.kind == "conv_transpose" else convjax.conv
            if program.kind == "vmapped":
                return jax.vmap(lambda x: call(x, kernel, **options))(x)
            return call(x, kernel, out_sharding=out, **options)

        with jax.set_mesh(mesh):
            if program.kind == "vmapped":
                held = [NamedSharding(mesh, PartitionSpec(s[0])) for s in specs]
                held[1] = NamedSharding(mesh, PartitionSpec())
            operands = [jax.device_put(a, s) for a, s in zip((x, kernel), held, strict=True)]
            found = jax.jit(asked(program, typed), compiler_options=QUICK)(*operands)
    else:

        def constrained(x: Any, kernel: Any) -> Any:
            y = function(x, kernel)
            if out_spec and y.ndim == len(out_spec):
                y = lax.with_sharding_constraint(
                    y, NamedSharding(mesh, entries(y.shape, out_spec, True))
                )
            return y

        def whole(x: Any, kernel: Any) -> Any:
            if not even:
                x, kernel = (
                    lax.with_sharding_constraint(a, s)
                    for a, s in zip((x, kernel), held, strict=True)
                )
            return asked(program, constrained)(x, kernel)

        run = jax.jit(whole, compiler_options=QUICK)
        operands = (
            [jax.device_put(a, s) for a, s in zip((x, kernel), held, strict=True)]
            if even else [x, kernel]
        )  # fmt: skip
        if program.mode == "set":
            with jax.set_mesh(mesh):
                found = run(*operands)
        else:
            found = run(*operands)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    for index, (ours, right) in enumerate(pairs):
        ours, right = np.asarray(ours), np.asarray(right)
        if ours.shape != right.shape or not np.array_equal(ours, right):
            return f"result {index} differs by {abs(ours - right).max():g}"
    return None


def _partly_manual(program: Program, function: Any, mesh: Any) -> Any:
    """`function` under a ``shard_map`` that is manual over the first mesh axis: over the batch."""

    def local(x: Any, kernel: Any) -> Any:
        spec = [
            tuple(n for n in names if n != "a" and size % mesh.shape[n] == 0)[:1] or None
            for size, names in zip(x.shape, program.specs[0], strict=True)
        ]
        if AxisType.Explicit not in mesh.axis_types:
            x = lax.with_sharding_constraint(x, PartitionSpec(*spec))
        return function(x, kernel)

    specs = (PartitionSpec("a"), PartitionSpec())
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=specs[0], axis_names={"a"})
