"""How will each convolution of a program be executed? `explain` asks the choice of lowerings."""

import dataclasses
from collections.abc import Callable
from typing import Any

from convjax._core import checks, declared
from convjax._core.geometry import Geometry
from convjax._lowerings import fft, pallas, select
from convjax._lowerings.target import Target, default_platform, gpu_platform
from convjax._programs.equations import check_callable, posed_by, shapes_of
from convjax._programs.table import show_shapes, table
from convjax._programs.walk import trace, walk
from convjax._sharding import distributed


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
                show_shapes(row.shapes),
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
    check_callable("explain", fn)
    asked = _target(platform, target)
    if not isinstance(partitioned, bool):
        checks.integer("explain", "partitioned", partitioned, minimum=0)
    rows, notes = [], {asked.note: None}
    with declared.of(fn):
        traced = trace(fn, args, kwargs)
    for site in walk(traced.jaxpr):
        problem = posed_by(site.eqn)
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
            if choice.name not in ("fft", "pallas"):
                offers = fft.offer(problem) + pallas.offer(problem, here)
                choice = choice._replace(rule=choice.rule + offers)
        else:
            choice = select.Choice("direct", "bound as lax's own convolution")
        rows.append(
            ExplainRow(
                problem.role or "lax",
                problem.geometry,
                shapes_of(site.eqn),
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
