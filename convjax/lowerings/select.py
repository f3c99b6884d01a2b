"""Which lowering executes a convolution, on which platform, and why."""

from typing import Any, NamedTuple

from convjax.lowerings import LOWERINGS

ROLES = ("forward", "input_gradient", "kernel_gradient")

# Seen on jaxlib 0.10.2 and 0.12.0: one NaN in a cotangent reaches kernels of other groups.
_LEAK = "cpu: lax's gradient of a grouped kernel mixes the groups, slowly, and a NaN with them"

# Seen on jaxlib 0.10.2 and 0.12.0: with an input sharded over one of two mesh axes (height; batch,
# for groups), the partitioned gradient of lax's kernel is the true one times the other axis' size.
_MISCOUNT = "several mesh axes: XLA's partitioner miscounts lax's kernel gradient"


class Choice(NamedTuple):
    """A lowering's name, the rule that chose it, and what would have run without it (or None)."""

    name: str
    rule: str
    runner_up: str | None = None


def select(problem: Any, platform: str, mesh_axes: int) -> Choice:
    """The lowering for `problem` (an ``operation.Problem``).

    Args:
        problem: sizes, geometry, dtype and role of the convolution.
        platform: "cpu", "cuda", "rocm", "tpu", or another that JAX lowers for.
        mesh_axes: over how many axes of a mesh XLA will split the computation (0: not at all, as on
            one device or in a fully manual region). Where it does, only partitionable lowerings are
            eligible.
    """
    kernel_gradient = problem.role == "kernel_gradient"
    if mesh_axes > 1 and kernel_gradient and _eligible("matmul", problem, mesh_axes):
        return Choice("matmul", _MISCOUNT, "direct")
    grouped_gradient = kernel_gradient and problem.groups != 1
    if platform == "cpu" and grouped_gradient and _eligible("matmul", problem, mesh_axes):
        return Choice("matmul", _LEAK, "direct")
    return Choice("direct", f"{platform}: no other lowering is measured to be faster")


def _eligible(name: str, problem: Any, mesh_axes: int) -> bool:
    lowering = LOWERINGS[name]
    return lowering.accepts(problem) is None and (mesh_axes == 0 or lowering.partitionable)


def forced(problem: Any, algorithm: Any, platform: str, mesh_axes: int) -> Choice:
    """The lowering for `problem` under the caller's `algorithm`: None, a name, or a triple.

    A triple names the lowering of the forward operation, the input's gradient and the kernel's
    gradient. A single name is used for the gradients where it accepts them.
    """
    if algorithm is None:
        return select(problem, platform, mesh_axes)
    hard = not isinstance(algorithm, str)
    name = algorithm[ROLES.index(problem.role)] if hard else algorithm
    if name is None:
        return select(problem, platform, mesh_axes)
    refusal = LOWERINGS[name].accepts(problem)
    if refusal is None:
        return Choice(name, "forced by `algorithm`", select(problem, platform, mesh_axes).name)
    if hard or problem.role == "forward":
        raise ValueError(
            f"algorithm {name!r} cannot execute this convolution ({problem.role}): {refusal}"
        )
    return select(problem, platform, mesh_axes)
