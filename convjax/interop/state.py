"""Whole state dicts from and to PyTorch: a rule per kind of layer, and a rule for names.

A state dict is flat, ``{"layer1.0.conv.weight": tensor}``; ours is a tree of dicts with Flax's
names, ``{"layer1": {0: {"conv": {"kernel": array}}}}``, as ``nnx.update`` takes it. The caller says
what each entry is (a kernel, a transposed kernel, a matrix), because one shape often has several
readings. Nothing is dropped in silence. There and back is the identity, to the last bit. Only numpy
is used.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, NoReturn, cast

import numpy as np

from convjax._core import checks
from convjax._core.aliases import AnyArray, AnyTree
from convjax._core.public import public
from convjax.interop.arrays import to_numpy
from convjax.interop.kernels import SINGLE_KINDS, SingleKind, kernel_from, kernel_to
from convjax.interop.layers import (
    COUNTER,
    ENTRIES,
    Layer,
    Layers,
    fail_entry,
    find,
    known,
    table_of,
)
from convjax.interop.reparametrised import fail_part, is_part, plain
from convjax.interop.trees import Tree, dotted, leaves, tree_of


@public
def from_torch(
    state_dict: Mapping[str, AnyArray],
    layers: Layers,
    *,
    names: Mapping[str, str] | None = None,
    like: AnyTree | None = None,
) -> Tree:
    """A PyTorch state dict as a tree of numpy arrays with Flax's names and layouts.

    Weights that PyTorch holds in parts become one kernel, as the model has it in evaluation: those
    under weight norm (``weight_g`` and ``weight_v``, or ``parametrizations.weight.original0`` and
    ``1``), spectral norm (``weight_orig``, ``weight_u`` and ``weight_v``, or
    ``parametrizations.weight.original`` with ``0._u`` and ``0._v``) and pruning masks.

    Args:
        state_dict: names to tensors (or arrays of any framework).
        layers: what each layer is, by its name in PyTorch: a `Layer`, or its kind as a word. Names
            may hold ``*``: ``{"*.bn*": "batch_norm", "*": "dense"}``. A full name has precedence,
            then the first pattern that matches. `layers_of` makes them from a PyTorch model.
        names: what has another name here: names or beginnings of names in PyTorch, such as
            ``{"features": "features.layers"}``, or of single entries, such as ``{"dw.weight":
            "block.depthwise_kernel"}``. The longest that matches is replaced; "" removes it.
        like: the tree to be filled, such as ``nnx.state(model, nnx.Any(nnx.Param,
            nnx.BatchStat))``: it must have the same entries and shapes.

    Returns:
        A tree of dicts; parts of names that are numbers become ints, as in ``nnx.List``, unless
        `like` has them otherwise. Leaves: `kernel`, `bias`; `scale`, `bias`, `mean`, `var`;
        `embedding`. ``num_batches_tracked`` has no counterpart and is left out: Flax weighs its
        averages only by `momentum`, as PyTorch does unless momentum is None.

    Raises:
        ValueError: an entry of no layer, or unknown in its layer; layers without entries; shapes
            that do not fit; two entries of one name; what `like` has and the state dict has not.
        TypeError: not mappings.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> weights = {"conv.weight": np.ones((8, 3, 5, 5)), "conv.bias": np.ones(8)}
        >>> tree = interop.from_torch(weights, {"conv": "dense"})
        >>> tree["conv"]["kernel"].shape, tree["conv"]["bias"].shape
        ((5, 5, 3, 8), (8,))
    """
    function = "from_torch"
    _check_mappings(function, state_dict=state_dict, layers=layers, names=names, like=like)
    table, names = table_of(function, layers), names or {}
    wanted = None if like is None else {dotted(path): (path, v) for path, v in leaves(like)}
    found: dict[str, np.ndarray] = {}
    met = set()
    for entry, value in plain(function, state_dict, lambda name: known(name, table)).items():
        if is_part(entry):
            fail_part(function, "state_dict", entry, value)
        prefix, _, suffix = entry.rpartition(".")
        layer = find(function, "state_dict", entry, value, prefix, table)
        met.add(prefix)
        if suffix == COUNTER and layer.kind == "batch_norm":
            continue
        leaf = ENTRIES[layer.kind].get(suffix)
        if leaf is None:
            _fail_unknown(function, entry, value, layer)
        target = _ours(entry, prefix, leaf, names)
        array = _converted(function, "state_dict", entry, value, suffix, layer, inward=True)
        if target in found:
            rule = f"becomes {target!r}, and so does another entry"
            fail_entry(
                function, "state_dict", entry, array, rule, "Give them different names in `names`."
            )
        if wanted is not None and target in wanted:
            shape = tuple(wanted[target][1].shape)
            if array.shape != shape:
                hint = _hint_of_shape(layer, array.shape, shape)
                rule = f"becomes {target!r} of shape {array.shape}, but `like` has {shape} there"
                fail_entry(function, "state_dict", entry, value, rule, hint)
        found[target] = array
    idle = [name for name in table if not set("*?[") & set(name) and name not in met]
    if idle:
        rule = "must be layers with entries in `state_dict`"
        checks.fail(function, "layers", idle, rule, "Are they named as in PyTorch?")
    if wanted is not None:
        _compare(function, found.keys(), wanted.keys(), "state_dict", "like")
        return tree_of({wanted[name][0]: array for name, array in found.items()})
    return tree_of(
        {
            tuple(int(part) if part.isdecimal() else part for part in name.split(".")): array
            for name, array in found.items()
        }
    )


@public
def to_torch(
    tree: AnyTree,
    layers: Layers,
    *,
    names: Mapping[str, str] | None = None,
    like: Mapping[str, AnyArray] | None = None,
) -> dict[str, np.ndarray]:
    """A tree of our parameters as a PyTorch state dict: the inverse of `from_torch`.

    Args:
        tree: nested mappings with arrays, such as ``nnx.state(model, nnx.Any(nnx.Param,
            nnx.BatchStat))``.
        layers, names: as for `from_torch`: by PyTorch's names.
        like: a state dict of the model that is to take the result: it must have the same entries
            and shapes, and gives each ``num_batches_tracked``, which is 0 otherwise. Its weights
            must be whole: without weight norm and the like.

    Returns:
        Names to numpy arrays: ``model.load_state_dict({k: torch.from_numpy(v) for k, v in
        ...items()})``.

    Raises:
        ValueError: as `from_torch`.
        TypeError: not mappings.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> tree = {"bn": {"scale": np.ones(8), "bias": np.ones(8)}}
        >>> sorted(interop.to_torch(tree, {"bn": "batch_norm"}))
        ['bn.bias', 'bn.weight']
    """
    function = "to_torch"
    _check_mappings(function, tree=tree, layers=layers, names=names, like=like)
    table, names = table_of(function, layers), names or {}
    for entry, value in (like or {}).items():
        if is_part(entry):
            fail_part(function, "like", entry, value)
    found: dict[str, np.ndarray] = {}
    for path, value in leaves(tree):
        name = dotted(path)
        entry, prefix, leaf = _theirs(function, name, names)
        layer = find(function, "tree", name, value, prefix, table)
        inverse = {ours: theirs for theirs, ours in ENTRIES[layer.kind].items()}
        suffix = entry.rpartition(".")[2] if entry else inverse.get(leaf, "")
        if suffix not in ENTRIES[layer.kind]:
            rule = f'is no parameter of a layer of kind "{layer.kind}"'
            hint = f"It has {', '.join(inverse)}."
            fail_entry(function, "tree", name, value, rule, hint)
        entry = entry or _join(prefix, suffix)
        if entry in found or _ours(entry, prefix, ENTRIES[layer.kind][suffix], names) != name:
            rule = f"becomes {entry!r}, which stands for another name as well"
            fail_entry(function, "tree", name, value, rule, "Give them different names in `names`.")
        found[entry] = _converted(function, "tree", name, value, suffix, layer, inward=False)
        if suffix == "running_mean":
            counter = _join(prefix, COUNTER)
            known = like is not None and counter in like
            number = to_numpy(like[counter]) if known else np.int64(0)  # type: ignore[index]
            if known or like is None:
                found[counter] = np.array(number)
    if like is not None:
        for entry, array in found.items():
            if entry in like and tuple(np.shape(like[entry])) != array.shape:
                rule = f"is not of the shape that `like` has there, {tuple(np.shape(like[entry]))}"
                fail_entry(function, "result", entry, array, rule)
        _compare(function, found.keys(), like.keys(), "tree", "like")
        found = {entry: found[entry] for entry in like}
    return found


# ---- values ----------------------------------------------------------------------------------


def _converted(
    function: str,
    argument: str,
    entry: str,
    value: Any,
    suffix: str,
    layer: Layer,
    *,
    inward: bool,
) -> np.ndarray:
    array = to_numpy(value)
    try:
        if suffix == "weight" and layer.kind in SINGLE_KINDS:
            return _kernel(array, layer, inward)
        if suffix == "weight" and layer.kind == "linear":
            return _matrix(array, layer, inward)
        if suffix == "weight" and layer.kind == "embedding":
            return np.array(array)
        if array.ndim != 1:
            raise ValueError(f"it must have one axis, not {array.ndim}")
        if suffix == "bias" and layer.kind == "subpixel":
            raise ValueError(
                "it comes before the shuffle, pixel by pixel, and that of `SubpixelConv` after it; "
                'write `Conv` and `pixel_shuffle` instead, of the kind "dense"'
            )
        if suffix == "bias" and layer.kind == "shuffled_grouped":
            groups = layer.groups if inward else len(array) // (layer.groups or 1)
            return np.array(array.reshape(groups or 1, -1).T.reshape(-1))
    except ValueError as error:
        rule = f'does not convert as the {suffix} of a layer of kind "{layer.kind}"'
        fail_entry(function, argument, entry, array, rule, f"{error}")
    return np.array(array)


def _kernel(array: np.ndarray, layer: Layer, inward: bool) -> np.ndarray:
    """A kernel: by way of ours, if the layer holds Flax's layout of a transposed one."""
    groups, kind = layer.groups, cast(SingleKind, layer.kind)  # an entry is one kernel
    flax: dict[str, Any] = {"groups": groups, "transpose_kernel": False}
    if inward:
        kernel = kernel_from("torch", array, kind, groups=groups)
        return kernel_to("flax", kernel, kind, **flax) if _is_flax(layer) else kernel
    kernel = kernel_from("flax", array, kind, **flax) if _is_flax(layer) else array
    return kernel_to("torch", kernel, kind, groups=groups)


