"""Sizes from which the shapes of any kind's operands follow."""

import dataclasses
from math import prod

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of one convolution; a kind reads those that it has."""

    space: Shape
    kernel_size: Shape
    batch: int = 2
    in_features: int = 6
    out_features: int = 9
    groups: int = 3
    channel_multiplier: int = 2
    mid_features: int | Shape = 4
    scale: int | Shape = 2
    kernel_dilation: int | Shape = 2

    @property
    def rank(self) -> int:
        return len(self.kernel_size)

    @property
    def ones(self) -> Shape:
        """A window of one tap."""
        return (1,) * self.rank

    def along(self, axis: int) -> Shape:
        """A window with extent only along `axis`."""
        return tuple(k if a == axis else 1 for a, k in enumerate(self.kernel_size))

    @property
    def chain(self) -> Shape:
        """Channels before, between and after one stage per axis; an int makes them distinct."""
        between = self.mid_features
        if isinstance(between, int):
            between = tuple(between + axis for axis in range(1, self.rank))
        return (self.in_features, *between, self.out_features)

    @property
    def block(self) -> int:
        """Pixels that `scale` makes of one."""
        return self.scale**self.rank if isinstance(self.scale, int) else prod(self.scale)
