"""Kernels from and to other frameworks: one table of layouts, and one rule to read it.

A layout says in which order a framework stores a kernel's axes, and which of its two channel axes
spans all groups (the other counts the channels of one group). It also says whether the framework
reverses the kernel along its spatial axes, compared with ours. Every kernel is read into
``(*K, G, I/G, O/G)`` and written out of it. Only numpy is used; values are copied, never rounded.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, Unpack, get_args, overload

import numpy as np

from convjax._core import checks
from convjax._core.aliases import AnyArray, Ints
from convjax._core.public import public
from convjax.interop.arrays import FRAMEWORKS, checked
from convjax.interop.channels import reordered


class Layout(NamedTuple):
    """How a kernel is stored.

    Attributes:
        axes: its axes: K for all the spatial ones, I input channels, O output channels (those of
            the layer), G the groups where they have an axis of their own.
        whole: the channel axis that spans all groups; the other one counts those of one group.
        reversed: whether its spatial axes run against ours.
        grouped: whether the framework has groups here.
    """

    axes: str
    whole: str
    reversed: bool = False
    grouped: bool = True


# ours; conv_transpose takes the kernel of the convolution that it transposes
FORWARD, ADJOINT = Layout("KIO", "O"), Layout("KOI", "I")

# per framework: a convolution's kernel, a transposed one's, and a depthwise one's
_TORCH = (Layout("OIK", "O"), Layout("IOK", "I"), Layout("OIK", "O"))
_TENSORFLOW = (FORWARD, ADJOINT._replace(grouped=False), Layout("KGO", "O"))
_FLAX = (FORWARD, FORWARD._replace(reversed=True), FORWARD)
LAYOUTS: dict[str, tuple[Layout, Layout, Layout]] = {
    "convjax": (FORWARD, ADJOINT, FORWARD),
    "torch": _TORCH,
    "tensorflow": _TENSORFLOW,
    "keras": _TENSORFLOW,
    "equinox": (Layout("OIK", "O"), Layout("OIK", "O", reversed=True), Layout("OIK", "O")),
    "haiku": (FORWARD, Layout("KOI", "I", reversed=True, grouped=False), FORWARD),
    "flax": _FLAX,
    "lax": _FLAX,
}
# the kinds of `convjax.kinds`; those with several kernels are a sequence of the others
SingleKind: TypeAlias = Literal[
    "dense",
    "dilated",
    "grouped",
    "shuffled_grouped",
    "resize",
    "subpixel",
    "pointwise",
    "pointwise_grouped",
    "depthwise",
    "transposed",
]
StagedKind: TypeAlias = Literal["depthwise_separable", "spatially_separable", "flattened"]
SINGLE_KINDS, STAGED_KINDS = get_args(SingleKind), get_args(StagedKind)
_POINTWISE_KINDS = ("pointwise", "pointwise_grouped")


class KernelOptions(TypedDict, total=False):
    """The options of `kernel_from` and `kernel_to`."""

    groups: int | None
    transpose_kernel: bool | None
    scale: Ints | None


@overload
def kernel_from(
    framework: str, kernel: AnyArray, kind: SingleKind, **options: Unpack[KernelOptions]
) -> np.ndarray: ...
@overload
def kernel_from(
    framework: str, kernel: Sequence[AnyArray], kind: StagedKind, **options: Unpack[KernelOptions]
) -> tuple[np.ndarray, ...]: ...
@overload
def kernel_from(
    framework: str,
    kernel: AnyArray | Sequence[AnyArray],
    kind: str,
    **options: Unpack[KernelOptions],
) -> np.ndarray | tuple[np.ndarray, ...]: ...


@public
def kernel_from(
    framework: str,
    kernel: AnyArray | Sequence[AnyArray],
    kind: str,
    *,
    groups: int | None = None,
    transpose_kernel: bool | None = None,
    scale: Ints | None = None,
) -> np.ndarray | tuple[np.ndarray, ...]:
    """A kernel of another framework as the kernel that convjax's function of this kind takes.

    Args:
        framework: "torch", "tensorflow", "keras", "equinox", "haiku", "flax" or "lax".
        kernel: the framework's array. For a kind with several kernels, a sequence of them.
        kind: a name of ``convjax.kinds.KINDS``, such as "dense", "depthwise" or "transposed".
        groups: G, by which the channels of the layer are divided (None: 1); never guessed from
            shapes. Of a depthwise kernel, the number of input channels; None leaves it open.
        transpose_kernel: of Flax's and lax's transposed convolutions, what the layer was given
            (their default is False); no other layout has it.
        scale: r of a "subpixel" kernel of TensorFlow or Keras, whose `depth_to_space` has another
            order of channels than ours, which is PyTorch's.

    Returns:
        The kernel: ``(*K, I/G, O)``; ``(*K, O/G, I)`` if `kind` is "transposed"; ``(*K, 1, I*M)``
        if it is "depthwise". For a kind with several kernels, a tuple of them.

    Raises:
        ValueError: an unknown word; a kernel that cannot be of this kind; groups that do not
            divide its channels, or that the framework does not have.
        TypeError: not arrays, not integers.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> interop.kernel_from("torch", np.ones((32, 8, 3, 3)), "grouped", groups=2).shape
        (3, 3, 8, 32)
        >>> interop.kernel_from("torch", np.ones((16, 4, 3, 3)), "transposed", groups=2).shape
        (3, 3, 4, 16)
        >>> interop.kernel_from("equinox", np.ones((8, 8, 3, 3)), "transposed", groups=2).shape
        (3, 3, 4, 16)
        >>> interop.kernel_from("keras", np.ones((3, 3, 16, 2)), "depthwise").shape
        (3, 3, 1, 32)
    """
    function = "kernel_from"
    source = _layouts(function, framework, kind, transpose_kernel)
    target = LAYOUTS["convjax"]
    return _convert(function, framework, kernel, kind, source, target, groups, scale, inward=True)


@overload
def kernel_to(
    framework: str, kernel: AnyArray, kind: SingleKind, **options: Unpack[KernelOptions]
) -> np.ndarray: ...
@overload
def kernel_to(
    framework: str, kernel: Sequence[AnyArray], kind: StagedKind, **options: Unpack[KernelOptions]
) -> tuple[np.ndarray, ...]: ...
@overload
def kernel_to(
    framework: str,
    kernel: AnyArray | Sequence[AnyArray],
    kind: str,
    **options: Unpack[KernelOptions],
) -> np.ndarray | tuple[np.ndarray, ...]: ...


@public
def kernel_to(
    framework: str,
    kernel: AnyArray | Sequence[AnyArray],
    kind: str,
    *,
    groups: int | None = None,
    transpose_kernel: bool | None = None,
    scale: Ints | None = None,
) -> np.ndarray | tuple[np.ndarray, ...]:
    """A kernel of convjax in another framework's layout: the inverse of `kernel_from`.

    Args:
        framework, kind, transpose_kernel, scale: as for `kernel_from`.
        kernel: the kernel that convjax's function of this kind takes, or a sequence of them.
        groups: G. A depthwise kernel needs it for TensorFlow and Keras, whose shape (*K, I, M)
            tells its input channels from its multiplier; ours (*K, 1, I*M) does not.

    Returns:
        The array in the framework's layout; for a kind with several kernels, a tuple of them.

    Raises:
        ValueError: as `kernel_from`.
        TypeError: as `kernel_from`.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> interop.kernel_to("torch", np.ones((3, 3, 8, 32)), "grouped", groups=2).shape
        (32, 8, 3, 3)
        >>> interop.kernel_to("keras", np.ones((3, 3, 1, 32)), "depthwise", groups=16).shape
        (3, 3, 16, 2)
    """
    function = "kernel_to"
    source = LAYOUTS["convjax"]
    target = _layouts(function, framework, kind, transpose_kernel)
    return _convert(function, framework, kernel, kind, source, target, groups, scale, inward=False)


def _layouts(
    function: str, framework: Any, kind: Any, transpose_kernel: bool | None
) -> tuple[Layout, Layout, Layout]:
    """The three layouts of `framework`, Flax's by what its layer was given."""
    checks.choice(function, "framework", framework, FRAMEWORKS)
    forward, transposed, depthwise = LAYOUTS[framework]
    flax = framework in ("flax", "lax")
    if flax and kind == "transposed":
        if not isinstance(transpose_kernel, (bool, np.bool_)):
            checks.fail(
                function,
                "transpose_kernel",
                transpose_kernel,
                f"must be True or False for a transposed kernel of {framework}",
                f"Give what the layer was given; {framework}'s own default is False.",
            )
        transposed = ADJOINT if transpose_kernel else transposed
    elif transpose_kernel is not None:
        rule = "is an option of the transposed kernels of flax and lax only"
        checks.fail(function, "transpose_kernel", transpose_kernel, rule)
    return forward, transposed, depthwise


