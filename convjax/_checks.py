"""One family of argument checks: an error names function, argument, value, rule and what to do.

``grouped_conv: `groups` (=3) must divide the channels of `x` (=64).``
"""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np


def _message(function: str, argument: str, value: Any, rule: str, mend: str) -> str:
    text = f"{function}: `{argument}` (={value!r}) {rule}."
    return f"{text} {mend}" if mend else text


def fail(function: str, argument: str, value: Any, rule: str, mend: str = "") -> NoReturn:
    """Raise the ``ValueError`` of a wrong value."""
    raise ValueError(_message(function, argument, value, rule, mend))


def fail_type(function: str, argument: str, value: Any, rule: str, mend: str = "") -> NoReturn:
    """Raise the ``TypeError`` of a value of the wrong type."""
    raise TypeError(_message(function, argument, value, rule, mend))


def is_int(value: Any) -> bool:
    """Whether `value` is a Python or numpy integer (or a 0-d integer array), and not a bool."""
    if isinstance(value, (bool, np.bool_)):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def integer(function: str, argument: str, value: Any, *, minimum: int | None = None) -> int:
    """`value` as a Python int that is at least `minimum`."""
    if not is_int(value):
        fail_type(function, argument, value, "must be an integer")
    number = operator.index(value)
    if minimum is not None and number < minimum:
        fail(function, argument, number, f"must be at least {minimum}")
    return number


def ints(
    function: str, argument: str, value: Any, rank: int, *, minimum: int | None = None
) -> tuple[int, ...]:
    """`value`, an int or a sequence of `rank` ints, as a tuple of `rank` ints."""
    if is_int(value):
        numbers = (operator.index(value),) * rank
    elif isinstance(value, str) or not isinstance(value, (Iterable, Sequence)):
        fail_type(function, argument, value, f"must be an integer or a sequence of {rank} integers")
    else:
        entries = tuple(value)
        if not all(is_int(entry) for entry in entries):
            fail_type(
                function, argument, value, f"must be an integer or a sequence of {rank} integers"
            )
        if len(entries) != rank:
            fail(
                function,
                argument,
                entries,
                f"must have one entry per spatial axis ({rank}), not {len(entries)}",
                "Give one integer for all axes, or one for each.",
            )
        numbers = tuple(operator.index(entry) for entry in entries)
    if minimum is not None and any(number < minimum for number in numbers):
        shown = numbers[0] if is_int(value) else numbers
        fail(function, argument, shown, f"must be at least {minimum} on every axis")
    return numbers


def array(function: str, argument: str, value: Any) -> Any:
    """`value`, if it is an array (numpy, JAX, or a tracer)."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "ndim")):
        raise TypeError(
            f"{function}: `{argument}` must be an array, not {type(value).__name__}. "
            "Convert it with `jnp.asarray`."
        )
    return value


def choice(function: str, argument: str, value: Any, allowed: Sequence[str]) -> str:
    """`value`, if it is one of the words in `allowed`."""
    if not (isinstance(value, str) and value in allowed):
        words = ", ".join(f'"{word}"' for word in allowed)
        close = [word for word in allowed if isinstance(value, str) and word == value.upper()]
        close += [word for word in allowed if isinstance(value, str) and word == value.lower()]
        mend = f'Did you mean "{close[0]}"?' if close else ""
        fail(function, argument, value, f"must be one of {words}", mend)
    return value
