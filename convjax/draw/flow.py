"""Where things come from: `connectivity` of channels, `overlap` of paint, `receptive_field`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from convjax import analysis
from convjax._core import checks
from convjax.draw import colours
from convjax.draw.drawing import Drawing
from convjax.draw.heat import grid
from convjax.draw.scene import Item, Path, Rect, Text, fitted
from convjax.draw.worked import in_the_name_of, work_out

_MOST_CHANNELS = 64
_MOST_PLACES = 128


def connectivity(
    *layers: Callable[[jax.Array], jax.Array],
    shape: Sequence[int],
    names: Sequence[str] = (),
    draws: int = 4,
    seed: int = 0,
) -> Drawing:
    """Draw which channels reach which through layers, and the reachability from first to last.

    ``reach[i, o]``: whether output channel o depends on input channel i, by differentiating the
    layers at random inputs (`convjax.analysis.channel_reachability`). Channels and lines have the
    colour of the group that they come from, where that is one.

    Args:
        layers: functions of arrays (N, *space, C), applied one after the other.
        shape: (N, *space, I) of the first one's input.
        names: of the layers; "" for none.
        draws, seed: of the random inputs.

    Returns:
        A `Drawing`; its `details` is ``reach`` (I, O) from first to last, a numpy array.

    Raises:
        ValueError: no layers, more than 64 channels, names of another number.

    Example:
        >>> import jax.numpy as jnp, convjax
        >>> from convjax import draw
        >>> kernel = jnp.ones((1, 1, 2, 6))
        >>> grouped = lambda x: convjax.grouped_conv(x, kernel, 3)
        >>> int(draw.connectivity(grouped, shape=(1, 2, 2, 6)).details.sum())
        12

    Source: Zhang, Zhou, Lin & Sun, ShuffleNet, 2017, figure 1, https://arxiv.org/abs/1707.01083
    """
    function = "connectivity"
    if not layers or (names and len(names) != len(layers)):
        rule = "must be at least one function, and `names` as many"
        checks.fail(function, "layers", len(layers), rule)
    shape = tuple(shape)
    shapes = [shape]
    for layer in layers:
        shapes.append(jax.eval_shape(layer, jax.ShapeDtypeStruct(shapes[-1], jnp.float32)).shape)
    counts = [s[-1] for s in shapes]
    if max(counts) > _MOST_CHANNELS:
        rule = f"leads to {max(counts)} channels, and at most {_MOST_CHANNELS} can be drawn"
        checks.fail(function, "shape", shape, rule)

    def reached(layer: Any, shape: Sequence[int]) -> np.ndarray:
        found = analysis.channel_reachability(layer, shape, draws=draws, seed=seed)
        return np.asarray(found)

    def whole(x: jax.Array) -> jax.Array:
        for layer in layers:
            x = layer(x)
        return x

    each = [reached(layer, s) for layer, s in zip(layers, shapes, strict=False)]
    total = reached(whole, shape) if len(layers) > 1 else each[0]
    items = _wires(each, counts, list(names) or [""] * len(layers))
    start = len(layers) * 130 + 90.0
    cells = min(26.0, 300 / max(total.shape))
    items += list(grid(total.astype(float), start, 14, cells))
    items.append(Text(start + total.shape[1] * cells / 2, 4, "output channels", "quiet", 12))
    middle = 14 + total.shape[0] * cells / 2
    items.append(Text(start - 8, middle, "input channels", "quiet", 12, rotated=True))
    share = f"{int(total.sum())} of {total.size} pairs are connected"
    items.append(Text(start, 34 + total.shape[0] * cells, share, "ink", 12, "start"))
    title = " → ".join(str(count) for count in counts) + " channels: who reaches whom"
    return Drawing(fitted(title, f"{title}; {share}.", items), details=total)


def _wires(each: Sequence[np.ndarray], counts: Sequence[int], names: Sequence[str]) -> list[Item]:
    """Columns of channels, a line for every dependence."""
    pitch, size = min(30.0, 420 / max(counts)), min(20.0, 300 / max(counts))
    groups: list[list[int | None]] = [list(_components(each[0]))]
    for reach in each:
        shared = [{groups[-1][i] for i in np.flatnonzero(column)} for column in reach.T]
        groups.append([s.pop() if len(s) == 1 else None for s in shared])
    tall = max(counts) * pitch
    lines: list[Item] = []
    boxes: list[Item] = []

    def middle(layer: int, channel: int) -> float:
        return 14 + tall * (channel + 0.5) / counts[layer]

    for number, reach in enumerate(each):
        for i, o in zip(*np.nonzero(reach), strict=True):
            start = number * 130 + size, middle(number, i)
            ends = start, ((number + 1) * 130, middle(number + 1, o))
            group = groups[number][i]
            lines.append(Path(ends, "link" if group is None else f"link-{group % colours.GROUPS}"))
        name = names[number]
        if name:
            lines.append(Text(number * 130 + 65 + size / 2, 4, name, "quiet", 12))
    for number, count in enumerate(counts):
        for channel in range(count):
            group = groups[number][channel]
            role = "output" if group is None else colours.group_role(group)
            at = number * 130.0, middle(number, channel) - size / 2
            boxes.append(Rect(*at, size, size, role, f"c{number}.{channel}"))
            if size >= 12:
                place = at[0] + size / 2, at[1] + size * 0.72
                boxes.append(Text(*place, str(channel + 1), "ink", size * 0.58))
    return [*lines, *boxes]


def _components(reach: np.ndarray) -> list[int | None]:
    """The group of every input: those that reach a common output are of one group."""
    together = (reach.astype(int) @ reach.T.astype(int)) > 0
    for _ in range(len(together)):
        together = (together.astype(int) @ together.astype(int)) > 0
    firsts = [int(np.argmax(row)) if row.any() else i for i, row in enumerate(together)]
    numbers = {first: number for number, first in enumerate(dict.fromkeys(firsts))}
    return [numbers[first] for first in firsts] if len(numbers) > 1 else [None] * len(firsts)


def overlap(kernel_size: Any, strides: Any, input_size: Any) -> Drawing:
    """Draw how often a transposed convolution paints each output.

    ``count[o] = #{i : J[o, i] != 0}``, J the Jacobian of the uncropped `convjax.conv_transpose`
    with a kernel of ones. On a line every input's patch is drawn; in the plane the counts.

    Args:
        kernel_size, strides: an int, or one per spatial axis.
        input_size: an int for one spatial axis, or two ints.

    Returns:
        A `Drawing`; its `details` are the counts, equal to ``convjax.analysis.overlap_counts``.

    Raises:
        ValueError: other ranks, more outputs than can be drawn.

    Example:
        >>> from convjax import draw
        >>> draw.overlap(3, 2, 4).details.tolist()
        [1, 1, 2, 1, 2, 1, 2, 1, 1]

    Source: Odena, Dumoulin & Olah, Deconvolution and checkerboard artifacts, 2016,
        https://distill.pub/2016/deconv-checkerboard
    """
    with in_the_name_of("overlap"):
        worked = work_out("transposed", input_size, kernel_size, strides=strides, padding="VALID")
    if worked.rank > 2:
        checks.fail("overlap", "input_size", input_size, "must have one or two spatial axes")
    reads = worked.depends[0]
    counts = reads.sum(axis=1).reshape(worked.values[-1].shape[:-1])
    inner = _inner(counts)
    even = "even" if inner.min() == inner.max() else "uneven"
    least, most = int(inner.min()), int(inner.max())
    counts_in_words = str(least) if least == most else f"{least} to {most}"
    title = (
        f"kernel {_short(kernel_size)}, strides {_short(strides)}: {even} overlap inside "
        f"({counts_in_words})"
    )
    if worked.rank == 1:
        items = _paint(reads, counts)
    else:
        cell = float(np.clip(520 / max(counts.shape), 12, 34))
        items = list(grid(counts.astype(float), 0, 0, cell, numbers=cell >= 14))
    words = f"{title}. Counts: {' '.join(map(str, counts.reshape(-1)))}."
    return Drawing(fitted(title, words, items), details=counts)


def _inner(counts: np.ndarray) -> np.ndarray:
    """The middle of the counts, where the border is not felt, or all of them."""
    parts = []
    for n in counts.shape:
        cut = n // 3 if n >= 6 else 0
        parts.append(slice(cut, n - cut))
    return counts[tuple(parts)]


def _short(value: Any) -> str:
    return str(value) if checks.is_int(value) else "×".join(map(str, value))


def _paint(reads: np.ndarray, counts: np.ndarray) -> list[Item]:
    """Inputs above, outputs below, a patch in each input's colour, and bars of the counts."""
    outputs, inputs = reads.shape
    cell = float(np.clip(760 / outputs, 8, 34))
    shift = (outputs - inputs) * cell / 2
    items: list[Item] = []
    for i in range(inputs):
        painted = np.flatnonzero(reads[:, i])
        left, right = painted.min() * cell, (painted.max() + 1) * cell
        top = shift + i * cell
        patch = ((top, cell), (top + cell, cell), (right, 110), (left, 110))
        role = f"group-{i % 3}"
        items.append(Path(patch, f"link-{i % 3}", closed=True))
        items.append(Rect(top, 0, cell, cell, role, f"0.{i}"))
    for o in range(outputs):
        items.append(Rect(o * cell, 110, cell, cell, "output", f"1.{o}"))
        size = min(14.0, cell * 0.5)
        middle = o * cell + cell / 2
        items.append(Text(middle, 110 + cell / 2 + 0.36 * size, str(counts[o]), "ink", size))
        tall = 16.0 * counts[o]
        items.append(Rect(o * cell + 2, 124 + cell, cell - 4, tall, "bar", radius=1))
    items.append(Text(-10, cell * 0.65, "input", "quiet", 12, "end"))
    items.append(Text(-10, 110 + cell * 0.65, "output", "quiet", 12, "end"))
    items.append(Text(-10, 136 + cell, "count", "quiet", 12, "end"))
    return items


