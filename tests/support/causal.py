"""What the tests of causal convolutions share: an oracle in numpy, and random configurations."""

import dataclasses
from typing import Any

import numpy as np
import oracle

import convjax


@dataclasses.dataclass(frozen=True)
class Case:
    """A causal convolution with random integers for operands."""

    x: np.ndarray
    kernel: np.ndarray
    axis: int
    options: dict[str, Any]

    @property
    def index(self):
        return self.axis - 1

    def per_axis(self, name, default):
        return oracle.per_axis(self.options.get(name, default), self.x.ndim - 2)

    @property
    def stride(self):
        return self.per_axis("strides", 1)[self.index]

    @property
    def held(self):
        """The length of the state, by the definition; negative where inputs are skipped."""
        k, d = self.kernel.shape[self.index], self.per_axis("kernel_dilation", 1)[self.index]
        last = self.options.get("output_at", "first") == "last"
        return (k - 1) * d - (self.stride - 1 if last else 0)

    def part(self, a, b, x=None):
        """Steps a to b of the inputs, or of `x`."""
        x = self.x if x is None else x
        return x[(slice(None),) * self.axis + (slice(a, b),)]

    def left(self, x):
        """What lies before the first input, without a state."""
        left = np.repeat(self.part(0, 1, x), max(self.held, 0), self.axis)
        return left if self.per_axis("padding_mode", "constant")[self.index] == "edge" else 0 * left

    def end(self, x, state=None):
        """The state after `x`."""
        x = np.concatenate([self.left(x) if state is None else state, x], self.axis)
        return self.part(x.shape[self.axis] - max(self.held, 0), None, x)

    @property
    def steps(self):
        return self.x.shape[self.axis]

    def __call__(self, x=None, kernel=None, **more):
        x, kernel = self.x if x is None else x, self.kernel if kernel is None else kernel
        return convjax.causal_conv(x, kernel, axis=self.axis, **{**self.options, **more})


def expected(case, x=None, left=None):
    """The definition: the inputs with what lies left of them, convolved without padding in time."""
    x = oracle.wide(case.x if x is None else x)
    held, rank = case.held, x.ndim - 2
    modes = list(case.per_axis("padding_mode", "constant"))
    x = np.concatenate([case.left(x) if left is None else left, x], case.axis)
    x = case.part(max(-held, 0), None, x)
    space, window = x.shape[1:-1], case.kernel.shape[:-2]
    strides, dilation = case.per_axis("strides", 1), case.per_axis("kernel_dilation", 1)
    others = [a for a in range(rank) if a != case.index]
    padding = list(
        oracle.pairs(
            case.options.get("padding", "SAME"),
            [space[a] for a in others],
            [window[a] for a in others],
            [strides[a] for a in others],
            1,
            [dilation[a] for a in others],
        )
        if others
        else []
    )
    padding.insert(case.index, (0, 0))
    modes[case.index] = "constant"
    return oracle.conv(
        x,
        case.kernel,
        strides=strides,
        padding=padding,
        padding_mode=tuple(modes),
        kernel_dilation=dilation,
        feature_group_count=case.options["feature_group_count"],
    )


def random_case(seed, *, strided=True, dtype=np.float32):
    """Any rank, kind, axis, dilation, stride, place of outputs, padding and left edge."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    index = int(rng.integers(rank))
    groups, per_group, out = [(1, 3, 5), (2, 3, 4), (6, 1, 6), (3, 1, 6)][rng.integers(4)]
    window = [int(k) for k in rng.integers(1, 4, rank)]
    window[index] = int(rng.integers(1, 6))
    dilation = tuple(int(d) for d in rng.integers(1, 3, rank))
    strides = [int(s) for s in rng.integers(1, 3, rank)]
    strides[index] = int(rng.integers(1, 5)) if strided and rng.random() < 0.5 else 1
    frames = int(rng.integers(3, 7))
    space = [int(n) for n in rng.integers(3, 6, rank)]
    space[index] = frames * strides[index] if strides[index] > 1 else int(rng.integers(2, 14))
    modes = [str(rng.choice(["constant", "edge", "wrap"])) for _ in range(rank)]
    modes[index] = str(rng.choice(["constant", "edge"]))
    options = {
        "strides": tuple(strides),
        "kernel_dilation": dilation,
        "padding_mode": tuple(modes),
        "feature_group_count": groups,
        "output_at": str(rng.choice(["first", "last"])),
    }
    if rank > 1 and rng.random() < 0.5:
        reaches = [(k - 1) * d for k, d in zip(window, dilation, strict=True)]
        lengths = reaches[:index] + reaches[index + 1 :]
        options["padding"] = [(n, n // 2) if n < 3 else (1, n - 1) for n in lengths]
    x = oracle.integers(seed, (2, *space, groups * per_group), dtype)
    kernel = oracle.integers(seed + 1, (*window, per_group, out), dtype)
    return Case(x, kernel, index + 1, options)


def random_cuts(seed, steps, stride=1):
    """Where to cut a sequence; some pieces are empty."""
    rng = np.random.default_rng(seed)
    frames = steps // stride
    inner = sorted(int(c) for c in rng.integers(0, frames + 1, rng.integers(1, 4)))
    return [0, *(c * stride for c in inner), steps]
