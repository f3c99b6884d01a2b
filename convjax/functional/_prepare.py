"""From the arguments of a public function to a `Recipe`: every check, and no array operation.

Operands are anything that has a shape and a dtype. Each error is in the caller's words: `Names`.
"""

import functools
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from convjax import _checks
from convjax import padding as paddings
from convjax._recipe import Recipe, Shape
from convjax._symbolic import certainly
from convjax.functional._numerics import accepted, numerics
from convjax.functional._options import DEFAULTS
from convjax.geometry import Geometry, Pair
from convjax.layout import Axes, Layout, layout_of
from convjax.transposed_sizes import check_causal_mode, transposed_extents


class Names(NamedTuple):
    """The public function, and what it calls its operands and its groups."""

    function: str
    x: str = "x"
    kernel: str = "kernel"
    groups: str = "feature_group_count"


def conv_recipe(
    names: Names, x: Any, kernel: Any, options: Mapping[str, Any], *, pointwise: str = ""
) -> Recipe:
    """The recipe of `conv` on these operands, with these of its options.

    `pointwise` names the function to use if the kernel, which may have one tap only, has several.
    """
    dtype = check_operands(names, x, kernel)
    layout = layout_of(names.function, options.get("dimension_numbers"), kernel.ndim)
    if pointwise:
        _check_pointwise(names, layout, kernel.shape, pointwise)
    return resolved(names, layout, x.shape, kernel.shape, dtype, options)


def resolved(
    names: Names,
    layout: Layout,
    x: Shape,
    kernel: Shape,
    dtype: Any,
    options: Mapping[str, Any],
    *,
    check_channels: bool = True,
) -> Recipe:
    """The recipe of a convolution of operands of these shapes and of this dtype."""
    function, given = names.function, {**DEFAULTS, **options}
    space, window = layout.x.sizes(x, "space"), layout.kernel.sizes(kernel, "space")
    steps = spatial_steps(function, given, len(window))
    groups = given["feature_group_count"]
    if check_channels:
        groups = _check_groups(names, layout, x, kernel, groups)
    geometry, extension, modes = placed(names, space, window, given, steps, 0 in x)
    recipe = Recipe(
        function,
        tuple(x),
        tuple(kernel),
        layout,
        groups,
        geometry,
        extension,
        modes,
        **numerics(function, dtype, given, len(x)),
    )
    return accepted(recipe, dtype)


def transpose_recipe(names: Names, y: Any, kernel: Any, options: Mapping[str, Any]) -> Recipe:
    """The recipe of `conv_transpose`: the operation that maps outputs of `conv` back to inputs."""
    dtype = check_operands(names, y, kernel)
    layout = layout_of(names.function, options.get("dimension_numbers"), kernel.ndim)
    return transposed(names, layout, y.shape, kernel.shape, dtype, options)


def transposed(
    names: Names,
    layout: Layout,
    y: Shape,
    kernel: Shape,
    dtype: Any,
    options: Mapping[str, Any],
) -> Recipe:
    """The recipe of a transposed convolution; `layout` has the kernel's axes as `conv` has them."""
    function, given = names.function, {**DEFAULTS, **options}
    space, window = layout.x.sizes(y, "space"), layout.kernel.sizes(kernel, "space")
    rank = len(window)
    strides, _, dilation = spatial_steps(function, {**given, "input_dilation": 1}, rank)
    groups = check_transposed_groups(names, layout, y, kernel, given["feature_group_count"])
    check_window(names, window)
    modes = paddings.modes(function, given["padding_mode"], rank)
    check_causal_mode(function, given["padding"], modes)
    out_space, pairs = transposed_extents(
        function,
        given["padding"],
        space=space,
        window=window,
        strides=strides,
        kernel_dilation=dilation,
        output_padding=given["output_padding"],
        output_shape=given["output_shape"],
    )
    computed = numerics(function, dtype, given, len(y))
    # The forward operation reads the extended u, so this one writes it, and folds the extension.
    extension, rest = paddings.split_extension(function, pairs, modes, out_space)
    written = tuple(n + lo + hi for n, (lo, hi) in zip(out_space, extension, strict=True))
    recipe = Recipe(
        function,
        tuple(y),
        tuple(kernel),
        layout._replace(kernel=_exchanged(layout.kernel)),
        groups,
        Geometry(strides, rest, (1,) * rank, dilation).input_gradient(written, window),
        _if_any(extension),
        modes,
        folds=True,
        kernel_groups="contract",
        **computed,
    )
    return accepted(recipe, dtype)


