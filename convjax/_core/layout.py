"""Which axis of an operand plays which role, as dot_general's dimension numbers say it for matmul.

An operand's `Axes` list the positions of its axes by role. A role may have several axes (`vmap`
just adds one) or, for `group`, none. Roles correspond across operands by their order in the tuple.

- ``x``: batch N, group G, contract I, space
- ``kernel``: group G, contract I, out O, space (the window)
- ``out``: batch N, group G, out O, space
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import lax

from convjax._core import checks
from convjax._core.symbolic import product


class Axes(NamedTuple):
    """Axis positions of one operand by role."""

    batch: tuple[int, ...] = ()
    group: tuple[int, ...] = ()
    contract: tuple[int, ...] = ()
    out: tuple[int, ...] = ()
    space: tuple[int, ...] = ()

    def inserted(self, role: str, position: int) -> "Axes":
        """These axes after a new one appeared at `position`, first in `role`."""
        moved = Axes(*(tuple(a + (a >= position) for a in axes) for axes in self))
        return moved._replace(**{role: (position, *getattr(moved, role))})

    def split(self, role: str) -> "Axes":
        """These axes after the one axis of `role` became two: (group, the rest)."""
        (axis,) = getattr(self, role)
        return self.inserted("group", axis)

    def without(self, role: str) -> "Axes":
        """These axes after those of `role` are gone."""
        gone = getattr(self, role)
        kept = Axes(*(tuple(a - sum(g < a for g in gone) for a in axes) for axes in self))
        return kept._replace(**{role: ()})

    def sizes(self, shape: Sequence[Any], role: str) -> tuple[Any, ...]:
        """The extents that `role` has in an operand of this `shape`."""
        return tuple(shape[a] for a in getattr(self, role))


class Layout(NamedTuple):
    """The axes of the three parties of a convolution."""

    x: Axes
    kernel: Axes
    out: Axes

    @classmethod
    def merged(cls, numbers: Any) -> "Layout":
        """The layout without group axes that lax's ``ConvDimensionNumbers`` give."""
        (xn, xc, *xs), (ko, ki, *ks), (yn, yc, *ys) = numbers
        return cls(
            x=Axes(batch=(xn,), contract=(xc,), space=tuple(xs)),
            kernel=Axes(contract=(ki,), out=(ko,), space=tuple(ks)),
            out=Axes(batch=(yn,), out=(yc,), space=tuple(ys)),
        )

    def input_gradient(self) -> "Layout":
        """Forward [N, G I] [G I, O] -> [N, G O]; this one [N, G O] [G O, I] -> [N, G I]."""
        return Layout(
            x=self.out._replace(contract=self.out.out, out=()),
            kernel=self.kernel._replace(contract=self.kernel.out, out=self.kernel.contract),
            out=self.x._replace(out=self.x.contract, contract=()),
        )

    def kernel_gradient(self) -> "Layout":
        """Forward [N, G I] [G I, O] -> [N, G O]; this one [I, G N] [G N, O] -> [I, G O]."""
        return Layout(
            x=self.x._replace(batch=self.x.contract, contract=self.x.batch),
            kernel=self.out._replace(contract=self.out.batch, batch=()),
            out=self.kernel._replace(batch=self.kernel.contract, contract=()),
        )

    def batched(self, x_axis: int | None, kernel_axis: int | None) -> "Layout":
        """The layout under `vmap`: a mapped x extends N, a mapped kernel O, both of them G."""
        if x_axis is not None and kernel_axis is not None:
            x_role = kernel_role = out_role = "group"
        else:
            x_role, kernel_role = "batch", "out"
            out_role = "batch" if x_axis is not None else "out"
        return Layout(
            x=self.x if x_axis is None else self.x.inserted(x_role, x_axis),
            kernel=(
                self.kernel
                if kernel_axis is None
                else self.kernel.inserted(kernel_role, kernel_axis)
            ),
            out=self.out.inserted(out_role, 0),
        )

    def out_shape(
        self, x: Sequence[Any], kernel: Sequence[Any], out_space: Sequence[Any]
    ) -> tuple[Any, ...]:
        """Shape of the result for operand shapes `x` and `kernel`."""
        shape: list[Any] = [None] * sum(map(len, self.out))
        parts = (
            (self.out.batch, self.x.sizes(x, "batch")),
            (self.out.group, self.x.sizes(x, "group")),
            (self.out.out, self.kernel.sizes(kernel, "out")),
            (self.out.space, out_space),
        )
        for axes, sizes in parts:
            for axis, size in zip(axes, sizes, strict=True):
                shape[axis] = size
        return tuple(shape)

    @property
    def channels_last(self) -> bool:
        """Whether every operand lies in memory as lax's NHWC and HWIO do."""
        x, kernel, out = self
        orders = (
            (*x.batch, *x.space, *x.group, *x.contract),
            (*kernel.space, *kernel.contract, *kernel.group, *kernel.out),
            (*out.batch, *out.space, *out.group, *out.out),
        )
        return all(order == tuple(range(len(order))) for order in orders)

    @property
    def images(self) -> str:
        """How images lie in memory, in whichever gradient: "NHWC", "NCHW", or "" for another order.

        Images are x and the result, but in a kernel's gradient x and the kernel, of which N is
        contracted.
        """
        x, kernel, out = self
        parties = (
            (x.batch, (*x.group, *x.contract), x.space),
            (out.batch, (*out.group, *out.out), out.space),
        )
        of_kernel = (
            (x.contract, (*x.group, *x.batch), x.space),
            (kernel.contract, (*kernel.group, *kernel.out), kernel.space),
        )
        for images in (parties, of_kernel):
            for name, order in (("NHWC", (0, 2, 1)), ("NCHW", (0, 1, 2))):
                laid = [sum((image[role] for role in order), ()) for image in images]
                if all(axes == tuple(range(len(axes))) for axes in laid):
                    return name
        return ""

    def ungrouped(self) -> "Layout":
        """The layout of one group, its axes gone from each operand."""
        return Layout(*(axes.without("group") for axes in self))


