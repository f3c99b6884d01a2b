"""Law "meshes", without devices: which rows a shard needs, from whom, and what it computes.

Shards are simulated in numpy. Everything is compared with the whole convolution, exactly.
"""

import itertools
import math

import numpy as np
import pytest

from convjax._core.geometry import Geometry
from convjax._core.layout import canonical
from convjax._sharding import partition
from convjax._sharding.partition import Axis, Factor


def whole(x, kernel, axis):
    """The convolution along one axis, tap by tap."""
    y = np.zeros(axis.out)
    for o, t in itertools.product(range(axis.out), range(len(kernel))):
        row, between = divmod(
            o * axis.stride + t * axis.kernel_dilation - axis.low, axis.input_dilation
        )
        if between == 0 and 0 <= row < len(x):
            element = len(kernel) - 1 - t if axis.reversal else t
            y[o] += x[row] * kernel[element]
    return y


def blocks(array, shards):
    """The parts of `array`: what lies behind its end is not a number."""
    own = partition.block(len(array), shards)
    padded = np.concatenate([array, np.full(own * shards - len(array), np.nan)])
    return padded.reshape(shards, own)


def exchanged(parts, rows):
    """What every shard has after the transfers: the rows that it needs."""
    found = []
    for shard, start in enumerate(rows.starts):
        if rows.whole:
            middle = [*parts.reshape(-1)]
        else:
            middle = []
            for side in ("before", "own", "after"):
                if side == "own":
                    middle += [*parts[shard]]
                    continue
                for count, pairs in rows.hops(side):
                    senders = [sender for sender, receiver in pairs if receiver == shard]
                    assert len(senders) <= 1
                    held = parts[senders[0]] if senders else np.zeros(rows.block)
                    middle += [*(held[-count:] if side == "before" else held[:count])]
        buffer = np.array([0.0] * rows.lead + middle + [0.0] * rows.trail)
        assert 0 <= start <= len(buffer) - rows.rows or rows.rows == 0
        found.append(buffer[start : start + rows.rows])
    return found


def drawn(rng):
    """An axis whose numbers are drawn, and its number of shards."""
    space, window = int(rng.integers(1, 14)), int(rng.integers(1, 7))
    stride, kernel_dilation, input_dilation = (int(rng.integers(1, 4)) for _ in range(3))
    low, high = (int(rng.integers(-2, 6)) for _ in range(2))
    geometry = Geometry((stride,), ((low, high),), (input_dilation,), (kernel_dilation,))
    (out,) = geometry.output_space((space,), (window,))
    axis = Axis(
        space, window, out, stride, low, high, input_dilation, kernel_dilation,
        bool(rng.integers(2)),
    )  # fmt: skip
    return axis, int(rng.integers(1, 9))


@pytest.mark.parametrize("split", ["outputs", "window"])
def test_shards_compute_what_the_whole_does(split):
    rng = np.random.default_rng(0 if split == "outputs" else 1)
    seen = dict.fromkeys(("whole", "hops", "uneven", "skips", "crops", "dilated", "zeros"), 0)
    for _ in range(3000):
        axis, shards = drawn(rng)
        if axis.out == 0:
            continue
        x = rng.integers(-9, 10, axis.space).astype(float)
        kernel = rng.integers(-9, 10, axis.window).astype(float)
        wanted = whole(x, kernel, axis)
        share = (partition.split_outputs if split == "outputs" else partition.split_window)(
            axis, shards
        )
        rows = share.rows
        seen["whole"] += rows.whole
        seen["hops"] += rows.before > rows.block
        seen["uneven"] += axis.space % shards > 0
        seen["skips"] += max(share.skips + share.tap_skips) > 0
        seen["crops"] += axis.low < 0
        seen["dilated"] += axis.input_dilation > 1
        seen["zeros"] += rows.lead > 0 or rows.trail > 0
        parts = np.nan_to_num(blocks(x, shards))  # what does not exist is made zero
        total, pieces = np.zeros(axis.out), []
        taps = np.nan_to_num(blocks(kernel, shards))
        for shard, needed in enumerate(exchanged(parts, rows)):
            own = kernel
            if split == "window":
                own = np.zeros(share.window)
                first = share.tap_skips[shard]
                own[first : first + taps.shape[1]] = taps[shard]
            local = axis._replace(
                space=rows.rows, window=share.window, out=share.outputs,
                low=share.padding[0], high=share.padding[1],
            )  # fmt: skip
            y = whole(needed, own, local)
            extent = Geometry(
                (axis.stride,), (share.padding,), (axis.input_dilation,), (axis.kernel_dilation,)
            ).output_space((rows.rows,), (share.window,))
            assert extent == (share.outputs,), (axis, shards)
            if split == "window":
                total += y
            else:
                first = share.skips[shard]
                pieces.append(y[first : first + share.out_block])
        if split == "outputs":
            total = np.concatenate(pieces)[: axis.out]
        np.testing.assert_array_equal(total, wanted, err_msg=f"{axis}, {shards} shards")
    assert all(seen.values()), seen


