"""oneDNN computes convolutions wrongly, in float32 on a processor with AVX-512, in bfloat16 on one
with AMX: prints errors of 0.1 and more where 0.01 would be rounding."""

import jax
import jax.numpy as jnp
import numpy as np

OPTIONS = {
    "xla_cpu_experimental_onednn_custom_call": True,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
}
NUMBERS = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
CASES = {  # by type: input, kernel, strides, dilation of the kernel, padding
    "float32": {
        "one output": ((8, 8, 8, 16), (8, 8, 16, 1), (1, 1), (1, 1), (0, 0)),
        "two outputs": ((8, 8, 8, 16), (8, 8, 16, 2), (1, 1), (1, 1), (0, 0)),
        "one column, strided": ((3, 9, 9, 1), (3, 9, 1, 8), (1, 2), (1, 1), (0, 0)),
        "one column": ((3, 9, 9, 1), (3, 9, 1, 8), (1, 1), (1, 1), (0, 0)),
    },
    "bfloat16": {
        "8 channels, a row of 64 numbers": ((2, 10, 10, 8), (8, 8, 8, 16), (1, 1), (1, 1), (0, 0)),
        "9 channels": ((2, 10, 10, 9), (8, 8, 9, 16), (1, 1), (1, 1), (0, 0)),
        "24 channels, strided": ((2, 8, 32, 24), (4, 4, 24, 16), (4, 4), (1, 1), (0, 0)),
        "25 channels, strided": ((2, 8, 32, 25), (4, 4, 25, 16), (4, 4), (1, 1), (0, 0)),
        "different strides, one column": ((3, 6, 9, 6), (2, 5, 6, 8), (1, 2), (1, 2), (0, 1)),
        "equal strides, one column": ((3, 6, 9, 6), (2, 5, 6, 8), (2, 2), (1, 2), (0, 1)),
        "a volume of one plane": ((1, 1, 5, 7, 3), (2, 3, 3, 3, 24), 3 * (1,), 3 * (1,), (1, 1)),
        "a volume of two planes": ((1, 2, 5, 7, 3), (2, 3, 3, 3, 24), 3 * (1,), 3 * (1,), (1, 1)),
    },
}


def error(dtype, x_shape, kernel_shape, strides, dilation, pads):
    """The largest error, relative to the largest number."""
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.integers(-3, 4, s), jnp.float32) for s in (x_shape, kernel_shape))

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, len(strides) * (pads,), rhs_dilation=dilation,
            dimension_numbers=NUMBERS[len(strides)],
        )  # fmt: skip

    wanted = np.asarray(jax.jit(conv)(x, kernel))
    narrow = (v.astype(dtype) for v in (x, kernel))
    found = np.asarray(jax.jit(conv, compiler_options=OPTIONS)(*narrow), np.float32)
    return np.abs(found - wanted).max() / np.abs(wanted).max()


for dtype, cases in CASES.items():
    for name, case in cases.items():
        print(f"jax {jax.__version__}, {dtype}, {name}: error {error(dtype, *case):.2g}")
