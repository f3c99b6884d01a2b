"""The whole configuration space of `conv` and `conv_transpose`, for hypothesis.

Sizes are distinct on every axis and I, O, G differ, so that no swap of axes goes unseen. Options
come in every spelling (int, list, tuple, numpy integers, words). `features` names what a
configuration has in it; the laws assert that every name was met.
"""

from dataclasses import dataclass, field

import numpy as np
import oracle
from hypothesis import strategies as st

FEATURES = (
    "rank 1",
    "rank 2",
    "rank 3",
    "grouped",
    "size-1 axis",
    "even kernel",
    "stride > kernel",
    "negative pad",
    "pad >= kernel",
    "dilation with stride",
    *(f"mode {mode}" for mode in oracle.MODES),
    *(f"policy {word}" for word in oracle.POLICIES),
)
EXTENSIONS = tuple(mode for mode in oracle.MODES if mode != "constant")
FORWARD_FEATURES = (*FEATURES, "input dilation with a policy")
TRANSPOSED_FEATURES = (*FEATURES, "output_padding > 0", "output_shape")


@dataclass(frozen=True)
class Configuration:
    """One call: shapes, options as the library takes them, and a seed for the numbers."""

    x_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    options: dict
    seed: int
    y_shape: tuple[int, ...] = field(default=())
    crops: tuple | None = None  # of a transposed convolution: what it crops from each side

    @property
    def space(self):
        return self.x_shape[1:-1]

    @property
    def forward_options(self):
        """The options of the `conv` whose adjoint a transposed one is: CAUSAL by its pairs."""
        options = {k: v for k, v in self.options.items() if not k.startswith("output_")}
        if self.crops is not None and options["padding"] == "CAUSAL":
            options["padding"] = self.crops
        return options

    def numbers(self, dtype=np.float32):
        """x, kernel and a y of the output's shape: integer-valued."""
        shapes = (self.x_shape, self.kernel_shape, self.y_shape)
        return tuple(oracle.integers(self.seed + i, shape, dtype) for i, shape in enumerate(shapes))

    def features(self):
        p = oracle.problem(self.space, self.kernel_shape[:-2], **self.forward_options)
        rank = len(p.space)
        reach = [oracle.extent(k, d) for k, d in zip(p.window, p.kernel_dilation, strict=True)]
        dilated = [d > 1 and k > 1 for d, k in zip(p.kernel_dilation, p.window, strict=True)]
        word = self.options["padding"]
        tests = {
            f"rank {rank}": True,
            "grouped": p.groups > 1,
            "size-1 axis": 1 in p.space,
            "even kernel": any(k % 2 == 0 for k in p.window),
            "stride > kernel": any(s > k for s, k in zip(p.strides, reach, strict=True)),
            "negative pad": any(side < 0 for pair in p.padding for side in pair),
            "pad >= kernel": any(max(pair) >= k for pair, k in zip(p.padding, reach, strict=True)),
            "dilation with stride": any(
                s > 1 and d for s, d in zip(p.strides, dilated, strict=True)
            ),
            "output_padding > 0": np.any(np.asarray(self.options.get("output_padding", 0)) > 0),
            "output_shape": self.options.get("output_shape") is not None,
            "input dilation with a policy": isinstance(word, str) and max(p.input_dilation) > 1,
        }
        tests |= {f"mode {mode}": True for mode in p.modes}
        if isinstance(word, str):
            tests[f"policy {word}"] = True
        return [name for name, met in tests.items() if met]


def spelled(values):
    """Integers, one per axis, in one of the spellings that mean the same."""
    ways = [tuple(values), list(values), tuple(np.int64(v) for v in values)]
    if len(set(values)) == 1:
        ways += [values[0], np.int32(values[0])]
    return st.sampled_from(ways)


def _spelled_pads(pads):
    ways = [tuple(pads), [list(pair) for pair in pads]]
    if all(lo == hi for lo, hi in pads):
        ways += [tuple(lo for lo, _ in pads), [np.int64(lo) for lo, _ in pads]]
        if len(set(pads)) == 1:
            ways += [pads[0][0]]
    return st.sampled_from(ways)


def _distinct(draw, size, high, but=()):
    allowed = [n for n in range(1, high + 1) if n not in but]
    return tuple(
        draw(st.lists(st.sampled_from(allowed), min_size=size, max_size=size, unique=True))
    )


def _common(draw):
    """Rank, channels, kernel extents, strides, kernel dilation."""
    rank = draw(st.sampled_from([1, 1, 2, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 2, 3]))
    a, b = _distinct(draw, 2, 4)
    if groups > 1 and draw(st.booleans()):
        a, b = 1, max(a, b)
    window = _distinct(draw, rank, (6, 4, 4)[rank - 1])
    strides = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    dilation = tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=rank, max_size=rank)))
    return rank, groups, groups * a, groups * b, window, strides, dilation


def _mended(pads, space, reach, modes, input_dilation):
    """`pads` made legal: within what each mode allows, and the kernel not larger than the input."""
    mended, mended_modes = [], []
    for axis, ((lo, hi), n, k, mode) in enumerate(zip(pads, space, reach, modes, strict=True)):
        if mode in oracle.LIMITS:
            limit = oracle.LIMITS[mode](n)
            lo, hi = min(lo, limit), min(hi, limit)
        length = oracle.extent(n, input_dilation[axis])
        if length + lo + hi < k:
            lo, hi = max(lo, 0), max(hi, 0)
            if length + lo + hi < k:
                mode, hi = "constant", hi + k - length - lo - hi
        mended.append((lo, hi))
        mended_modes.append(mode)
    return tuple(mended), tuple(mended_modes)


