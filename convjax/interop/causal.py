"""Causal layers of PyTorch models as arguments of our causal functions. Numpy only."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from convjax._core import checks
from convjax._core.aliases import Activation, Ints
from convjax._core.public import public_with
from convjax.interop.arrays import checked
from convjax.interop.kernels import kernel_from
from convjax.interop.layers import is_convolution

_WEIGHT_NORMS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)
_LEFT = {"zeros": "constant", "constant": "constant", "replicate": "edge"}


@dataclasses.dataclass(frozen=True)
class CausalLayer:
    """A causal layer of PyTorch, ported.

    Attributes:
        function: "causal_conv" or "causal_conv_transpose".
        kernel: (K, *window, I/G, O); of a transposed layer (K, O/G, I).
        bias: (O,), or None.
        options: keyword arguments of the function.
    """

    function: str
    kernel: np.ndarray
    bias: np.ndarray | None
    options: dict[str, Any]


@public_with(transposed=checks.flag)
def causal_from_torch(
    layer: object,
    *,
    groups: int | None = None,
    stride: Ints | None = None,
    dilation: Ints | None = None,
    transposed: bool | None = None,
    padding_mode: str = "zeros",
    activation: Activation = None,
) -> CausalLayer:
    """The convolution inside a causal layer of PyTorch as a call of `causal_conv`.

    Such layers pad by hand before the first input. Examples are the short convolutions of Mamba,
    Mamba-2, gated delta nets and LFM (``conv1d``, depthwise, with ``padding=k - 1`` and the end cut
    off), WaveNet's dilated ones, and the ``CausalConv3d`` of video VAEs. In SoundStream and EnCodec
    they are the encoder's strided ones, and the decoder's transposed ones, of whose results the
    right end is cut off. The causal functions pad in the
    same way, so the layer's padding is not among the options. Weight norm is multiplied out.

    Args:
        layer: the inner ``Conv1d``, ``Conv2d``, ``Conv3d`` or ``ConvTranspose1d``, or its entries
            of a state dict without their prefix: "weight" and "bias", or the two of weight norm.
        groups, stride, dilation, transposed: PyTorch's options, for entries of a state dict, whose
            shapes do not show them (1, 1, 1 and False by default). A module shows them.
        padding_mode: what the layer puts before the first input: "zeros", or "replicate", as
            "constant" (zeros) and the first input again. The other axes have zeros.
        activation: the function after the layer, as `causal_conv` takes it.

    Returns:
        A `CausalLayer`. Along time a strided layer has its outputs at the last input of a frame, as
        in codecs. The other axes are padded on both sides by half the kernel's reach, as an odd
        kernel needs.

    Raises:
        ValueError: entries that are no convolution's, groups that do not fit, a module whose option
            is given as well.
        TypeError: not a convolution of PyTorch, nor a mapping.

    Example:
        >>> import jax.numpy as jnp, numpy as np, convjax
        >>> mamba = {"weight": np.ones((8, 1, 4), np.float32), "bias": np.ones(8, np.float32)}
        >>> layer = convjax.interop.causal_from_torch(mamba, groups=8, activation="silu")
        >>> layer.options
        {'feature_group_count': 8, 'activation': 'silu'}
        >>> x = jnp.ones((2, 10, 8))
        >>> convjax.causal_conv(x, layer.kernel, bias=layer.bias, **layer.options).shape
        (2, 10, 8)
    """
    function = "causal_from_torch"
    given = {"groups": groups, "stride": stride, "dilation": dilation, "transposed": transposed}
    if is_convolution(layer):
        for name, value in given.items():
            if value is not None:
                rule = "must be None for a module, which has it"
                checks.fail(function, name, value, rule)
            given[name] = getattr(layer, name)
        module: Any = layer
        entries: Any = module.state_dict()
    elif isinstance(layer, Mapping):
        entries = layer
        defaults = {"groups": 1, "stride": 1, "dilation": 1, "transposed": False}
        given = {name: defaults[name] if v is None else v for name, v in given.items()}
    else:
        rule = "must be a convolution of PyTorch, or a mapping with its entries"
        checks.fail_type(function, "layer", type(layer).__name__, rule)
    left = _LEFT[checks.choice(function, "padding_mode", padding_mode, tuple(_LEFT))]
    weight, bias = _weight(function, entries)
    rank = weight.ndim - 2
    if rank < 1:
        rule = "must have a weight with at least one spatial axis"
        checks.fail(function, "layer", tuple(weight.shape), rule)
    strides = checks.ints(function, "stride", given["stride"], rank, minimum=1)
    steps = checks.ints(function, "dilation", given["dilation"], rank, minimum=1)
    count = checks.integer(function, "groups", given["groups"], minimum=1)
    options: dict[str, Any] = {}
    if given["transposed"]:
        if rank > 1 or left != "constant":
            rule = "must be a layer with one spatial axis and zeros before the first input"
            checks.fail(function, "layer", tuple(weight.shape), rule)
        kernel = kernel_from("torch", weight, "transposed", groups=count)
    else:
        kernel = kernel_from("torch", weight, "grouped", groups=count)
        if strides[0] > 1:
            options["output_at"] = "last"
        if left != "constant":
            options["padding_mode"] = (left, *("constant",) * (rank - 1))
        if rank > 1:
            reach = [(k - 1) * d for k, d in zip(kernel.shape[1:rank], steps[1:], strict=True)]
            options["padding"] = tuple((n // 2, n // 2) for n in reach)
    one = rank == 1
    if any(s > 1 for s in strides):
        options["strides"] = strides[0] if one else strides
    if any(d > 1 for d in steps):
        options["kernel_dilation"] = steps[0] if one else steps
    if count > 1:
        options["feature_group_count"] = count
    if activation is not None:
        options["activation"] = activation
    name = "causal_conv_transpose" if given["transposed"] else "causal_conv"
    return CausalLayer(name, kernel, bias, options)


def _weight(function: str, entries: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    """Weight and bias, with weight norm multiplied out."""
    found = {name: checked(function, f"layer[{name!r}]", value) for name, value in entries.items()}
    bias = found.pop("bias", None)
    if found.keys() == {"weight"}:
        return found["weight"], bias
    for length, direction in _WEIGHT_NORMS:
        if found.keys() == {length, direction}:
            g, v = found[length], found[direction]
            wide = v.astype(np.float64)
            # of every slice of the first axis, which PyTorch takes by default
            norm = np.sqrt((wide**2).sum(tuple(range(1, v.ndim)), keepdims=True))
            if g.shape != norm.shape:
                rule = f"must be weight norm of the first axis, with lengths {norm.shape}"
                checks.fail(function, f"layer[{length!r}]", tuple(g.shape), rule)
            return (wide * (g / norm)).astype(v.dtype), bias
    rule = "must hold `weight`, or the two entries of weight norm, and perhaps `bias`"
    checks.fail(
        function, "layer", sorted(entries), rule, "Give the entries of one convolution, unprefixed."
    )
