"""Programs of several convolutions: rows inside a scan or a vmap, and three small networks."""

from typing import Any

from benchmarks.harness.rows import Operand, Row, Spec, centred

# ---- inside scan and vmap ------------------------------------------------------------------------

_SAME3 = centred((3, 3))
_ONE = ((0, 0), (0, 0))


def _dense_layer(ops: Any, h: Any, kernel: Any) -> Any:
    return ops.relu(ops.conv(h, kernel, Spec(_SAME3)))


def scanned_dense(ops: Any, x: Any, kernels: Any) -> Any:
    return ops.loop(_dense_layer, x, kernels)


def _separable_layer(channels: int) -> Any:
    def layer(ops: Any, h: Any, depthwise: Any, pointwise: Any) -> Any:
        h = ops.conv(h, depthwise, Spec(_SAME3, groups=channels))
        return ops.relu(ops.conv(h, pointwise, Spec(_ONE)))

    return layer


def scanned_separable(channels: int) -> Any:
    layer = _separable_layer(channels)

    def program(ops: Any, x: Any, depthwise: Any, pointwise: Any) -> Any:
        return ops.loop(layer, x, depthwise, pointwise)

    return program


def per_example(ops: Any, x: Any, kernels: Any) -> Any:
    return ops.vmap(lambda a, k: ops.conv(a, k, Spec(_SAME3)))(x, kernels)


def inside_transforms() -> list[Row]:
    few = ("torch_nchw", "torch_nhwc")
    return [
        Row(
            "dense 3x3 in scan",
            "dense",
            "4 layers, 8x28x28 32->32",
            (Operand((8, 28, 28, 32), "x"), Operand((4, 3, 3, 32, 32), lead=1)),
            scanned_dense,
            section="scan",
            peers=few,
        ),
        Row(
            "depthwise separable in scan",
            "depthwise",
            "4 layers, 8x28x28 64->64",
            (
                Operand((8, 28, 28, 64), "x"),
                Operand((4, 3, 3, 1, 64), lead=1),
                Operand((4, 1, 1, 64, 64), lead=1),
            ),
            scanned_separable(64),
            section="scan",
            gradients=(0, 1, 2),
            peers=few,
        ),
        Row(
            "per-example 3x3",
            "dense",
            "8 kernels, 28x28 32->32",
            (
                Operand((8, 1, 28, 28, 32), "x", lead=1),
                Operand((8, 3, 3, 32, 32), lead=1),
            ),
            per_example,
            section="per-example",
            peers=few,
            out_lead=1,
        ),
    ]


# ---- networks ------------------------------------------------------------------------------------


class Builder:
    """Collects the kernels of a network while it is written down, and replays it over `Ops`."""

    def __init__(self, rank: int):
        self.rank = rank
        self.operands: list[Operand] = []
        self.specs: list[Spec] = []

    def conv(
        self, i: int, o: int, k: int = 3, *, strides: int = 1, groups: int = 1, up: bool = False
    ) -> int:
        """The number of a new convolution; `up` makes it a transposed one."""
        window = (k,) * self.rank
        if up:
            shape, role = (*window, o // groups, i), "transposed kernel"
            spec = Spec(((0, 0),) * self.rank, strides, groups=groups, transposed=True)
        else:
            shape, role = (*window, i // groups, o), "kernel"
            spec = Spec(centred(window), strides, groups=groups)
        self.operands.append(Operand(shape, role, groups=groups))
        self.specs.append(spec)
        return len(self.specs) - 1

    def run(self, ops: Any, x: Any, kernels: Any, number: int) -> Any:
        return ops.conv(x, kernels[number], self.specs[number])

    def row(self, name: str, shape: str, x: tuple[int, ...], program: Any, **fields: Any) -> Row:
        gradients = tuple(range(1, len(self.operands) + 1))
        return Row(
            name,
            "network",
            shape,
            (Operand(x, "x"), *self.operands),
            program,
            section="network",
            gradients=gradients,
            peers=("torch_nchw", "torch_nhwc"),
            # ReLUs may switch at rounding errors, and errors add up over layers.
            tolerance=1e-3,
            **fields,
        )


def mobilenet() -> Row:
    """As MobileNet v1: blocks of depthwise 3x3, ReLU, pointwise, ReLU."""
    net = Builder(2)
    stem = net.conv(3, 32, strides=2)
    blocks = [
        (net.conv(i, i, strides=s, groups=i), net.conv(i, o, 1))
        for i, o, s in ((32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1))
    ]

    def program(ops: Any, x: Any, *kernels: Any) -> Any:
        h = ops.relu(net.run(ops, x, kernels, stem))
        for depthwise, pointwise in blocks:
            h = ops.relu(net.run(ops, h, kernels, depthwise))
            h = ops.relu(net.run(ops, h, kernels, pointwise))
        return h

    return net.row("MobileNet-like", "8x64x64x3, 5 blocks", (8, 64, 64, 3), program)


def resnext() -> Row:
    """As ResNeXt: residual blocks of 1x1, 3x3 in 32 groups, 1x1."""
    net = Builder(2)
    blocks = []
    for i, mid, o, s in ((128, 128, 256, 1), (256, 128, 256, 1), (256, 256, 512, 2)):
        path = (
            net.conv(i, mid, 1),
            net.conv(mid, mid, strides=s, groups=32),
            net.conv(mid, o, 1),
        )
        blocks.append((*path, net.conv(i, o, 1, strides=s) if i != o or s > 1 else None))

    def program(ops: Any, x: Any, *kernels: Any) -> Any:
        h = x
        for reduce, grouped, expand, shortcut in blocks:
            y = ops.relu(net.run(ops, h, kernels, reduce))
            y = ops.relu(net.run(ops, y, kernels, grouped))
            y = net.run(ops, y, kernels, expand)
            h = ops.relu(y + (h if shortcut is None else net.run(ops, h, kernels, shortcut)))
        return h

    return net.row("ResNeXt-like", "4x28x28x128, 3 blocks", (4, 28, 28, 128), program)


def unet() -> Row:
    """As a 3-D U-Net of two levels: down by stride 2, up by a transposed convolution, a skip."""
    net = Builder(3)
    first, down, middle = net.conv(4, 16), net.conv(16, 32, strides=2), net.conv(32, 32)
    up, last, head = net.conv(32, 16, 2, strides=2, up=True), net.conv(32, 16), net.conv(16, 4, 1)

    def program(ops: Any, x: Any, *kernels: Any) -> Any:
        skip = ops.relu(net.run(ops, x, kernels, first))
        h = ops.relu(net.run(ops, skip, kernels, down))
        h = ops.relu(net.run(ops, h, kernels, middle))
        h = ops.relu(net.run(ops, h, kernels, up))
        h = ops.relu(net.run(ops, ops.concat([h, skip]), kernels, last))
        return net.run(ops, h, kernels, head)

    return net.row("3-D U-Net-like", "1x16x32x32x4, 2 levels", (1, 16, 32, 32, 4), program)


def networks() -> list[Row]:
    return [mobilenet(), resnext(), unet()]
