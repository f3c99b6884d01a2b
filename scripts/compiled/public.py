"""Every public function that computes, compiled for a target in every way that users compile.

A function's program is its value and the gradients by all operands that have them.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from compiled import targets
from compiled.failures import Failures


class Case(NamedTuple):
    """A public function, its options, and the shapes of its operands."""

    function: str
    shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any] = {}  # noqa: RUF012 - never changed


_X = (8, 16, 16, 8)
CASES = (
    Case("conv", (_X, (3, 3, 8, 16))),
    Case("conv", (_X, (3, 3, 4, 16)), {"feature_group_count": 2, "padding_mode": "wrap"}),
    Case("conv", (_X, (3, 3, 8, 16)), {"strides": 2, "kernel_dilation": 2}),
    Case("conv1d", ((8, 64, 8), (5, 8, 16)), {"padding": "CAUSAL"}),
    Case("conv2d", (_X, (3, 3, 8, 16)), {"padding": "FULL"}),
    Case("conv3d", ((8, 8, 8, 8, 4), (3, 3, 3, 4, 8))),
    Case("convolve", (_X, (3, 3, 8, 16))),
    Case("correlate", (_X, (3, 3, 8, 16))),
    Case("pointwise_conv", (_X, (1, 1, 8, 16))),
    Case("dilated_conv", (_X, (3, 3, 8, 16)), {"kernel_dilation": 2}),
    Case("conv_transpose", (_X, (4, 4, 16, 8)), {"strides": 2}),
    Case("depthwise_conv", (_X, (3, 3, 1, 16))),
    Case("depthwise_separable_conv", (_X, (3, 3, 1, 8), (1, 1, 8, 16))),
    Case("grouped_conv", (_X, (3, 3, 2, 16)), {"groups": 4}),
    Case("pointwise_grouped_conv", (_X, (1, 1, 2, 16)), {"groups": 4}),
    Case("shuffled_grouped_conv", (_X, (3, 3, 2, 16)), {"groups": 4}),
    Case("flattened_conv", (_X, (1, 1, 8, 4), (3, 1, 1, 4), (1, 3, 1, 4))),
    Case("spatially_separable_conv", (_X, (3, 1, 8, 4), (1, 3, 4, 16))),
    Case("channel_shuffle", (_X,), {"groups": 4}),
    Case("channel_unshuffle", (_X,), {"groups": 4}),
    Case("pixel_shuffle", (_X,), {"scale": 2}),
    Case("pixel_unshuffle", (_X,), {"scale": 2}),
    Case("subpixel_conv", (_X, (3, 3, 8, 16)), {"scale": 2}),
    Case("resize", (_X,), {"scale": 2, "method": "bilinear"}),
    Case("resize_conv", (_X, (3, 3, 8, 16)), {"scale": 2, "method": "nearest"}),
    Case("hold", (_X,), {"size": 2, "order": 1}),
    Case("causal_conv", ((8, 64, 8), (4, 1, 8)), {"feature_group_count": 8}),
    Case("causal_step", ((8, 3, 8), (8, 8), (4, 1, 8)), {"feature_group_count": 8}),
    Case("causal_conv_transpose", ((8, 16, 8), (4, 16, 8)), {"strides": 2}),
    Case("conv_general_dilated", ((8, 8, 16, 16), (16, 8, 3, 3)), {
        "window_strides": (1, 1), "padding": "SAME"
    }),
    Case("accelerate", (_X, (3, 3, 8, 16))),
)  # fmt: skip


def called(case: Case) -> Callable[..., Any]:
    """The function of the case over its operands."""
    import jax
    from jax import lax

    import convjax

    function = getattr(convjax, case.function)

    def call(*operands: Any) -> Any:
        if case.function == "accelerate":
            numbers = ("NHWC", "HWIO", "NHWC")
            plain = lambda x, k: lax.conv_general_dilated(  # noqa: E731
                x, k, (1, 1), "SAME", dimension_numbers=numbers
            )
            return function(plain)(*operands)
        if case.function == "causal_step":
            state, x, kernel = operands
            return function(x, kernel, state=state, **case.options)
        if case.function in ("flattened_conv",):
            return function(operands[0], operands[1], operands[2:], **case.options)
        if case.function == "spatially_separable_conv":
            return function(operands[0], operands[1:], **case.options)
        return function(*operands, **case.options)

    def total(*operands: Any) -> Any:
        return sum(leaf.sum() for leaf in jax.tree.leaves(call(*operands)))

    return jax.value_and_grad(total, tuple(range(len(case.shapes))))


def run(names: list[str], words: list[str]) -> int:
    """Compile; the exit status is 1 if a program does not compile."""
    import jax
    import numpy as np
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

    failed, compiled = Failures("programs"), 0
    for name in names:
        target = targets.TARGETS[name]
        devices = np.array(targets.devices(target))
        for case in CASES:
            if not any(word in case.function for word in words):
                continue
            start, before = time.monotonic(), len(failed.names)
            function = called(case)
            for how in ("jit", "vmap", "automatic axes", "explicit axes"):
                kind = AxisType.Explicit if how == "explicit axes" else AxisType.Auto
                mesh = Mesh(devices, ("batch",), axis_types=(kind,))
                more = (2,) if how == "vmap" else ()
                operands = [
                    jax.ShapeDtypeStruct(
                        (*more, *shape),
                        "float32",
                        sharding=NamedSharding(
                            mesh,
                            PartitionSpec("batch")
                            if shape[0] == 8 and not more and target.devices > 1
                            else PartitionSpec(),
                        ),
                    )
                    for shape in case.shapes
                ]
                if target.devices == 1 and how.endswith("axes"):
                    continue
                try:
                    with jax.set_mesh(mesh):
                        program = jax.vmap(function) if more else function
                        jax.jit(program).lower(*operands).compile()
                    compiled += 1
                except Exception as error:
                    failed.add(f"{name} {case.function} ({how})", error)
            seconds = time.monotonic() - start
            said = "ok" if len(failed.names) == before else "failed"
            print(f"{name} {case.function} {seconds:.1f} s {said}", flush=True)
    print(f"{compiled} programs compiled")
    return failed.status()
