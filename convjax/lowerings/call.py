"""What a lowering is asked to do: the operands' sizes (`Problem`) and the request (`Call`)."""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from convjax._symbolic import certainly, product
from convjax.geometry import Geometry
from convjax.layout import Layout
from convjax.lowerings import products

_LARGE = 1 << 20  # bytes
_TAPS = 64


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


class Call(NamedTuple):
    """One convolution: how its operands are laid out, where its taps fall, and in what precision.

    `convolve(x, kernel, layout=, geometry=, role=)` executes another one, by whichever lowering is
    chosen for it, with the same precision and types. `partitioned` says that XLA splits the
    computation over devices, `platform` for what it is lowered.
    """

    layout: Layout
    geometry: Geometry
    role: str
    precision: Any
    preferred_element_type: Any
    convolve: Callable[..., Any]
    partitioned: bool = False
    platform: str = ""

    def out_shape(self, x: Any, kernel: Any) -> tuple[Any, ...]:
        """The shape of the result, in the caller's layout."""
        return out_shape(x, kernel, self.layout, self.geometry)

    def problem(self, x: Any, kernel: Any) -> Problem:
        """The problem that it poses for these operands."""
        return problem_of(x, kernel, self.layout, self.geometry, self.role)

    def result_type(self, x: Any) -> np.dtype:
        """The element type of the result."""
        return np.dtype(self.preferred_element_type or x.dtype)

    @property
    def groups_first(self) -> bool:
        """Whether the input has groups, and they lie before its space, as in NCHW."""
        group, space = self.layout.x.group, self.layout.x.space
        return bool(group) and group < space

    @property
    def on_one_cpu(self) -> bool:
        """Whether XLA compiles it for a CPU, and splits nothing over devices."""
        return self.platform == "cpu" and not self.partitioned

    def accumulator(self, x: Any) -> np.dtype:
        """The type to sum in: 16-bit floats in float32, others in the result's own."""
        result = self.result_type(x)
        narrow = jnp.issubdtype(result, jnp.floating) and jnp.finfo(result).bits < 32
        return np.dtype(np.float32) if narrow else result

    def product(self, spec: str, a: Any, b: Any) -> Any:
        """``einsum(spec, a, b)`` of the call's precision, in the type to sum in."""
        total = self.accumulator(a)
        if self.platform == "cpu" and a.dtype == jnp.bfloat16:
            # Seen on jaxlib 0.10.2: many products of bfloat16 with a batch axis, summed in float32,
            # compile, then fail as UNIMPLEMENTED. The same products of float32 do not.
            a, b = a.astype(total), b.astype(total)
        # Where XLA splits axes over devices they must stay apart.
        einsum = products.einsum if self.on_one_cpu else jnp.einsum
        return einsum(spec, a, b, precision=self.precision, preferred_element_type=total)


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
    )


def count(sizes: tuple[Any, ...]) -> float:
    """The product of `sizes`; infinity where one is symbolic."""
    return math.prod(sizes) if all(isinstance(size, int) for size in sizes) else math.inf


def size_in_bytes(x: Any) -> float:
    """Infinite where a size is symbolic."""
    return x.dtype.itemsize * count(x.shape)


def is_large(x: Any) -> bool:
    """Whether code that spares passes over it is worth compiling."""
    return size_in_bytes(x) > _LARGE


def correlates(problem: Problem) -> bool:
    """Whether the window is larger than the result.

    It is so for most gradients of kernels, whose window is the gradient of the result. A short
    piece of a sequence does not count, though its window is larger: it is summed as the whole
    sequence is, so that a prefix gives the prefix to the last bit.
    """
    return count(problem.window) > count(problem.out_space) and not _of_a_sequence(problem)


def _of_a_sequence(problem: Problem) -> bool:
    """Whether groups are convolved along time, forward: of one axis, or causally along the first,
    with so few taps that their products are written out."""
    if problem.role != "forward" or problem.groups == 1 or count(problem.window) > _TAPS:
        return False
    (low, high), reach = problem.geometry.padding[0], problem.window[0] - 1
    past = reach * problem.geometry.kernel_dilation[0]
    causal = certainly(operator.eq, low, past) and certainly(operator.eq, high, 0)
    return problem.geometry.rank == 1 or causal


def is_product(problem: Problem) -> bool:
    """Whether it is a matrix product: a window, or a result, of one element."""
    return 1 in (count(problem.window), count(problem.out_space))
