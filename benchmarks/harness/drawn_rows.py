"""Rows drawn at random: channels, sizes and windows that nobody chose.

Thresholds were found with rows that somebody chose. A new seed shows whether the thresholds hold
for other convolutions. The sizes are like those in networks: the channels of a group are multiples
of 4, a plane is 7 to 128 elements high, and the products are about as many as in the table's rows.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.harness.rows import Row, forward, transposed

ROWS = 6  # of each family
_TRIES = 10_000
# Products of the forward pass. Depthwise ones read more memory for each product.
_PRODUCTS = {"depthwise": (4e6, 1.5e8)}
_OF_OTHERS = (4e7, 8e8)
_ELEMENTS = (1e5, 4e6)  # of the input, and of the result

_WINDOWS: dict[str, list[tuple[int, ...]]] = {
    "dense": [(1, 1), (3, 3), (3, 3), (5, 5), (7, 7), (2, 2), (1, 7), (3,), (5,), (9,)],
    "depthwise": [(3, 3), (3, 3), (5, 5), (7, 7), (9, 9), (3,), (4,), (7,), (15,)],
    "grouped": [(1, 1), (3, 3), (3, 3), (5, 5), (3,)],
    "transposed": [(2, 2), (3, 3), (4, 4), (5, 5), (4,), (8,)],
    "3d": [(3, 3, 3), (3, 3, 3), (1, 3, 3), (3, 1, 1), (1, 1, 1), (2, 2, 2)],
}


def drawn_rows(seed: int) -> list[Row]:
    """Six rows of each family; the same seed gives the same rows."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for family in _WINDOWS:
        shapes: set[Any] = set()
        for row in _accepted(family, rng):
            if row.operands not in shapes:
                shapes.add(row.operands)
                rows.append(row)
            if len(shapes) == ROWS:
                break
    return rows


def _accepted(family: str, rng: np.random.Generator) -> Iterator[Row]:
    for _ in range(_TRIES):
        row, products, elements = _drawn(family, rng)
        low, high = _PRODUCTS.get(family, _OF_OTHERS)
        if low <= products <= high and all(_ELEMENTS[0] <= n <= _ELEMENTS[1] for n in elements):
            yield row
    raise AssertionError(f"too few rows of {family} are as large as they should be")


def _drawn(family: str, rng: np.random.Generator) -> tuple[Row, float, tuple[int, int]]:
    """A row, the products of its forward pass, and the elements of its input and its result."""
    window = _WINDOWS[family][rng.integers(len(_WINDOWS[family]))]
    rank = len(window)
    extents = {1: (64, 4096), 2: (7, 128), 3: (6, 40)}[rank]
    space = (_between(rng, *extents),) * rank
    n = _between(rng, 1, 16)
    i, o = (4 * _between(rng, 1, 128) for _ in range(2))
    groups, strides, dilation = 1, int(rng.choice([1, 1, 1, 2])), 1
    if family == "depthwise":
        o, groups = i, i
    elif family == "grouped":
        groups = int(rng.choice([2, 3, 4, 8, 16, 32]))
        i, o = (4 * groups * _between(rng, 1, 16) for _ in range(2))
    elif family == "transposed":
        strides = min(int(rng.choice([2, 2, 2, 3, 4])), max(window))
    if family in ("dense", "depthwise") and strides == 1:
        dilation = int(rng.choice([1, 1, 1, 2, 3]))
    options: dict[str, Any] = {"strides": strides, "groups": groups}
    if family == "transposed":
        out = [strides * extent for extent in space]
        reads = space
        row = transposed
    else:
        options["dilation"] = dilation
        out = [-(-extent // strides) for extent in space]
        reads = tuple(out)
        row = forward
    words = [f"drawn {family}, window {'x'.join(map(str, window))}"]
    words += [f"stride {strides}"] * (strides > 1) + [f"dilation {dilation}"] * (dilation > 1)
    words += [f"{groups} groups"] * (1 < groups < i)
    words.append(f"{'x'.join(map(str, (n, *space, i)))} to {o}")
    made = row(", ".join(words), family, n, space, i, o, window, **options)
    products = n * math.prod(reads) * math.prod(window) * i * o // groups
    return made, products, (n * math.prod(space) * i, n * math.prod(out) * o)


def _between(rng: np.random.Generator, low: int, high: int) -> int:
    """An integer, as often in one octave as in another."""
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))
