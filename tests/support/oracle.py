"""The definition of a convolution, executed: a loop over outputs and taps, in numpy.

Nothing here uses lax, ``np.pad``, or the library's size functions. Everything is built from one
generator, `taps`, which names the (output, tap, input element) triples of one axis:

    y[n, o, c] = sum over taps t and channels i of c's group:
                 x[n, source(o*s + t*d - lo), i] * k[t, i, c]

Layouts are channels-last: x (N, *space, I), kernel (*K, I/G, O), y (N, *out, O).
"""

import itertools
from typing import NamedTuple

import numpy as np

MODES = ("constant", "reflect", "symmetric", "edge", "wrap")
POLICIES = ("SAME", "SAME_LOWER", "VALID", "FULL", "CAUSAL")
LIMITS = {"reflect": lambda n: n - 1, "symmetric": lambda n: n, "wrap": lambda n: n}


def per_axis(value, rank):
    """An int (or one word) for every axis, or a sequence with one entry per axis, as a tuple."""
    if isinstance(value, str) or np.ndim(value) == 0:
        return (value,) * rank
    return tuple(value)


def extent(taps, dilation):
    """How far a dilated row of `taps` reaches: first to last tap, both counted."""
    return (taps - 1) * dilation + 1 if taps else 0


def pairs(padding, space, window, strides, input_dilation=1, kernel_dilation=1):
    """Any spelling of `padding` as ``((lo, hi), ...)``."""
    rank = len(space)
    if not isinstance(padding, str):
        entries = (padding,) * rank if np.ndim(padding) == 0 else tuple(padding)
        return tuple((p, p) if np.ndim(p) == 0 else (p[0], p[1]) for p in entries)
    found = []
    axes = zip(
        space,
        window,
        per_axis(strides, rank),
        per_axis(input_dilation, rank),
        per_axis(kernel_dilation, rank),
        strict=True,
    )
    for axis, (n, k, s, a, d) in enumerate(axes):
        n, k = extent(n, a), extent(k, d)
        word = padding
        if word == "CAUSAL":
            word = "PAST" if axis == 0 else "SAME"
        outputs = -(-n // s)
        total = max((outputs - 1) * s + k - n, 0)
        found.append(
            {
                "VALID": (0, 0),
                "FULL": (k - 1, k - 1),
                "PAST": (k - 1, 0),
                "SAME": (total // 2, total - total // 2),
                "SAME_LOWER": (total - total // 2, total // 2),
            }[word]
        )
    return tuple(found)


def source(position, n, mode, dilation=1):
    """The element of an axis of `n` that lies at `position` (which may be outside).

    An index, or "pad" where a padding zero lies, or "hole" where a dilation zero lies. Dilation
    spreads the padded axis: the places between two elements of padding are holes, too.
    """
    if mode == "constant":
        if position % dilation:
            return "hole"
        return position // dilation if 0 <= position < extent(n, dilation) else "pad"
    assert dilation == 1
    if 0 <= position < n:
        return position
    before = position < 0
    if mode == "edge":
        return 0 if before else n - 1
    if mode == "wrap":
        found = position + n if before else position - n
    elif mode == "reflect":
        found = -position if before else 2 * (n - 1) - position
    elif mode == "symmetric":
        found = -position - 1 if before else 2 * n - 1 - position
    assert 0 <= found < n, "the extension is longer than the axis allows"
    return found


class Problem(NamedTuple):
    """One convolution without its numbers: sizes and options, one entry per spatial axis."""

    space: tuple
    window: tuple
    strides: tuple
    padding: tuple
    modes: tuple
    input_dilation: tuple
    kernel_dilation: tuple
    groups: int

    @property
    def out_space(self):
        return tuple(len(axis) for axis in self.outputs())

    def outputs(self):
        """The position in the input of the first tap of every output, axis by axis."""
        found = []
        for axis, (lo, hi) in enumerate(self.padding):
            last = extent(self.space[axis], self.input_dilation[axis]) + hi
            last -= extent(self.window[axis], self.kernel_dilation[axis])
            found.append(list(range(-lo, last + 1, self.strides[axis])))
        return found

    def axis_taps(self, axis):
        """The triples (output, tap, source) of one axis."""
        n, mode, a = self.space[axis], self.modes[axis], self.input_dilation[axis]
        for o, start in enumerate(self.outputs()[axis]):
            for t in range(self.window[axis]):
                yield o, t, source(start + t * self.kernel_dilation[axis], n, mode, a)

    def taps(self):
        """The triples (output, tap, source) of all axes together that touch a real element."""
        axes = [
            [triple for triple in self.axis_taps(axis) if not isinstance(triple[2], str)]
            for axis in range(len(self.space))
        ]
        for combination in itertools.product(*axes):
            yield tuple(zip(*combination, strict=True)) or ((), (), ())

    def count(self):
        """The (output, tap) pairs on real elements, and those on padding (never on holes)."""
        real = all_but_holes = 1
        for axis in range(len(self.space)):
            kinds = [
                s if isinstance(s, str) else "real" for _, _, s in self.axis_taps_of_zeros(axis)
            ]
            real *= kinds.count("real")
            all_but_holes *= kinds.count("real") + kinds.count("pad")
        return real, all_but_holes - real

    def axis_taps_of_zeros(self, axis):
        """`axis_taps`, where everything beyond the edge is padding, whatever the mode."""
        return self._replace(modes=("constant",) * len(self.space)).axis_taps(axis)


def problem(
    space,
    window,
    *,
    strides=1,
    padding="SAME",
    padding_mode="constant",
    input_dilation=1,
    kernel_dilation=1,
    feature_group_count=1,
):
    """The options of ``convjax.conv``, any spelling, as a `Problem`."""
    rank = len(window)
    padding = pairs(padding, space, window, strides, input_dilation, kernel_dilation)
    return Problem(
        tuple(space),
        tuple(window),
        per_axis(strides, rank),
        padding,
        per_axis(padding_mode, rank),
        per_axis(input_dilation, rank),
        per_axis(kernel_dilation, rank),
        int(feature_group_count),
    )


def wide(array):
    """`array` in the widest dtype of its kind: the oracle sums without rounding integers."""
    array = np.asarray(array)
    return array.astype(
        {"i": np.int64, "u": np.int64, "c": np.complex128}.get(array.dtype.kind, float)
    )


def _groups(groups, in_features, out_features):
    """The slices (input channels, output channels) of every group."""
    i, o = in_features // groups, out_features // groups
    return [(slice(g * i, g * i + i), slice(g * o, g * o + o)) for g in range(groups)]


def conv(x, kernel, **options):
    """y (N, *out, O) of x (N, *space, I) and kernel (*K, I/G, O)."""
    x, kernel = wide(x), wide(kernel)
    p = problem(x.shape[1:-1], kernel.shape[:-2], **options)
    dtype = np.result_type(x, kernel)
    y = np.zeros((x.shape[0], *p.out_space, kernel.shape[-1]), dtype)
    groups = _groups(p.groups, x.shape[-1], kernel.shape[-1])
    for o, t, s in p.taps():
        for i_slice, o_slice in groups:
            y[(slice(None), *o, o_slice)] += (
                x[(slice(None), *s, i_slice)] @ kernel[(*t, slice(None), o_slice)]
            )
    return y


def matrix(kernel, space, **options):
    """C: ``y[n].ravel() = C @ x[n].ravel()`` for every batch element n."""
    kernel = wide(kernel)
    p = problem(space, kernel.shape[:-2], **options)
    in_features, out_features = kernel.shape[-2] * p.groups, kernel.shape[-1]
    c = np.zeros((*p.out_space, out_features, *p.space, in_features), kernel.dtype)
    for o, t, s in p.taps():
        for i_slice, o_slice in _groups(p.groups, in_features, out_features):
            c[(*o, o_slice, *s, i_slice)] += kernel[(*t, slice(None), o_slice)].T
    rows = int(np.prod(p.out_space)) * out_features
    return c.reshape(rows, int(np.prod(p.space)) * in_features)


def conv_transpose(y, kernel, out_space, **options):
    """C^T applied to y (N, *space, O): the adjoint of `conv` on inputs of extents `out_space`."""
    y, kernel = wide(y), wide(kernel)
    c = matrix(kernel, out_space, **options)
    in_features = kernel.shape[-2] * int(options.get("feature_group_count", 1))
    flat = y.reshape(y.shape[0], -1) @ c
    return flat.reshape(y.shape[0], *out_space, in_features)


def kernel_gradient(x, cotangent, kernel_shape, **options):
    """The gradient of ``sum(conv(x, k) * cotangent)`` with respect to k, from the same loop."""
    x, cotangent = wide(x), wide(cotangent)
    p = problem(x.shape[1:-1], kernel_shape[:-2], **options)
    found = np.zeros(kernel_shape, np.result_type(x, cotangent))
    groups = _groups(p.groups, x.shape[-1], kernel_shape[-1])
    for o, t, s in p.taps():
        for i_slice, o_slice in groups:
            found[(*t, slice(None), o_slice)] += (
                x[(slice(None), *s, i_slice)].T @ cotangent[(slice(None), *o, o_slice)]
            )
    return found


def input_gradient(x_shape, cotangent, kernel, **options):
    """The gradient of ``sum(conv(x, k) * cotangent)`` with respect to x: C^T again."""
    return conv_transpose(cotangent, kernel, x_shape[1:-1], **options)


def transposed_extents(
    space, window, *, strides=1, padding="SAME", kernel_dilation=1, output_padding=0
):
    """The spatial extents of a transposed convolution, by the formulas of the definition."""
    rank = len(space)
    found = []
    words = padding if isinstance(padding, str) else None
    given = None if words else pairs(padding, space, window, strides)
    axes = zip(
        space,
        window,
        per_axis(strides, rank),
        per_axis(kernel_dilation, rank),
        per_axis(output_padding, rank),
        strict=True,
    )
    for axis, (n, k, s, d, extra) in enumerate(axes):
        k, word = extent(k, d), words
        if word in ("SAME", "SAME_LOWER", "CAUSAL"):
            found.append(n * s)
            continue
        lo, hi = given[axis] if given else {"VALID": (0, 0), "FULL": (k - 1, k - 1)}[word]
        found.append((n - 1) * s + k - lo - hi + extra)
    return tuple(found)


def crops(padding, space, out_space, window, *, strides=1, kernel_dilation=1):
    """What a transposed convolution of `space` crops from what it paints, `out_space` being left.

    It is the padding of the convolution whose adjoint it is, but for CAUSAL: of what the inputs
    paint along time, the end is cropped.
    """
    found = list(pairs(padding, out_space, window, strides, kernel_dilation=kernel_dilation))
    if isinstance(padding, str) and padding == "CAUSAL":
        k, s = (per_axis(value, len(space))[0] for value in (kernel_dilation, strides))
        found[0] = (0, (space[0] - 1) * s + extent(window[0], k) - out_space[0])
    return tuple(found)


def integers(seed, shape, dtype=np.float32, bound=4):
    """Random integers in [-bound, bound], never all alike, as `dtype`; complex gets both parts."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-bound, bound + 1, shape)
    if np.issubdtype(dtype, np.complexfloating):
        values = values + 1j * rng.integers(-bound, bound + 1, shape)
    return values.astype(dtype)
