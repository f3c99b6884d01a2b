"""How each JAX library runs a program: lax, convjax, Flax, Equinox and Keras.

Operands come channels-last; `place` brings them into the library's layout and `read` back, so that
a layout costs nothing while it is timed.
"""

import functools
import importlib.util
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import convjax
from benchmarks.harness.layouts import LeftOut, to_first, to_last
from benchmarks.harness.rows import Operand, Spec, same

SPACE = ("", "W", "HW", "DHW")


def forward_kernel(kernel: Any, groups: int) -> Any:
    """A transposed kernel (*K, O/G, I) as lax's (*K, I/G, O), flipped in space."""
    *window, per_group, i = kernel.shape
    rank = len(window)
    kernel = kernel[(slice(None, None, -1),) * rank]
    kernel = kernel.reshape(*window, per_group, groups, i // groups)
    kernel = kernel.transpose(*range(rank), rank + 2, rank + 1, rank)
    return kernel.reshape(*window, i // groups, groups * per_group)


def transposed_padding(spec: Spec, window: tuple[int, ...]) -> list[tuple[int, int]]:
    """lax's padding of the dilated input, from what PyTorch crops and adds."""
    return [
        ((k - 1) * spec.dilation - lo, (k - 1) * spec.dilation - hi + spec.output_padding)
        for k, (lo, hi) in zip(window, spec.padding, strict=True)
    ]


class JaxOps:
    """What all JAX contenders share."""

    name = ""
    wants_same = False  # whether it runs a row's `same_program`

    def __init__(self, layout: str = "last"):
        self.layout = layout

    def place(self, array: np.ndarray, operand: Operand, dtype: str) -> jax.Array:
        array = to_first(array, operand) if self.layout == "first" else array
        return jax.block_until_ready(jnp.asarray(np.ascontiguousarray(array), dtype))

    def read(self, array: Any, operand: Operand) -> np.ndarray:
        found = np.asarray(array, np.float32)
        return to_last(found, operand) if self.layout == "first" else found

    def conv(self, x: Any, kernel: Any, spec: Spec) -> Any:
        raise NotImplementedError

    def relu(self, x: Any) -> Any:
        return jax.nn.relu(x)

    def concat(self, arrays: Any) -> Any:
        return jnp.concatenate(arrays, 1 if self.layout == "first" else -1)

    def loop(self, layer: Any, x: Any, *kernels: Any) -> Any:
        return lax.scan(lambda h, ks: (layer(self, h, *ks), None), x, kernels)[0]

    def vmap(self, function: Any) -> Any:
        return jax.vmap(function)


class LaxOps(JaxOps):
    """`conv_general_dilated`, lax's or the drop-in, with a transposed one written by hand."""

    name = "lax"
    function = staticmethod(lax.conv_general_dilated)

    def conv(self, x: Any, kernel: Any, spec: Spec) -> Any:
        rank = kernel.ndim - 2
        space = SPACE[rank]
        numbers = (
            (f"NC{space}", f"OI{space}", f"NC{space}")
            if self.layout == "first"
            else (f"N{space}C", f"{space}IO", f"N{space}C")
        )
        call = functools.partial(
            self.function, dimension_numbers=numbers, feature_group_count=spec.groups
        )
        dilation = (spec.dilation,) * rank
        if not spec.transposed:
            return call(x, kernel, (spec.strides,) * rank, spec.padding, rhs_dilation=dilation)
        if self.layout == "first":
            raise LeftOut("transposed rows are channels-last")
        return call(
            x,
            forward_kernel(kernel, spec.groups),
            (1,) * rank,
            transposed_padding(spec, kernel.shape[:rank]),
            lhs_dilation=(spec.strides,) * rank,
            rhs_dilation=dilation,
        )


class LaxOnednnOps(LaxOps):
    """`conv_general_dilated` under the options that ask XLA for oneDNN."""

    name = "lax_onednn"


class DropInOps(LaxOps):
    """convjax in lax's place."""

    name = "convjax"
    function = staticmethod(convjax.conv_general_dilated)


class ConvjaxOps(JaxOps):
    """convjax's functions, each kind by its own."""

    name = "convjax"

    def conv(self, x: Any, kernel: Any, spec: Spec) -> Any:
        *window, per_group, _ = kernel.shape
        options: dict[str, Any] = {
            "strides": spec.strides,
            "padding": spec.padding,
            "kernel_dilation": spec.dilation,
        }
        if spec.transposed:
            return convjax.conv_transpose(
                x,
                kernel,
                feature_group_count=spec.groups,
                output_padding=spec.output_padding,
                **options,
            )
        if math.prod(window) == 1:
            if spec.groups == 1:
                return convjax.pointwise_conv(x, kernel, strides=spec.strides)
            return convjax.pointwise_grouped_conv(x, kernel, spec.groups, strides=spec.strides)
        if spec.groups == 1:
            return convjax.conv(x, kernel, **options)
        if per_group == 1:
            return convjax.depthwise_conv(x, kernel, **options)
        return convjax.grouped_conv(x, kernel, spec.groups, **options)


class FlaxOps(JaxOps):
    """`nnx.Conv` and `nnx.ConvTranspose`, as functions of their kernel."""

    name = "flax"

    def conv(self, x: Any, kernel: Any, spec: Spec) -> Any:
        from flax import nnx

        if self.layout == "first":
            raise LeftOut("Flax's layers are channels-last")
        *window, second, last = kernel.shape
        options: dict[str, Any] = {
            "strides": spec.strides,
            "kernel_dilation": spec.dilation,
            "use_bias": False,
        }
        maker: Any = nnx.Conv
        if spec.transposed:
            if spec.groups > 1:
                raise LeftOut("nnx.ConvTranspose has no groups")
            # The layer flips and swaps a kernel of shape (*K, out, in) itself.
            options |= {"padding": transposed_padding(spec, tuple(window))}
            options |= {"transpose_kernel": True}
            maker, sizes = nnx.ConvTranspose, (last, second, tuple(window))
        else:
            options |= {"padding": spec.padding, "feature_group_count": spec.groups}
            sizes = (second * spec.groups, last, tuple(window))
        # Only its structure is made; the random numbers are never drawn.
        layer = nnx.eval_shape(lambda: maker(*sizes, rngs=nnx.Rngs(0), **options))
        graph, state = nnx.split(layer)
        state = jax.tree.map(lambda _: kernel, state)
        return nnx.merge(graph, state)(x)


class EquinoxOps(JaxOps):
    """`eqx.nn.Conv` and `ConvTranspose`: channels-first, one example at a time, so under vmap."""

    name = "equinox"

    def __init__(self, layout: str = "first"):
        super().__init__("first")

    def place(self, array: np.ndarray, operand: Operand, dtype: str) -> jax.Array:
        if operand.role == "transposed kernel":
            array = forward_kernel(array, operand.groups)
        return super().place(array, operand, dtype)

    def read(self, array: Any, operand: Operand) -> np.ndarray:
        found = super().read(array, operand)
        if operand.role == "transposed kernel":
            # (*K, I/G, O) back to (*K, O/G, I): the same exchange of channels.
            found = forward_kernel(found, operand.groups)
        return found

    def conv(self, x: Any, kernel: Any, spec: Spec) -> Any:
        import equinox as eqx

        o, per_group, *window = kernel.shape
        rank = len(window)
        options: dict[str, Any] = {
            "stride": spec.strides,
            "padding": spec.padding,
            "dilation": spec.dilation,
            "groups": spec.groups,
            "use_bias": False,
            "key": jax.random.key(0),
        }
        maker: Any = eqx.nn.Conv
        if spec.transposed:
            maker, options["output_padding"] = eqx.nn.ConvTranspose, spec.output_padding
        i = per_group * spec.groups
        layer = eqx.filter_eval_shape(maker, rank, i, o, tuple(window), **options)
        return jax.vmap(eqx.tree_at(lambda module: module.weight, layer, kernel))(x)


class KerasOps(JaxOps):
    """`keras.ops`, which know "same" and "valid" only."""

    name = "keras"
    wants_same = True

    def conv(self, x: Any, kernel: Any, spec: Spec) -> Any:
        from keras import ops

        if self.layout == "first":
            raise LeftOut("its kernels are channels-last: not the row's layout")
        *window, per_group, last = kernel.shape
        space = x.shape[1:-1]
        if spec.transposed:
            if spec.groups > 1:
                raise LeftOut("keras.ops.conv_transpose has no groups")
            return ops.conv_transpose(x, kernel, strides=spec.strides, padding="same")
        if not any(map(any, spec.padding)):
            padding = "valid"
        elif spec.padding == same(space, window, spec.strides, spec.dilation):
            padding = "same"
        else:  # causal: Keras' layer pads, too
            x, padding = ops.pad(x, ((0, 0), *spec.padding, (0, 0))), "valid"
        options = {"padding": padding, "dilation_rate": spec.dilation, "strides": spec.strides}
        if spec.groups > 1 and per_group == 1:
            kernel = kernel.reshape(*window, spec.groups, last // spec.groups)
            return ops.depthwise_conv(x, kernel, **options)
        return ops.conv(x, kernel, **options)


JAX_PEERS: dict[str, Any] = {
    "lax": LaxOps,
    "lax_onednn": LaxOnednnOps,
    "convjax": ConvjaxOps,
    "flax": FlaxOps,
    "equinox": EquinoxOps,
    "keras": KerasOps,
}
TORCH_PEERS = ("torch_nchw", "torch_nhwc")
PEERS = (*JAX_PEERS, *TORCH_PEERS)


def available(peers: Any = PEERS) -> dict[str, str]:
    """Each peer, and "" or why it is not there."""
    found = {}
    for peer in peers:
        module = peer.split("_")[0]
        there = module == "lax" or importlib.util.find_spec(module) is not None
        found[peer] = "" if there else f"{module} is not installed"
    return found


def ops_of(peer: str, layout: str) -> Any:
    """The contender `peer` for rows of this layout."""
    if peer in TORCH_PEERS:
        from benchmarks.harness.torch_ops import TorchOps  # which needs PyTorch

        return TorchOps(peer)
    if peer == "convjax" and layout == "first":
        return DropInOps(layout)
    return JAX_PEERS[peer](layout)
