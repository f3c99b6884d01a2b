"""`convjax.draw.arithmetic` against the oracle, and the structure of what it draws."""

import functools
import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import oracle
import pytest

from convjax import draw
from convjax.draw import window as places
from convjax.draw.arithmetic import drawn
from convjax.draw.worked import work_out
from convjax.kinds import KINDS

SVG = "{http://www.w3.org/2000/svg}"
SPACES = {1: 6, 2: (4, 3), 3: (3, 2, 2)}


def masks(worked):
    """Which elements each result reads, by the oracle's loop over outputs and taps."""
    kind, sizes, options = worked.kind.name, worked.sizes, dict(worked.options)
    space, out = worked.values[0].shape[:-1], worked.values[-1].shape[:-1]
    channels, features = worked.values[0].shape[-1], worked.values[-1].shape[-1]
    groups = {
        "grouped": sizes.groups,
        "shuffled_grouped": sizes.groups,
        "pointwise_grouped": sizes.groups,
        "depthwise": channels,
        "hold": channels,
        "channel_shuffle": channels,
        "flattened": 1,
    }.get(kind, int(options.pop("feature_group_count", 1)))
    options.pop("feature_group_count", None)
    window = sizes.kernel_size
    if kind.startswith("pointwise") or kind == "channel_shuffle":
        window, options["padding"] = sizes.ones, "VALID"
    if kind == "dilated":
        options["kernel_dilation"] = sizes.kernel_dilation
    if kind == "hold":
        order = options.pop("order", 0)
        window = [(order + 1) * (s - 1) + 1 for s in sizes.scale]
        options.setdefault("padding_mode", "edge")

    def dense(space, window, i, o, groups, options):
        ones = np.ones((*window, i // groups, o))
        return oracle.matrix(ones, space, feature_group_count=groups, **options) != 0

    if kind == "transposed":
        for name in ("output_padding", "output_shape"):
            options.pop(name, None)
        return dense(out, window, features, channels, groups, options).T
    if kind == "pixel_shuffle":
        return shuffled_pixels(space, features, sizes.scale)
    if kind == "subpixel":
        first = dense(space, window, channels, features * sizes.block, 1, options)
        middle = oracle.problem(space, window, **options).out_space
        return shuffled_pixels(middle, features, sizes.scale).astype(int) @ first > 0
    if kind == "resize":
        method = options.pop("method", "nearest")
        wide = tuple(n * s for n, s in zip(space, sizes.scale, strict=True))
        first = resized(space, channels, sizes.scale, method)
        return dense(wide, window, channels, features, 1, options).astype(int) @ first > 0
    found = dense(space, window, channels, features, groups, options)
    if kind in ("channel_shuffle", "shuffled_grouped"):
        order = np.arange(features).reshape(sizes.groups, -1).T.ravel()
        found = found.reshape(-1, features, found.shape[1])[:, order].reshape(found.shape)
    return found


def shuffled_pixels(space, features, scale):
    """pixel_shuffle by its definition: channel c*r^d + offset goes to the offset's pixel."""
    rows = []
    out = [n * r for n, r in zip(space, scale, strict=True)]
    for place in itertools.product(*map(range, out)):
        source = [p // r for p, r in zip(place, scale, strict=True)]
        offset = int(
            np.ravel_multi_index([p % r for p, r in zip(place, scale, strict=True)], scale)
        )
        for c in range(features):
            row = np.zeros((*space, features * int(np.prod(scale))), int)
            row[(*source, c * int(np.prod(scale)) + offset)] = 1
            rows.append(row.ravel())
    return np.array(rows)


def resized(space, channels, scale, method):
    """Which elements each pixel of a resize reads: half-pixel centres, edges repeated."""
    axes = []
    for n, r in zip(space, scale, strict=True):
        axis = np.zeros((n * r, n), int)
        for o in range(n * r):
            centre = (o + 0.5) / r - 0.5
            if method == "nearest":
                axis[o, o // r] = 1
            else:
                for i in (int(np.floor(centre)), int(np.floor(centre)) + 1):
                    if 1 - abs(centre - i) > 1e-9:
                        axis[o, min(max(i, 0), n - 1)] = 1
        axes.append(axis)
    found = np.eye(1, dtype=int)
    for axis in axes:
        found = np.kron(found, axis)
    return np.kron(found, np.eye(channels, dtype=int))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_what_each_output_reads(kind, rank):
    """Of every kind in every rank: the mask, the sum that is drawn, and the steps between."""
    worked = work_out(kind, SPACES[rank], 2)
    np.testing.assert_array_equal(worked.depends[0], masks(worked))
    for weights, values in zip(worked.weights, worked.values, strict=False):
        found = weights @ values.ravel()
        np.testing.assert_allclose(found, worked.values[-1].ravel(), rtol=1e-6)
    chain = np.eye(worked.values[0].size, dtype=int)
    for reads in worked.reads:
        chain = (reads.astype(int) @ chain > 0).astype(int)
    np.testing.assert_array_equal(chain > 0, worked.depends[0])


CONFIGURATIONS = [
    ("dense", (5, 4), (3, 2), {"strides": (2, 1), "padding": "SAME"}),
    ("dense", (5, 4), (3, 2), {"padding": "SAME_LOWER", "strides": 2}),
    ("dense", (4, 4), 3, {"padding": "FULL"}),
    ("dense", (4, 4), 3, {"padding": ((2, 0), (-1, 1))}),
    ("dense", (4, 3), 2, {"input_dilation": 2, "padding": 1}),
    ("dense", 9, 3, {"padding": "CAUSAL", "kernel_dilation": 2}),
    ("dense", (4, 4), 3, {"padding": 2, "padding_mode": "reflect"}),
    ("dense", (4, 4), 3, {"padding": 1, "padding_mode": ("wrap", "symmetric")}),
    ("dense", (3, 3), 3, {"padding": 2, "padding_mode": "edge"}),
    ("dense", (3, 3), 3, {"feature_group_count": 2}),
    ("dilated", (7, 6), 3, {"kernel_dilation": (2, 1), "padding": "VALID"}),
    ("transposed", (2, 2), 3, {"strides": 2, "padding": "VALID"}),
    ("transposed", (2, 3), (3, 2), {"strides": (2, 3), "padding": 1, "output_padding": (1, 2)}),
    ("transposed", (3, 3), 4, {"strides": 2}),
    ("transposed", (3, 3), 3, {"strides": 2, "padding": 1, "padding_mode": "wrap"}),
    ("transposed", (2, 2), 1, {"strides": 3}),
    ("transposed", (4, 4), 2, {"padding": 2, "kernel_dilation": 3}),
    ("transposed", (2, 2), 3, {"strides": 2, "output_shape": (4, 3)}),
    ("spatially_separable", (5, 5), 3, {"strides": 2, "padding_mode": "edge"}),
    ("depthwise", (4, 4), 3, {"strides": 2}),
    ("grouped", (3, 3), 2, {"feature_group_count": 3}),
    ("resize", (3, 3), 3, {"method": "bilinear"}),
    ("hold", (5, 5), 3, {"order": 1}),
    ("subpixel", (3, 3), 3, {"padding_mode": "reflect", "padding": 1}),
]


@functools.cache
def configuration(number):
    """One of the configurations, worked out once for all tests."""
    kind, space, size, options = CONFIGURATIONS[number]
    return work_out(kind, space, size, **options)


EACH = pytest.mark.parametrize("number", range(len(CONFIGURATIONS)))


@EACH
def test_options(number):
    worked = configuration(number)
    np.testing.assert_array_equal(worked.depends[0], masks(worked))


@EACH
def test_the_window_stands_where_the_function_reads(number):
    """The taps of the drawn window on elements, and on copies of them, are what the result reads.

    The window is drawn by integer arithmetic, what is read is differentiated: two ways.
    """
    worked = configuration(number)
    window = worked.windows[-1]
    if window is None:
        assert worked.kind.name == "subpixel" or worked.options.get("padding_mode") == "wrap"
        return
    out = worked.values[-1].shape
    for result in range(worked.values[-1].size):
        *output, _ = np.unravel_index(result, out)
        read = set()
        for place in window.taps([int(o) for o in output]):
            what, element = window.place(place)
            assert what != places.CROPPED
            if what in (places.REAL, places.COPY):
                read.add(element)
        values = worked.values[len(worked.stages) - 1]
        found = np.flatnonzero(worked.depends[-1][result])
        spots = {tuple(int(i) for i in np.unravel_index(f, values.shape)[:-1]) for f in found}
        assert read == spots


def test_random_configurations():
    """Random settings of the dense and the transposed kind against the oracle."""
    rng = np.random.default_rng(0)
    ran = {"dense": 0, "transposed": 0}
    while min(ran.values()) < 25:
        kind = ("dense", "transposed")[rng.integers(2)]
        rank = int(rng.integers(1, 3))
        space = tuple(int(n) for n in rng.integers(1, 6, rank))
        size = tuple(int(n) for n in rng.integers(1, 4, rank))
        options = {
            "strides": tuple(int(n) for n in rng.integers(1, 4, rank)),
            "kernel_dilation": tuple(int(n) for n in rng.integers(1, 3, rank)),
            "padding": [*oracle.POLICIES, 0, 1][rng.integers(7)],
        }
        try:
            worked = work_out(kind, space, size, **options)
        except ValueError:
            continue  # a kernel larger than the input, or all of it cropped
        like = worked
        if kind == "transposed" and options["padding"] == "CAUSAL":
            if rank > 1:
                continue
            # It looks back: what a longer input would give, without its end.
            reach = (size[0] - 1) * options["kernel_dilation"][0] + 1
            pairs = ((0, reach - options["strides"][0]),)
            like = work_out(kind, space, size, **options | {"padding": pairs})
        ran[kind] += 1
        np.testing.assert_array_equal(worked.depends[0], masks(like))


# ---- what is drawn -------------------------------------------------------------------------------


def cells(svg, tensor=None):
    """The rectangles that stand for elements, by key."""
    found = {}
    for rect in ET.fromstring(svg).iter(f"{SVG}rect"):
        key = rect.get("data-k")
        if key and (tensor is None or key.split(".")[0] == str(tensor)):
            found[key] = rect
    return found


def classes(svg):
    """How many shapes have each class."""
    found: dict[str, int] = {}
    for element in ET.fromstring(svg).iter():
        for name in (element.get("class") or "").split():
            found[name] = found.get(name, 0) + 1
    return found


def test_cells_and_highlights():
    """The article's transposed convolution: 2x2 to 5x5 through a stretched and padded input."""
    drawing = draw.arithmetic("transposed", (2, 2), 3, strides=2, padding="VALID")
    worked = drawing.details
    for step in range(drawing.steps):
        svg = drawing.svg(step=step)
        found = classes(svg)
        assert len(cells(svg, 0)) == 4 and len(cells(svg, 1)) == 25
        legend = {"tap": 1, "current": 1, "padding": 1, "inserted": 1, "window": 1, "tap-zero": 1}
        assert found["cj-padding"] - legend["padding"] == 49 - 9
        assert found["cj-inserted"] - legend["inserted"] == 9 - 4
        reads = int(worked.depends[0][step].sum())
        assert found["cj-tap"] - legend["tap"] == 2 * reads  # in the input, and in the kernel
        assert found["cj-tap-zero"] - legend["tap-zero"] == 9 - reads
        assert found["cj-current"] - legend["current"] == 1
        assert found["cj-window"] - legend["window"] == 1


def test_numbers_in_the_cells_are_the_values():
    x = np.array(
        [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
    )
    kernel = np.array([[0, 1, 2], [2, 2, 0], [0, 1, 2]])
    drawing = draw.arithmetic("dense", (5, 5), 3, padding="VALID", x=x, kernels=kernel)
    out = drawing.details.values[-1][..., 0]
    np.testing.assert_array_equal(out, [[12, 12, 17], [10, 17, 19], [9, 6, 14]])
    texts = [t.text for t in ET.fromstring(drawing.svg()).iter(f"{SVG}text")]
    for value in (*x.ravel(), *out.ravel()):
        assert str(int(value)) in texts
    # The taps are there although some weights are 0: what depends is the position, not the value.
    assert drawing.details.depends[0].sum() == 9 * 9
    assert "output[0, 0] = " in drawing.scene.frames[0].words
    assert drawing.scene.frames[0].words.endswith("= 12")


def test_windows_and_cells_do_not_leave_the_picture():
    for number in range(len(CONFIGURATIONS)):
        drawing = drawn(configuration(number))
        for step in range(drawing.steps):
            for item in drawing.scene.at(step):
                left, top, right, bottom = item.bounds()
                assert left >= -1 and top >= -1, item
                assert right <= drawing.scene.width + 1 and bottom <= drawing.scene.height + 1, item


def test_text_alternatives():
    svg = draw.arithmetic("dense", (4, 4)).svg(step=5)
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    labels = root.get("aria-labelledby").split()
    found = {e.get("id"): e.text for e in root.iter() if e.get("id")}
    assert all(found[label] for label in labels)
    assert "conv(x, kernel)" in found[labels[1]] and "output[1, 1] =" in found[labels[1]]
    assert "prefers-color-scheme:dark" in svg
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", svg)


@pytest.mark.parametrize("kind", ["dense", "transposed", "depthwise_separable", "pixel_shuffle"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_by_input(kind, rank):
    """A step per input shows what it feeds: the columns of the same mask."""
    drawing = draw.arithmetic(kind, SPACES[rank], 2, by="input")
    depends = drawing.details.depends[0]
    assert drawing.steps == depends.shape[1]
    for step in range(drawing.steps):
        fed = classes(drawing.svg(step=step)).get("cj-fed", 0)
        assert fed - 1 == depends[:, step].sum()


def test_grouped_channels_have_colours():
    """Colours follow what is read: a shuffle carries them along."""
    drawing = draw.arithmetic("channel_shuffle", (1, 2), feature_group_count=3)
    found = cells(drawing.svg(), 1)
    roles = [found[f"1.{c}"].get("class") for c in range(6)]
    assert roles == [f"cj-group-{g}" for g in (0, 1, 2, 0, 1, 2)]
    mixed = cells(draw.arithmetic("depthwise_separable", (2, 2), 1).svg(), 2)
    assert {rect.get("class") for rect in mixed.values()} == {"cj-output"}


def test_colours_are_told_apart_without_hue():
    """Words on cells have a contrast of at least 4.5 to 1, on light and on dark grounds."""
    from convjax.draw.colours import LOOKS, brightness

    pairs = [(cell, "ink") for cell in ("input", "output", "middle", "kernel", "padding", "copy")]
    pairs += [("tap", "on-tap"), ("tap-zero", "ink"), ("current", "on-current"), ("fed", "ink")]
    pairs += [("page", "ink"), ("page", "quiet"), ("inserted", "quiet"), ("copy", "quiet")]
    pairs += [(f"group-{g}", "ink") for g in range(8)]
    pairs += [(f"{n}-{s}", f"on-{n}-{s}") for n in ("heat", "signed") for s in range(13)]
    for ground, ink in pairs:
        for theme in ("light", "dark"):
            fills = [brightness(getattr(LOOKS[role], theme).fill) for role in (ground, ink)]
            low, high = sorted(fills)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ground, ink, theme)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("deconv", (4, 4)), {}, r'arithmetic: `kind` \(=\'deconv\'\) must be one of "dense"'),
        (("dense", (2, 2, 2, 2)), {}, "`input_size` .* must have 1, 2 or 3 spatial axes"),
        (("dense", (100, 100)), {}, r"makes 10,000 cells, and at most 1,200 can be drawn"),
        (("dense", (30, 30)), {}, r"makes 1,800 cells"),
        (("resize", (6, 6)), {"scale": 60}, r"cells, and at most"),
        (("dense", (4, 4), 1000), {}, "too large to draw"),
        (("pointwise", (4, 4)), {"padding": 1}, "`padding` .* is not an option of pointwise"),
        (("grouped", (4, 4)), {"in_features": 3}, "must be a multiple of `feature_group_count`"),
        (("dense", (4, 4)), {"by": "kernel"}, 'must be one of "output", "input"'),
        (("dense", (4, 4)), {"x": np.ones((3, 3))}, r"`x` .* must have the shape \(4, 4, 1\)"),
        (("dense", (4, 4)), {"kernels": [1, 2]}, "must be 1 arrays for dense"),
        (("dense", (2, 2), 3), {"padding": "VALID"}, "larger than the padded input"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        draw.arithmetic(*arguments, **options)
