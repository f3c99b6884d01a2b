"""Initial values of kernels, scaled by the fans that they really have, and ICNR.

`fan_in` counts the weights that contribute to one output element. `fan_out` counts the weights that
one input element is multiplied by. Both are averaged over the phases of strides. The modules give
an initialiser a `KernelShape`, which knows both fans. For a plain tuple an initialiser reads the
fans off the shape (*K, I/G, O), as every other library does.
"""

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers as _jax

from convjax._core import checks
from convjax._core.aliases import Ints
from convjax._core.public import public_class, public_with

Initializer = Callable[..., jax.Array]

public = public_with(shape=checks.shape, groups=checks.positive)


class KernelShape(tuple[int, ...]):
    """A kernel's shape that knows its fans; everyone else sees a tuple.

    Attributes:
        fan_in: how many weights contribute to one output element, averaged over phases.
        fan_out: how many weights one input element is multiplied by, averaged over phases.
        drop_in: whether Flax, which reads axis -2 as the fan's channels, gets this kernel's fan
            (but for strides). If it does, the drop-in modules keep Flax's initial values.
    """

    fan_in: Fraction
    fan_out: Fraction
    drop_in: bool

    def __new__(
        cls, shape: Sequence[int], *, fan_in: Any, fan_out: Any, drop_in: bool = True
    ) -> "KernelShape":
        self = super().__new__(cls, shape)
        self.fan_in, self.fan_out, self.drop_in = Fraction(fan_in), Fraction(fan_out), drop_in
        return self

    def __getnewargs_ex__(self) -> Any:
        fans = {"fan_in": self.fan_in, "fan_out": self.fan_out, "drop_in": self.drop_in}
        return (tuple(self),), fans


@public
def kernel_shape(
    shape: Sequence[int], *, groups: int = 1, strides: Sequence[int] = (1,)
) -> KernelShape:
    """The shape (*K, I/G, O) of a convolution's kernel, with its fans.

    ``fan_in = prod(K) * I/G`` and ``fan_out = prod(K) * O/G / prod(strides)``.

    Example:
        >>> from convjax.initializers import kernel_shape
        >>> kernel_shape((3, 3, 2, 12), groups=3, strides=(2, 2)).fan_out
        Fraction(9, 1)
    """
    *window, per_group, out = shape
    taps = prod(window)
    return KernelShape(
        shape, fan_in=taps * per_group, fan_out=Fraction(taps * out, groups * prod(strides))
    )


@public
def transposed_kernel_shape(
    shape: Sequence[int], *, groups: int = 1, strides: Sequence[int] = (1,)
) -> KernelShape:
    """The shape (*K, O/G, I) of a transposed convolution's kernel, with its fans.

    ``fan_in = prod(K) * I/G / prod(strides)`` and ``fan_out = prod(K) * O/G``: those of the forward
    convolution exchanged.

    Example:
        >>> from convjax.initializers import transposed_kernel_shape
        >>> transposed_kernel_shape((3, 3, 16, 256), strides=(2, 2)).fan_in
        Fraction(576, 1)
    """
    forward = kernel_shape(shape, groups=groups, strides=strides)
    return KernelShape(shape, fan_in=forward.fan_out, fan_out=forward.fan_in, drop_in=False)


@public
def resized(shape: KernelShape, scale: Sequence[int], method: str) -> KernelShape:
    """`shape` where the convolution reads an input enlarged by `scale`.

    "bilinear" averages inputs, so its results vary less than independent inputs. The fan accounts
    for that.

    Example:
        >>> from convjax.initializers import kernel_shape, resized
        >>> resized(kernel_shape((1, 4, 8)), (2,), "bilinear").fan_in
        Fraction(5, 2)
    """
    left = prod(_squares(r) if method == "bilinear" else Fraction(1) for r in scale)
    return KernelShape(
        shape, fan_in=shape.fan_in * left, fan_out=shape.fan_out * left * prod(scale)
    )


def _squares(factor: int) -> Fraction:
    """Mean over the phases of linear interpolation of its squared weights' sum."""
    offsets = [Fraction(2 * q + 1 - factor, 2 * factor) % 1 for q in range(factor)]
    return sum((t**2 + (1 - t) ** 2 for t in offsets), Fraction(0)) / factor


