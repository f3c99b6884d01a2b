"""Layers as boxes: `layer` for the steps of one, `network` for all of a network's convolutions."""

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from convjax._core import checks
from convjax._programs.cost_of import CostRow, cost_of
from convjax.draw import colours
from convjax.draw.drawing import Drawing
from convjax.draw.scene import Item, Path, Rect, Text, fitted
from convjax.draw.stages import stages_of
from convjax.draw.worked import configured, in_the_name_of, kernel_shapes

_SLANT = 0.55  # of a box's depth, to the right and upward
_MOST_ROWS = 160
_FILTERS = 4  # that are drawn


@dataclasses.dataclass(frozen=True)
class Operation:
    """One convolution or dense layer, as its cost row tells it.

    Attributes:
        name: in words, such as "3×3".
        space, channels: of its input; `out_space` and `features` of its result.
        window: taps; () for a dense layer.
        groups: of its channels.
        params, macs: weights, and multiply-accumulates.
        count: how often it runs.
    """

    name: str
    space: tuple[int, ...]
    channels: int
    out_space: tuple[int, ...]
    features: int
    window: tuple[int, ...]
    groups: int
    params: int
    macs: int
    count: int = 1

    @property
    def filter(self) -> str:
        """The extents of one of its filters: "3×3×64"."""
        return times((*self.window, self.channels // self.groups))


def times(extents: Sequence[int]) -> str:
    """Extents in words: "3×3×64"."""
    return "×".join(map(str, extents))


def operations(rows: Sequence[CostRow], rank: int) -> list[Operation]:
    """The convolutions and dense layers of a cost table, channels last."""
    found = []
    for row in rows:
        x, kernel, out = row.shapes
        if row.name == "dot_general":
            found.append(
                Operation("dense", (), x[-1], (), out[-1], (), 1, prod(kernel), row.macs, row.count)
            )
            continue
        split = len(x) == rank + 3  # (N, *space, G, I): the library's own, with groups
        groups = x[-2] if split else max(x[-1] // kernel[-2], 1)
        channels, features = (prod(shape[rank + 1 :]) for shape in (x, out))
        found.append(
            Operation(
                times(kernel[:rank]),
                tuple(x[1 : rank + 1]),
                channels,
                tuple(out[1 : rank + 1]),
                features,
                tuple(kernel[:rank]),
                groups,
                prod(kernel),
                row.macs,
                row.count,
            )
        )
    return found


def layer(
    layer: Any,
    input_size: Any,
    kernel_size: Any = 3,
    *,
    in_features: int | None = None,
    out_features: int | None = None,
    channel_multiplier: int = 1,
    scale: Any = 2,
    title: str = "",
    **options: Any,
) -> Drawing:
    """Draw a layer as boxes: what enters, its filters, and what leaves, with shapes and costs.

    The real function gives the shapes, and `convjax.cost_of` counts its MACs. Channels and filters
    have the colour of their group.

    Args:
        layer: the name of a kind in ``convjax.kinds.KINDS``, or a function of one array (a module
            of `convjax.nn` is one) whose convolutions are drawn.
        input_size: extents of a kind's input; the whole shape (N, *space, C) for a function.
        kernel_size, in_features, out_features, channel_multiplier, scale, options: of a kind, as
            in `arithmetic`.
        title: the heading; "" makes one.

    Returns:
        A `Drawing`; its `details` is a list of `Operation`, one per convolution.

    Raises:
        ValueError: what `arithmetic` raises, but for the number of cells; a function without
            convolutions.

    Example:
        >>> from convjax import draw
        >>> drawing = draw.layer(
        ...     "depthwise_separable", (7, 7), 3, in_features=3, out_features=128, padding="VALID"
        ... )
        >>> [operation.macs for operation in drawing.details]
        [675, 9600]

    Source: the diagrams of Howard et al., MobileNets, 2017, figure 2,
        https://arxiv.org/abs/1704.04861
    """
    note = ""
    if isinstance(layer, str):
        with in_the_name_of("layer"):
            shapes, found, note = _steps_of_kind(
                layer,
                input_size,
                kernel_size,
                in_features=in_features,
                out_features=out_features,
                channel_multiplier=channel_multiplier,
                scale=scale,
                **options,
            )
        title = title or layer.replace("_", " ")
    else:
        shape = checks.ints("layer", "input_size", input_size, len(tuple(input_size)), minimum=1)
        counted = cost_of(layer, jax.ShapeDtypeStruct(shape, jnp.float32))
        rows = operations(counted.rows, len(shape) - 2)
        if not rows:
            checks.fail("layer", "layer", layer, "must contain a convolution")
        found = [(row.name, row) for row in rows]
        shapes = [(1, *row.space, row.channels) for row in rows]
        shapes.append((1, *rows[-1].out_space, rows[-1].features))
        title = title or type(layer).__name__
    known = [operation for _, operation in found if operation is not None]
    items = list(_chain(shapes, found))
    macs, params = sum(o.macs for o in known), sum(o.params for o in known)
    title = f"{title}: {times(shapes[0][1:])} → {times(shapes[-1][1:])}"
    words = f"{title}. {params:,} weights, {macs:,} multiply-accumulates."
    bottom = max(item.bounds()[3] for item in items) + 30
    total = f"{params:,} weights, {macs:,} MACs"
    items.append(Text(0, bottom, total, "ink", 13, "start", bold=True))
    return Drawing(fitted(title, words, items, note=note), last=len(found), details=known)


def _steps_of_kind(
    kind: str, input_size: Any, kernel_size: Any, **options: Any
) -> tuple[list[tuple[int, ...]], list[tuple[str, Operation | None]], str]:
    """Shapes from the input to the result, the steps between them, and the call in words."""
    row, sizes, given, call = configured(kind, input_size, kernel_size, **options)
    kernels = [
        jax.ShapeDtypeStruct(shape, jnp.float32) for shape in kernel_shapes(row, sizes, given)
    ]
    shapes: list[tuple[int, ...]] = [(1, *sizes.space, row.in_features(sizes))]
    found: list[tuple[str, Operation | None]] = []
    for stage in stages_of(row, sizes, given):
        x = jax.ShapeDtypeStruct(shapes[-1], jnp.float32)
        result = jax.eval_shape(stage.apply, x, kernels)
        rows = operations(cost_of(stage.apply, x, kernels).rows, sizes.rank)
        whole = None
        if rows:  # one convolution; the hold has one per axis, of kernels that are no weights
            whole = dataclasses.replace(
                rows[0],
                window=tuple(
                    max(extents) for extents in zip(*(r.window for r in rows), strict=True)
                ),
                params=sum(r.params for r in rows) if kernels else 0,
                macs=sum(r.macs for r in rows),
            )
        shapes.append(tuple(result.shape))
        found.append((stage.name, whole))
    return shapes, found, call


def _chain(
    shapes: Sequence[Sequence[int]], found: Sequence[tuple[str, Operation | None]]
) -> Iterator[Item]:
    """Boxes from left to right, filters between them, words below."""
    left, base = 0.0, 150.0
    largest = max(max(shape[1:-1], default=1) for shape in shapes)
    most = max(shape[-1] for shape in shapes)
    halves = [_box_size(shape, largest, most)[1] / 2 for shape in shapes]
    halves += [_stack(o, largest, most) / 2 for _, o in found if o is not None]
    floor = base + max(halves)  # below all boxes
    for number, shape in enumerate(shapes):
        before = found[number - 1][1] if number else None
        after = found[number][1] if number < len(found) else None
        groups = max((o.groups for o in (before, after) if o is not None), default=1)
        if number and before is not None and before.groups == 1:
            groups = 1  # whatever reads them now, their channels are mixed
        wide, high, deep = _box_size(shape, largest, most)
        role = "output" if number == len(found) else "input"
        yield from box(left, base - high / 2, wide, high, deep, groups, role)
        right = left + wide + deep * _SLANT
        middle = left + (wide + deep * _SLANT) / 2
        yield Text(middle, floor + 24, times(shape[1:]), "ink", 13, bold=True)
        left = right + 26
        if number == len(found):
            break
        name, operation = found[number]
        if operation is None:
            yield Path(((left, base), (left + 60, base)), "arrow", arrow=True)
            yield Text(left + 30, floor + 42, name, "quiet", 12)
            left += 86
            continue
        left = yield from _filters(left, base, floor, name, operation, largest, most)


def _filters(
    left: float,
    base: float,
    floor: float,
    name: str,
    operation: Operation,
    largest: int,
    most: int,
) -> Generator[Item, None, float]:
    """A few of the filters of an operation, and what it costs; returns where they end."""
    each = (1, *operation.window, operation.channels // operation.groups)
    wide, high, deep = _box_size(each, largest, most)
    shown = min(operation.features, _FILTERS)
    step = _step(high, deep)
    width = max(wide + deep * _SLANT, 92)
    for number in range(shown):
        group = number if operation.groups >= shown else number * operation.groups // shown
        role = colours.group_role(group) if operation.groups > 1 else "kernel"
        top = base + (number - (shown - 1) / 2) * step - high / 2
        shift = (width - wide - deep * _SLANT) / 2
        yield from box(left + shift, top, wide, high, deep, 1, role)
    middle = left + width / 2
    words = [
        f"{operation.features} filter{'s' if operation.features > 1 else ''} {operation.filter}",
        *([f"{operation.groups} groups"] if operation.groups > 1 else []),
        f"{operation.params:,} weights",
        f"{operation.macs:,} MACs",
    ]
    yield Text(middle, floor + 42, name, "quiet", 12)
    for row, line in enumerate(words):
        yield Text(middle, floor + 60 + 16 * row, line, "quiet", 11)
    yield Path(((left + width + 6, base), (left + width + 34, base)), "arrow", arrow=True)
    return left + width + 44


def _step(high: float, deep: float) -> float:
    """From one filter to the next below it."""
    return max(high + deep * _SLANT + 8, 20)


def _stack(operation: Operation, largest: int, most: int) -> float:
    """How high the filters that are drawn stand."""
    each = (1, *operation.window, operation.channels // operation.groups)
    _, high, deep = _box_size(each, largest, most)
    return (min(operation.features, _FILTERS) - 1) * _step(high, deep) + high


def _box_size(shape: Sequence[int], largest: int, most: int) -> tuple[float, float, float]:
    """Width, height and depth of a box for (N, *space, C), in pixels."""
    *space, channels = shape[1:]
    scale = 96 / max(largest, 1)
    wide = max(space[-1] * scale, 5) if space else 8.0
    high = max(space[-2] * scale, 5) if len(space) > 1 else 12.0
    deep = 8 + 70 * (channels / most) ** 0.5 if channels > 1 else 8.0
    return wide, high, deep


def box(
    left: float, top: float, wide: float, high: float, deep: float, groups: int, role: str
) -> Iterator[Item]:
    """A box whose depth is its channels, in slices of one colour per group, the first in front."""
    slices = min(groups, 16)
    step = deep * _SLANT / slices
    for number in reversed(range(slices)):
        name = colours.group_role(number) if groups > 1 else role
        x, y = left + number * step, top - number * step
        above = ((x, y), (x + step, y - step), (x + wide + step, y - step), (x + wide, y))
        beside = (
            (x + wide, y),
            (x + wide + step, y - step),
            (x + wide + step, y + high - step),
            (x + wide, y + high),
        )
        yield Path(above, name, closed=True)
        yield Path(beside, name, closed=True)
        if number == 0:
            yield Rect(x, y, wide, high, name, radius=0)


def network(network: Any, shape: Sequence[int], *, title: str = "") -> Drawing:
    """Draw all convolutions and dense layers of a network: shapes, groups, weights and MACs.

    One row for each in the order in which they run, as `convjax.cost_of` finds them in the real
    forward pass; equal ones that follow each other share a row.

    Args:
        network: a Flax NNX module, such as those of `convjax.models` (also one of
            ``nnx.eval_shape``, which has no weights), or a function of one array.
        shape: of the input, (N, *space, C).
        title: the heading; "" makes one.

    Returns:
        A `Drawing`; its `details` is a list of `Operation`.

    Raises:
        ValueError: no convolution or dense layer, or more than 160 different ones.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> from convjax import draw
        >>> fn = lambda x: convjax.grouped_conv(x, jnp.ones((3, 3, 2, 8)), 2)
        >>> [(row.groups, row.macs) for row in draw.network(fn, (1, 5, 5, 4)).details]
        [(2, 3600)]

    Source: the tables of layers of Krizhevsky, Sutskever & Hinton, ImageNet classification with
        deep convolutional neural networks, 2012, https://papers.nips.cc/paper/4824
    """
    shape = checks.ints("network", "shape", shape, len(tuple(shape)), minimum=1)
    if _is_module(network):
        from convjax.models import macs_of

        rows = macs_of(network, shape).rows
    else:
        rows = cost_of(network, jax.ShapeDtypeStruct(shape, jnp.float32)).rows
    found = operations(rows, len(shape) - 2)
    merged = _merged(found)
    if not merged or len(merged) > _MOST_ROWS:
        rule = f"has {len(merged)} different operations; 1 to {_MOST_ROWS} can be drawn"
        checks.fail("network", "network", type(network).__name__, rule)
    title = title or f"{type(network).__name__}, on {times(shape[1:])}"
    macs, params = sum(o.macs for o in found), sum(o.params for o in found)
    words = f"{title}: {len(found)} operations, {params:,} weights, {macs:,} multiply-accumulates."
    items = list(_table(merged))
    total = f"{params:,} weights, {macs:,} MACs"
    items.append(Text(0, 30 * len(merged) + 44, total, "ink", 13, "start", bold=True))
    return Drawing(fitted(title, words, items), details=found)


def _is_module(network: Any) -> bool:
    """Whether it is a Flax NNX module, without loading Flax for what is not."""
    return any(base.__module__.startswith("flax.nnx") for base in type(network).__mro__)


def _merged(found: Sequence[Operation]) -> list[tuple[Operation, int]]:
    """Equal operations that follow each other, and how many they are."""
    merged: list[tuple[Operation, int]] = []
    for operation in found:
        if merged and merged[-1][0] == operation:
            merged[-1] = operation, merged[-1][1] + 1
        else:
            merged.append((operation, 1))
    return merged


def _table(rows: Sequence[tuple[Operation, int]]) -> Iterator[Item]:
    """A row per operation: its box, what it is, its groups, and a bar for its MACs."""
    largest = max(operation.macs * count for operation, count in rows)
    wide = max(max(o.out_space, default=1) for o, _ in rows)
    for x, words in ((70, "operation"), (310, "result"), (500, "weights"), (520, "MACs")):
        yield Text(x, 4, words, "quiet", 11, "end" if words == "weights" else "start")
    for number, (operation, count) in enumerate(rows):
        y = 30.0 * number + 24
        side = 5 + 13 * (max(operation.out_space, default=1) / wide) ** 0.5
        deep = 3 + 2.2 * operation.features.bit_length()
        yield from box(0, y + 9 - side / 2, side, side, deep, operation.groups, "output")
        size = operation.name if operation.window else "dense"
        words = f"{size}, {operation.channels} → {operation.features}"
        words += f", {operation.groups} groups" * (operation.groups > 1)
        words += f" (×{count})" * (count > 1)
        yield Text(70, y + 10, words, "ink", 12.5, "start")
        result = times((*operation.out_space, operation.features))
        yield Text(310, y + 10, result, "quiet", 12, "start")
        yield Text(500, y + 10, f"{operation.params * count:,}", "quiet", 12, "end")
        bar = max(1.0, 170 * operation.macs * count / largest)
        yield Rect(520, y, bar, 12, "bar", f"m.{number}", radius=2)
        yield Text(526 + bar, y + 10, f"{operation.macs * count:,}", "quiet", 11, "start")
