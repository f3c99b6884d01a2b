"""One contender made ready for one cell: operands in its layout, its program compiled."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from benchmarks.harness.ops import TORCH_PEERS, LaxOps, ops_of
from benchmarks.harness.rows import LOSS_SCALE, Operand, Row, Spec

CELLS = ("forward", "training")
ROLES = ("forward", "input_gradient", "kernel_gradient", "lax")


@dataclasses.dataclass
class Contender:
    """`call` runs the cell once and returns its results, `wait` blocks until they are there.

    `read` makes them channels-last numpy arrays. `compile_s`, `temp_bytes` and `text` are what the
    compiler took, asked for and wrote; None and "" where there is none.
    """

    name: str
    call: Callable[[], Any]
    wait: Callable[[Any], Any]
    read: Callable[[Any], list[np.ndarray]]
    uses_same: bool = False
    compile_s: float | None = None
    temp_bytes: int | None = None
    text: str = ""


def program_of(row: Row, wants_same: bool) -> Any:
    return row.same_program if wants_same and row.same_program is not None else row.program


def jax_function(ops: Any, row: Row, cell: str) -> Callable[..., Any]:
    """The cell as a function of the row's operands; training is sum(y**2) and its gradients.

    The squares of 16-bit results are summed in float32, and scaled (`LOSS_SCALE`).
    """
    program = program_of(row, ops.wants_same)

    def forward(*operands: Any) -> Any:
        return program(ops, *operands)

    if cell == "forward":
        return forward

    def loss(*operands: Any) -> Any:
        y = forward(*operands)
        scale = LOSS_SCALE.get(str(y.dtype))
        if scale is None:
            return jnp.sum(y**2)
        return scale * jnp.sum(y.astype(jnp.float32) ** 2)

    return jax.value_and_grad(loss, argnums=row.gradients)


def _reader(ops: Any, row: Row, cell: str) -> Callable[[Any], list[np.ndarray]]:
    def read(results: Any) -> list[np.ndarray]:
        results = jax.tree.leaves(results)
        if cell == "forward":
            out = Operand((), "x", lead=row.out_lead)
            return [ops.read(y, out) for y in results]
        value, *gradients = results
        value = value.float().cpu() if hasattr(value, "cpu") else value
        read_back = [
            ops.read(gradient, row.operands[index])
            for gradient, index in zip(gradients, row.gradients, strict=True)
        ]
        return [np.asarray(value, np.float32), *read_back]

    return read


def _temp_bytes(compiled: Any) -> int | None:
    try:
        return int(compiled.memory_analysis().temp_size_in_bytes)
    except (AttributeError, NotImplementedError, jax.errors.JaxRuntimeError):
        return None


def prepare(
    peer: str,
    row: Row,
    cell: str,
    arrays: Sequence[np.ndarray],
    dtype: str,
    compiler_options: dict[str, Any] | None = None,
) -> Contender:
    """The contender `peer`, compiled. Raises `LeftOut` where it cannot run the row."""
    if peer in TORCH_PEERS:
        return _prepare_torch(peer, row, cell, arrays, dtype)
    ops = ops_of(peer, row.layout)
    return prepare_jax(ops, row, cell, arrays, dtype, compiler_options)


def prepare_jax(
    ops: Any,
    row: Row,
    cell: str,
    arrays: Sequence[np.ndarray],
    dtype: str,
    compiler_options: dict[str, Any] | None = None,
) -> Contender:
    operands = [ops.place(a, o, dtype) for a, o in zip(arrays, row.operands, strict=True)]
    # A function of its own each time, so that no cache of jax's has it.
    jitted = jax.jit(jax_function(ops, row, cell), compiler_options=compiler_options or None)
    start = time.perf_counter()
    with convjax.compiled_with(compiler_options or {}):  # as `convjax.jit` declares them
        compiled = jitted.lower(*operands).compile()
    seconds = time.perf_counter() - start
    return Contender(
        ops.name,
        lambda: compiled(*operands),
        jax.block_until_ready,
        _reader(ops, row, cell),
        ops.wants_same and row.same_program is not None,
        seconds,
        _temp_bytes(compiled),
        compiled.as_text() or "",
    )


def _prepare_torch(
    peer: str, row: Row, cell: str, arrays: Sequence[np.ndarray], dtype: str
) -> Contender:
    from benchmarks.harness import torch_ops

    ops = torch_ops.TorchOps(peer)
    operands = [ops.place(a, o, dtype) for a, o in zip(arrays, row.operands, strict=True)]

    def call() -> Any:
        if cell == "forward":
            return torch_ops.forward(ops, row.program, operands)
        return torch_ops.training(ops, row.program, operands, row.gradients)

    return Contender(peer, call, lambda _: ops.wait(), _reader(ops, row, cell))


def same_reference(
    row: Row,
    cell: str,
    arrays: Sequence[np.ndarray],
    dtype: str,
    compiler_options: dict[str, Any] | None = None,
) -> list[np.ndarray]:
    """lax's results under SAME padding, for contenders that have no other."""
    other = dataclasses.replace(row, program=program_of(row, True), same_program=None)
    lax = prepare_jax(LaxOps(row.layout), other, cell, arrays, dtype, compiler_options)
    return lax.read(lax.call())


# ---- what the compiler and convjax say -----------------------------------------------------------


def lowerings(
    row: Row, cell: str, dtype: str, compiler_options: dict[str, Any] | None = None
) -> str:
    """`explain`'s lowerings of convjax, roles joined by "/", several of one role by "+"."""
    ops = ops_of("convjax", row.layout)
    shapes = [
        jax.ShapeDtypeStruct(ops.place(np.zeros(o.shape, np.float32), o, dtype).shape, dtype)
        for o in row.operands
    ]
    found: dict[str, dict[str, None]] = {}
    with convjax.compiled_with(compiler_options or {}):
        explained = convjax.explain(jax_function(ops, row, cell), *shapes)
    for line in explained.rows:
        found.setdefault(line.role, {})[line.lowering] = None
    return "/".join("+".join(found[role]) for role in ROLES if role in found)


def all_direct(names: str) -> bool:
    return set(names.replace("+", "/").split("/")) == {"direct"}


def warm_up() -> None:
    """Compile and run something, so that the first cell does not pay for waking XLA."""
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    spec = Spec(((1, 1), (1, 1)))
    for peer in ("lax", "convjax"):
        loss = functools.partial(_loss, ops_of(peer, "last"), spec, x)
        step = jax.jit(jax.value_and_grad(loss))
        jax.block_until_ready(step.lower(kernel).compile()(kernel))


def _loss(ops: Any, spec: Spec, x: Any, kernel: Any) -> Any:
    return jnp.sum(ops.conv(x, kernel, spec) ** 2)
