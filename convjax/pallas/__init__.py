"""Kernels for TPU, written in Pallas. Nothing imports this package until a kernel is asked for.

- ``tiles``: plain integers: where taps fall, and how large the pieces are that fit into VMEM,
- ``depthwise``: depthwise convolution, and both its gradients,
- ``scratch``: what the kernels share: inputs, widened, with zeros around them.
"""
