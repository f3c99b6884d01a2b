"""What the public kinds check and resolve before they reach the operation."""

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from convjax import _checks
from convjax._symbolic import certainly
from convjax.lowerings import LOWERINGS, direct


class Sides(NamedTuple):
    """Axis positions that a `dimension_numbers` gives: batch, channels and space of x and result,
    the two channel axes and space of the kernel. Space is in the kernel's order throughout."""

    x: tuple[int, int, tuple[int, ...]]
    kernel: tuple[int, int, tuple[int, ...]]  # I, O, space
    out: tuple[int, int, tuple[int, ...]]


def sides(function: str, dimension_numbers: Any, ndim: int) -> Sides:
    """`dimension_numbers` (None: channels-last; else lax's triple) as axis positions."""
    if dimension_numbers is None:
        space = tuple(range(1, ndim - 1))
        kernel_space = tuple(range(ndim - 2))
        return Sides((0, ndim - 1, space), (ndim - 2, ndim - 1, kernel_space), (0, ndim - 1, space))
    if isinstance(dimension_numbers, lax.ConvDimensionNumbers):
        (xn, xc, *xs), (ko, ki, *ks), (yn, yc, *ys) = dimension_numbers
        return Sides((xn, xc, tuple(xs)), (ki, ko, tuple(ks)), (yn, yc, tuple(ys)))
    rule = (
        f'must be None or three strings of {ndim} distinct letters, such as ("NCHW", "OIHW", '
        '"NCHW"): N and C for `x` and the result, O and I for the kernel, and the same letters for '
        "the spatial axes"
    )
    if (
        not isinstance(dimension_numbers, (tuple, list))
        or len(dimension_numbers) != 3
        or not all(isinstance(spec, str) for spec in dimension_numbers)
    ):
        _checks.fail_type(function, "dimension_numbers", dimension_numbers, rule)
    x, kernel, out = dimension_numbers
    letters = [set(x) - set("NC"), set(kernel) - set("IO"), set(out) - set("NC")]
    if (
        any(len(spec) != ndim or len(set(spec)) != ndim for spec in dimension_numbers)
        or not (set("NC") <= set(x) and set("NC") <= set(out) and set("IO") <= set(kernel))
        or not letters[0] == letters[1] == letters[2]
    ):
        _checks.fail(function, "dimension_numbers", tuple(dimension_numbers), rule)
    order = [letter for letter in kernel if letter not in "IO"]

    def axes(spec: str, first: str, second: str) -> tuple[int, int, tuple[int, ...]]:
        return spec.index(first), spec.index(second), tuple(spec.index(a) for a in order)

    return Sides(axes(x, "N", "C"), axes(kernel, "I", "O"), axes(out, "N", "C"))


def operands(function: str, x: Any, kernel: Any, x_name: str = "x") -> tuple[jax.Array, jax.Array]:
    """`x` and `kernel` as JAX arrays of one rank and dtype, or an error in the caller's words."""
    _checks.array(function, x_name, x)
    _checks.array(function, "kernel", kernel)
    if kernel.ndim < 3:
        _checks.fail(
            function,
            "kernel",
            tuple(kernel.shape),
            "must have at least one spatial axis besides its two channel axes",
            "Its shape is (*kernel_size, in_features / groups, out_features).",
        )
    if x.ndim != kernel.ndim:
        mend = f"The kernel's {kernel.ndim} axes make this a {kernel.ndim - 2}-D convolution"
        if x.ndim == kernel.ndim - 1:
            mend += f"; for one example without a batch axis use `jax.vmap` or `{x_name}[None]`."
        else:
            mend += (
                f", so `{x_name}` needs a batch axis, {kernel.ndim - 2} spatial axes and channels."
            )
        _checks.fail(function, x_name, tuple(x.shape), f"must have {kernel.ndim} axes", mend)
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    for name, operand in ((x_name, x), ("kernel", kernel)):
        if not jnp.issubdtype(operand.dtype, jnp.number):
            _checks.fail_type(
                function, name, str(operand.dtype), "must have a numeric dtype", "Cast it first."
            )
    if x.dtype != kernel.dtype:
        raise TypeError(
            f"{function}: `{x_name}` ({x.dtype}) and `kernel` ({kernel.dtype}) must have one "
            f"dtype. Cast one of them, for example `kernel.astype({x_name}.dtype)`."
        )
    return x, kernel


