"""Convolutions of every kind, as pure functions on arrays, under every JAX transform."""

from convjax.functional.dense import (
    conv,
    conv1d,
    conv2d,
    conv3d,
    convolve,
    correlate,
    dilated_conv,
    pointwise_conv,
)
from convjax.functional.transposed import conv_transpose
from convjax.lax import conv_general_dilated
from convjax.operation import convs_saveable
