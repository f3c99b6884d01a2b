"""Problems and targets for tests of the choice of a lowering."""

import numpy as np

from convjax._core.geometry import Geometry
from convjax._lowerings.problem import Problem
from convjax._lowerings.target import Target

TARGETS = {
    "0.10": Target.of("cpu", "0.10"),  # YNNPACK is slow for every plane
    "0.12": Target.of("cpu", "0.12"),  # for kernels' gradients
    "0.12 avx512": Target.of("cpu", "0.12", vector_bits=512),  # for those of strided convolutions
    "no ynnpack": Target.of("cpu", "0.12", ynnpack=False),
    "onednn": Target.of("cpu", "0.12", onednn=True),
    "onednn 512": Target.of("cpu", "0.12", vector_bits=512, onednn=True),
    "amx": Target.of("cpu", "0.12", amx=True),
    "onednn amx": Target.of("cpu", "0.12", amx=True, onednn=True),
    "xla": Target.of("cpu", "0.12", split="XLA"),
    "xla onednn": Target.of("cpu", "0.12", split="XLA", onednn=True),
    "cuda": Target.of("cuda"),
    "cudas": Target.of("cuda", split="XLA"),
    "rocm": Target.of("rocm"),
    "tpu": Target.of("tpu"),
    "tpus": Target.of("tpu", split="XLA"),
}


def problem(**changes):
    """A dense 3x3 convolution, changed; fields of its geometry by their own names."""
    geometry = dict(
        strides=(1, 1), padding=((1, 1), (1, 1)), input_dilation=(1, 1), kernel_dilation=(1, 1)
    )
    steps = {name: changes.pop(name) for name in list(changes) if name in geometry}
    usual = dict(
        n=8, groups=1, i=16, o=16, space=(28, 28), window=(3, 3), out_space=(28, 28),
        geometry=Geometry(**(geometry | steps)), dtype=np.dtype("float32"), role="forward",
    )  # fmt: skip
    return Problem(**(usual | changes))


GRADIENT = {"role": "kernel_gradient", "window": (28, 28), "out_space": (3, 3)}
DEPTHWISE = {"groups": 64, "i": 1, "o": 1}
DEEP = {
    "space": (8, 8, 8), "window": (3, 3, 3), "out_space": (8, 8, 8), "strides": (1, 1, 1),
    "padding": ((1, 1),) * 3, "input_dilation": (1, 1, 1), "kernel_dilation": (1, 1, 1),
}  # fmt: skip
GRADIENT_OF_A_VOLUME = {
    "role": "kernel_gradient", "window": (8, 8, 8), "out_space": (3, 3, 3)
}  # fmt: skip
DEEP_TILES = DEEP | {"window": (2, 2, 2), "strides": (2, 2, 2), "out_space": (4, 4, 4)}
TILED_RESULTS = {"window": (7, 7), "kernel_dilation": (4, 4), "out_space": (4, 4)}
TILED_OUTPUT = {"window": (4, 4), "input_dilation": (4, 4), "out_space": (112, 112)}
TILED_KERNEL = {
    "window": (56, 56), "input_dilation": (2, 2), "out_space": (2, 2), "padding": ((1, 1), (1, 1)),
}  # fmt: skip
TILES = {"window": (4, 4), "strides": (4, 4), "out_space": (7, 7), "padding": ((0, 0), (0, 0))}
LINE = {
    "space": (28,), "window": (3,), "out_space": (28,), "strides": (1,), "padding": ((1, 1),),
    "input_dilation": (1,), "kernel_dilation": (1,),
}  # fmt: skip
SHORT = LINE | DEPTHWISE
SHORT_GRADIENT = SHORT | {
    "role": "kernel_gradient", "window": (28,), "out_space": (4,), "n": 1
}  # fmt: skip
CHANNELS = {"i": 64, "o": 64}
CROPPED = {"padding": ((-1, 2), (1, 1))}
STRIDED = {"strides": (2, 2), "out_space": (14, 14)}