def _is_flax(layer: Layer) -> bool:
    return layer.kind == "transposed" and not layer.transpose_kernel


def _matrix(array: np.ndarray, layer: Layer, inward: bool) -> np.ndarray:
    """(O, I) and (I, O); rows of flattened images are in the order (C, *space) and (*space, C)."""
    if array.ndim != 2:
        raise ValueError(f"it must have two axes, not {array.ndim}")
    array = array.T if inward else array
    image = layer.flattened
    if image is not None:
        if prod(image) != array.shape[0]:
            raise ValueError(f"`flattened` {image} holds {prod(image)} numbers, not {len(array)}")
        shape = image if inward else (*image[1:], image[0])
        array = np.moveaxis(array.reshape(*shape, -1), *((0, -2) if inward else (-2, 0)))
        array = array.reshape(prod(image), -1)
    return np.array(array if inward else array.T, order="C")


# ---- names -----------------------------------------------------------------------------------


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _begins(name: str, start: str) -> bool:
    return not start or name == start or name.startswith(f"{start}.")


def _renamed(name: str, pairs: Mapping[str, str]) -> str:
    """`name` with its longest beginning among `pairs` replaced."""
    starts = [start for start in pairs if _begins(name, start)]
    if not starts:
        return name
    start = max(starts, key=len)
    return _join(pairs[start], name[len(start) :].lstrip("."))