@functools.lru_cache(maxsize=64)
def channels_last(ndim: int) -> Layout:
    """x (N, *space, I), kernel (*window, I, O) -> (N, *out_space, O): groups merged in channels."""
    x = (0, ndim - 1, *range(1, ndim - 1))
    return Layout.merged((x, (ndim - 1, ndim - 2, *range(ndim - 2)), x))


def layout_of(function: str, dimension_numbers: Any, ndim: int) -> Layout:
    """What `dimension_numbers` (None: channels-last; else lax's triple) says of `ndim` axes.

    Groups are merged into channels. Space is in the kernel's order throughout.
    """
    if dimension_numbers is None:
        return channels_last(ndim)
    if isinstance(dimension_numbers, lax.ConvDimensionNumbers):
        if any(len(spec) != ndim for spec in dimension_numbers):
            rule = f"must be of {ndim} axes, as the kernel is"
            checks.fail(function, "dimension_numbers", tuple(dimension_numbers), rule)
        return Layout.merged(dimension_numbers)
    rule = (
        f'must be None or three strings of {ndim} distinct letters, such as ("NCHW", "OIHW", '
        '"NCHW"): N and C for `x` and the result, O and I for the kernel, and the same letters for '
        "the spatial axes"
    )
    if (
        not isinstance(dimension_numbers, (tuple, list))
        or len(dimension_numbers) != 3
        or not all(isinstance(spec, str) for spec in dimension_numbers)
    ):
        checks.fail_type(function, "dimension_numbers", dimension_numbers, rule)
    x, kernel, out = dimension_numbers
    letters = [set(x) - set("NC"), set(kernel) - set("IO"), set(out) - set("NC")]
    if (
        any(len(spec) != ndim or len(set(spec)) != ndim for spec in dimension_numbers)
        or not (set("NC") <= set(x) and set("NC") <= set(out) and set("IO") <= set(kernel))
        or not letters[0] == letters[1] == letters[2]
    ):
        checks.fail(function, "dimension_numbers", tuple(dimension_numbers), rule)
    order = [letter for letter in kernel if letter not in "IO"]
    return Layout.merged(
        [
            [spec.index(letter) for letter in (*channels, *order)]
            for spec, channels in ((x, "NC"), (kernel, "OI"), (out, "NC"))
        ]
    )