def _padding(draw, space, window, strides, dilation, input_dilation):
    """A legal padding and padding mode in some spelling, for the forward convolution on `space`."""
    rank = len(space)
    ones = (1,) * rank
    reach = [oracle.extent(k, d) for k, d in zip(window, dilation, strict=True)]
    modes = ("constant",) * rank
    if input_dilation == ones:
        modes = tuple(draw(st.sampled_from((*EXTENSIONS, "constant"))) for _ in range(rank))
    word = draw(st.sampled_from((*[None] * 5, *oracle.POLICIES)))
    if word is not None:
        wanted = oracle.pairs(word, space, window, strides, input_dilation, dilation)
        mended, modes = _mended(wanted, space, reach, modes, input_dilation)
        if mended != wanted and all(mode == "constant" for mode in modes):
            return mended, modes[0]
        if mended != wanted:  # the word would reach beyond what the mode allows
            modes = tuple(
                "constant" if mode in oracle.LIMITS and new != old else mode
                for mode, new, old in zip(modes, mended, wanted, strict=True)
            )
            mended, modes = _mended(wanted, space, reach, modes, input_dilation)
        padding = word if mended == wanted else mended
    else:
        pads = tuple(
            (draw(st.sampled_from(range(-2, k + 2))), draw(st.sampled_from(range(-2, k + 2))))
            for k in reach
        )
        if draw(st.integers(0, 3)) == 0:
            pads = (pads[0][:1] * 2,) * rank
        mended, modes = _mended(pads, space, reach, modes, input_dilation)
        padding = draw(_spelled_pads(mended))
    if len(set(modes)) == 1 and draw(st.booleans()):
        modes = modes[0]
    return padding, modes


@st.composite
def convolutions(draw):
    """A legal call of `conv`."""
    rank, groups, i, o, window, strides, dilation = _common(draw)
    n, *space = _distinct(draw, rank + 1, (9, 6, 5)[rank - 1] + 1, but=(i,))
    if n > 4:
        n = next(small for small in range(1, 9) if small not in (*space, i))
    input_dilation = (1,) * rank
    if draw(st.integers(0, 2)) == 0:
        input_dilation = tuple(draw(st.sampled_from([2, 1, 3])) for _ in range(rank))
    padding, modes = _padding(draw, tuple(space), window, strides, dilation, input_dilation)
    options = {
        "strides": draw(spelled(strides)),
        "padding": padding,
        "padding_mode": modes,
        "input_dilation": draw(spelled(input_dilation)),
        "kernel_dilation": draw(spelled(dilation)),
        "feature_group_count": groups,
    }
    p = oracle.problem(space, window, **options)
    return Configuration(
        (n, *space, i),
        (*window, i // groups, o),
        options,
        draw(st.integers(0, 999)),
        (n, *p.out_space, o),
    )


@st.composite
def transposed(draw):
    """A legal call of `conv_transpose`: y_shape -> x_shape, where conv maps x_shape -> y_shape."""
    rank, groups, i, o, window, strides, dilation = _common(draw)
    n, *out_space = _distinct(draw, rank + 1, (6, 4, 5)[rank - 1], but=(o,))
    common = {"strides": strides, "kernel_dilation": dilation}
    options = dict(common, feature_group_count=groups)
    reach = [oracle.extent(k, d) for k, d in zip(window, dilation, strict=True)]
    word = draw(st.sampled_from((*[None] * 4, *oracle.POLICIES)))
    extra = tuple(draw(st.integers(0, s - 1)) for s in strides)
    shaped = draw(st.integers(0, 2)) == 0
    if word in ("SAME", "SAME_LOWER", "CAUSAL"):
        extra = tuple(-e for e in extra) if shaped else (0,) * rank
    if word is not None:
        space = oracle.transposed_extents(out_space, window, padding=word, **common)
        space = tuple(n + e for n, e in zip(space, extra, strict=True))
        wanted = padding = word
    else:
        wanted = tuple(
            (draw(st.sampled_from(range(-2, k + 1))), draw(st.sampled_from(range(-2, k + 1))))
            for k in reach
        )
        space = oracle.transposed_extents(
            out_space, window, padding=wanted, output_padding=extra, **common
        )
        # a result of no extent is no result: crop less
        wanted = tuple((lo + min(n - 1, 0), hi) for (lo, hi), n in zip(wanted, space, strict=True))
        space = tuple(max(n, 1) for n in space)
        padding = draw(_spelled_pads(wanted))
    if min(space) < 1:  # FULL on so few elements
        word, wanted = None, tuple((0, 0) for _ in window)
        padding, extra = wanted, tuple(max(e, 0) for e in extra)
        space = oracle.transposed_extents(
            out_space, window, padding=wanted, output_padding=extra, **common
        )
    modes = tuple(draw(st.sampled_from((*EXTENSIONS, "constant"))) for _ in range(rank))
    sides = oracle.crops(padding, out_space, space, window, **common)
    modes = tuple(
        "constant" if mode in oracle.LIMITS and max(pair) > oracle.LIMITS[mode](n) else mode
        for mode, pair, n in zip(modes, sides, space, strict=True)
    )
    if word == "CAUSAL":  # what is painted beyond the end is not folded back
        modes = ("constant", *modes[1:])
    options["padding"] = padding
    options["padding_mode"] = modes[0] if len(set(modes)) == 1 else modes
    if shaped:
        options["output_shape"] = draw(spelled(space))
    elif any(extra):
        options["output_padding"] = draw(spelled(extra))
    options["strides"] = draw(spelled(strides))
    options["kernel_dilation"] = draw(spelled(dilation))
    return Configuration(
        (n, *space, i),
        (*window, i // groups, o),
        options,
        draw(st.integers(0, 999)),
        (n, *out_space, o),
        sides,
    )
