"""From and to other frameworks: kernels, whole state dicts, and the padding that equals a layer's.

These functions work on numpy arrays. They accept the arrays of every framework and import none.
"""

from convjax._core.public import public_class
from convjax.interop.arrays import FRAMEWORKS
from convjax.interop.causal import CausalLayer, causal_from_torch
from convjax.interop.channels import bias_from, bias_to, from_depth_to_space, to_depth_to_space
from convjax.interop.kernels import kernel_from, kernel_to
from convjax.interop.layers import Layer, layers_of
from convjax.interop.model import Ports, check_model
from convjax.interop.port import Port, check_layer, check_port
from convjax.interop.state import from_torch, to_torch
from convjax.interop.trees import merge_collections, split_collections

__all__ = [
    "FRAMEWORKS",
    "CausalLayer",
    "Layer",
    "Port",
    "Ports",
    "bias_from",
    "bias_to",
    "causal_from_torch",
    "check_layer",
    "check_model",
    "check_port",
    "from_depth_to_space",
    "from_torch",
    "kernel_from",
    "kernel_to",
    "layers_of",
    "merge_collections",
    "split_collections",
    "to_depth_to_space",
    "to_torch",
]

public_class(Layer)
