"""The record that every file of a lowering ends with."""

import dataclasses
from collections.abc import Callable

import jax

from convjax._lowerings.problem import Call, Problem
from convjax._lowerings.target import Target

Chosen = Callable[[Problem], str]


@dataclasses.dataclass(frozen=True)
class Lowering:
    """One way to execute a convolution.

    Attributes:
        name: what users write as `algorithm`.
        run: ``run(x, kernel, call)`` is the convolution, operands and result in the caller's
            layout. `layout.arranged` brings operands into the order that suits a lowering.
        accepts: ``accepts(problem)`` is None, or says why the lowering cannot execute it.
        isolated: ``isolated(problem, chosen)`` says whether XLA on a CPU must compile it as a call
            that it does not inline (`tools.xla.isolated` says what that does). ``chosen(smaller)``
            is the name of the lowering that a smaller convolution would get.
        exact: False if results on integers are rounded.
        platforms: the platforms that can compile it; empty for all.
        one_device: whether it is a program that XLA cannot split over devices.
    """

    name: str
    run: Callable[[jax.Array, jax.Array, Call], jax.Array]
    accepts: Callable[[Problem], str | None]
    isolated: Callable[[Problem, Chosen], bool]
    exact: bool = True
    platforms: frozenset[str] = frozenset()
    one_device: bool = False

    def refusal(self, problem: Problem, target: Target) -> str | None:
        """Why it cannot execute `problem` on `target`, or None."""
        if self.platforms and target.platform not in self.platforms:
            return f"it is for {', '.join(sorted(self.platforms))}, not for {target.platform}"
        if self.one_device and target.split == "XLA":
            return (
                "it is a program of one device, which XLA cannot split; shard over explicit mesh "
                "axes, or call it inside `jax.shard_map`"
            )
        return self.accepts(problem)


def always(problem: Problem, chosen: Chosen) -> bool:
    """Isolated: XLA would repeat its work for every reader of the result."""
    return True


def never(problem: Problem, chosen: Chosen) -> bool:
    """Not isolated: it is one operation of XLA, which XLA does not repeat."""
    return False


def for_kernel_gradients(problem: Problem, chosen: Chosen) -> bool:
    """Isolated for kernels' gradients: XLA would make their copies in the forward pass already."""
    return problem.role == "kernel_gradient"


def anything(problem: Problem) -> None:
    """Accepted, as lax accepts every geometry."""
