"""How PyTorch runs a program, in either memory format."""

from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.harness import machine
from benchmarks.harness.layouts import LeftOut, to_first, to_last
from benchmarks.harness.rows import LOSS_SCALE, Operand, Spec


class TorchOps:
    """Contiguous NCHW tensors, or the same in `channels_last`."""

    wants_same = False
    layout = "first"

    def __init__(self, name: str):
        torch.set_num_threads(machine.cores())
        torch.backends.cudnn.benchmark = True  # XLA searches, too
        self.name = name
        on_gpu = jax.default_backend() == "gpu"
        if on_gpu and not torch.cuda.is_available():
            raise LeftOut("PyTorch sees no GPU")
        self.device = "cuda" if on_gpu else "cpu"

    def place(self, array: np.ndarray, operand: Operand, dtype: str) -> Any:
        first = np.ascontiguousarray(to_first(array, operand))
        tensor = torch.from_numpy(first).to(self.device, getattr(torch, dtype))
        if self.name == "torch_nhwc":
            if tensor.ndim - operand.lead not in (4, 5):
                raise LeftOut("channels_last is for 2-D and 3-D")
            # The strides of torch.channels_last, for each of the arrays that are stacked.
            axis = operand.lead + 1
            tensor = tensor.movedim(axis, -1).contiguous().movedim(-1, axis)
        return tensor

    def read(self, tensor: Any, operand: Operand) -> np.ndarray:
        return to_last(tensor.detach().float().cpu().numpy(), operand)

    def conv(self, x: Any, kernel: Any, spec: Spec) -> Any:
        rank = kernel.ndim - 2
        options = {"stride": spec.strides, "dilation": spec.dilation, "groups": spec.groups}
        if spec.transposed:
            function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
            options["output_padding"] = spec.output_padding
        else:
            function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        padding: Any = tuple(lo for lo, _ in spec.padding)
        if any(lo != hi for lo, hi in spec.padding):
            if spec.transposed:
                raise LeftOut("PyTorch crops both sides alike")
            x = F.pad(x, [side for pair in reversed(spec.padding) for side in pair])
            padding = 0
        return function(x, kernel, padding=padding, **options)

    def relu(self, x: Any) -> Any:
        return torch.relu(x)

    def concat(self, arrays: Any) -> Any:
        return torch.cat(arrays, 1)

    def loop(self, layer: Any, x: Any, *kernels: Any) -> Any:
        for each in zip(*kernels, strict=True):
            x = layer(self, x, *each)
        return x

    def vmap(self, function: Any) -> Any:
        return torch.vmap(function)

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def forward(ops: TorchOps, program: Any, operands: Any) -> Any:
    with torch.inference_mode():
        return (program(ops, *operands),)


def training(ops: TorchOps, program: Any, operands: Any, gradients: Any) -> Any:
    """The loss sum(y**2) and its gradients; of 16-bit results as in `prepare.jax_function`."""
    chosen = [operands[index].requires_grad_() for index in gradients]
    y = program(ops, *operands)
    scale = LOSS_SCALE.get(str(y.dtype).removeprefix("torch."))
    loss = (y**2).sum() if scale is None else scale * (y.float() ** 2).sum()
    return (loss.detach(), *torch.autograd.grad(loss, chosen))
