"""Which lowering executes a convolution, on which platform, and why."""

from typing import Any, NamedTuple

from convjax.lowerings import LOWERINGS


class Choice(NamedTuple):
    """A lowering's name, the rule that chose it, and what would have run without it (or None)."""

    name: str
    rule: str
    runner_up: str | None = None


def select(problem: Any, platform: str, partitioned: bool) -> Choice:
    """The lowering for `problem` (an ``operation.Problem``).

    Args:
        problem: sizes, geometry, dtype and role of the convolution.
        platform: "cpu", "cuda", "rocm", "tpu", or another that JAX lowers for.
        partitioned: lowered for several devices, outside a fully manual region: only partitionable
            lowerings are eligible.
    """
    return Choice("direct", f"{platform}: no other lowering is measured to be faster")


def forced(problem: Any, algorithm: Any, platform: str, partitioned: bool) -> Choice:
    """The lowering for `problem` under the caller's `algorithm`: None, a name, or a triple.

    A triple names the lowering of the forward operation, the input's gradient and the kernel's
    gradient. A single name is used for the gradients where it accepts them.
    """
    if algorithm is None:
        return select(problem, platform, partitioned)
    hard = not isinstance(algorithm, str)
    name = algorithm[ROLES.index(problem.role)] if hard else algorithm
    if name is None:
        return select(problem, platform, partitioned)
    refusal = LOWERINGS[name].accepts(problem)
    if refusal is None:
        return Choice(name, "forced by `algorithm`", select(problem, platform, partitioned).name)
    if hard or problem.role == "forward":
        raise ValueError(
            f"algorithm {name!r} cannot execute this convolution ({problem.role}): {refusal}"
        )
    return select(problem, platform, partitioned)


ROLES = ("forward", "input_gradient", "kernel_gradient")
