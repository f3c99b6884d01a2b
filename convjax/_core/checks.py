"""One family of argument checks: an error names function, argument, value, rule and what to do.

``grouped_conv: `groups` (=3) must divide the channels of `x` (=64).``
"""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np


def _message(function: str, argument: str, value: Any, rule: str, hint: str) -> str:
    text = f"{function}: `{argument}` (={value!r}) {rule}."
    return f"{text} {hint}" if hint else text


def fail(function: str, argument: str, value: Any, rule: str, hint: str = "") -> NoReturn:
    """Raise the ``ValueError`` of a wrong value."""
    raise ValueError(_message(function, argument, value, rule, hint))


def fail_type(function: str, argument: str, value: Any, rule: str, hint: str = "") -> NoReturn:
    """Raise the ``TypeError`` of a value of the wrong type."""
    raise TypeError(_message(function, argument, value, rule, hint))


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
        try:
            entries = tuple(value)
        except TypeError:  # an array without axes
            entries = (None,)
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
    if getattr(value.dtype, "kind", "") in ("O", "S", "U", "M", "m"):
        fail_type(function, argument, str(value.dtype), "must have a numeric dtype")
    return value


def operands(function: str, x_name: str, kernel_name: str, x: Any, kernel: Any) -> Any:
    """The dtype in which JAX has `x` and `kernel`, which must be arrays of one rank and dtype."""
    array(function, x_name, x)
    array(function, kernel_name, kernel)
    if kernel.ndim < 3:
        fail(
            function,
            kernel_name,
            tuple(kernel.shape),
            "must have at least one spatial axis in addition to its two channel axes",
            "Its shape is (*kernel_size, in_features / groups, out_features).",
        )
    if x.ndim != kernel.ndim:
        hint = f"The kernel's {kernel.ndim} axes make this a {kernel.ndim - 2}-D convolution"
        if x.ndim == kernel.ndim - 1:
            hint += f"; for one example without a batch axis use `jax.vmap` or `{x_name}[None]`."
        else:
            hint += (
                f", so `{x_name}` needs a batch axis, {kernel.ndim - 2} spatial axes and channels."
            )
        fail(function, x_name, tuple(x.shape), f"must have {kernel.ndim} axes", hint)
    return one_dtype(function, x_name, kernel_name, x, kernel)


def one_dtype(function: str, x_name: str, kernel_name: str, x: Any, kernel: Any) -> Any:
    """The dtype in which JAX has two arrays of numbers, which must be of one dtype."""
    x_type, kernel_type = (
        a.dtype if isinstance(a, jax.Array) else jax.dtypes.canonicalize_dtype(a.dtype)
        for a in (x, kernel)
    )
    for name, dtype in ((x_name, x_type), (kernel_name, kernel_type)):
        if not _is_numeric(dtype):
            rule = "must have a numeric dtype"
            fail_type(function, name, str(dtype), rule, "Cast it first.")
    if x_type != kernel_type:
        raise TypeError(
            f"{function}: `{x_name}` ({x_type}) and `{kernel_name}` ({kernel_type}) must have one "
            f"dtype. Cast one of them, for example `{kernel_name}.astype({x_name}.dtype)`."
        )
    return x_type


@functools.lru_cache(maxsize=64)
def _is_numeric(dtype: Any) -> bool:
    return bool(jax.dtypes.issubdtype(dtype, np.number))


def choice(function: str, argument: str, value: Any, allowed: Sequence[str]) -> str:
    """`value`, if it is one of the words in `allowed`."""
    if not (isinstance(value, str) and value in allowed):
        words = ", ".join(f'"{word}"' for word in allowed)
        close = [word for word in allowed if isinstance(value, str) and word == value.upper()]
        close += [word for word in allowed if isinstance(value, str) and word == value.lower()]
        hint = f'Did you mean "{close[0]}"?' if close else ""
        fail(function, argument, value, f"must be one of {words}", hint)
    return value


# ---- checks of one argument, for `convjax._core.public` ------------------------------------------


def positive(function: str, argument: str, value: Any) -> None:
    """An integer of at least 1."""
    integer(function, argument, value, minimum=1)


def natural(function: str, argument: str, value: Any) -> None:
    """An integer of at least 0."""
    integer(function, argument, value, minimum=0)