def _convert(
    function: str,
    framework: str,
    kernel: Any,
    kind: Any,
    source: tuple[Layout, Layout, Layout],
    target: tuple[Layout, Layout, Layout],
    groups: int | None,
    scale: Any,
    *,
    inward: bool,
) -> Any:
    if isinstance(kind, str) and kind in ("channel_shuffle", "pixel_shuffle", "hold"):
        checks.fail(function, "kind", kind, "has no kernel")
    checks.choice(function, "kind", kind, (*SINGLE_KINDS, *STAGED_KINDS))
    if groups is not None:
        groups = checks.integer(function, "groups", groups, minimum=1)
    if kind in STAGED_KINDS:
        if groups is not None and kind == "spatially_separable":
            checks.fail(function, "groups", groups, f'is no option of the kind "{kind}"')
        if not isinstance(kernel, Sequence):
            rule = f'must be a sequence of kernels for the kind "{kind}"'
            checks.fail_type(function, "kernel", type(kernel).__name__, rule)
        stages = _stages(function, kind, len(kernel))
        return tuple(
            _convert(
                function,
                framework,
                part,
                stage,
                source,
                target,
                groups if stage == "depthwise" else None,
                None,
                inward=inward,
            )
            for part, stage in zip(kernel, stages, strict=True)
        )
    which = {"transposed": 1, "depthwise": 2}.get(kind, 0)
    reorders = kind == "subpixel" and framework in ("tensorflow", "keras")
    if reorders and scale is None:
        rule = f"must be given: {framework}'s depth_to_space has another order of channels"
        checks.fail(function, "scale", scale, rule)
    if scale is not None and not reorders:
        rule = 'is an option of the kind "subpixel" of tensorflow and keras only'
        checks.fail(function, "scale", scale, rule)
    if groups is not None and groups > 1 and not (source[which].grouped and target[which].grouped):
        checks.fail(
            function,
            "groups",
            groups,
            f"must be 1: transposed convolutions of {framework} have no groups",
            "`convjax.equivalents.grouped` makes the dense kernel that equals a grouped one.",
        )
    if groups is None and "G" in target[which].axes:
        rule = "must be given, the number of input channels, to tell it from the multiplier"
        checks.fail(function, "groups", groups, rule)
    result = _write(_read(function, kernel, kind, source[which], groups), target[which])
    if reorders:
        rank = result.ndim - 2
        result = reordered(function, result, scale, rank, -1, space_first=inward)
    return result