def canonical(rank: int) -> Layout:
    """x (N, *space, G, I), kernel (*window, G, I, O) -> (N, *out_space, G, O)."""
    space, window = tuple(range(1, rank + 1)), tuple(range(rank))
    group, channel = (rank + 1,), (rank + 2,)
    return Layout(
        x=Axes(batch=(0,), group=group, contract=channel, space=space),
        kernel=Axes(group=(rank,), contract=(rank + 1,), out=(rank + 2,), space=window),
        out=Axes(batch=(0,), group=group, out=channel, space=space),
    )


def arranged(x: jax.Array, axes: Axes, roles: str, whole: bool = False) -> jax.Array:
    """`x` transposed to the order of `roles`, with one axis for every role but space.

    A role that owns no axis gets one of extent 1. `whole` says that no axis is sharded.
    """
    order: list[int] = []
    shape: list[Any] = []
    for role in roles.split():
        sizes = axes.sizes(x.shape, role)
        order += getattr(axes, role)
        shape += sizes if role == "space" else [product(sizes)]
    return _reshaped(moved(x, order, whole), shape)


def restored(
    y: jax.Array, axes: Axes, roles: str, shape: Sequence[Any], whole: bool = False
) -> jax.Array:
    """The operand of this `shape` of which `y` is the arranged form."""
    order = [axis for role in roles.split() for axis in getattr(axes, role)]
    y = _reshaped(y, [shape[axis] for axis in order])
    return moved(y, [order.index(axis) for axis in range(len(order))], whole)


def moved(x: jax.Array, order: Sequence[int], whole: bool = False) -> jax.Array:
    """`x` transposed.

    If it is `whole`, axes of one element are left out, and neighbours that stay together move as
    one axis: with more axes XLA on CPU transposes twice (seen on jaxlib 0.10.2).
    """
    if list(order) == list(range(x.ndim)):
        return x
    if not whole:
        return lax.transpose(x, order)
    moving = [axis for axis in order if not is_one(x.shape[axis])]
    next_to = dict(itertools.pairwise(sorted(moving)))
    runs: list[list[int]] = []
    for axis in moving:
        if runs and next_to.get(runs[-1][-1]) == axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    before, shape = sorted(runs), [x.shape[axis] for axis in order]
    x = _reshaped(x, [product([x.shape[axis] for axis in run]) for run in before])
    return _reshaped(lax.transpose(x, [before.index(run) for run in runs]), shape)


def is_one(size: Any) -> bool:
    """Whether an extent is 1 for certain, and not symbolic."""
    return isinstance(size, int) and size == 1


def _reshaped(x: jax.Array, shape: Sequence[Any]) -> jax.Array:
    return x if tuple(shape) == x.shape else lax.reshape(x, shape)


class Merging(NamedTuple):
    """How to bring an operand's axes together: transpose by `order`, then reshape.

    Every tuple of axes in the request becomes one axis; it stands where its last member stood, so
    that neighbours in the right order merge without moving anything.
    """

    order: tuple[int, ...]  # the operand's axes, in their new order
    runs: tuple[int, ...]  # how many consecutive axes make each merged one
    positions: tuple[int, ...]  # where each requested tuple ended up

    @classmethod
    def of(cls, requests: Sequence[tuple[int, ...]]) -> "Merging":
        anchors = {axes[-1]: index for index, axes in enumerate(requests)}
        ranked = [anchors[axis] for axis in sorted(anchors)]
        return cls(
            order=tuple(axis for index in ranked for axis in requests[index]),
            runs=tuple(len(requests[index]) for index in ranked),
            positions=tuple(ranked.index(index) for index in range(len(requests))),
        )

    def apply(self, x: jax.Array) -> jax.Array:
        """The merged operand."""
        sizes = [x.shape[axis] for axis in self.order]
        shape = []
        for run in self.runs:
            shape.append(product(sizes[:run]))
            sizes = sizes[run:]
        return _reshaped(moved(x, self.order), shape)

    def undo(self, x: jax.Array, shape: Sequence[Any]) -> jax.Array:
        """The operand of this `shape` whose merged form is `x`."""
        x = _reshaped(x, [shape[axis] for axis in self.order])
        return moved(x, [self.order.index(axis) for axis in range(len(self.order))])
