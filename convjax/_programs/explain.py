"""Two readers of a jaxpr: `cost_of` counts multiply-accumulates, `explain` says what runs where.

Both read the same traversal, ``convjax._programs.walk.walk``.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import lax

from convjax._core import checks, declared
from convjax._core.geometry import Geometry
from convjax._lowerings import fft, select
from convjax._lowerings.problem import Problem, problem_of
from convjax._lowerings.target import Target, default_platform, gpu_platform
from convjax._operation.counting import count_macs
from convjax._operation.primitive import conv_p
from convjax._programs.walk import trace, walk
from convjax._sharding import distributed


def _shapes(eqn: Any) -> tuple[tuple[int, ...], ...]:
    """Shapes of the operands and of the result."""
    return tuple(tuple(var.aval.shape) for var in (*eqn.invars, *eqn.outvars))


def _problem(eqn: Any) -> Problem | None:
    """The problem that `eqn` poses if it is a convolution: this library's, or lax's own."""
    if eqn.primitive is conv_p:
        (x, kernel), params = (var.aval for var in eqn.invars), eqn.params
        return problem_of(x, kernel, params["layout"], params["geometry"], params["role"])
    if eqn.primitive is not lax.conv_general_dilated_p:
        return None
    params, (x, kernel, out) = eqn.params, _shapes(eqn)
    (_, _, *xs), (ko, ki, *ks), (yn, _, *ys) = params["dimension_numbers"]
    groups = params["feature_group_count"] * params["batch_group_count"]
    return Problem(
        n=out[yn],
        groups=groups,
        i=kernel[ki],
        o=kernel[ko] // groups,
        space=tuple(x[axis] for axis in xs),
        window=tuple(kernel[axis] for axis in ks),
        out_space=tuple(out[axis] for axis in ys),
        geometry=Geometry(
            tuple(params["window_strides"]),
            tuple(params["padding"]),
            tuple(params["lhs_dilation"]),
            tuple(params["rhs_dilation"]),
        ),
        dtype=np.dtype(eqn.invars[0].aval.dtype),
        role="",
    )


# ---- cost_of ---------------------------------------------------------------------------------


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
                _show_shapes(row.shapes),
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
        x, y, out = _shapes(eqn)
        macs = math.prod(out) * math.prod(x[axis] for axis in contracted)
        return "dot_general", macs, macs
    problem = _problem(eqn)
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
    _check_callable("cost_of", fn)
    rows, uncounted = [], []
    for site in walk(trace(fn, args, kwargs).jaxpr, _largest):
        found = _count(site.eqn)
        if found:
            name, macs, useful = found
            shapes = _shapes(site.eqn)
            rows.append(CostRow(name, site.where, shapes, site.times, site.exact, macs, useful))
        elif site.eqn.primitive.name in _UNCOUNTED:
            uncounted.append(site.eqn.primitive.name)
    return CostTable(tuple(rows), tuple(dict.fromkeys(uncounted)))


def _check_callable(function: str, fn: Any) -> None:
    if not callable(fn):
        checks.fail_type(
            function,
            "fn",
            type(fn).__name__,
            "must be a function",
            f"Give its arguments after it: `{function}(fn, *args)`.",
        )


# ---- explain ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ExplainRow:
    """One convolution: its geometry and shapes, the lowering chosen, the rule, and the runner-up.

    `role` is "forward", "input_gradient" or "kernel_gradient", or "lax" for a convolution that is
    lax's own, of which only lax decides how it runs.
    """

    role: str
    geometry: Geometry
    shapes: tuple[tuple[int, ...], ...]
    lowering: str
    rule: str
    runner_up: str | None
    where: str


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `explain` returns: `.rows`, and `.note` if something was assumed; printed, a table."""

    rows: tuple[ExplainRow, ...]
    note: str = ""

    def __str__(self) -> str:
        header = ("role", "shapes", "geometry", "lowering", "runner-up", "where", "rule")
        body = [
            (
                row.role,
                _show_shapes(row.shapes),
                _show_geometry(row.geometry),
                row.lowering,
                row.runner_up or "",
                row.where,
                row.rule,
            )
            for row in self.rows
        ]
        return "\n".join([*table(header, body), *([self.note] if self.note else [])])


