"""How many multiply-accumulates does a program make? `cost_of` counts them in its jaxpr."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from jax import lax

from convjax._operation.counting import count_macs
from convjax._programs.equations import check_callable, posed_by, shapes_of
from convjax._programs.table import show_shapes, table
from convjax._programs.walk import trace, walk


@dataclasses.dataclass(frozen=True)
class CostRow:
    """One call site: its operation, its operands' and result's shapes, how often it runs, its MACs.

    `exact` is False inside a ``while``, of which one iteration is counted.
    """

    name: str
    where: str
    shapes: tuple[tuple[int, ...], ...]
    count: int
    exact: bool
    macs_per_call: int
    useful_macs_per_call: int

    @property
    def macs(self) -> int:
        return self.count * self.macs_per_call

    @property
    def useful_macs(self) -> int:
        return self.count * self.useful_macs_per_call


@dataclasses.dataclass(frozen=True)
class CostTable:
    """What `cost_of` returns: `.macs`, `.useful_macs`, `.rows`; printed, a table."""

    rows: tuple[CostRow, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def useful_macs(self) -> int:
        return sum(row.useful_macs for row in self.rows)

    @property
    def exact(self) -> bool:
        """Whether every number of executions is known."""
        return all(row.exact for row in self.rows)

    def __str__(self) -> str:
        header = ("operation", "shapes", "count", "MACs each", "MACs", "useful MACs", "where")
        body: list[Sequence[Any]] = [
            (
                row.name,
                show_shapes(row.shapes),
                f"{row.count:,}" if row.exact else f"{row.count:,}*",
                row.macs_per_call,
                row.macs,
                row.useful_macs,
                row.where,
            )
            for row in self.rows
        ]
        body.append(("total", "", "", "", self.macs, self.useful_macs, ""))
        lines = table(header, body, right="count|MACs each|MACs|useful MACs")
        if not self.exact:
            lines.append("* in a `while` of unknown length: one iteration is counted")
        if self.uncounted:
            lines.append(f"not counted: {', '.join(self.uncounted)}")
        return "\n".join(lines)


# Primitives that multiply and add inside, and that nothing here counts.
_UNCOUNTED = frozenset(
    "ragged_dot_general fft cholesky lu qr svd eig eigh triangular_solve householder_product "
    "tridiagonal_solve ffi_call pure_callback io_callback".split()
)


def _count(eqn: Any) -> tuple[str, int, int] | None:
    """Name, MACs and useful MACs of one execution of `eqn`, if it is counted."""
    if eqn.primitive is lax.dot_general_p:
        (contracted, _), (batch, _) = eqn.params["dimension_numbers"]
        x, y, out = shapes_of(eqn)
        macs = math.prod(out) * math.prod(x[axis] for axis in contracted)
        return "dot_general", macs, macs
    problem = posed_by(eqn)
    if problem is None:
        return None
    macs, useful = count_macs(
        problem.n * problem.groups * problem.i * problem.o,
        problem.space,
        problem.window,
        problem.out_space,
        problem.geometry,
    )
    name = f"conv {problem.role}" if problem.role else "lax.conv_general_dilated"
    return name, macs, useful


def _macs(jaxpr: Any) -> int:
    counted = ((site, _count(site.eqn)) for site in walk(jaxpr, _largest))
    return sum(site.times * found[1] for site, found in counted if found)


def _largest(branches: Sequence[Any]) -> Sequence[int]:
    return [max(range(len(branches)), key=lambda index: _macs(branches[index]))]


def cost_of(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> CostTable:
    """Multiply-accumulates of ``fn(*args, **kwargs)``, exactly, from its jaxpr; nothing is run.

    It counts this library's convolution, lax's own, and ``dot_general``, wherever they are.
    ``scan`` multiplies by its length. ``shard_map`` multiplies by the devices of its manual axes,
    since each of them does replicated work. ``cond`` counts its largest branch. A ``while`` counts
    one iteration, and the row is marked. Everything in the jaxpr counts, also a result that jit
    would drop because nothing uses it.

    Args:
        fn: a function of arrays, such as a model's forward pass or the gradient of a loss.
        args, kwargs: its arguments. Arrays may be ``jax.ShapeDtypeStruct``; the rest is static.

    Returns:
        A `CostTable`. ``.macs`` counts (output, tap) pairs on real input elements and on padding,
        never on the zeros that input dilation inserts, in the input or in its padding;
        ``.useful_macs`` only those on real input elements, so that it is equal for a convolution
        and both its gradients. ``.rows`` has one `CostRow` per call site.

    Example:
        >>> import jax, jax.numpy as jnp, convjax
        >>> x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
        >>> kernel = jax.ShapeDtypeStruct((3, 3, 3, 16), jnp.float32)
        >>> print(convjax.cost_of(convjax.conv, x, kernel, padding="VALID"))
        operation     shapes                         count  MACs each    MACs  useful MACs  where
        ------------  -----------------------------  -----  ---------  ------  -----------  -----
        conv forward  1x8x8x3, 3x3x3x16 -> 1x6x6x16      1     15,552  15,552       15,552
        total                                                          15,552       15,552
    """
    check_callable("cost_of", fn)
    rows, uncounted = [], []
    for site in walk(trace(fn, args, kwargs).jaxpr, _largest):
        found = _count(site.eqn)
        if found:
            name, macs, useful = found
            shapes = shapes_of(site.eqn)
            rows.append(CostRow(name, site.where, shapes, site.times, site.exact, macs, useful))
        elif site.eqn.primitive.name in _UNCOUNTED:
            uncounted.append(site.eqn.primitive.name)
    return CostTable(tuple(rows), tuple(dict.fromkeys(uncounted)))
