"""Which lowering a convolution gets, and why: a function of the problem and the target."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from convjax._lowerings import LOWERINGS, rules
from convjax._lowerings.problem import Problem
from convjax._lowerings.target import GPUS, Target

ROLES = ("forward", "input_gradient", "kernel_gradient")

#: In a triple that this library makes: `taps`, whose outputs are all one sum in one order.
#: On a TPU it is the library's choice: there no results are promised to be equal bit for bit, and
#: by the compiler's estimate the sums take up to three times the cycles of lax's convolution.
IN_ORDER = "in order"


class Choice(NamedTuple):
    """A lowering's name, the rule that chose it, and what would have run without it (or None)."""

    name: str
    rule: str
    runner_up: str | None = None


def select(problem: Problem, target: Target) -> Choice:
    """The lowering for `problem` on `target`.

    The rules of `rules.FAST` are read in order, and before each rule its exceptions in
    `rules.TUNED`. The first that holds, of a lowering that accepts the problem, decides. Without
    one, lax's own convolution runs. `rules.CORRECT` replaces a lowering that would be wrong.
    """
    found: list[tuple[str, str]] = []
    for name, why in (*_by_speed(problem, target), ("direct", _lax(target))):
        found += _trusted(name, why, problem, target)
    name, why = found[0]
    others = (other for other, _ in found[1:] if other != name)
    return Choice(name, why, next(others, None if name == "direct" else "direct"))


def _by_speed(problem: Problem, target: Target) -> Iterator[tuple[str, str]]:
    """Lowerings that are faster than lax's convolution, the preferred one first, and why."""
    for rule in rules.FAST:
        if not rule.where(target) or not rule.holds(problem):
            continue
        for tuned in rules.TUNED:
            if tuned.within == rule.name and tuned.holds(problem, target):
                if _accepts(tuned.lowering, problem, target):
                    yield tuned.lowering, tuned.why
        if rule.lowering is not None and _accepts(rule.lowering, problem, target):
            yield rule.lowering, rule.why


def _trusted(name: str, why: str, problem: Problem, target: Target) -> list[tuple[str, str]]:
    """The lowering, or what runs in its place where it would compute wrong numbers."""
    for guard in rules.CORRECT:
        if name in guard.wrong and guard.where(target) and guard.holds(problem):
            right = [n for n in guard.instead if _accepts(n, problem, target)]
            if right:
                return [(n, guard.why) for n in right]
    return [(name, why)]


def _accepts(name: str, problem: Problem, target: Target) -> bool:
    return LOWERINGS[name].refusal(problem, target) is None


def _lax(target: Target) -> str:
    """Why lax's own convolution runs where no rule holds."""
    if not any(rule.where(target) for rule in rules.FAST):
        return f"lax's own convolution: nothing else was measured on {target.platform}"
    if target.split == "XLA":
        return "lax's own convolution: XLA splits it over the devices"
    if target.platform == "tpu":
        return "lax's own convolution: nothing takes fewer cycles by XLA's estimate for a tpu"
    if target.platform in GPUS:
        why = "in programs compiled for an H200 no other form was found to copy less"
        return f"lax's own convolution: {why}, so it stays on {target.platform}"
    return f"lax's own convolution: nothing was measured to be faster on a {target.platform}"


def forced(problem: Problem, algorithm: Any, target: Target) -> Choice:
    """The lowering for `problem` under the caller's `algorithm`: None, a name, or a triple.

    A triple names the lowering of the forward operation, the input's gradient and the kernel's
    gradient. A single name is used for the gradients where it accepts them.
    """
    unforced = select(problem, target)
    name, why = _asked(algorithm, problem.role, target)
    if name is None:
        return unforced
    refusal = LOWERINGS[name].refusal(problem, target)
    if refusal is None:
        return Choice(name, why, unforced.name)
    if not isinstance(algorithm, str) or problem.role == "forward":
        raise ValueError(
            f"algorithm {name!r} cannot execute this convolution ({problem.role}): {refusal}"
        )
    return unforced


def of_part(alone: Problem, actual: Problem, algorithm: Any, target: Target) -> Choice:
    """The lowering for a device's part of a problem that was accepted under `algorithm`.

    `actual` is what the device computes: its part of the input, others' rows around it, and less
    padding. `alone` is the same without others' rows, and with padding in their place: what one
    device computes of an input of the part's extent. Its lowering is taken where the results are as
    large.
    """
    name, why = _asked(algorithm, actual.role, target)
    if name is not None and _accepts(name, actual, target):
        return Choice(name, why, select(actual, target).name)
    if alone.out_space == actual.out_space:
        choice = select(alone, target)
        if _accepts(choice.name, actual, target):
            trusted = _trusted(choice.name, choice.rule, actual, target)[0]
            return Choice(*trusted, choice.runner_up)
    return select(actual, target)


def _asked(algorithm: Any, role: str, target: Target) -> tuple[str | None, str]:
    """The lowering that the caller wants for a role, if any, and why."""
    name = algorithm if isinstance(algorithm, str | None) else algorithm[ROLES.index(role)]
    if name != IN_ORDER:
        return name, "forced by `algorithm`"
    if target.platform == "tpu":
        return None, ""
    return "taps", "taps are added in order, so that results for chunks equal those for the whole"