def explain(
    fn: Callable[..., Any],
    *args: Any,
    platform: str | None = None,
    partitioned: bool | int = False,
    target: Target | None = None,
    **kwargs: Any,
) -> Explanation:
    """How every convolution in ``fn(*args, **kwargs)`` will be executed, and why; nothing is run.

    Args:
        fn: a function of arrays; for its gradient, pass ``jax.grad(fn)``.
        args, kwargs: its arguments. Arrays may be ``jax.ShapeDtypeStruct``; the rest is static.
        platform: "cpu", "cuda", "rocm" or "tpu"; "gpu" is what this machine has of the two; None
            is the default backend's.
        partitioned: whether the computation is split over the devices of a mesh with automatic
            axes. On "cpu", "cuda" and "rocm" the library splits it, and every device runs an
            ordinary convolution of its part. On "tpu" XLA splits it. Inside ``shard_map`` its mesh
            decides.
        target: the machine and the release of jaxlib to answer for, such as
            ``convjax.Target.of("cpu", "0.10")``, in place of `platform`; None is this machine, and
            what `jit` declares.

    Returns:
        An `Explanation`: ``.rows`` has a row per convolution, ``.note`` what was assumed.

    Example:
        >>> import jax, jax.numpy as jnp, convjax
        >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 16))
        >>> found = convjax.explain(jax.grad(lambda k: convjax.conv(x, k).sum()), kernel)
        >>> [row.role for row in found.rows]
        ['forward', 'kernel_gradient']
        >>> found.rows[1].shapes
        ((1, 8, 8, 3), (1, 8, 8, 16), (3, 3, 3, 16))
    """
    _check_callable("explain", fn)
    asked = _target(platform, target)
    if not isinstance(partitioned, bool):
        checks.integer("explain", "partitioned", partitioned, minimum=0)
    rows, notes = [], {asked.note: None}
    with declared.of(fn):
        traced = trace(fn, args, kwargs)
    for site in walk(traced.jaxpr):
        problem = _problem(site.eqn)
        if problem is None:
            continue
        if problem.role:
            inside = site.automatic_axes
            several = bool(partitioned) if inside is None else inside > 0
            told = site.eqn.params["compiled_with"]
            there = asked if target else Target.here(asked.platform, options=told)
            notes[there.note] = None
            here = _split(there) if several else there
            choice = select.forced(problem, site.eqn.params["algorithm"], here)
            if choice.name != "fft":
                choice = choice._replace(rule=choice.rule + fft.offer(problem))
        else:
            choice = select.Choice("direct", "bound as lax's own convolution")
        rows.append(
            ExplainRow(
                problem.role or "lax",
                problem.geometry,
                _shapes(site.eqn),
                *choice,
                where=site.where,
            )
        )
    return Explanation(tuple(rows), "\n".join(filter(None, notes)))


def _split(target: Target) -> Target:
    """The target where a mesh has several devices: XLA splits what this library does not split."""
    is_ours = target.platform in distributed.CALLBACK_PLATFORMS
    return dataclasses.replace(target, split="nobody" if is_ours else "XLA")


PLATFORMS = ("cpu", "cuda", "gpu", "rocm", "tpu")


def _target(platform: Any, target: Any) -> Target:
    if target is not None and not isinstance(target, Target):
        checks.fail_type(
            "explain",
            "target",
            target,
            "must be a `convjax.Target` or None",
            'Write `convjax.Target.of("cpu", "0.12")`.',
        )
    if target is not None:
        if platform not in (None, target.platform):
            checks.fail(
                "explain",
                "platform",
                platform,
                f"differs from that of `target` ({target.platform!r})",
                "Leave one of them out.",
            )
        return target
    return Target.here(_platform(platform))


def _platform(platform: str | None) -> str:
    if platform is not None:
        checks.choice("explain", "platform", platform, PLATFORMS)
    return gpu_platform() if platform == "gpu" else platform or default_platform()


# ---- printing --------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], right: str = "") -> list[str]:
    """Lines of a table; the columns named in `right` are aligned to the right."""
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    flags = [">" if name in right.split("|") else "<" for name in header]
    lines = [
        "  ".join(f"{c:{f}{w}}" for c, f, w in zip(row, flags, widths, strict=True)).rstrip()
        for row in (header, ["-" * width for width in widths], *cells)
    ]
    return lines


def _show_shapes(shapes: Sequence[Sequence[int]]) -> str:
    *operands, result = ("x".join(map(str, shape)) or "scalar" for shape in shapes)
    return f"{', '.join(operands)} -> {result}"


def _show_geometry(geometry: Geometry) -> str:
    """What is not trivial in `geometry`."""
    shown = []
    for field in ("strides", "input_dilation", "kernel_dilation"):
        values = getattr(geometry, field)
        if any(value != 1 for value in values):
            shown.append(f"{field} {','.join(map(str, values))}")
    if any(side for pair in geometry.padding for side in pair):
        shown.append("padding " + ",".join(f"{lo}:{hi}" for lo, hi in geometry.padding))
    return "; ".join([*shown, *(["reversed"] if geometry.reversal else [])]) or "plain"
