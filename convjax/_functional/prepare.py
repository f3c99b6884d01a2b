"""From the arguments of a public function to a `Recipe`: every check, and no array operation.

Operands are anything that has a shape and a dtype. Each error is in the caller's words: `Names`.
"""

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from convjax._core import checks
from convjax._core import padding as paddings
from convjax._core.eager import once
from convjax._core.geometry import Geometry, Pair
from convjax._core.layout import Axes, Layout, layout_of
from convjax._core.options import DEFAULTS
from convjax._core.recipe import Recipe, Shape
from convjax._core.symbolic import certainly
from convjax._core.transposed_sizes import check_causal_mode, transposed_extents
from convjax._functional.numerics import accepted, numerics


class Names(NamedTuple):
    """The public function, and what it calls its operands and its groups."""

    function: str
    x: str = "x"
    kernel: str = "kernel"
    groups: str = "feature_group_count"
    form: str = ""  # of the kernel: "depthwise", "pointwise", or any
    larger: str = ""  # the function for kernels larger than pointwise ones


def conv_recipe(names: Names, x: Any, kernel: Any, options: Mapping[str, Any]) -> Recipe:
    """The recipe of `conv` on these operands, with these of its options."""
    dtype = check_operands(names, x, kernel)
    layout = layout_of(names.function, options.get("dimension_numbers"), kernel.ndim)
    return once(_resolved, names, layout, dtype, x=x.shape, kernel=kernel.shape, options=options)


def resolved(
    names: Names,
    layout: Layout,
    x: Shape,
    kernel: Shape,
    dtype: Any,
    options: Mapping[str, Any],
) -> Recipe:
    """The recipe of a convolution of operands of these shapes and of this dtype."""
    return once(_resolved, names, layout, dtype, x=tuple(x), kernel=tuple(kernel), options=options)


def _resolved(
    names: Names,
    layout: Layout,
    dtype: Any,
    x: Shape,
    kernel: Shape,
    options: Mapping[str, Any],
) -> Recipe:
    """`resolved`, whether or not it has been made before."""
    function, given = names.function, {**DEFAULTS, **options}
    space, window = layout.x.sizes(x, "space"), layout.kernel.sizes(kernel, "space")
    steps = spatial_steps(function, given, len(window))
    if names.form == "pointwise":
        _check_pointwise(names, kernel, window)
    if names.form == "depthwise":
        groups = check_depthwise(names, layout, x, kernel)
    else:
        groups = _check_groups(names, layout, x, kernel, given["feature_group_count"])
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
    return once(_transposed, names, layout, dtype, x=y.shape, kernel=kernel.shape, options=options)


def _transposed(
    names: Names,
    layout: Layout,
    dtype: Any,
    y: Shape,
    kernel: Shape,
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
        checks.ints(function, name, given[name], rank, minimum=1)
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
        checks.fail(
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
        checks.fail(names.function, names.kernel, tuple(window), rule)


def _check_pointwise(names: Names, kernel: Shape, window: Shape) -> None:
    """Refuse kernels that have spatial extent."""
    if any(extent != 1 for extent in window):
        rule = f"must have extent 1 on every spatial axis, not {tuple(window)}"
        hint = f"For larger kernels use `{names.larger}`."
        checks.fail(names.function, names.kernel, tuple(kernel), rule, hint)


def _check_fits(names: Names, geometry: Geometry, space: Shape, window: Shape, empty: bool) -> None:
    """Refuse kernels that do not fit the padded input; only empty inputs have empty outputs."""
    if empty:
        return
    for axis, size in enumerate(geometry.output_space(tuple(space), tuple(window))):
        if not certainly(operator.eq, size, 0):
            continue
        dilation = geometry.kernel_dilation[axis]
        reach = (window[axis] - 1) * dilation + 1
        checks.fail(
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
    return checks.operands(names.function, names.x, names.kernel, x, kernel)


def check_depthwise(names: Names, layout: Layout, x: Shape, kernel: Shape) -> int:
    """The channels of x, each of which must have M kernels: one input channel, C*M outputs."""
    (channels,), space = layout.x.sizes(x, "contract"), layout.x.sizes(x, "space")
    (per_group,), (out,) = (layout.kernel.sizes(kernel, role) for role in ("contract", "out"))
    if per_group == 1 and channels > 0 and out % channels == 0:
        return channels
    hint = ""
    if per_group == channels:
        hint = f"Reshape TensorFlow's (*K, {channels}, M) to (*K, 1, {channels}*M)."
    elif any(extent and out % extent == 0 for extent in space):
        hint = "`x` looks as if its channels were on another axis: see `dimension_numbers`."
    rule = (
        f"must have 1 input channel and a multiple of {channels} output channels, as `x` has "
        f"{channels}, not {per_group} and {out}"
    )
    checks.fail(names.function, names.kernel, tuple(kernel), rule, hint)


def _check_groups(names: Names, layout: Layout, x: Shape, kernel: Shape, groups: Any) -> int:
    """`groups` after checking it against the channels of x and kernel (I/G, O)."""
    function = names.function
    groups = checks.integer(function, names.groups, groups, minimum=1)
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
        checks.fail(function, names.groups, groups, rule, hint)
    if channels != expected:
        if not hint and per_group == channels and groups > 1:
            hint = "A grouped kernel's input axis has in_features / groups entries."
        checks.fail(
            function,
            names.kernel,
            tuple(kernel),
            f"must have {channels // groups} input channels (the channels of `{names.x}`, "
            f"{channels}{f', over {groups} groups' if groups > 1 else ''}), not {per_group}",
            hint,
        )
    if out % groups:
        rule = f"must divide the output channels of `{names.kernel}` (={out})"
        checks.fail(function, names.groups, groups, rule)
    return groups


def check_transposed_groups(
    names: Names, layout: Layout, y: Shape, kernel: Shape, groups: Any
) -> int:
    """`groups` after checking it against the channels of y and kernel (O/G, I)."""
    function = names.function
    groups = checks.integer(function, names.groups, groups, minimum=1)
    (channels,), (expected,) = layout.x.sizes(y, "contract"), layout.kernel.sizes(kernel, "out")
    if channels != expected:
        (per_group,) = layout.kernel.sizes(kernel, "contract")
        hint = "The kernel is the forward one, (*K, out_features / groups, in_features)."
        if channels == per_group:
            hint += " Swap its last two axes." if layout.kernel.out[0] == len(kernel) - 1 else ""
        elif expected in layout.x.sizes(y, "space"):
            hint = f"The channels of `{names.x}` seem to be on a spatial axis: check "
            hint += "`dimension_numbers`."
        checks.fail(
            function,
            names.kernel,
            tuple(kernel),
            f"must have the {channels} channels of `{names.x}` on its last channel axis, not "
            f"{expected}",
            hint,
        )
    if channels % groups:
        rule = f"must divide the channels of `{names.x}` (={channels})"
        checks.fail(function, names.groups, groups, rule)
    return groups
