"""Where a convolution's taps fall: strides, padding and dilations, and the same for its gradients.

Plain integers (or the symbolic dimensions of ``jax.export``); arrays are unknown here.
"""

import dataclasses
from typing import Any

from convjax._core.symbolic import max_dim

Pair = tuple[Any, Any]


def dilated(size: Any, dilation: int) -> Any:
    """Extent of `size` elements with ``dilation - 1`` gaps between neighbours: relation 15's k̂."""
    return size if dilation == 1 else max_dim(0, (size - 1) * dilation + 1)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Output ``o``, tap ``t`` reads the dilated, padded input at ``o*stride + t*kernel_dilation``.

    Every field has one entry per spatial axis. `padding` holds (low, high) pairs; negative ones
    crop. With `reversal`, tap ``t`` uses kernel element ``K-1-t`` (on every axis).
    """

    strides: tuple[int, ...]
    padding: tuple[Pair, ...]
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    reversal: bool = False

    @property
    def rank(self) -> int:
        return len(self.strides)

    def along(self, axes: slice) -> "Geometry":
        """The geometry on some of the spatial axes."""
        return Geometry(
            self.strides[axes],
            self.padding[axes],
            self.input_dilation[axes],
            self.kernel_dilation[axes],
            self.reversal,
        )

    def padded(self, axis: int, pair: Pair) -> "Geometry":
        """The geometry with this padding on one spatial axis."""
        padding = (*self.padding[:axis], pair, *self.padding[axis + 1 :])
        return dataclasses.replace(self, padding=padding)

    def output_space(self, space: tuple[Any, ...], window: tuple[Any, ...]) -> tuple[Any, ...]:
        """Output extents for input extents `space` and kernel extents `window` (relations 6, 15).

        ``o = floor((i_dilated + lo + hi - k_dilated) / s) + 1``, and 0 where the kernel does not
        fit.
        """
        return tuple(
            max_dim(
                0,
                (dilated(n, self.input_dilation[a]) + lo + hi - dilated(k, self.kernel_dilation[a]))
                // self.strides[a]
                + 1,
            )
            for a, (n, k, (lo, hi)) in enumerate(zip(space, window, self.padding, strict=True))
        )

    def input_gradient(self, space: tuple[Any, ...], window: tuple[Any, ...]) -> "Geometry":
        """The geometry that maps output cotangents back to the input: stride and dilation trade.

        The cotangent is dilated by the stride, the kernel reversed, and the padding is what is
        missing on each side for the full correlation (relations 8-14): ``lo' = k̂ - 1 - lo``.
        """
        padding = []
        for a, (n, k, o) in enumerate(
            zip(space, window, self.output_space(space, window), strict=True)
        ):
            n_hat, k_hat = dilated(n, self.input_dilation[a]), dilated(k, self.kernel_dilation[a])
            lo = k_hat - 1 - self.padding[a][0]
            padding.append((lo, n_hat + k_hat - 1 - dilated(o, self.strides[a]) - lo))
        return Geometry(
            strides=self.input_dilation,
            padding=tuple(padding),
            input_dilation=self.strides,
            kernel_dilation=self.kernel_dilation,
            reversal=not self.reversal,
        )

    def kernel_gradient(self, space: tuple[Any, ...], window: tuple[Any, ...]) -> "Geometry":
        """The geometry that correlates input with output cotangents: stride and dilation trade.

        Its window is the output, dilated by the stride; its result has the kernel's extents.
        A reversed kernel's gradient is this one's result, reversed.
        """
        padding = []
        for a, (n, k, o) in enumerate(
            zip(space, window, self.output_space(space, window), strict=True)
        ):
            n_hat, k_hat = dilated(n, self.input_dilation[a]), dilated(k, self.kernel_dilation[a])
            lo = self.padding[a][0]
            padding.append((lo, dilated(o, self.strides[a]) + k_hat - 1 - n_hat - lo))
        return Geometry(
            strides=self.kernel_dilation,
            padding=tuple(padding),
            input_dilation=self.input_dilation,
            kernel_dilation=self.strides,
        )