def test_a_halo_is_the_kernels_reach_and_no_more():
    """SAME of a 3-tap kernel: one row of either neighbour; 5 taps, dilated by 2: four."""
    for window, dilation, reach in ((3, 1, 1), (5, 2, 4), (1, 1, 0)):
        axis = Axis(64, window, 64, 1, reach, reach, 1, dilation)
        rows = partition.split_outputs(axis, 4).rows
        assert (rows.before, rows.after, rows.lead, rows.trail) == (reach, reach, 0, 0)
        assert rows.rows == 16 + 2 * reach and len(set(rows.starts)) == 1
        if reach:
            assert rows.hops("before") == [(reach, [(0, 1), (1, 2), (2, 3)])]
            assert rows.hops("after") == [(reach, [(1, 0), (2, 1), (3, 2)])]
    # the gradient of the kernel: the cotangent's rows stay, x's come
    rows = partition.split_window(Axis(64, 64, 3, 1, 1, 1, 1, 1), 4).rows
    assert (rows.before, rows.after, rows.rows) == (1, 1, 18)


def test_a_strip_goes_from_those_who_hold_it_to_those_who_need_it():
    # the last three of 16 elements, four a shard, for the first shard
    strip = partition.strip(13, 3, 16, 4, [0])
    assert strip.hops == (((3, 0),),) and not strip.kept
    # six elements lie on two shards, one of which needs them
    strip = partition.strip(2, 6, 16, 4, [1])
    assert strip.hops == (((0, 1),),) and strip.kept


# ---- which mesh axis splits what -----------------------------------------------------------------

LAYOUT = canonical(2).ungrouped()  # x (N, H, W, I), kernel (H, W, I, O), result (N, H, W, O)
SIZES = {"x": 1000.0, "kernel": 10.0, "out": 1000.0}


def chosen(x, kernel, out, split_windows=False, sizes=SIZES, **options):
    """The kind that every mesh axis splits."""
    specs = {
        party: [tuple(entry) for entry in spec]
        for party, spec in (("x", x), ("kernel", kernel), ("out", out))
    }
    plan = partition.choose(partition.factors(LAYOUT, split_windows), specs, sizes, **options)
    found = {}
    for factor, names in zip(plan.factors, plan.names, strict=True):
        for name in names:
            found[name] = factor.kind
    return found, plan


NO = ("", "", "", "")


def test_what_lies_right_stays():
    assert chosen(("a", "", "", ""), NO, ("a", "", "", ""))[0] == {"a": "batch"}
    assert chosen(("a", "b", "", ""), NO, ("a", "b", "", ""))[0] == {"a": "batch", "b": "space"}
    found, plan = chosen(("", "", "", "a"), ("", "", "a", ""), NO)
    assert found == {"a": "contract"} and plan.summed == ("a",)
    assert chosen(NO, ("", "", "", "a"), ("", "", "", "a"))[0] == {"a": "out"}
    gradient = chosen(("a", "b", "", ""), ("a", "b", "", ""), NO, split_windows=True)[0]
    assert gradient == {"a": "batch", "b": "window"}


