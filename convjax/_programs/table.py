"""Tables in plain text, and how shapes are written in them."""

from collections.abc import Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], right: str = "") -> list[str]:
    """Lines of a table; the columns named in `right` are aligned to the right."""
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    flags = [">" if name in right.split("|") else "<" for name in header]
    lines = [
        "  ".join(f"{c:{f}{w}}" for c, f, w in zip(row, flags, widths, strict=True)).rstrip()
        for row in (header, ["-" * width for width in widths], *cells)
    ]
    return lines


def show_shapes(shapes: Sequence[Sequence[int]]) -> str:
    *operands, result = ("x".join(map(str, shape)) or "scalar" for shape in shapes)
    return f"{', '.join(operands)} -> {result}"
