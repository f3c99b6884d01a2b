"""Grids of coloured cells: `matrix`, `filters`, and what other drawings are made of."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from convjax._core import checks
from convjax.draw import colours
from convjax.draw.board import shown
from convjax.draw.drawing import Drawing
from convjax.draw.scene import Item, Picture, Rect, Text, fitted
from convjax.draw.worked import in_the_name_of, work_out

MOST_CELLS = 4096  # of a grid of cells; larger matrices are summarised


def grid(
    values: np.ndarray,
    left: float,
    top: float,
    cell: float,
    *,
    numbers: bool = False,
    signed: bool | None = None,
    limit: float | None = None,
    key: str = "",
) -> Iterator[Item]:
    """Coloured cells for a matrix; cells of exactly 0 stay empty unless values are signed.

    Args:
        values: (rows, columns); NaN leaves a cell out.
        signed: blue below zero and orange above; None decides by whether some value is negative.
        limit: the value of the strongest colour; None means the largest.
        key: prefix of the cells' keys.
    """
    values = np.asarray(values, float)
    rows, columns = values.shape
    signed = bool(np.nanmin(values) < 0) if signed is None else signed
    limit = float(np.nanmax(np.abs(values))) if limit is None else limit
    yield Rect(left, top, columns * cell, rows * cell, "plate", radius=0)
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value) or (value == 0 and not signed and not numbers):
            continue
        role = colours.signed(value, limit) if signed else colours.heat(value, limit)
        x, y = left + column * cell, top + row * cell
        gap = 1.0 if cell > 6 else 0.3
        name = f"{key}{row}.{column}" if key else ""
        side = cell - gap
        yield Rect(x + gap / 2, y + gap / 2, side, side, role, name, radius=min(2, cell / 8))
        if numbers:
            words = shown(value)
            size = round(min(13.0, cell * 0.42, (cell - 3) / (0.6 * len(words))), 1)
            yield Text(x + cell / 2, y + cell / 2 + 0.36 * size, words, f"on-{role}", size)


def matrix(
    matrix: Any,
    input_size: Any = None,
    kernel_size: Any = 3,
    *,
    transpose: bool = False,
    blocks: int = 1,
    numbers: bool | None = None,
    signed: bool | None = None,
    title: str = "",
    rows: str = "",
    columns: str = "",
    **options: Any,
) -> Drawing:
    """Draw the matrix C of a convolution, or any matrix, as coloured cells.

    ``y.ravel() = C @ x.ravel()``: C is the Jacobian of the real function, found by linear probes;
    its transpose is the matrix of the transposed convolution, and not the inverse.

    Args:
        matrix: the name of a kind in ``convjax.kinds.KINDS``, or an array of two axes.
        input_size, kernel_size, options: of a kind, as in `arithmetic`.
        transpose: draw the transpose.
        blocks: outline so many equal blocks on the diagonal.
        numbers: write values into the cells; None does so where they can be read.
        signed: blue below zero and orange above; None does so where a value is negative.
        title: the heading; "" makes one.
        rows, columns: names of the axes; "" for none.

    Returns:
        A `Drawing`; its `details` is the matrix, a numpy array. A matrix of more than 4,096 cells
        is drawn as an image of its values, each a pixel.

    Raises:
        ValueError: an array that has not two axes; what `arithmetic` raises.

    Example:
        >>> from convjax import draw
        >>> draw.matrix("dense", (4, 4), 3, padding="VALID").details.shape
        (4, 16)

    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016, section
        4.1, https://arxiv.org/abs/1603.07285
    """
    note = ""
    if isinstance(matrix, str):
        with in_the_name_of("matrix"):
            worked = work_out(matrix, input_size, kernel_size, **options)
        values, note = worked.weights[0], worked.call
        title = title or f"{'Cᵀ' if transpose else 'C'} of {worked.kind.name.replace('_', ' ')}"
        names = ("output elements", "input elements")
        rows, columns = rows or names[transpose], columns or names[not transpose]
    else:
        values = np.asarray(matrix, float)
        if options or input_size is not None:
            given = [*options, *["input_size"] * (input_size is not None)]
            checks.fail("matrix", given[0], "given", "is for a kind's name, not for an array")
    if values.ndim != 2 or not values.size:
        checks.fail("matrix", "matrix", values.shape, "must have two axes and be not empty")
    blocks = checks.integer("matrix", "blocks", blocks, minimum=1)
    values = values.T if transpose else values
    high, wide = values.shape
    counted = int(np.count_nonzero(values))
    title = f"{title + ': ' if title else ''}{high}×{wide}, {counted:,} not zero"
    cell = float(np.clip(520 / max(high, wide), 4, 34))
    if numbers is None:
        numbers = cell >= 15 and len(shown(float(np.abs(values).max()))) < 4
    items = list(_values(values, cell, numbers, signed))
    for block in range(blocks if blocks > 1 else 0):
        size = wide / blocks * cell, high / blocks * cell
        items.append(Rect(block * size[0], block * size[1], *size, "block", radius=0))
    if rows:
        items.append(Text(-8, high * cell / 2, rows, "quiet", 12, rotated=True))
    if columns:
        items.append(Text(wide * cell / 2, high * cell + 18, columns, "quiet", 12))
    words = f"A matrix of {high} rows and {wide} columns; {counted} entries are not zero."
    return Drawing(fitted(title, words, items, note=note), details=values)


def _values(values: np.ndarray, cell: float, numbers: bool, signed: bool | None) -> Iterator[Item]:
    """The cells, or an image of them where they are too many."""
    high, wide = values.shape
    if values.size <= MOST_CELLS:
        yield from grid(values, 0, 0, cell, numbers=numbers, signed=signed)
        return
    name = f"{high} by {wide} values"
    yield Picture(0, 0, wide * cell, high * cell, coloured(values, signed), name)


def coloured(values: np.ndarray, signed: bool | None = None, limit: float = 0) -> np.ndarray:
    """A matrix as an image (H, W, 3): light to blue, or blue to orange where it has a sign."""
    values = np.asarray(values, float)
    limit = limit or float(np.abs(values).max()) or 1.0
    use = bool(values.min() < 0) if signed is None else signed
    share = np.clip(0.5 + values / limit / 2 if use else values / limit, 0, 1)
    steps = np.round(share * (colours.STEPS - 1)).astype(int)
    name = "signed" if use else "heat"
    table = [colours.LOOKS[f"{name}-{n}"].light.fill for n in range(colours.STEPS)]
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in table], np.uint8)
    return rgb[steps]


def filters(kernel: Any, *, groups: int = 1, columns: int | None = None) -> Drawing:
    """Draw the filters of a kernel: their weights as pixels, one picture per filter.

    Filters of three input channels are shown in colour, as RGB; others by the pictures of their
    kernels, one per input channel, blue below zero and orange above.

    Args:
        kernel: (K1, K2, I, O), real.
        groups: the filters of each group stand together, outlined.
        columns: filters in one row; None makes about as many rows as columns.

    Returns:
        A `Drawing`; its `details` is the kernel, a numpy array.

    Raises:
        ValueError: a kernel of another rank; more than 1,024 pictures; groups that do not divide O.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax import draw
        >>> draw.filters(jnp.ones((3, 3, 3, 8))).steps
        1

    Source: Krizhevsky, Sutskever & Hinton, ImageNet classification with deep convolutional neural
        networks, 2012, figure 3, https://papers.nips.cc/paper/4824
    """
    function = "filters"
    kernel = np.asarray(checks.array(function, "kernel", kernel), float)
    if kernel.ndim != 4 or not kernel.size:
        checks.fail(function, "kernel", kernel.shape, "must be (K1, K2, I, O)")
    high, wide, channels, count = kernel.shape
    groups = checks.integer(function, "groups", groups, minimum=1)
    if count % groups:
        checks.fail(function, "groups", groups, f"must divide the filters (={count})")
    each = 1 if channels == 3 else channels
    if count * each > 1024:
        rule = f"has {count} filters of {each} pictures, and at most 1024 can be drawn"
        checks.fail(function, "kernel", kernel.shape, rule, "Give a part of it.")
    side = float(np.clip(640 / max(count * each, 1) ** 0.5, 22, 64))
    per = count // groups
    columns = columns or max(1, round(per**0.5 * (1 if each == 1 else 1 / each)))
    items: list[Item] = []
    limit, top = float(np.abs(kernel).max()) or 1.0, 0.0
    for group in range(groups):
        rows = -(-per // columns)
        for index in range(per):
            number = group * per + index
            row, column = divmod(index, columns)
            for channel in range(each):
                x = column * (each * (side + 2) + 8) + channel * (side + 2)
                y = top + row * (side + 8)
                part = kernel[..., number] if channels == 3 else kernel[..., channel, number]
                image = _rgb(part) if channels == 3 else coloured(part, True, limit)
                name = f"filter {number}" + (f", channel {channel}" if each > 1 else "")
                items.append(Picture(x, y, side, side * high / wide, image, name))
        if groups > 1:
            width = columns * (each * (side + 2) + 8)
            role = f"link-{group % colours.GROUPS}"
            items.append(Rect(-5, top - 5, width + 4, rows * (side + 8) + 4, role, radius=4))
        top += rows * (side + 8) + 14
    title = f"{count} filters of {high}×{wide}×{channels}" + f", {groups} groups" * (groups > 1)
    words = f"{title}: the weights of each as pixels."
    return Drawing(fitted(title, words, items), details=kernel)


def _rgb(values: np.ndarray) -> np.ndarray:
    """One filter scaled to its range, as an image."""
    low, high = values.min(), values.max()
    return np.round((values - low) / ((high - low) or 1) * 255).astype(np.uint8)