def receptive_field(layers: Sequence[Sequence[Any]], *, names: Sequence[str] = ()) -> Drawing:
    """Draw what the middle output of a stack sees after its first, second, ... layer.

    The gradient of the middle output of the real stack with kernels of ones: how many paths lead
    to it from every input (`convjax.analysis.empirical_receptive_field`), next to the size that
    ``size += (k - 1)*d*jump`` gives (`convjax.arithmetic.receptive_field`).

    Args:
        layers: from input to output, each ``(kernel_size, strides, kernel_dilation)``, of which
            all but the first may be left out; ints, the same along both axes.
        names: of the layers; "" makes them.

    Returns:
        A `Drawing`; its `details` has, per depth, the weights (H, W) as a numpy array.

    Raises:
        ValueError: values out of range; a field of more than 128 places.

    Example:
        >>> from convjax import draw
        >>> fields = draw.receptive_field([(3, 1, 1), (3, 1, 2), (3, 1, 4)]).details
        >>> [field.shape for field in fields]
        [(3, 3), (7, 7), (15, 15)]

    Source: Yu & Koltun, Multi-scale context aggregation by dilated convolutions, 2015, figure 1,
        https://arxiv.org/abs/1511.07122
    """
    function = "receptive_field"
    rows = [(*layer, *(1, 1, 1)[len(layer) :])[:3] for layer in layers]
    field = convjax.arithmetic.receptive_field([row for row in rows])
    if not checks.is_int(field.size):
        checks.fail(function, "layers", layers, "must have one int for both axes")
    if field.size > _MOST_PLACES:
        rule = f"sees {field.size} places, and at most {_MOST_PLACES} can be drawn"
        checks.fail(function, "layers", layers, rule)
    fields, items, left = [], [], 0.0
    sizes = [convjax.arithmetic.receptive_field(rows[: n + 1]).size for n in range(len(rows))]
    cell = float(np.clip(300 / max(sizes), 4, 20))
    for depth, size in enumerate(sizes):
        found = _gradient(rows[: depth + 1], size)
        fields.append(found)
        wide = max(size * cell, 110)
        shift = left + (wide - size * cell) / 2
        top = (max(sizes) - size) * cell / 2
        items += list(grid(found, shift, top, cell, numbers=cell >= 14 and found.max() < 100))
        k, s, d = rows[depth]
        made = f"+ {k}×{k}" + f", strides {s}" * (s > 1) + f", dilation {d}"
        name = names[depth] if names else made
        base = max(sizes) * cell + 18
        items.append(Text(left + wide / 2, base, name, "quiet", 12))
        items.append(Text(left + wide / 2, base + 18, f"sees {size}×{size}", "ink", 13, bold=True))
        left += wide + 26
    title = "What one output sees: " + ", then ".join(f"{size}×{size}" for size in sizes)
    taps = [int((found > 0).sum()) for found in fields]
    words = f"{title}. Elements seen: {', '.join(map(str, taps))}. Darker: by more paths."
    return Drawing(fitted(title, words, items), details=fields)


def _gradient(rows: Sequence[tuple[int, int, int]], size: int) -> np.ndarray:
    """The gradient of the only output of a stack on as many inputs as it sees."""

    def stack(x: jax.Array) -> jax.Array:
        for k, s, d in rows:
            ones = jnp.ones((k, k, 1, 1))
            x = convjax.conv(x, ones, strides=s, kernel_dilation=d, padding="VALID")
        return x

    found = analysis.empirical_receptive_field(stack, (1, size, size, 1), draws=1)
    return np.asarray(found.weights)
