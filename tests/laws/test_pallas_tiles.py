"""How the kernels for TPU cut a convolution: plain integers, no device."""

import numpy as np
import pytest

from convjax._core.geometry import Geometry
from convjax._lowerings.pallas_kernels import tiles

RNG = np.random.default_rng(20)


def lines():
    """Random axes: (line, size, window, stride, spread, dilation, low, reversal)."""
    found = []
    while len(found) < 300:
        stride, spread = ((1, 1), (2, 1), (1, 2))[RNG.integers(3)]
        window, dilation = int(RNG.integers(1, 8)), int(RNG.integers(1, 4))
        size, low, high = int(RNG.integers(1, 300)), *map(int, RNG.integers(-2, 20, 2))
        reach = (window - 1) * dilation + 1
        (out,) = Geometry((stride,), ((low, high),), (spread,), (dilation,)).output_space(
            (size,), (window,)
        )
        if out < 1 or min(low, high) < -size // 3 or max(low, high) > reach:
            continue
        reversal = bool(RNG.integers(2))
        options = {"stride": stride, "spread": spread, "dilation": dilation, "low": low}
        made = tiles.line(size, window, out, reversal=reversal, **options)
        found.append((made, size, window, out, options, reversal))
    return found


def test_taps_meet_what_the_definition_says():
    """Output o, tap t reads the dilated, padded input at ``o*stride + t*dilation - low``."""
    for made, size, window, out, options, reversal in lines():
        wanted = set()
        for o in range(out):
            for t in range(window):
                at = o * options["stride"] + t * options["dilation"] - options["low"]
                inside = 0 <= at <= (size - 1) * options["spread"]
                if inside and at % options["spread"] == 0:
                    element = window - 1 - t if reversal else t
                    wanted.add((o, element, at // options["spread"]))
        found = set()
        for o in range(out):
            step, phase = divmod(o, made.spread)
            for offset, element in made.phases[phase]:
                if 0 <= step * made.stride + offset < size:
                    found.add((o, element, step * made.stride + offset))
        assert found == wanted
        assert made.steps * made.spread >= out > (made.steps - 1) * made.spread


@pytest.mark.parametrize("budget", [12 << 20, 2 << 20, 700_000])
def test_pieces_hold_what_their_taps_read(monkeypatch, budget):
    """Every input that a tile's taps read lies in one of its pieces, once, and in the scratch."""
    scratch = pytest.importorskip("convjax._lowerings.pallas_kernels.scratch")
    monkeypatch.setattr(tiles, "VMEM", budget)
    several = ragged = 0
    made_lines = lines()
    for (rows, *_), (columns, *_) in zip(made_lines[::2], made_lines[1::2], strict=True):
        try:
            made = tiles.tiles(rows, columns, 3, 200, 4)
        except ValueError:
            continue
        assert 3 % made.images == 0 and made.rows.steps % made.together == 0
        for axis, cut, halo in (
            (rows, made.rows, made.halo_rows),
            (columns, made.columns, made.halo),
        ):
            several += cut.tiles > 1
            assert cut.tiles * cut.steps >= axis.steps > (cut.tiles - 1) * cut.steps
            ragged += cut.tiles * cut.steps > axis.steps
            for tile in range(cut.tiles):
                top = tile * cut.steps * axis.stride
                held = []
                for piece in scratch.pieces(axis, cut, halo):
                    block = int(piece.index(tile)) * piece.size
                    for at in range(piece.begin, piece.end):
                        absolute = top + piece.first + at
                        if 0 <= absolute < axis.size:
                            assert block + at == absolute
                            held.append(absolute)
                assert len(set(held)) == len(held)
                steps = min(cut.steps, axis.steps - tile * cut.steps)
                read = {
                    top + step * axis.stride + offset
                    for step in range(steps)
                    for phase in axis.phases
                    for offset, _ in phase
                }
                assert {at for at in read if 0 <= at < axis.size} <= set(held)
        reach = made.left + (made.columns.steps - 1) * columns.stride + columns.last
        assert made.left + min(0, columns.first) >= 0 and reach < made.scratch[1]
    assert several and ragged


def test_small_images_share_a_step_and_large_ones_are_cut():
    seven = tiles.line(7, 3, 7, low=1)
    assert tiles.tiles(seven, seven, 64, 256, 2).images > 8
    tall = tiles.line(224, 3, 224, low=1)
    cut = tiles.tiles(tall, tall, 1, 128, 2)
    assert cut.rows == tiles.Cut(32, 7) and cut.columns.tiles == 1
    large = tiles.line(2048, 3, 2048, low=1)
    cut = tiles.tiles(large, large, 1, 128, 2)
    assert cut.rows.tiles > 1 and cut.columns.tiles > 1
    wide = tiles.tiles(tiles.line(1, 1, 1), tiles.line(100_000, 4, 100_000, low=3), 1, 128, 2)
    assert wide.columns.tiles > 1 and wide.halo == 16


def test_what_cannot_be_cut_is_refused():
    """A tile has at least the rows that its taps reach in the tiles beside it."""
    far = tiles.line(9000, 3, 9000, dilation=4000, low=4000)
    wide = tiles.line(16, 1, 16)
    with pytest.raises(ValueError, match="no piece of its 9000 x 16 results fits into VMEM"):
        tiles.tiles(far, wide, 1, 128, 4)
