"""Kernels for TPU, written in Pallas. Nothing imports this package until a kernel is asked for.

- ``tiles``: plain integers: where taps fall, and how large the pieces are that fit into VMEM,
- ``depthwise``: depthwise convolution, and both its gradients,
- ``causal``: causal convolution of a sequence, with state, segments, bias and activation,
- ``checks``: what `convjax.selftest` runs on a TPU,
- ``scratch``: what the kernels share: inputs, widened, with zeros around them.
"""
