"""Every kind as the steps that it consists of: real functions, one after the other."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from convjax import _functional
from convjax._functional.stages import per_axis
from convjax.draw.window import Window, transposed_window_of, window_of
from convjax.kinds import Kind
from convjax.kinds._sizes import Sizes

Kernels = Sequence[jax.Array]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step: what it is called, what it computes, and the window that moves over its input.

    Attributes:
        name: in a few words.
        apply: from x (N, *space, I) and the kind's kernels to its result.
        window: from the extents of its input and of its result; None where no window moves.
        groups: how many groups its channels form.
    """

    name: str
    apply: Callable[[jax.Array, Kernels], jax.Array]
    window: Callable[[Sequence[int], Sequence[int]], Window | None] = lambda space, out: None
    groups: int = 1


def stages_of(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    """The steps of a kind with these sizes and options; applied in turn they equal its function."""
    return _STAGES.get(kind.name, _single)(kind, sizes, options)


def _convolving(
    name: str, size: Sequence[int], number: int, options: dict[str, Any], groups: int = 1
) -> Stage:
    """`conv` with the kernel of this number."""
    return Stage(
        name,
        lambda x, ks: _functional.conv(x, ks[number], feature_group_count=groups, **options),
        lambda space, out: window_of("arithmetic", space, size, **options),
        groups,
    )


def _single(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    """A kind that is one convolution."""
    size = sizes.ones if kind.name.startswith("pointwise") else sizes.kernel_size
    moves = dict(options)
    if kind.name == "dilated":
        moves["kernel_dilation"] = sizes.kernel_dilation
    if kind.name.startswith("pointwise"):
        moves["padding"] = "VALID"
    groups = {
        "dense": int(options.get("feature_group_count", 1)),
        "depthwise": sizes.in_features,
        "grouped": sizes.groups,
        "pointwise_grouped": sizes.groups,
    }.get(kind.name, 1)
    return [
        Stage(
            kind.name.replace("_", " "),
            lambda x, ks: kind.function(x, *kind.arguments(ks, sizes), **options),
            lambda space, out: window_of("arithmetic", space, size, **moves),
            groups,
        )
    ]


def _transposed(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    return [
        Stage(
            "transposed",
            lambda x, ks: _functional.conv_transpose(x, ks[0], **options),
            lambda space, out: transposed_window_of(
                "arithmetic", space, sizes.kernel_size, out, **options
            ),
            int(options.get("feature_group_count", 1)),
        )
    ]


def _spatially_separable(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    found = []
    for axis, own in enumerate(per_axis(kind.name, sizes.rank, options)):
        size = sizes.along(axis)
        found.append(_convolving("×".join(map(str, size)), size, axis, own))
    return found


def _depthwise_separable(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    return [
        _convolving("depthwise", sizes.kernel_size, 0, options, sizes.in_features),
        _convolving("pointwise", sizes.ones, 1, {"padding": "VALID"}),
    ]


def _flattened(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    found = [_convolving("lateral", sizes.ones, 0, {"padding": "VALID"})]
    for axis, own in enumerate(per_axis(kind.name, sizes.rank, options)):
        size = sizes.along(axis)
        name = "×".join(map(str, size))
        found.append(_convolving(name, size, axis + 1, own, sizes.out_features))
    return found


def _shuffle(sizes: Sizes) -> Stage:
    return Stage(
        "channel shuffle",
        lambda x, ks: _functional.channel_shuffle(x, sizes.groups),
        lambda space, out: window_of("arithmetic", space, sizes.ones, padding="VALID"),
        sizes.groups,
    )


def _channel_shuffle(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    return [_shuffle(sizes)]


def _shuffled_grouped(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    first = _convolving("grouped", sizes.kernel_size, 0, options, sizes.groups)
    return [first, _shuffle(sizes)]


def _resize(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    others = {name: value for name, value in options.items() if name != "method"}
    method = options.get("method", "nearest")
    return [
        Stage(f"resize {method}", lambda x, ks: _functional.resize(x, sizes.scale, method=method)),
        _convolving("convolution", sizes.kernel_size, 0, others),
    ]


def _pixels(sizes: Sizes) -> Stage:
    return Stage("pixel shuffle", lambda x, ks: _functional.pixel_shuffle(x, sizes.scale))


def _pixel_shuffle(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    return [_pixels(sizes)]


def _subpixel(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    return [_convolving("convolution", sizes.kernel_size, 0, options), _pixels(sizes)]


def _hold(kind: Kind, sizes: Sizes, options: dict[str, Any]) -> list[Stage]:
    others = {name: value for name, value in options.items() if name != "order"}
    scale = (sizes.scale,) * sizes.rank if isinstance(sizes.scale, int) else sizes.scale
    size = [(int(options.get("order", 0)) + 1) * (extent - 1) + 1 for extent in scale]
    return [
        Stage(
            "hold",
            lambda x, ks: _functional.hold(x, sizes.scale, **options),
            lambda space, out: window_of(
                "arithmetic", space, size, **{"padding_mode": "edge", **others}
            ),
            sizes.in_features,
        )
    ]


_STAGES: dict[str, Callable[[Kind, Sizes, dict[str, Any]], list[Stage]]] = {
    "transposed": _transposed,
    "spatially_separable": _spatially_separable,
    "depthwise_separable": _depthwise_separable,
    "flattened": _flattened,
    "channel_shuffle": _channel_shuffle,
    "shuffled_grouped": _shuffled_grouped,
    "resize": _resize,
    "pixel_shuffle": _pixel_shuffle,
    "subpixel": _subpixel,
    "hold": _hold,
}
