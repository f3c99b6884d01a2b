"""The table itself: every row by name."""

import dataclasses
import re
from collections.abc import Sequence

from benchmarks.harness.networks import inside_transforms, networks
from benchmarks.harness.rows import Row, forward, transposed

NARROW = ("bfloat16", "float16")


def dense() -> list[Row]:
    f, s = "dense", (56, 56)
    nothing = ((0, 0), (0, 0))
    return [
        forward("dense 3x3", f, 8, s, 64, 64, (3, 3), quick=True),
        forward("dense 1x1", f, 8, s, 64, 256, (1, 1), quick=True),
        forward("dense 3x3 stride 2", f, 8, s, 64, 128, (3, 3), strides=2),
        forward("dense 7x7 stride 2", f, 4, (224, 224), 3, 64, (7, 7), strides=2),
        forward("dense 3x3 dilation 2", f, 8, s, 64, 64, (3, 3), dilation=2),
        forward("dense 3x3 dilation 4", f, 8, s, 64, 64, (3, 3), dilation=4),
        forward("patchify 16x16", f, 8, (224, 224), 3, 384, (16, 16), strides=16, padding=nothing),
        forward("dense 1D k9", f, 8, (4096,), 64, 64, (9,)),
        forward("dense 31x31", f, 2, (128, 128), 8, 8, (31, 31)),
    ]


def depthwise() -> list[Row]:
    f, s = "depthwise", (56, 56)
    return [
        forward("depthwise 3x3", f, 8, s, 128, 128, (3, 3), groups=128),
        forward("depthwise 7x7", f, 8, s, 96, 96, (7, 7), groups=96),
        forward(
            "depthwise 3x3 stride 2", f, 8, s, 128, 128, (3, 3), strides=2, groups=128, quick=True
        ),
        forward("depthwise 31x31", f, 2, s, 64, 64, (31, 31), groups=64),
        forward("depthwise 3x3 multiplier 2", f, 8, (28, 28), 64, 128, (3, 3), groups=64),
        forward("depthwise 5x5 dilation 2", f, 8, s, 64, 64, (5, 5), dilation=2, groups=64),
        forward(
            "depthwise 1D k4 causal", f, 4, (2048,), 512, 512, (4,), groups=512, padding=((3, 0),)
        ),
    ]


def grouped() -> list[Row]:
    f, s = "grouped", (28, 28)
    return [
        forward("grouped g=4 3x3", f, 8, s, 128, 128, (3, 3), groups=4, quick=True),
        forward("grouped g=32 3x3", f, 8, s, 128, 128, (3, 3), groups=32),
        forward("grouped g=32 3x3 stride 2", f, 8, s, 128, 128, (3, 3), strides=2, groups=32),
        forward("grouped pointwise g=3", f, 8, s, 240, 240, (1, 1), groups=3),
    ]


def transposes() -> list[Row]:
    f, s = "transposed", (28, 28)
    return [
        transposed("transposed k4 s2", f, 8, s, 64, 32, (4, 4), quick=True),
        transposed("transposed k3 s2", f, 8, s, 64, 32, (3, 3)),
        transposed("transposed k2 s2", f, 8, s, 64, 32, (2, 2)),
        transposed("transposed depthwise k4 s2", f, 8, s, 64, 64, (4, 4), groups=64),
    ]


def three_d() -> list[Row]:
    f, s, k = "3d", (16, 32, 32), (3, 3, 3)
    return [
        forward("3D 3x3x3", f, 2, s, 16, 32, k, quick=True),
        forward("3D 3x3x3 stride 2", f, 2, s, 16, 32, k, strides=2),
        forward("3D depthwise 3x3x3", f, 2, s, 32, 32, k, groups=32),
        transposed("3D transposed k3 s2", f, 2, (8, 16, 16), 32, 16, k),
        forward("3D 1x1x1", f, 2, s, 16, 32, (1, 1, 1)),
    ]


def variants(rows: Sequence[Row]) -> list[Row]:
    """Rows of the table in another layout or dtype, or of one example."""
    by_name = {row.name: row for row in rows}

    def other(names: Sequence[str], section: str, **changes: object) -> list[Row]:
        return [
            dataclasses.replace(
                by_name[name],
                name=f"{name} {section}",
                section=section,
                quick=False,
                **changes,  # type: ignore[arg-type]
            )
            for name in names
        ]

    first = other(
        ("dense 3x3", "depthwise 3x3", "grouped g=32 3x3"), "channels-first", layout="first"
    )
    of_narrow = (
        "dense 3x3",
        "dense 1x1",
        "depthwise 3x3",
        "grouped g=4 3x3",
        "transposed k4 s2",
        "3D 3x3x3",
    )
    narrow = [row for dtype in NARROW for row in other(of_narrow, dtype, dtype=dtype)]
    single = [
        forward("dense 3x3 batch 1", "dense", 1, (56, 56), 64, 64, (3, 3), section="batch 1"),
        forward(
            "depthwise 3x3 batch 1",
            "depthwise",
            1,
            (56, 56),
            128,
            128,
            (3, 3),
            groups=128,
            section="batch 1",
        ),
        forward("dense 1x1 batch 1", "dense", 1, (56, 56), 64, 256, (1, 1), section="batch 1"),
    ]
    return [*first, *single, *narrow]


def table() -> list[Row]:
    """Every row, in the table's order."""
    rows = [*dense(), *depthwise(), *grouped(), *transposes(), *three_d()]
    return [*rows, *variants(rows), *inside_transforms(), *networks()]


def choose(
    rows: Sequence[Row], pattern: str = "", families: Sequence[str] = (), quick: bool = False
) -> list[Row]:
    """The rows whose name `pattern` is found in, of these families or sections."""
    return [
        row
        for row in rows
        if re.search(pattern, row.name)
        and (not families or row.family in families or row.section in families)
        and (row.quick or not quick)
    ]
