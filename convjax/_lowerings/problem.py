"""What a lowering is asked to do: sizes (`Problem`), and a request with its layout (`Call`)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from convjax._core.geometry import Geometry
from convjax._core.layout import Layout
from convjax._core.symbolic import product
from convjax._lowerings.target import Target
from convjax._lowerings.tools import products


class Limits(NamedTuple):
    """Sizes by which lowerings decide how they compute the same numbers.

    Attributes:
        large: bytes of an input above which code that spares passes over it is worth compiling.
        cache: bytes that sums over rows may take, which with the rows stay in the second-level
            cache.
    """

    large: int = 1 << 20
    cache: int = 1 << 17


LIMITS = Limits()


class Problem(NamedTuple):
    """Canonical sizes of one convolution, x (N, *space, G, I), kernel (*window, G, I, O)."""

    n: Any
    groups: Any
    i: Any
    o: Any
    space: tuple[Any, ...]
    window: tuple[Any, ...]
    out_space: tuple[Any, ...]
    geometry: Geometry
    dtype: Any
    role: str
    channels_last: bool = True  # whether the operands lie in memory as lax's NHWC and HWIO do
    images: str = "NHWC"  # how images lie in memory: also "NCHW", or "" for another order


class Call(NamedTuple):
    """One convolution: its problem, how its operands are laid out, and in what precision it runs.

    `again(x, kernel, layout=, geometry=, role=)` executes another convolution, by whichever
    lowering is chosen for it, with the same precision and types.

    `nothing` is a zero of 32 bits that XLA does not know, or None. LLVM makes one instruction of
    some products and the additions of them, which rounds once, and of others it does not: which
    ones depends on how many outputs there are (seen on jaxlib 0.10.2 and 0.12.0). A product whose
    bits `nothing` is put on (see `rounded`) is rounded by itself, everywhere.
    """

    problem: Problem
    layout: Layout
    precision: Any
    preferred_element_type: Any
    again: Callable[..., Any]
    target: Target
    nothing: Any = None
    limits: Limits = LIMITS

    @property
    def geometry(self) -> Geometry:
        return self.problem.geometry

    @property
    def role(self) -> str:
        """Which derivative it is: "forward", "input_gradient" or "kernel_gradient"."""
        return self.problem.role

    def out_shape(self, x: Any, kernel: Any) -> tuple[Any, ...]:
        """The shape of the result, in the caller's layout."""
        return out_shape(x, kernel, self.layout, self.geometry)

    def result_type(self, x: Any) -> np.dtype:
        """The element type of the result."""
        return np.dtype(self.preferred_element_type or x.dtype)

    @property
    def groups_first(self) -> bool:
        """Whether the input has groups, and they lie before its space, as in NCHW."""
        group, space = self.layout.x.group, self.layout.x.space
        return bool(group) and group < space

    @property
    def is_split_by_xla(self) -> bool:
        """Whether XLA splits the computation over devices."""
        return self.target.split == "XLA"

    def accumulator(self, x: Any) -> np.dtype:
        """The type to sum in: 16-bit floats in float32, others in the result's own."""
        result = self.result_type(x)
        narrow = jnp.issubdtype(result, jnp.floating) and jnp.finfo(result).bits < 32
        return np.dtype(np.float32) if narrow else result

    def product(self, spec: str, a: Any, b: Any, is_result: bool = False) -> Any:
        """``einsum(spec, a, b)`` of the call's precision, in the type to sum in.

        `is_result` says that nothing is added to it: it may be of the result's type.
        """
        total = self.accumulator(a)
        # Where XLA splits it over devices it may add parts, which must not be rounded before.
        by_onednn = self.target.onednn and self.target.is_one_cpu
        by_onednn &= a.dtype in (jnp.float32, jnp.bfloat16) and products.is_large(spec, a, b)
        if by_onednn and self.target.amx and is_result and a.dtype == jnp.bfloat16:
            total = self.result_type(a)  # oneDNN sums in float32 and rounds once
        elif self.target.platform == "cpu" and a.dtype == jnp.bfloat16:
            # Seen on jaxlib 0.10.2: many products of bfloat16 with a batch axis, summed in float32,
            # compile, then fail as UNIMPLEMENTED. The same products of float32 do not.
            a, b = a.astype(total), b.astype(total)
        # Axes that XLA splits over devices must not be merged.
        given = {"precision": self.precision, "preferred_element_type": total}
        if not self.target.is_one_cpu:
            return jnp.einsum(spec, a, b, **given)
        return products.einsum(spec, a, b, as_dot=by_onednn, **given)


def rounded(product: Any, nothing: Any) -> Any:
    """A float32 product, rounded before it is added to anything: see `Call`."""
    bits = lax.bitcast_convert_type(product, jnp.uint32)
    return lax.bitcast_convert_type(bits ^ nothing, product.dtype)


def out_shape(x: Any, kernel: Any, layout: Layout, geometry: Geometry) -> tuple[Any, ...]:
    """The shape of the result, in the layout's order."""
    out_space = geometry.output_space(
        layout.x.sizes(x.shape, "space"), layout.kernel.sizes(kernel.shape, "space")
    )
    return layout.out_shape(x.shape, kernel.shape, out_space)


def problem_of(x: Any, kernel: Any, layout: Layout, geometry: Geometry, role: str) -> Problem:
    """The `Problem` that operands of these shapes pose."""
    space = layout.x.sizes(x.shape, "space")
    window = layout.kernel.sizes(kernel.shape, "space")
    return Problem(
        n=product(layout.x.sizes(x.shape, "batch")),
        groups=product(layout.x.sizes(x.shape, "group")),
        i=product(layout.x.sizes(x.shape, "contract")),
        o=product(layout.kernel.sizes(kernel.shape, "out")),
        space=space,
        window=window,
        out_space=geometry.output_space(space, window),
        geometry=geometry,
        dtype=np.dtype(x.dtype),
        role=role,
        channels_last=layout.channels_last,
        images=layout.images,
    )


def count(sizes: tuple[Any, ...]) -> float:
    """The product of `sizes`; infinity where one is symbolic."""
    return math.prod(sizes) if all(isinstance(size, int) for size in sizes) else math.inf


def size_in_bytes(x: Any) -> float:
    """Infinite where a size is symbolic."""
    return x.dtype.itemsize * count(x.shape)


def is_large(x: Any, limits: Limits = LIMITS) -> bool:
    """Whether code that spares passes over it is worth compiling."""
    return size_in_bytes(x) > limits.large


def window_exceeds_output(problem: Problem) -> bool:
    """Whether the window is larger than the result.

    It is so for most gradients of kernels, whose window is the gradient of the result.
    """
    return count(problem.window) > count(problem.out_space)


def is_dilated(problem: Problem) -> bool:
    """Whether zeros lie between the elements of the input."""
    return any(dilation > 1 for dilation in problem.geometry.input_dilation)


def is_matrix_product(problem: Problem) -> bool:
    """Whether it is a product of two matrices that lie in memory as they are."""
    geometry = problem.geometry
    steps = (*geometry.strides, *geometry.input_dilation, *geometry.kernel_dilation)
    is_plain = set(steps) <= {1} and set(geometry.padding) <= {(0, 0)}
    is_arranged = problem.images == "NHWC"
    return is_product(problem) and is_plain and is_arranged and problem.groups == 1


def is_product(problem: Problem) -> bool:
    """Whether it is a matrix product: a window, or a result, of one element."""
    return 1 in (count(problem.window), count(problem.out_space))