def test_the_smaller_operand_moves():
    """Batch and outputs on one mesh axis: the kernel is gathered, unless it is the larger one."""
    x, kernel, out = ("a", "", "", ""), ("", "", "", "a"), ("a", "", "", "")
    found, plan = chosen(x, kernel, out)
    assert found == {"a": "batch"} and plan.spec("kernel", 4) == ((), (), (), ())
    large = {"x": 10.0, "kernel": 1000.0, "out": 10.0}
    assert chosen(x, kernel, ("", "", "", "a"), sizes=large)[0] == {"a": "out"}


def test_a_kernels_own_extent_is_gathered():
    found, plan = chosen(("", "a", "", ""), ("a", "", "", ""), ("", "a", "", ""))
    assert found == {"a": "space"} and plan.spec("kernel", 4) == ((), (), (), ())


def test_axes_keep_their_order():
    """Two mesh axes on one array axis, major first, as the largest party has them."""
    spec = ("", "ba", "", "")
    _, plan = chosen(spec, NO, spec)
    assert plan.spec("x", 4)[1] == ("b", "a") == plan.spec("out", 4)[1]


def test_nothing_that_needs_an_exchange_if_so_asked():
    found, plan = chosen(("a", "b", "", "c"), NO, ("a", "b", "", ""), independent=True)
    assert found == {"a": "batch"} and plan.summed == ()


# ---- mesh axes from tables of devices ------------------------------------------------------------


@pytest.mark.parametrize("mesh", [(8,), (4, 2), (3, 2), (2, 3), (2, 2, 2), (6,), (12,), (1, 4)])
def test_digits_explain_every_sharding(mesh):
    """Every way to split arrays over a mesh's axes is found again from the devices' blocks."""
    rng = np.random.default_rng(sum(mesh))
    count = math.prod(mesh)
    places = list(np.ndindex(*mesh))
    for _ in range(60):
        tables = []
        for _ in range(3):
            owner = [int(rng.integers(-1, 3)) for _ in mesh]
            order = [int(i) for i in rng.permutation(len(mesh))]
            table = []
            for axis in range(3):
                names = [name for name in order if owner[name] == axis]
                numbers = []
                for place in places:
                    number = 0
                    for name in names:
                        number = number * mesh[name] + place[name]
                    numbers.append(number)
                table.append(numbers)
            tables.append(table)
        for known in (mesh, (count,)):
            radices, found = partition.digits_of(tables, known)
            assert math.prod(radices) == count
            strides = [math.prod(radices[i + 1 :]) for i in range(len(radices))]
            for table, axes in zip(tables, found, strict=True):
                assert axes is not None
                used = [digit for digits in axes for digit in digits]
                assert len(used) == len(set(used))
                for numbers, digits in zip(table, axes, strict=True):
                    for device, wanted in enumerate(numbers):
                        number = 0
                        for digit in digits:
                            number = (
                                number * radices[digit]
                                + device // strides[digit] % (radices[digit])
                            )
                        assert number == wanted


def test_what_no_axes_explain_is_left_open():
    assert partition.digits_of([[[0, 1, 1, 0]], [[0, 0, 1, 1]]], [4]) == (
        (2, 2), [None, [(0,)]],
    )  # fmt: skip


def test_factors_name_every_axis_once():
    for split_windows in (False, True):
        found = partition.factors(LAYOUT, split_windows)
        for party, ndim in (("x", 4), ("kernel", 4), ("out", 4)):
            axes = [f.axis(party) for f in found if f.axis(party) is not None]
            assert len(axes) == len(set(axes)) <= ndim
    assert Factor("window", x=1, kernel=0) in partition.factors(LAYOUT, True)