def _exchanged(axes: Axes) -> Axes:
    """The kernel's axes with its two channel axes exchanged."""
    return axes._replace(contract=axes.out, out=axes.contract)


# ---- space ---------------------------------------------------------------------------------------

Steps = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def spatial_steps(function: str, given: Mapping[str, Any], rank: int) -> Steps:
    """`strides`, `input_dilation` and `kernel_dilation`, one entry per spatial axis."""
    strides, holes, dilation = (
        _checks.ints(function, name, given[name], rank, minimum=1)
        for name in ("strides", "input_dilation", "kernel_dilation")
    )
    return strides, holes, dilation


def placed(
    names: Names,
    space: Shape,
    window: Shape,
    given: Mapping[str, Any],
    steps: Steps,
    empty: bool = False,
) -> tuple[Geometry, tuple[Pair, ...], tuple[str, ...]]:
    """Where the taps fall: the operation's geometry, what is extended before it, and the modes.

    `empty` says that the input has no elements; only then may the result have none.
    """
    function, padding_mode = names.function, given["padding_mode"]
    strides, holes, dilation = steps
    check_window(names, window)
    pairs = paddings.resolve(
        function,
        given["padding"],
        space=space,
        window=window,
        strides=strides,
        input_dilation=holes,
        kernel_dilation=dilation,
    )
    modes = paddings.modes(function, padding_mode, len(window))
    if any(m != "constant" and d != 1 for m, d in zip(modes, holes, strict=True)):
        _checks.fail(
            function,
            "padding_mode",
            padding_mode,
            f"must be 'constant' where `input_dilation` (={holes}) inserts zeros",
        )
    geometry = Geometry(strides, pairs, holes, dilation)
    _check_fits(names, geometry, space, window, empty)
    extension, rest = paddings.split_extension(function, pairs, modes, space)
    return Geometry(strides, rest, holes, dilation), _if_any(extension), modes


def _if_any(extension: tuple[Pair, ...]) -> tuple[Pair, ...]:
    return extension if any(pair != (0, 0) for pair in extension) else ()


def check_window(names: Names, window: Shape) -> None:
    """Refuse kernels without taps."""
    if any(certainly(operator.eq, k, 0) for k in window):
        rule = "must have at least one tap on every spatial axis"
        _checks.fail(names.function, names.kernel, tuple(window), rule)


def _check_pointwise(names: Names, layout: Layout, kernel: Shape, larger: str) -> None:
    """Refuse kernels that have spatial extent."""
    if any(extent != 1 for extent in layout.kernel.sizes(kernel, "space")):
        rule = "must have extent 1 on every spatial axis"
        hint = f"For larger kernels use `{larger}`."
        _checks.fail(names.function, names.kernel, tuple(kernel), rule, hint)


def _check_fits(names: Names, geometry: Geometry, space: Shape, window: Shape, empty: bool) -> None:
    """Refuse kernels that do not fit the padded input; only empty inputs have empty outputs."""
    if empty:
        return
    for axis, size in enumerate(geometry.output_space(tuple(space), tuple(window))):
        if not certainly(operator.eq, size, 0):
            continue
        dilation = geometry.kernel_dilation[axis]
        reach = (window[axis] - 1) * dilation + 1
        _checks.fail(
            names.function,
            names.kernel,
            tuple(window),
            f"is larger than the padded input on spatial axis {axis}: it reaches over {reach} "
            f"elements{f' (kernel_dilation {dilation})' if dilation > 1 else ''}, and the input "
            f"has {space[axis]} with padding {geometry.padding[axis]}",
            'Use a smaller kernel, or more padding, such as `padding="SAME"`.',
        )


# ---- operands ------------------------------------------------------------------------------------


def check_operands(names: Names, x: Any, kernel: Any) -> Any:
    """Refuse operands that are no arrays of one rank and dtype; the dtype in which JAX has them."""
    function = names.function
    _checks.array(function, names.x, x)
    _checks.array(function, names.kernel, kernel)
    if kernel.ndim < 3:
        _checks.fail(
            function,
            names.kernel,
            tuple(kernel.shape),
            "must have at least one spatial axis besides its two channel axes",
            "Its shape is (*kernel_size, in_features / groups, out_features).",
        )
    if x.ndim != kernel.ndim:
        hint = f"The kernel's {kernel.ndim} axes make this a {kernel.ndim - 2}-D convolution"
        if x.ndim == kernel.ndim - 1:
            hint += f"; for one example without a batch axis use `jax.vmap` or `{names.x}[None]`."
        else:
            hint += (
                f", so `{names.x}` needs a batch axis, {kernel.ndim - 2} spatial axes and channels."
            )
        _checks.fail(function, names.x, tuple(x.shape), f"must have {kernel.ndim} axes", hint)
    return check_dtypes(names, x, kernel)