@dataclasses.dataclass(frozen=True)
class VarianceScaling:
    """An initialiser of variance ``scale / fan``: ``jax.nn.initializers.variance_scaling``,
    with the fans of the convolution where the shape knows them.

    Attributes:
        scale: variance times fan.
        mode: "fan_in", "fan_out", or "fan_avg", their mean.
        distribution: "truncated_normal", "normal" or "uniform".
        drop_in: read the fan off the shape, as Flax does, wherever that is right but for strides.

    Example:
        >>> import jax
        >>> from convjax.initializers import kernel_shape, VarianceScaling
        >>> glorot = VarianceScaling(1.0, "fan_avg", "uniform")
        >>> glorot(jax.random.key(0), kernel_shape((3, 3, 2, 12), groups=3)).shape
        (3, 3, 2, 12)

    Source: He et al., Delving deep into rectifiers, 2015, https://arxiv.org/abs/1502.01852
    """

    scale: float
    mode: str
    distribution: str
    drop_in: bool = False

    def __post_init__(self) -> None:
        name = "VarianceScaling"
        checks.choice(name, "mode", self.mode, ("fan_in", "fan_out", "fan_avg"))
        distributions = ("truncated_normal", "normal", "uniform")
        checks.choice(name, "distribution", self.distribution, distributions)

    def __call__(
        self, key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, **options: Any
    ) -> jax.Array:
        scale: Any = self.scale
        if isinstance(shape, KernelShape) and not (self.drop_in and shape.drop_in):
            # jax divides by the fan that it reads off the shape: multiplied with, it cancels
            plain = kernel_shape(shape)
            scale = float(Fraction(scale) * self._fan(plain) / self._fan(shape))
        init = _jax.variance_scaling(scale, self.mode, self.distribution)  # type: ignore[arg-type]
        return init(key, tuple(shape), dtype, **options)

    def _fan(self, shape: KernelShape) -> Fraction:
        fans = {"fan_in": shape.fan_in, "fan_out": shape.fan_out}
        return fans.get(self.mode, (shape.fan_in + shape.fan_out) / 2)


public_class(VarianceScaling)


@public
def lecun_normal() -> VarianceScaling:
    """Variance 1 / fan_in: a linear layer keeps the variance of its input.

    Example:
        >>> import jax
        >>> from convjax import initializers
        >>> initializers.lecun_normal()(jax.random.key(0), (3, 3, 4, 8)).shape
        (3, 3, 4, 8)
    """
    return VarianceScaling(1.0, "fan_in", "truncated_normal")


@public
def he_normal() -> VarianceScaling:
    """Variance 2 / fan_in: a layer followed by a ReLU keeps the mean square.

    Example:
        >>> import jax
        >>> from convjax import initializers
        >>> initializers.he_normal()(jax.random.key(0), (3, 3, 4, 8)).shape
        (3, 3, 4, 8)
    """
    return VarianceScaling(2.0, "fan_in", "truncated_normal")


@public
def glorot_uniform() -> VarianceScaling:
    """Variance 2 / (fan_in + fan_out), uniform.

    Example:
        >>> import jax
        >>> from convjax import initializers
        >>> initializers.glorot_uniform()(jax.random.key(0), (3, 3, 4, 8)).shape
        (3, 3, 4, 8)
    """
    return VarianceScaling(1.0, "fan_avg", "uniform")


@public
def drop_in() -> VarianceScaling:
    """The default of `Conv` and `ConvTranspose`: Flax's default, or `lecun_normal`.

    It gives Flax's values from Flax's rngs wherever Flax's fan is right but for strides. It takes
    the right fan where Flax reads another axis: for ``transpose_kernel=True``, and for transposed
    convolutions with groups.

    Example:
        >>> import jax
        >>> from convjax import initializers
        >>> initializers.drop_in()(jax.random.key(0), (3, 3, 4, 8)).shape
        (3, 3, 4, 8)
    """
    return VarianceScaling(1.0, "fan_in", "truncated_normal", drop_in=True)


@public
def icnr(scale: Ints, initializer: Initializer | None = None) -> Initializer:
    """Initial kernels of `subpixel_conv` that give no checkerboard: all pixels of a block alike.

    A kernel for ``O`` channels, each repeated r^d times in the order of `pixel_shuffle`: at first
    the sub-pixel convolution is a convolution enlarged by nearest neighbours.

    Args:
        scale: r; an int, or one per spatial axis.
        initializer: of the kernel before it is repeated; `lecun_normal` by default.

    Raises:
        ValueError: when called, output channels that r^d does not divide.

    Example:
        >>> import jax
        >>> from convjax import initializers
        >>> kernel = initializers.icnr(2)(jax.random.key(0), (3, 3, 8, 12))
        >>> bool((kernel[..., 0] == kernel[..., 3]).all())
        True

    Source: Aitken et al., Checkerboard artifact free sub-pixel convolution, 2017,
        https://arxiv.org/abs/1707.02937
    """
    return _Repeated(scale, lecun_normal() if initializer is None else initializer)


@dataclasses.dataclass(frozen=True)
class _Repeated:
    """`icnr`'s initialiser: an object, so that a module that holds it can be pickled."""

    scale: Ints
    initializer: Initializer

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        block = prod(checks.ints("icnr", "scale", self.scale, len(shape) - 2, minimum=1))
        if shape[-1] % block:
            checks.fail(
                "icnr",
                "scale",
                self.scale,
                f"must divide the output channels (={shape[-1]}) by its product over the spatial "
                f"axes, {block}",
            )
        whole = shape if isinstance(shape, KernelShape) else kernel_shape(shape)
        small = KernelShape(
            (*shape[:-1], shape[-1] // block), fan_in=whole.fan_in, fan_out=whole.fan_out
        )
        return jnp.repeat(self.initializer(key, small, dtype), block, axis=-1)