def kernel(function: str, argument: str, value: Any) -> None:
    """An array of at least one spatial axis and two channel axes, of numbers."""
    array(function, argument, value)
    if value.ndim < 3:
        rule = "must have at least one spatial axis in addition to its two channel axes"
        fail(function, argument, tuple(value.shape), rule)
    numbers(function, argument, value)


def numbers(function: str, argument: str, value: Any) -> None:
    """An array of numbers."""
    array(function, argument, value)
    if value.dtype == bool:
        fail_type(function, argument, str(value.dtype), "must have a numeric dtype", "Cast it.")


def kernels(function: str, argument: str, value: Any) -> None:
    """A sequence of kernels."""
    for index, entry in enumerate(sequence(function, argument, value)):
        kernel(function, f"{argument}[{index}]", entry)


def sequence(function: str, argument: str, value: Any) -> Any:
    """`value`, if it is a list or tuple with something in it."""
    if not isinstance(value, (list, tuple)):
        fail_type(function, argument, type(value).__name__, "must be a list or tuple")
    if not value:
        fail(function, argument, value, "must not be empty")
    return value


def iterable(function: str, argument: str, value: Any) -> None:
    """An iterable, such as a list."""
    if not hasattr(value, "__iter__"):
        fail_type(function, argument, value, "must be a list or another iterable")


def shaped(function: str, argument: str, value: Any) -> None:
    """An array, or a ``jax.ShapeDtypeStruct``."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        fail_type(function, argument, value, "must be an array or a `jax.ShapeDtypeStruct`")


def shape(function: str, argument: str, value: Any) -> None:
    """A shape of at least three axes, or an array that has it."""
    extents(function, argument, value)
    axes = tuple(value.shape) if hasattr(value, "shape") else tuple(value)
    if len(axes) < 3:
        fail(function, argument, axes, "must have at least one spatial axis and two others")


def extents(function: str, argument: str, value: Any) -> None:
    """A shape, or an array that has it."""
    if hasattr(value, "shape"):
        return
    if not isinstance(value, (list, tuple)) or not all(map(is_int, value)):
        rule = "must be a shape, or an array"
        fail_type(function, argument, value, rule, "Give one integer per axis, as a tuple.")
    if any(extent < 0 for extent in value):
        fail(function, argument, value, "must have no negative extent")


def shapes(function: str, argument: str, value: Any) -> None:
    """A sequence of shapes, or of arrays."""
    for index, entry in enumerate(sequence(function, argument, value)):
        shape(function, f"{argument}[{index}]", entry)


def axis(function: str, argument: str, value: Any) -> None:
    """An integer."""
    integer(function, argument, value)


def dtype(function: str, argument: str, value: Any) -> None:
    """A dtype of numbers, or a name of one for numpy."""
    try:
        wrong = value is None or np.dtype(value).kind in "OSUMmb"
    except TypeError:
        wrong = True
    if wrong:
        fail_type(function, argument, value, "must be a numeric dtype")


def flag(function: str, argument: str, value: Any) -> None:
    """True or False; 1 or 0, too."""
    if not (isinstance(value, (bool, np.bool_)) or (is_int(value) and value in (0, 1))):
        fail_type(function, argument, value, "must be True or False")


def function(name: str, argument: str, value: Any) -> None:
    """A function, or another callable."""
    if not callable(value):
        fail_type(name, argument, value, "must be a function", "Give it, not its result.")


def mapping(function: str, argument: str, value: Any) -> None:
    """A mapping from names."""
    if not isinstance(value, Mapping):
        fail_type(function, argument, type(value).__name__, "must be a mapping from names")


def size(function: str, argument: str, value: Any) -> None:
    """An extent, or a sequence of them."""
    if not is_int(value):
        entries = value.tolist() if isinstance(value, np.ndarray) else value
        if not isinstance(entries, (list, tuple)) or not all(map(is_int, entries)):
            rule = "must be an integer, or one integer per spatial axis"
            fail_type(function, argument, value, rule)
        if not entries:
            fail(function, argument, value, "must have at least one axis")


def number(function: str, argument: str, value: Any) -> None:
    """A real number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        fail_type(function, argument, value, "must be a number")