def check_dtypes(names: Names, x: Any, kernel: Any) -> Any:
    """Refuse operands of two dtypes, or of none that is numeric; return the one."""
    x_type, kernel_type = _dtype(x), _dtype(kernel)
    for name, dtype in ((names.x, x_type), (names.kernel, kernel_type)):
        if not _is_numeric(dtype):
            rule = "must have a numeric dtype"
            _checks.fail_type(names.function, name, str(dtype), rule, "Cast it first.")
    if x_type != kernel_type:
        raise TypeError(
            f"{names.function}: `{names.x}` ({x_type}) and `{names.kernel}` ({kernel_type}) must "
            f"have one dtype. Cast one of them, for example `{names.kernel}.astype({names.x}."
            "dtype)`."
        )
    return x_type


def _dtype(x: Any) -> Any:
    """The dtype of `x` as JAX has it."""
    return x.dtype if isinstance(x, jax.Array) else jax.dtypes.canonicalize_dtype(x.dtype)


@functools.lru_cache(maxsize=64)
def _is_numeric(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.number))


def _check_groups(names: Names, layout: Layout, x: Shape, kernel: Shape, groups: Any) -> int:
    """`groups` after checking it against the channels of x and kernel (I/G, O)."""
    function = names.function
    groups = _checks.integer(function, names.groups, groups, minimum=1)
    (channel,), (per_group,) = layout.x.contract, layout.kernel.sizes(kernel, "contract")
    (out,), channels = layout.kernel.sizes(kernel, "out"), x[channel]
    expected = per_group * groups
    hint = ""
    if channels != expected:
        others = [axis for axis in layout.x.space if x[axis] == expected]
        if others and channel == len(x) - 1 and others[0] == 1:
            triple = ("NCHW", "OIHW", "NCHW") if len(x) == 4 else ("NC...", "OI...", "NC...")
            hint = (
                f"`{names.x}` looks channels-first: move its channels last, or pass "
                f"`dimension_numbers={triple}`."
            )
        elif others:
            hint = f"`{names.x}` looks channels-last: drop `dimension_numbers`, or transpose "
            hint += f"`{names.x}`."
    if channels % groups:
        rule = f"must divide the channels of `{names.x}` (={channels})"
        _checks.fail(function, names.groups, groups, rule, hint)
    if channels != expected:
        if not hint and per_group == channels and groups > 1:
            hint = "A grouped kernel's input axis has in_features / groups entries."
        _checks.fail(
            function,
            names.kernel,
            tuple(kernel),
            f"must have {channels // groups} input channels (the channels of `{names.x}`, "
            f"{channels}{f', over {groups} groups' if groups > 1 else ''}), not {per_group}",
            hint,
        )
    if out % groups:
        rule = f"must divide the output channels of `{names.kernel}` (={out})"
        _checks.fail(function, names.groups, groups, rule)
    return groups


def check_transposed_groups(
    names: Names, layout: Layout, y: Shape, kernel: Shape, groups: Any
) -> int:
    """`groups` after checking it against the channels of y and kernel (O/G, I)."""
    function = names.function
    groups = _checks.integer(function, names.groups, groups, minimum=1)
    (channels,), (expected,) = layout.x.sizes(y, "contract"), layout.kernel.sizes(kernel, "out")
    if channels != expected:
        (per_group,) = layout.kernel.sizes(kernel, "contract")
        hint = "The kernel is the forward one, (*K, out_features / groups, in_features)."
        if channels == per_group:
            hint += " Swap its last two axes." if layout.kernel.out[0] == len(kernel) - 1 else ""
        elif expected in layout.x.sizes(y, "space"):
            hint = f"The channels of `{names.x}` seem to be on a spatial axis: check "
            hint += "`dimension_numbers`."
        _checks.fail(
            function,
            names.kernel,
            tuple(kernel),
            f"must have the {channels} channels of `{names.x}` on its last channel axis, not "
            f"{expected}",
            hint,
        )
    if channels % groups:
        rule = f"must divide the channels of `{names.x}` (={channels})"
        _checks.fail(function, names.groups, groups, rule)
    return groups