def check_algorithm(function: str, algorithm: Any) -> Any:
    """`algorithm`: None, a lowering's name, or a triple of these."""
    if algorithm is None or isinstance(algorithm, str):
        entries: tuple[Any, ...] = (algorithm,)
    elif isinstance(algorithm, (tuple, list)) and len(algorithm) == 3:
        algorithm = entries = tuple(algorithm)
    else:
        _checks.fail_type(
            function,
            "algorithm",
            algorithm,
            "must be None, a lowering's name, or a triple (forward, input_gradient, "
            "kernel_gradient) of these",
        )
    for entry in entries:
        if entry is not None:
            _checks.choice(function, "algorithm", entry, tuple(LOWERINGS))
    return algorithm


def numerics(
    function: str, x: jax.Array, precision: Any, preferred_element_type: Any
) -> dict[str, Any]:
    """`precision` and `preferred_element_type` as they hold now, at the call."""
    try:
        resolved = direct.resolve_precision(precision)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{function}: `precision` (={precision!r}) must be None, a jax.lax.Precision, its name "
            "such as 'highest', or a pair of these."
        ) from error
    if preferred_element_type is not None:
        try:
            preferred = jnp.dtype(jax.dtypes.canonicalize_dtype(preferred_element_type))
        except TypeError as error:
            raise TypeError(
                f"{function}: `preferred_element_type` (={preferred_element_type!r}) must be a "
                "dtype."
            ) from error
        kinds = (jnp.integer, jnp.floating, jnp.complexfloating)
        same_kind = any(
            jnp.issubdtype(x.dtype, kind) and jnp.issubdtype(preferred, kind) for kind in kinds
        )
        signs = {jnp.issubdtype(d, jnp.unsignedinteger) for d in (x.dtype, preferred)}
        if not same_kind or preferred.itemsize < x.dtype.itemsize or len(signs) > 1:
            _checks.fail(
                function,
                "preferred_element_type",
                str(preferred),
                f"must be of the operands' kind and at least as wide as their dtype {x.dtype}",
                "Cast the result instead.",
            )
        preferred_element_type = preferred
    return {"precision": resolved, "preferred_element_type": preferred_element_type}


def check_groups(
    function: str,
    x: jax.Array,
    kernel: jax.Array,
    where: Sides,
    groups: Any,
    name: str = "feature_group_count",
) -> int:
    """`groups` after checking it against the channels of `x` and `kernel` (I/G, O)."""
    groups = _checks.integer(function, name, groups, minimum=1)
    channels, per_group = x.shape[where.x[1]], kernel.shape[where.kernel[0]]
    out = kernel.shape[where.kernel[1]]
    expected = per_group * groups
    mend = ""
    if channels != expected:
        others = [axis for axis in where.x[2] if x.shape[axis] == expected]
        if others and where.x[1] == x.ndim - 1 and others[0] == 1:
            triple = ("NCHW", "OIHW", "NCHW") if x.ndim == 4 else ("NC...", "OI...", "NC...")
            mend = (
                "`x` looks channels-first: move its channels last, or pass "
                f"`dimension_numbers={triple}`."
            )
        elif others:
            mend = "`x` looks channels-last: drop `dimension_numbers`, or transpose `x`."
    if channels % groups:
        _checks.fail(function, name, groups, f"must divide the channels of `x` (={channels})", mend)
    if channels != expected:
        if not mend and per_group == channels and groups > 1:
            mend = "A grouped kernel's input axis has in_features / groups entries."
        _checks.fail(
            function,
            "kernel",
            tuple(kernel.shape),
            f"must have {channels // groups} input channels (the channels of `x`, {channels}"
            + (f", over {groups} groups" if groups > 1 else "")
            + f"), not {per_group}",
            mend,
        )
    if out % groups:
        _checks.fail(
            function, name, groups, f"must divide the output channels of `kernel` (={out})"
        )
    return groups


def check_window(function: str, window: Any) -> None:
    """Refuse kernels without taps."""
    if any(certainly(operator.eq, k, 0) for k in window):
        _checks.fail(function, "kernel", window, "must have at least one tap on every spatial axis")


def check_pointwise(
    function: str, kernel: Any, dimension_numbers: Any, name: str = "kernel"
) -> None:
    """Refuse a `kernel` that has spatial extent."""
    where = sides(function, dimension_numbers, kernel.ndim)
    if any(kernel.shape[axis] != 1 for axis in where.kernel[2]):
        _checks.fail(
            function,
            name,
            tuple(kernel.shape),
            "must have extent 1 on every spatial axis",
            "For larger kernels use `conv`.",
        )
