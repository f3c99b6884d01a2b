"""oneDNN computes convolutions in bfloat16 wrongly on a processor with AMX: prints errors of 1 and
more where 0.01 would be rounding."""

import jax
import jax.numpy as jnp
import numpy as np

OPTIONS = {
    "xla_cpu_experimental_onednn_custom_call": True,
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
}
NUMBERS = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
CASES = {  # input, kernel, strides, dilation of the kernel, padding
    "8 channels, a row of 64 numbers": ((2, 10, 10, 8), (8, 8, 8, 16), (1, 1), (1, 1), (0, 0)),
    "9 channels": ((2, 10, 10, 9), (8, 8, 9, 16), (1, 1), (1, 1), (0, 0)),
    "different strides, one column": ((3, 6, 9, 6), (2, 5, 6, 8), (1, 2), (1, 2), (0, 1)),
    "equal strides, one column": ((3, 6, 9, 6), (2, 5, 6, 8), (2, 2), (1, 2), (0, 1)),
    "a volume of one plane": ((1, 1, 5, 7, 3), (2, 3, 3, 3, 24), (1, 1, 1), (1, 1, 1), (1, 1)),
    "a volume of two planes": ((1, 2, 5, 7, 3), (2, 3, 3, 3, 24), (1, 1, 1), (1, 1, 1), (1, 1)),
}


def error(x_shape, kernel_shape, strides, dilation, pads):
    """The largest error, relative to the largest number."""
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.integers(-3, 4, s), jnp.float32) for s in (x_shape, kernel_shape))

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, len(strides) * (pads,), rhs_dilation=dilation,
            dimension_numbers=NUMBERS[len(strides)],
        )  # fmt: skip

    wanted = np.asarray(jax.jit(conv)(x, kernel))
    narrow = (v.astype(jnp.bfloat16) for v in (x, kernel))
    found = np.asarray(jax.jit(conv, compiler_options=OPTIONS)(*narrow), np.float32)
    return np.abs(found - wanted).max() / np.abs(wanted).max()


for name, case in CASES.items():
    print(f"jax {jax.__version__}, {name}: error {error(*case):.2g}")