def _stages(function: str, kind: str, count: int) -> tuple[str, ...]:
    """The kinds of the kernels of which `kind` has several."""
    wanted, fits = {
        "depthwise_separable": ("2 kernels", count == 2),
        "spatially_separable": ("1 or more kernels", count >= 1),
        "flattened": ("2 or more kernels", count >= 2),
    }[kind]
    if not fits:
        checks.fail(function, "kernel", count, f'must be {wanted} for the kind "{kind}"')
    if kind == "depthwise_separable":
        return "depthwise", "pointwise"
    if kind == "flattened":
        return ("pointwise", *("depthwise",) * (count - 1))
    return ("dense",) * count


def _read(function: str, kernel: Any, kind: str, layout: Layout, groups: int | None) -> np.ndarray:
    """``(*K, G, I/G, O/G)`` from `kernel` in `layout`."""
    kernel = checked(function, "kernel", kernel)
    shown = " ".join("*K" if letter == "K" else letter for letter in layout.axes)
    if kernel.ndim < 3:
        checks.fail(
            function,
            "kernel",
            kernel.shape,
            "must have at least one spatial axis in addition to its two channel axes",
            f"The order of its axes is ({shown}).",
        )
    rank = kernel.ndim - 2
    first = layout.axes.index("K")
    position = {
        letter: index + (rank - 1 if index > first else 0)
        for index, letter in enumerate(layout.axes)
    }
    space = tuple(range(first, first + rank))
    if "G" in layout.axes:
        kernel = np.transpose(kernel, (*space, position["G"], position["O"]))[..., None, :]
        if groups not in (None, kernel.shape[-3]):
            rule = f"must be the input channels of the depthwise kernel (={kernel.shape[-3]})"
            checks.fail(function, "groups", groups, rule)
    else:
        part = "I" if layout.whole == "O" else "O"
        kernel = np.transpose(kernel, (*space, position[part], position[layout.whole]))
        *window, per_group, channels = kernel.shape
        groups = groups or 1
        if channels % groups:
            rule = f"must divide the channels on the axis {layout.whole} of ({shown})"
            checks.fail(function, "groups", groups, f"{rule} (={channels})")
        kernel = kernel.reshape(*window, per_group, groups, channels // groups)
        kernel = np.moveaxis(kernel, -2, -3)
        if layout.whole == "I":
            kernel = np.swapaxes(kernel, -1, -2)
    if kind in _POINTWISE_KINDS and prod(kernel.shape[:rank]) != 1:
        rule = f'must have a window of one tap for the kind "{kind}", not {kernel.shape[:rank]}'
        checks.fail(function, "kernel", kernel.shape[:rank], rule)
    if kind == "depthwise" and kernel.shape[-2] != 1:
        rule = f"must have one input channel per group to be depthwise, not {kernel.shape[-2]}"
        hint = f'The order of its axes is ({shown}). Otherwise its kind is "grouped" or "dense".'
        checks.fail(function, "kernel", kernel.shape, rule, hint)
    return np.flip(kernel, tuple(range(rank))) if layout.reversed else kernel


def _write(kernel: np.ndarray, layout: Layout) -> np.ndarray:
    """`kernel`, ``(*K, G, I/G, O/G)``, in `layout`: a new array in C order."""
    rank = kernel.ndim - 3
    kernel = np.flip(kernel, tuple(range(rank))) if layout.reversed else kernel
    space = tuple(range(rank))
    if "G" in layout.axes:
        return np.array(kernel[..., 0, :], order="C")
    kernel = np.swapaxes(kernel, -1, -2) if layout.whole == "I" else kernel
    kernel = np.moveaxis(kernel, -3, -2)  # (*K, per group, G, rest of the whole axis)
    kernel = kernel.reshape(*kernel.shape[:-2], -1)
    part = "I" if layout.whole == "O" else "O"
    axes = {"K": space, part: (rank,), layout.whole: (rank + 1,)}
    return np.array(
        np.transpose(kernel, [axis for letter in layout.axes for axis in axes[letter]]), order="C"
    )