def _ours(entry: str, prefix: str, leaf: str, names: Mapping[str, str]) -> str:
    """Our dotted name of PyTorch's `entry`."""
    return names[entry] if entry in names else _join(_renamed(prefix, names), leaf)


def _theirs(function: str, name: str, names: Mapping[str, str]) -> tuple[str, str, str]:
    """PyTorch's entry ("" where the layer is yet to say it), its layer, and our leaf."""
    for entry, ours in names.items():
        if ours == name:
            return entry, entry.rpartition(".")[0], ""
    prefix, _, leaf = name.rpartition(".")
    inverse = {ours: theirs for theirs, ours in names.items()}
    return "", _renamed(prefix, inverse), leaf


# ---- errors ----------------------------------------------------------------------------------


def _hint_of_shape(layer: Layer, found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if layer.kind == "transposed" and sorted(found) == sorted(wanted):
        return f"Is the layer's `transpose_kernel` {not layer.transpose_kernel}?"
    if len(found) == len(wanted) == 1 and wanted[0] and not found[0] % wanted[0]:
        return (
            "Before a pixel shuffle, write `Conv` and `pixel_shuffle`: `SubpixelConv` adds after."
        )
    if layer.kind in SINGLE_KINDS and len(found) == len(wanted) and found[:-2] == wanted[:-2]:
        return "Do both models have the same channels and groups?"
    return "Do both models have the same sizes?"


def _check_mappings(function: str, **arguments: Any) -> None:
    for name, value in arguments.items():
        if not isinstance(value, Mapping) and not (value is None and name in ("names", "like")):
            hint = {
                "state_dict": "Give `model.state_dict()`.",
                "layers": "Give `convjax.interop.layers_of(torch_model)`.",
            }.get(name, "For an NNX model give `nnx.state(model)`.")
            rule = "must be a mapping"
            checks.fail_type(function, name, type(value).__name__, rule, hint)


def _fail_unknown(function: str, entry: str, value: Any, layer: Layer) -> NoReturn:
    hint = f"It has {', '.join(ENTRIES[layer.kind])}."
    rule = f'is no entry of a layer of kind "{layer.kind}"'
    fail_entry(function, "state_dict", entry, value, rule, hint)


def _compare(function: str, found: Any, wanted: Any, argument: str, like: str) -> None:
    """Refuse two sets of names that differ."""
    for missing, rule in (
        (sorted(set(wanted) - set(found)), f"must have what `{like}` has"),
        (sorted(set(found) - set(wanted)), f"must have nothing that `{like}` has not"),
    ):
        if missing:
            shown = missing[:8] + [f"and {len(missing) - 8} more"] * (len(missing) > 8)
            hint = "Is a layer called otherwise? Say so in `names`."
            checks.fail(function, argument, shown, rule, hint)
