"""Which device computes what, when a convolution is split over devices: integers and words only.

A *factor* is a dimension that can be split, with the axis that it has in x, in the kernel and in
the result. `choose` assigns every mesh axis to one factor. Along a spatial axis, `split_outputs`
and `split_window` say which rows a shard needs, which of them its neighbours hold, and which
ordinary convolution remains. Blocks are XLA's: of n elements on s shards, shard p holds those from
``p * ceil(n / s)`` on, and the last blocks may hold elements that do not exist.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from convjax._core.geometry import Geometry, dilated
from convjax._core.layout import Layout

Names = tuple[str, ...]


class Factor(NamedTuple):
    """A dimension that can be split, and its axis in each party (None: the party has it whole).

    `kind` is "batch", "group", "contract", "out", "space" (x and the result are split) or "window"
    (x and the kernel are split, as in the gradient of a kernel). Results are summed over the
    devices that split a contraction or a window.
    """

    kind: str
    x: int | None = None
    kernel: int | None = None
    out: int | None = None

    @property
    def is_summed(self) -> bool:
        return self.kind in ("contract", "window")

    @property
    def is_independent(self) -> bool:
        """Whether a device needs nothing of other devices where this is split."""
        return self.kind in ("batch", "group", "out")

    def axis(self, party: str) -> int | None:
        axis: int | None = getattr(self, party)
        return axis


def factors(layout: Layout, split_windows: bool = False) -> list[Factor]:
    """The factors of a convolution; along spatial axes either results or windows are split.

    Windows are split in the gradient of a kernel, whose window is the cotangent of all outputs.
    """
    x, kernel, out = layout
    found = [Factor("batch", x=a, out=b) for a, b in zip(x.batch, out.batch, strict=True)]
    for a, b, c in zip(x.group, kernel.group, out.group, strict=True):
        found.append(Factor("group", a, b, c))
    for a, b in zip(x.contract, kernel.contract, strict=True):
        found.append(Factor("contract", x=a, kernel=b))
    found += [Factor("out", kernel=a, out=b) for a, b in zip(kernel.out, out.out, strict=True)]
    for a, b, c in zip(x.space, kernel.space, out.space, strict=True):
        if split_windows:
            found.append(Factor("window", x=a, kernel=b))
        else:
            found.append(Factor("space", x=a, out=c))
    return found


class Plan(NamedTuple):
    """The mesh axes that split each factor, major first."""

    factors: tuple[Factor, ...]
    names: tuple[Names, ...]

    def spec(self, party: str, ndim: int) -> tuple[Names, ...]:
        """The mesh axes that split each axis of `party`."""
        found: list[Names] = [()] * ndim
        for factor, names in zip(self.factors, self.names, strict=True):
            axis = factor.axis(party)
            if axis is not None:
                found[axis] = names
        return tuple(found)

    @property
    def summed(self) -> Names:
        """The mesh axes over which the devices' results are summed."""
        pairs = zip(self.factors, self.names, strict=True)
        return tuple(name for factor, names in pairs if factor.is_summed for name in names)


def choose(
    candidates: Sequence[Factor],
    specs: Mapping[str, Sequence[Names]],
    sizes: Mapping[str, float],
    independent: bool = False,
) -> Plan:
    """Give every mesh axis to the factor for which the fewest bytes move between devices.

    Args:
        candidates: the convolution's factors.
        specs: for each party, the mesh axes that split each of its axes, as XLA or the types have
            it: the operands as they lie, the result as it is wanted.
        sizes: the parties' sizes in bytes.
        independent: whether to split nothing for which devices would need parts of others.

    A mesh axis that splits nothing, or an axis that no factor has, stays unused: all devices along
    it do the same.
    """
    chosen: dict[Factor, list[str]] = {factor: [] for factor in candidates}
    places = {party: _places(spec) for party, spec in specs.items()}
    for name in dict.fromkeys(itertools.chain(*places.values())):
        here = {party: place.get(name) for party, place in places.items()}
        eligible = [
            factor
            for factor in candidates
            if any(h is not None and h == factor.axis(party) for party, h in here.items())
            and (factor.is_independent or not independent)
        ]
        if eligible:
            chosen[min(eligible, key=lambda factor: _bytes_moved(factor, here, sizes))].append(name)
    for factor, names in chosen.items():
        names.sort(key=lambda name: _rank(factor, name, specs, sizes))
    return Plan(tuple(chosen), tuple(map(tuple, chosen.values())))


def _places(spec: Sequence[Names]) -> dict[str, int]:
    return {name: axis for axis, names in enumerate(spec) for name in names}


def _bytes_moved(
    factor: Factor, here: Mapping[str, int | None], sizes: Mapping[str, float]
) -> float:
    """What moves if a mesh axis that splits axis `here` of each party is to split `factor`."""
    moved = sizes["out"] if factor.is_summed else 0.0
    for party, axis in here.items():
        wanted = factor.axis(party)
        if axis == wanted or (axis is None) == (party != "out"):
            continue  # it lies so, or a device takes its part of what is whole
        moved += sizes[party]
    return moved


