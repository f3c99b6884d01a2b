"""Which axis of an operand plays which role, as dot_general's dimension numbers say it for matmul.

An operand's `Axes` list the positions of its axes by role; a role may own several axes (`vmap`
just adds one) or, for `group`, none. Roles correspond across operands by their order in the tuple.

- ``x``: batch N, group G, contract I, space
- ``kernel``: group G, contract I, out O, space (the window)
- ``out``: batch N, group G, out O, space
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import lax

from convjax._symbolic import product


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

    def sizes(self, shape: Sequence[Any], role: str) -> tuple[Any, ...]:
        """The extents that `role` has in an operand of this `shape`."""
        return tuple(shape[a] for a in getattr(self, role))


class Layout(NamedTuple):
    """The axes of the three parties of a convolution."""

    x: Axes
    kernel: Axes
    out: Axes

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

    def canonical_x(self, x: jax.Array) -> jax.Array:
        """x as (N, *space, G, I)."""
        return _canonical(x, self.x.batch, self.x.space, self.x.group, self.x.contract)

    def canonical_kernel(self, kernel: jax.Array) -> jax.Array:
        """The kernel as (*window, G, I, O)."""
        axes = self.kernel
        return _canonical(kernel, None, axes.space, axes.group, axes.contract, axes.out)

    def restored(self, y: jax.Array, shape: Sequence[Any]) -> jax.Array:
        """The result of this `shape` whose canonical form is y (N, *out_space, G, O)."""
        axes = self.out
        order = (*axes.batch, *axes.space, *axes.group, *axes.out)
        y = lax.reshape(y, [shape[a] for a in order])
        return lax.transpose(y, [order.index(a) for a in range(len(order))])


def _canonical(x: jax.Array, batch: Any, space: Any, *channels: tuple[int, ...]) -> jax.Array:
    """`x` transposed to batch, space, channels, with one axis for every role but space."""
    merged = (batch, *channels) if batch is not None else channels
    moved = lax.transpose(x, [*(batch or ()), *space, *(a for role in channels for a in role)])
    sizes = [product([x.shape[a] for a in role]) for role in merged]
    extents = [x.shape[a] for a in space]
    lead = [] if batch is None else [sizes.pop(0)]
    return lax.reshape(moved, [*lead, *extents, *sizes])


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
        if self.order != tuple(range(x.ndim)):
            x = lax.transpose(x, self.order)
        return x if len(shape) == x.ndim else lax.reshape(x, shape)

    def undo(self, x: jax.Array, shape: Sequence[Any]) -> jax.Array:
        """The operand of this `shape` whose merged form is `x`."""
        moved = [shape[axis] for axis in self.order]
        if len(moved) != x.ndim:
            x = lax.reshape(x, moved)
        if self.order == tuple(range(len(self.order))):
            return x
        return lax.transpose(x, tuple(self.order.index(a) for a in range(len(self.order))))
