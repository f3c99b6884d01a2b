"""The types of public arguments, as an editor shows them and a type checker reads them.

The words are those that the functions accept when they run; tests compare the two.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

import jax
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike

#: An array of JAX (a traced one, too) or of numpy.
ArrayLike: TypeAlias = jax.Array | np.ndarray
#: What has a shape and a dtype: an array, or a description of one.
Shaped: TypeAlias = jax.Array | np.ndarray | jax.ShapeDtypeStruct


class SupportsArray(Protocol):
    """An array of another framework, such as a tensor of PyTorch on the CPU."""

    def __array__(self) -> np.ndarray: ...


#: An array of any framework, or numbers, that numpy reads.
AnyArray: TypeAlias = ArrayLike | SupportsArray | Sequence[float]
#: A shape, or what has one.
Extents: TypeAlias = Sequence[int] | Shaped

#: One integer for all spatial axes, or one for each.
Ints: TypeAlias = int | Sequence[int]

#: A rule that finds the padding of every axis from the sizes.
Policy: TypeAlias = Literal["SAME", "SAME_LOWER", "VALID", "FULL", "CAUSAL"]
#: A word, one integer, one integer per spatial axis, or a (low, high) pair per spatial axis.
Padding: TypeAlias = Policy | int | Sequence[int] | Sequence[Sequence[int]]
#: Of the axes that a causal convolution does not run along; a pair may stand for one such axis.
CausalPadding: TypeAlias = (
    Literal["SAME", "SAME_LOWER", "VALID", "FULL"] | int | Sequence[int] | Sequence[Sequence[int]]
)
#: The words of `Padding` and of Flax; integers and pairs may be mixed.
FlaxPadding: TypeAlias = (
    Policy | Literal["CIRCULAR", "REFLECT"] | int | Sequence[int | Sequence[int]]
)

#: What lies beyond an edge, in numpy's words.
Mode: TypeAlias = Literal["constant", "reflect", "symmetric", "edge", "wrap"]
#: What lies beyond the edges: one word for all spatial axes, or one for each.
PaddingMode: TypeAlias = Mode | Sequence[Mode]

#: lax's triple of layouts, of the operands and the result; None is channels-last.
DimensionNumbers: TypeAlias = tuple[str, str, str] | list[str] | lax.ConvDimensionNumbers | None
#: lax's: a word or a `jax.lax.Precision`, or one for each operand; None is JAX's default.
Precision: TypeAlias = lax.PrecisionLike
#: An element type, or its name.
DType: TypeAlias = DTypeLike
#: The element type of the result; None is that of the operands.
ResultType: TypeAlias = DTypeLike | None
#: How the result is split over a mesh; None leaves it open.
Sharding: TypeAlias = NamedSharding | PartitionSpec | None

#: The name of a lowering: a way to execute a convolution.
Lowering: TypeAlias = Literal[
    "batch_as_space",
    "block_diagonal",
    "channels_last",
    "commuted",
    "depth_fold",
    "depth_sum",
    "direct",
    "fft",
    "matmul",
    "pallas",
    "patchify",
    "per_group",
    "polyphase",
    "reshaped",
    "spread_rows",
    "stacked_sum",
    "symmetric",
    "taps",
]
#: One lowering for all, or one each for (forward, input_gradient, kernel_gradient); None is the
#: library's choice.
Algorithm: TypeAlias = Lowering | tuple[Lowering | None, Lowering | None, Lowering | None] | None

#: How the values between elements are found.
Method: TypeAlias = Literal["nearest", "bilinear"]
#: Which step of every stride has an output.
OutputAt: TypeAlias = Literal["first", "last"]
#: Whose kernel a transposed convolution takes: Flax's, or that of the adjoint.
Convention: TypeAlias = Literal["flax", "adjoint"]
#: What follows the bias: a word, a function, or nothing.
Activation: TypeAlias = (
    Literal["silu", "swish", "gelu", "relu", "tanh"] | Callable[[jax.Array], jax.Array] | None
)
#: The name of a mesh axis, or the names of several.
MeshAxis: TypeAlias = str | tuple[str, ...] | None

#: What makes the first values of a parameter from a key, a shape and a dtype.
Initializer: TypeAlias = Callable[..., jax.Array]
#: One for all parameters, or one for each by its name.
Initializers: TypeAlias = Initializer | Mapping[str, Initializer]
#: What the kernel is multiplied by; of several kernels, a mask for each by its name.
Mask: TypeAlias = ArrayLike | Mapping[str, ArrayLike | None] | None
#: Flax's function that brings inputs and parameters to one dtype, or a function like it.
Promote: TypeAlias = Callable[..., Sequence[jax.Array]]
#: A function with the signature of ``jax.lax.conv_general_dilated``.
ConvGeneralDilated: TypeAlias = Callable[..., jax.Array]
#: A tree of another library, such as a state of NNX or the variables of a linen module.
AnyTree: TypeAlias = Mapping[Any, Any]


class DTypes(TypedDict, total=False):
    """The dtypes of a network's layers: of the computation, and of the parameters."""

    dtype: ResultType
    param_dtype: DType
