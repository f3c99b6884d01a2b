"""The kinds of the layers of a state dict: given by the caller, or read from a PyTorch model."""

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from convjax._core import checks
from convjax._core.public import public
from convjax.interop.kernels import SINGLE_KINDS

# kind of layer: PyTorch's entry -> our leaf
_WEIGHTS = {"weight": "kernel", "bias": "bias"}
_NORM = {"weight": "scale", "bias": "bias"}
COUNTER = "num_batches_tracked"
ENTRIES: dict[str, dict[str, str]] = {
    **dict.fromkeys(SINGLE_KINDS, _WEIGHTS),
    "linear": _WEIGHTS,
    "batch_norm": {**_NORM, "running_mean": "mean", "running_var": "var"},
    "norm": _NORM,
    "embedding": {"weight": "embedding"},
}
# PyTorch's classes, looked for in this order among a module and its bases
CLASSES = {
    "_BatchNorm": "batch_norm",
    "_InstanceNorm": "norm",
    "LayerNorm": "norm",
    "GroupNorm": "norm",
    "RMSNorm": "norm",
    "Linear": "linear",
    "Embedding": "embedding",
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """The kind and the options of a layer of a state dict.

    Attributes:
        kind: a kind of convolution with one kernel ("dense", "grouped", "depthwise", "transposed",
            ...), or "linear", "batch_norm", "norm" (layer, group, instance or RMS), "embedding".
            "shuffled_grouped" is a convolution in groups with a ``ChannelShuffle`` after it, in one
            layer of ours, which adds its bias after the shuffle.
        groups: G of a convolution; None is 1, or, where it does not matter, left open.
        transpose_kernel: of a "transposed" layer, which must say it: True if our layer holds the
            forward kernel (*K, O/G, I), as `convjax.conv_transpose`, ``convention="adjoint"`` and
            ``transpose_kernel=True`` have it; False for Flax's default (*K, I/G, O).
        flattened: of a "linear" layer that reads a flattened image: (C, *space), the shape of that
            image in PyTorch. PyTorch flattens channels first, and channels-last code last.

    Raises:
        ValueError: an unknown kind; an option of another kind; "transposed" without its layout.

    Example:
        >>> from convjax import interop
        >>> interop.Layer("transposed", groups=2, transpose_kernel=True).kind
        'transposed'
    """

    kind: str
    groups: int | None = None
    transpose_kernel: bool | None = None
    flattened: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        checks.choice("Layer", "kind", self.kind, tuple(ENTRIES))
        if self.groups is not None:
            checks.integer("Layer", "groups", self.groups, minimum=1)
            if self.kind not in SINGLE_KINDS:
                checks.fail("Layer", "groups", self.groups, "is an option of convolutions only")
        elif self.kind == "shuffled_grouped":
            rule = 'must be given for the kind "shuffled_grouped", whose bias is shuffled'
            checks.fail("Layer", "groups", None, rule)
        if self.kind == "transposed" and self.transpose_kernel is None:
            checks.fail(
                "Layer",
                "transpose_kernel",
                None,
                'must be given for the kind "transposed": its kernel has two layouts, whose shapes '
                "can be the same",
                "True where our layer holds the forward kernel (*K, O/G, I), False for Flax's "
                "default.",
            )
        if self.kind != "transposed" and self.transpose_kernel is not None:
            rule = 'is an option of the kind "transposed" only'
            checks.fail("Layer", "transpose_kernel", self.transpose_kernel, rule)
        if self.kind != "linear" and self.flattened is not None:
            rule = 'is an option of the kind "linear" only'
            checks.fail("Layer", "flattened", self.flattened, rule)


Layers = Mapping[str, "Layer | str"]


@public
def layers_of(
    model: object,
    *,
    transpose_kernel: bool | None = None,
    flattened: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, Layer]:
    """The layers of a PyTorch model, as `from_torch` and `to_torch` take them.

    Args:
        model: a ``torch.nn.Module``; kinds and groups are read from its modules.
        transpose_kernel: see `Layer`; must be given if there is a transposed convolution.
        flattened: for linear layers after a flattening of images, by name: see `Layer`.

    Returns:
        Name to `Layer`. Modules of other types are left out; if they have parameters,
        `from_torch` names them.

    Raises:
        TypeError: not a PyTorch module.
        ValueError: as `Layer`; a name in `flattened` that is no linear layer.

    Example:
        >>> from convjax import interop
        >>> interop.layers_of(torch_model, transpose_kernel=False)  # doctest: +SKIP
        {'conv': Layer(kind='dense', groups=1, transpose_kernel=None, flattened=None), ...}
    """
    found: dict[str, Layer] = {}
    images = dict(flattened or {})
    for name, module in modules("layers_of", model):
        if is_convolution(module):
            kind = "dense" if module.groups == 1 else "grouped"
            kind = "depthwise" if module.groups == module.in_channels > 1 else kind
            if module.transposed:
                found[name] = Layer("transposed", module.groups, transpose_kernel)
            else:
                found[name] = Layer(kind, module.groups)
            continue
        bases = {base.__name__ for base in type(module).__mro__}
        words = [kind for base, kind in CLASSES.items() if base in bases]
        if words:
            image = images.pop(name, None) if words[0] == "linear" else None
            found[name] = Layer(words[0], flattened=image)
    if images:
        rule = "must name linear layers of the model"
        checks.fail("layers_of", "flattened", sorted(images), rule)
    return found


def table_of(function: str, layers: Layers) -> dict[str, Layer]:
    found = {}
    for name, layer in layers.items():
        if not isinstance(layer, (Layer, str)):
            rule = "must be a `Layer` or the name of a kind"
            checks.fail_type(function, f"layers[{name!r}]", layer, rule)
        found[name] = Layer(layer) if isinstance(layer, str) else layer
    return found


def known(prefix: str, table: Mapping[str, Layer]) -> Layer | None:
    """What the layer `prefix` is: by its full name, else by the first pattern that fits."""
    if prefix in table:
        return table[prefix]
    fitting = (layer for pattern, layer in table.items() if fnmatchcase(prefix, pattern))
    return next(fitting, None)


def find(
    function: str, argument: str, entry: str, value: Any, prefix: str, table: dict[str, Layer]
) -> Layer:
    layer = known(prefix, table)
    if layer is not None:
        return layer
    hint = f'Add {prefix!r} to them with its kind, such as "dense", "linear" or "batch_norm".'
    fail_entry(function, argument, entry, value, "is of none of the `layers`", hint)


def fail_entry(
    function: str, argument: str, entry: str, value: Any, rule: str, hint: str = ""
) -> NoReturn:
    shape = tuple(getattr(value, "shape", ()))
    checks.fail(function, f"{argument}[{entry!r}]", shape, rule, hint)


def is_convolution(module: Any) -> bool:
    """Whether `module` looks like one of PyTorch's convolutions."""
    return all(hasattr(module, name) for name in ("kernel_size", "transposed", "padding_mode"))


def modules(function: str, model: Any) -> list[tuple[str, Any]]:
    """The modules inside a PyTorch model, by name."""
    if not hasattr(model, "named_modules"):
        rule = "must be a PyTorch module, which has `named_modules`"
        checks.fail_type(function, "model", type(model).__name__, rule)
    return list(model.named_modules())
