"""Write tests/data/torch_vectors.npz: convolutions computed by PyTorch, values and both gradients.

    python scripts/make_torch_vectors.py

Inputs, weights and cotangents are random (float16 numbers, so that the file packs well); PyTorch
computes in float64, and everything is kept as float32. Arrays stay in PyTorch's layout: channels
first, weights (O, I/G, *K), those of transposed convolutions (I, O/G, *K). ``cases`` is JSON that
says what each call was.
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np
import torch

TARGET = pathlib.Path(__file__).parent.parent / "tests" / "data" / "torch_vectors.npz"
LIMIT = 150_000  # bytes: small enough to commit

# kind, x (N, C, *space), weight, options in PyTorch's words
CASES = [
    ("conv", (2, 3, 9), (4, 3, 3), {}),
    ("conv", (2, 3, 9), (4, 3, 4), {"stride": 2, "padding": 3}),
    ("conv", (2, 4, 11), (6, 2, 3), {"groups": 2, "dilation": 3, "padding": 2}),
    ("conv", (3, 5, 8), (10, 1, 3), {"groups": 5, "padding": "same"}),
    ("conv", (2, 3, 8), (4, 3, 4), {"padding": "same", "dilation": 2}),
    ("conv", (2, 3, 7), (4, 3, 2), {"stride": 3}),
    ("conv", (2, 3, 7, 6), (4, 3, 3, 2), {"padding": [1, 2]}),
    ("conv", (2, 4, 6, 7), (6, 2, 2, 3), {"groups": 2, "stride": [2, 1], "padding": 1}),
    ("conv", (2, 3, 8, 7), (5, 3, 3, 2), {"dilation": [2, 3], "stride": 2, "padding": [3, 0]}),
    ("conv", (2, 6, 5, 7), (6, 1, 3, 3), {"groups": 6, "stride": [1, 2], "padding": "valid"}),
    ("conv", (1, 2, 5, 4, 6), (4, 2, 2, 3, 2), {"padding": [1, 0, 2]}),
    ("conv", (1, 4, 5, 4, 6), (6, 2, 3, 2, 1), {"groups": 2, "stride": [2, 1, 3], "padding": 1}),
    ("conv", (1, 2, 6, 5, 7), (3, 2, 2, 2, 2), {"dilation": [3, 1, 2], "padding": [2, 1, 0]}),
    ("conv", (2, 3, 9), (4, 3, 4), {"padding": 3, "padding_mode": "reflect"}),
    ("conv", (2, 3, 7), (4, 3, 3), {"padding": 4, "padding_mode": "replicate", "stride": 2}),
    ("conv", (2, 4, 7), (6, 2, 3), {"padding": 5, "padding_mode": "circular", "groups": 2}),
    ("conv", (2, 3, 6, 5), (4, 3, 3, 2), {"padding": [3, 2], "padding_mode": "reflect"}),
    ("conv", (2, 3, 6, 5), (4, 3, 3, 2), {"padding": [2, 3], "padding_mode": "replicate"}),
    ("conv", (2, 3, 6, 5), (4, 3, 2, 3), {"padding": [4, 3], "padding_mode": "circular"}),
    ("conv", (1, 2, 4, 3, 5), (3, 2, 2, 3, 2), {"padding": [1, 2, 3], "padding_mode": "circular"}),
    ("conv", (1, 2, 4, 3, 5), (3, 2, 2, 1, 3), {"padding": [2, 1, 3], "padding_mode": "replicate"}),
    ("transposed", (2, 4, 6), (4, 3, 3), {}),
    ("transposed", (2, 4, 6), (4, 3, 4), {"stride": 2, "padding": 1}),
    ("transposed", (2, 4, 5), (4, 3, 3), {"stride": 3, "padding": 1, "output_padding": 2}),
    ("transposed", (2, 6, 5), (6, 2, 3), {"groups": 3, "stride": 2, "dilation": 2, "padding": 3}),
    ("transposed", (2, 4, 4, 5), (4, 3, 3, 2), {"stride": [2, 3], "output_padding": [1, 2]}),
    ("transposed", (2, 6, 3, 4), (6, 2, 2, 3), {"groups": 2, "stride": 2, "padding": [0, 1]}),
    (
        "transposed",
        (2, 4, 4, 3),
        (4, 5, 3, 2),
        {"dilation": [2, 3], "padding": [1, 2], "stride": 2},
    ),
    ("transposed", (2, 4, 3, 4), (4, 1, 2, 2), {"groups": 4, "stride": [3, 2]}),
    (
        "transposed",
        (1, 4, 3, 2, 3),
        (4, 2, 2, 3, 2),
        {"stride": [2, 1, 3], "padding": [1, 1, 0], "output_padding": [1, 0, 2]},
    ),
    (
        "transposed",
        (1, 4, 3, 2, 4),
        (4, 3, 3, 1, 2),
        {"groups": 2, "dilation": [1, 1, 2], "stride": 2, "padding": [1, 0, 1]},
    ),
]


def compute(kind, x, weight, options):
    """The result of one case, computed by PyTorch's module for it."""
    rank, groups = x.ndim - 2, options.get("groups", 1)
    if kind == "conv":
        module = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[rank - 1]
        channels = weight.shape[1] * groups, weight.shape[0]
    else:
        module = (
            torch.nn.ConvTranspose1d,
            torch.nn.ConvTranspose2d,
            torch.nn.ConvTranspose3d,
        )[rank - 1]
        channels = weight.shape[0], weight.shape[1] * groups
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    layer = module(*channels, tuple(weight.shape[2:]), bias=False, dtype=torch.float64, **options)
    del layer.weight
    layer.weight = weight
    return layer(x)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    rng = np.random.default_rng(20)

    def normal(shape):
        return rng.normal(size=shape).astype(np.float16).astype(np.float32)

    arrays: dict[str, Any] = {}
    described = []
    for index, (kind, x_shape, weight_shape, options) in enumerate(CASES):
        x, weight = (normal(shape) for shape in (x_shape, weight_shape))
        x_leaf, weight_leaf = (torch.tensor(a, dtype=torch.float64, requires_grad=True)
                               for a in (x, weight))  # fmt: skip
        y = compute(kind, x_leaf, weight_leaf, options)
        cotangent = normal(tuple(y.shape))
        y.backward(torch.tensor(cotangent, dtype=torch.float64))
        results = {
            "x": x,
            "weight": weight,
            "cotangent": cotangent,
            "y": y.detach().numpy(),
            "x_gradient": x_leaf.grad.numpy(),
            "weight_gradient": weight_leaf.grad.numpy(),
        }
        arrays |= {f"{index}/{name}": a.astype(np.float32) for name, a in results.items()}
        described.append({"kind": kind, "options": options})
    about = {"torch": torch.__version__, "cases": described}
    TARGET.parent.mkdir(exist_ok=True)
    np.savez_compressed(TARGET, cases=json.dumps(about), **arrays)
    size = TARGET.stat().st_size
    print(f"{TARGET.name}: {len(CASES)} cases, {size:,} bytes")
    if size > LIMIT:
        raise SystemExit(f"larger than {LIMIT:,} bytes: use smaller cases")


if __name__ == "__main__":
    main()
