"""One convolution, resolved: everything that executing it, costing it or drawing it may ask."""

import functools
from typing import Any, NamedTuple

from convjax._core.geometry import Geometry, Pair
from convjax._core.layout import Layout

Shape = tuple[Any, ...]  # integers, or symbolic dimensions


@functools.lru_cache(maxsize=1024)
def _split(layout: Layout, x_groups: str, kernel_groups: str) -> Layout:
    x, kernel, out = layout
    return Layout(x.split(x_groups), kernel.split(kernel_groups), out.split("out"))


class Recipe(NamedTuple):
    """A convolution on operands of these shapes: integers and words only, and hashable.

    Attributes:
        function: the public function's name, for errors.
        x, kernel: the operands' shapes, groups merged into channels.
        layout: which axis is which; every role has one axis, `group` none.
        groups: G.
        geometry: where the taps of the operation fall.
        extension: how far the boundary modes extend each spatial axis, () where none does.
        modes: the boundary mode of each spatial axis.
        folds: whether it is a transposed convolution, whose result the extension is folded back
            into; otherwise the input is extended.
        x_groups: the role of x whose axis the groups lead: "contract", or "batch" (lax's batch
            groups).
        kernel_groups: the same for the kernel: "out", or "contract" (transposed convolutions).
        precision, result_type, out_sharding, algorithm: the other options of the operation.
    """

    function: str
    x: Shape
    kernel: Shape
    layout: Layout
    groups: int
    geometry: Geometry
    extension: tuple[Pair, ...] = ()
    modes: tuple[str, ...] = ()
    folds: bool = False
    x_groups: str = "contract"
    kernel_groups: str = "out"
    precision: Any = None
    result_type: Any = None
    out_sharding: Any = None
    algorithm: Any = None

    @property
    def window(self) -> Shape:
        """The kernel's extents."""
        return self.layout.kernel.sizes(self.kernel, "space")

    @property
    def read(self) -> Shape:
        """The extents that the operation reads: those of x, extended unless it folds."""
        space = self.layout.x.sizes(self.x, "space")
        if not self.extension or self.folds:
            return space
        return tuple(n + lo + hi for n, (lo, hi) in zip(space, self.extension, strict=True))

    @property
    def written(self) -> Shape:
        """The extents that the operation writes, before anything is folded."""
        return self.geometry.output_space(self.read, self.window)

    @property
    def out_space(self) -> Shape:
        """The extents of the result."""
        space = self.written
        if not self.extension or not self.folds:
            return space
        return tuple(n - lo - hi for n, (lo, hi) in zip(space, self.extension, strict=True))

    @property
    def out_shape(self) -> Shape:
        """The shape of the result."""
        batch, channels = self.layout.out.batch[0], self.layout.out.out[0]
        sizes = dict(zip(self.layout.out.space, self.out_space, strict=True))
        sizes[batch] = self.x[self.layout.x.batch[0]]
        sizes[channels] = self.out_channels
        return tuple(sizes[axis] for axis in range(len(sizes)))

    @property
    def out_channels(self) -> Any:
        """The channels of the result."""
        per_group = self.kernel[self.layout.kernel.out[0]]
        return per_group * self.groups if self.kernel_groups == "contract" else per_group

    @property
    def pairs(self) -> Any:
        """N*G*I*O: how often the pairs of an output position and a tap are computed."""
        (i,), (o,) = (self.layout.kernel.sizes(self.kernel, role) for role in ("contract", "out"))
        return self.x[self.layout.x.batch[0]] * i * o

    @property
    def split_layout(self) -> Layout:
        """The layout after the channels have been split into (group, channel)."""
        if self.groups == 1:
            return self.layout
        return _split(self.layout, self.x_groups, self.kernel_groups)

    @property
    def split_shapes(self) -> tuple[Shape, Shape]:
        """The shapes of the operation's operands: extended, and the channels split."""
        x = list(self.x)
        for axis, extent in zip(self.layout.x.space, self.read, strict=True):
            x[axis] = extent
        if self.groups == 1:
            return tuple(x), self.kernel
        split = []
        for shape, axes, role in (
            (x, self.layout.x, self.x_groups),
            (self.kernel, self.layout.kernel, self.kernel_groups),
        ):
            (axis,) = getattr(axes, role)
            channels = self.groups, shape[axis] // self.groups
            split.append((*shape[:axis], *channels, *shape[axis + 1 :]))
        return split[0], split[1]
