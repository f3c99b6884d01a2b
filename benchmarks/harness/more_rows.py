"""Rows beside the table's: other channels, sizes and windows of its families.

Some of them were timed, too, when rules for oneDNN were made. So they are no independent test.
"""

from benchmarks.harness.rows import Row, forward, transposed


def more_rows() -> list[Row]:
    """Every row, family by family. Their names give what differs from a 3×3 window."""
    return [*_dense(), *_depthwise(), *_grouped(), *_transposed(), *_three_d()]


def _dense() -> list[Row]:
    f, nothing = "dense", ((0, 0), (0, 0))
    return [
        forward("dense 128", f, 8, (28, 28), 128, 128, (3, 3)),
        forward("dense 256, small", f, 8, (14, 14), 256, 256, (3, 3)),
        forward("dense 16", f, 8, (64, 64), 16, 16, (3, 3)),
        forward("dense 5x5", f, 4, (40, 40), 48, 80, (5, 5)),
        forward("dense 1x1 to fewer", f, 8, (14, 14), 512, 128, (1, 1)),
        forward("dense 1x1 to more", f, 8, (56, 56), 24, 144, (1, 1)),
        forward("dense 1x1 stride 2", f, 8, (28, 28), 128, 256, (1, 1), strides=2),
        forward("dense colours stride 2", f, 8, (112, 112), 3, 32, (3, 3), strides=2),
        forward("dense dilation 3", f, 4, (48, 48), 96, 96, (3, 3), dilation=3),
        forward("patchify 4x4", f, 8, (112, 112), 3, 96, (4, 4), strides=4, padding=nothing),
        forward("patchify 2x2", f, 8, (28, 28), 96, 192, (2, 2), strides=2, padding=nothing),
        forward("dense 1D k3", f, 16, (1024,), 128, 128, (3,)),
        forward("dense 1D k5", f, 8, (2000,), 32, 48, (5,)),
    ]


def _depthwise() -> list[Row]:
    f = "depthwise"
    return [
        forward("depthwise 64", f, 8, (112, 112), 64, 64, (3, 3), groups=64),
        forward("depthwise 960", f, 8, (7, 7), 960, 960, (3, 3), groups=960),
        forward("depthwise 5x5", f, 8, (28, 28), 240, 240, (5, 5), groups=240),
        forward("depthwise 5x5 stride 2", f, 8, (56, 56), 96, 96, (5, 5), strides=2, groups=96),
        forward("depthwise 7x7", f, 4, (14, 14), 384, 384, (7, 7), groups=384),
        forward("depthwise 9x9", f, 4, (16, 16), 512, 512, (9, 9), groups=512),
        forward("depthwise dilation 4", f, 4, (48, 48), 96, 96, (3, 3), dilation=4, groups=96),
        forward("depthwise 1D k7", f, 8, (1000,), 256, 256, (7,), groups=256),
    ]


def _grouped() -> list[Row]:
    f = "grouped"
    return [
        forward("grouped g=2 5x5", f, 8, (27, 27), 96, 256, (5, 5), groups=2),
        forward("grouped g=8", f, 8, (14, 14), 256, 256, (3, 3), groups=8),
        forward("grouped g=32", f, 4, (28, 28), 256, 256, (3, 3), groups=32),
        forward("grouped g=32 of 6", f, 4, (28, 28), 192, 192, (3, 3), groups=32),
        forward("grouped g=16 stride 2", f, 8, (28, 28), 192, 192, (3, 3), strides=2, groups=16),
        forward("grouped pointwise g=4", f, 8, (28, 28), 256, 256, (1, 1), groups=4),
    ]


def _transposed() -> list[Row]:
    f = "transposed"
    return [
        transposed("transposed k2 s2", f, 4, (16, 16), 256, 128, (2, 2)),
        transposed("transposed k3 s2", f, 8, (16, 16), 128, 64, (3, 3)),
        transposed("transposed k4 s2 to colours", f, 8, (32, 32), 64, 3, (4, 4)),
        transposed("transposed k5 s3", f, 4, (16, 16), 48, 48, (5, 5), strides=3),
    ]


def _three_d() -> list[Row]:
    f = "3d"
    return [
        forward("3D 32", f, 1, (16, 24, 24), 32, 32, (3, 3, 3)),
        forward("3D 64", f, 1, (8, 16, 16), 64, 64, (3, 3, 3)),
        forward("3D 1x3x3", f, 2, (8, 28, 28), 32, 64, (1, 3, 3)),
        forward("3D 3x1x1", f, 2, (8, 28, 28), 64, 64, (3, 1, 1)),
        forward("3D stride 2", f, 2, (16, 32, 32), 24, 48, (3, 3, 3), strides=2),
        forward("3D depthwise", f, 2, (8, 28, 28), 64, 64, (3, 3, 3), groups=64),
        transposed("3D transposed k2 s2", f, 1, (8, 16, 16), 64, 32, (2, 2, 2)),
    ]