def _rank(
    factor: Factor, name: str, specs: Mapping[str, Sequence[Names]], sizes: Mapping[str, float]
) -> tuple[int, int]:
    """Where `name` stands among the axes of `factor`: in the order that the largest party has."""
    for index, party in enumerate(sorted(specs, key=lambda party: -sizes[party])):
        axis = factor.axis(party)
        if axis is not None and name in specs[party][axis]:
            return index, specs[party][axis].index(name)
    return len(specs), 0


# ---- along one spatial axis ----------------------------------------------------------------------


class Axis(NamedTuple):
    """What is known of a spatial axis: the numbers of a `Geometry`, and the extents."""

    space: int
    window: int
    out: int
    stride: int
    low: int
    high: int
    input_dilation: int
    kernel_dilation: int
    reversal: bool = False

    @classmethod
    def of(
        cls,
        geometry: Geometry,
        axis: int,
        space: Sequence[int],
        window: Sequence[int],
        out_space: Sequence[int],
    ) -> "Axis":
        return cls(
            space[axis],
            window[axis],
            out_space[axis],
            geometry.strides[axis],
            *geometry.padding[axis],
            geometry.input_dilation[axis],
            geometry.kernel_dilation[axis],
            geometry.reversal,
        )


class Rows(NamedTuple):
    """How a shard gets the rows that it needs: those around its own block, then `rows` of them.

    The buffer holds ``lead`` zeros, ``before`` rows of the shards before, the shard's own block,
    ``after`` rows of the shards behind, ``trail`` zeros. `whole` says that it holds the rows of all
    shards between the zeros instead. The needed rows begin at ``starts[shard]`` of the buffer.
    """

    shards: int
    block: int
    lead: int
    before: int
    after: int
    trail: int
    rows: int
    starts: tuple[int, ...]
    whole: bool = False

    def hops(self, side: str) -> list[tuple[int, list[tuple[int, int]]]]:
        """Transfers that fill `before` or `after`, in the buffer's order.

        Each is a number of rows, and pairs of shards (sender, receiver).

        Only shards that read what they would get are receivers.
        """
        wanted = self.before if side == "before" else self.after
        found = []
        for distance in range(1, -(-wanted // self.block) + 1):
            rows = min(self.block, wanted - (distance - 1) * self.block)
            pairs = []
            for receiver, start in enumerate(self.starts):
                own = self.lead + self.before  # where the block begins in the buffer
                if side == "before":
                    sender, reads = receiver - distance, start < own - (distance - 1) * self.block
                else:
                    sender = receiver + distance
                    reads = start + self.rows > own + distance * self.block
                if reads and 0 <= sender < self.shards:
                    pairs.append((sender, receiver))
            found.append((rows, pairs))
        return found[::-1] if side == "before" else found


class Share(NamedTuple):
    """A shard's convolution along one axis: `rows` of x, `padding`, `window` taps, `outputs`.

    A shard's own outputs begin at ``skips[shard]`` of what it computes, its own taps lie at
    ``tap_skips[shard]`` among zeros.
    """

    rows: Rows
    padding: tuple[int, int]
    outputs: int
    out_block: int
    skips: tuple[int, ...]
    window: int
    tap_skips: tuple[int, ...]


def block(size: int, shards: int) -> int:
    """How many elements a shard holds of `size`."""
    return -(-size // shards)


def split_outputs(axis: Axis, shards: int) -> Share:
    """Every shard computes its block of outputs, with the whole window.

    Output o of a shard that begins at output b reads position ``(b + o) * stride - low + tap`` of
    the dilated input. Shards begin on a common multiple of stride and input dilation, so that their
    rows lie alike, and drop the outputs before their own.
    """
    own = block(axis.out, shards)
    unit = axis.input_dilation // math.gcd(axis.stride, axis.input_dilation)
    skips = tuple(p * own % unit for p in range(shards))
    outputs = own + max(skips)
    span = (outputs - 1) * axis.stride + dilated(axis.window, axis.kernel_dilation)
    firsts = [(p * own - skips[p]) * axis.stride - axis.low for p in range(shards)]
    rows, padding = _rows(axis, shards, firsts, span)
    return Share(rows, padding, outputs, own, skips, axis.window, (0,) * shards)


def split_window(axis: Axis, shards: int) -> Share:
    """Every shard sums over its block of the window, for all outputs."""
    own = block(axis.window, shards)
    unit = axis.input_dilation // math.gcd(axis.kernel_dilation, axis.input_dilation)
    taps = [axis.window - (p + 1) * own if axis.reversal else p * own for p in range(shards)]
    tap_skips = tuple(tap % unit for tap in taps)
    window = own + max(tap_skips)
    span = (axis.out - 1) * axis.stride + dilated(window, axis.kernel_dilation)
    firsts = [
        (tap - skip) * axis.kernel_dilation - axis.low
        for tap, skip in zip(taps, tap_skips, strict=True)
    ]
    rows, padding = _rows(axis, shards, firsts, span)
    if axis.reversal:  # the taps come last where the kernel's elements come first
        tap_skips = tuple(window - own - skip for skip in tap_skips)
    return Share(rows, padding, axis.out, axis.out, (0,) * shards, window, tap_skips)


class Strip(NamedTuple):
    """`length` elements from `first` on, that some shards need and others hold.

    `hops` are the transfers: (sender, receiver)s. `kept` says that a shard that needs it holds some
    of it.
    """

    first: int
    length: int
    block: int
    hops: tuple[tuple[tuple[int, int], ...], ...]
    kept: bool


def strip(first: int, length: int, size: int, shards: int, receivers: Sequence[int]) -> Strip:
    """The elements from `first` on, of an axis of `size` elements, for the shards `receivers`."""
    own = block(size, shards)
    holders = range(first // own, (first + length - 1) // own + 1)
    hops = []
    for distance in range(1, shards):
        pairs = [(holder, (holder + distance) % shards) for holder in holders]
        pairs = [pair for pair in pairs if pair[1] in receivers]
        if pairs:
            hops.append(tuple(pairs))
    return Strip(first, length, own, tuple(hops), any(h in receivers for h in holders))


def _rows(
    axis: Axis, shards: int, firsts: Sequence[int], span: int
) -> tuple[Rows, tuple[int, int]]:
    """The rows that meet `span` positions of the dilated input from ``firsts[shard]`` on, and the
    padding that is left: all shards' firsts are the same modulo the input dilation."""
    step, own = axis.input_dilation, block(axis.space, shards)
    needed = [-(-first // step) for first in firsts]
    low = needed[0] * step - firsts[0]
    rows = (firsts[0] + span - 1) // step + 1 - needed[0]
    padding = (low, span - low - dilated(rows, step))

    begins = [p * own for p in range(shards)]
    pairs = list(zip(begins, needed, strict=True))
    buffer_before = max(0, *(begin - row for begin, row in pairs))
    buffer_after = max(0, *(row + rows - begin - own for begin, row in pairs))
    before = max(0, *(begin - max(row, 0) for begin, row in pairs))
    after = max(0, *(max(0, min(row + rows, axis.space)) - begin - own for begin, row in pairs))
    if before + own + after > shards * own:  # as much as there is: every shard gets it all
        lead, trail = max(0, -min(needed)), max(0, max(needed) + rows - shards * own)
        starts = tuple(row + lead for row in needed)
        return Rows(shards, own, lead, 0, 0, trail, rows, starts, whole=True), padding
    starts = tuple(row - begin + buffer_before for begin, row in pairs)
    lead, trail = buffer_before - before, buffer_after - after
    return Rows(shards, own, lead, before, after, trail, rows, starts), padding


# ---- from tables of devices to mesh axes ---------------------------------------------------------


def digits_of(
    tables: Sequence[Sequence[Sequence[int]]], radices_of: Sequence[int]
) -> tuple[tuple[int, ...], list[list[tuple[int, ...]] | None]]:
    """Mesh axes of prime size that explain how arrays are split over devices.

    Args:
        tables: for each array and each of its axes, the number of the block that each device holds.
        radices_of: sizes of mesh axes that are known to make up the devices' numbers, major first.

    Returns:
        The axes' sizes, major first in a device's number, and for each array the axes that split
        each of its axes, major first (None where none explain it).
    """
    best: tuple[int, tuple[int, ...], list[list[tuple[int, ...]] | None]] = (-1, (), [])
    orders = [sorted(set(itertools.permutations(_primes(size)))) for size in radices_of]
    for order in itertools.product(*orders):
        radices = tuple(itertools.chain(*order))
        found = [_explained(table, radices) for table in tables]
        explained = sum(axes is not None for axes in found)
        if explained > best[0]:
            best = explained, radices, found
        if explained == len(tables):
            break
    return best[1:]


def _primes(size: int) -> list[int]:
    found, divisor = [], 2
    while size > 1:
        while size % divisor == 0:
            found.append(divisor)
            size //= divisor
        divisor += 1
    return found


def _explained(
    table: Sequence[Sequence[int]], radices: tuple[int, ...]
) -> list[tuple[int, ...]] | None:
    """For each axis of an array the digits, major first, that make up the number of its block."""
    strides = [math.prod(radices[i + 1 :]) for i in range(len(radices))]
    found: list[tuple[int, ...]] = []
    for blocks in table:
        weights = {i: blocks[stride] - blocks[0] for i, stride in enumerate(strides)}
        digits = tuple(sorted((i for i in weights if weights[i]), key=lambda i: -weights[i]))
        for device, number in enumerate(blocks):
            expected = 0
            for i in digits:
                expected = expected * radices[i] + device // strides[i] % radices[i]
            if expected != number:
                return None
        found.append(digits)
    return found
