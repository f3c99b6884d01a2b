"""Weights that a PyTorch checkpoint holds in parts: weight norm, spectral norm, pruning masks.

``torch.nn.utils.weight_norm`` keeps a length and a direction in place of each weight,
``spectral_norm`` a matrix and the singular vectors by which it is divided, ``prune`` a mask. Old
and new versions of PyTorch name the parts differently. `plain` puts them together again.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from convjax.interop.arrays import to_numpy
from convjax.interop.layers import Layer, fail_entry

_NEW = "parametrizations"
_OLD = [f"weight_{end}" for end in ("g", "v", "u", "orig", "mask")] + ["bias_orig", "bias_mask"]
_REMOVE_OLD = {  # what undoes it, by the ending of a part's name
    "g": "torch.nn.utils.remove_weight_norm",
    "u": "torch.nn.utils.remove_spectral_norm",
    "orig": "torch.nn.utils.remove_spectral_norm",
    "mask": "from torch.nn.utils import prune; prune.remove",
}


class _Form(NamedTuple):
    """One way of holding a tensor `name` of a layer in parts."""

    parts: tuple[str, ...]  # suffixes of the entries, {} being the tensor's name
    join: Callable[..., np.ndarray]  # of the parts, and of whether the layer is transposed


def _weight_norm(length: np.ndarray, direction: np.ndarray, transposed: bool) -> np.ndarray:
    """``g * v / |v|``, norms over the axes on which g has extent 1 (all of them if it has none)."""
    if length.ndim == 0:
        length = length.reshape((1,) * direction.ndim)
    if length.ndim != direction.ndim or any(
        g not in (1, v) for g, v in zip(length.shape, direction.shape, strict=True)
    ):
        raise ValueError(
            f"its length has shape {length.shape}, and its direction {direction.shape}: they must "
            "agree on one axis, and the length must have extent 1 on the others"
        )
    v = _wide(direction)
    axes = tuple(axis for axis, extent in enumerate(length.shape) if extent == 1)
    norm = np.sqrt((np.abs(v) ** 2).sum(axes, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):  # PyTorch, too, makes NaN of zeros
        return (v * (_wide(length) / norm)).astype(direction.dtype)


def _spectral_norm(
    weight: np.ndarray, u: np.ndarray, v: np.ndarray, transposed: bool
) -> np.ndarray:
    """``W / (u . W v)``, W as a matrix whose rows are the outputs: axis 1 of a transposed kernel.

    It is the weight of a model in evaluation: in training each step improves u and v first.
    """
    fits = [
        axis
        for axis, rows in enumerate(weight.shape)
        if u.shape == (rows,) and v.shape == (weight.size // max(rows, 1),)
    ]
    if not fits:
        raise ValueError(
            f"its singular vectors have shapes {u.shape} and {v.shape}, and the weight "
            f"{weight.shape}: no axis of it gives such a matrix"
        )
    rows = 1 if transposed and 1 in fits else fits[0]
    matrix = np.moveaxis(_wide(weight), rows, 0).reshape(len(u), -1)
    return (_wide(weight) / (_wide(u) @ (matrix @ _wide(v)))).astype(weight.dtype)


def _pruned(weight: np.ndarray, mask: np.ndarray, transposed: bool) -> np.ndarray:
    if weight.shape != mask.shape:
        raise ValueError(f"its mask has shape {mask.shape}, and the weight {weight.shape}")
    return (weight * mask).astype(weight.dtype)


_FORMS = (
    _Form(("{}_g", "{}_v"), _weight_norm),
    _Form((f"{_NEW}.{{}}.original0", f"{_NEW}.{{}}.original1"), _weight_norm),
    _Form(("{}_orig", "{}_u", "{}_v"), _spectral_norm),
    _Form(
        (f"{_NEW}.{{}}.original", f"{_NEW}.{{}}.0._u", f"{_NEW}.{{}}.0._v"),
        _spectral_norm,
    ),
    _Form(("{}_orig", "{}_mask"), _pruned),
)


def plain(
    function: str, state_dict: Mapping[str, Any], layer_of: Callable[[str], Layer | None]
) -> dict[str, Any]:
    """`state_dict` with one entry for each tensor that it holds in parts, in the first one's place.

    Args:
        layer_of: what a layer is, by its name; None where that is not known.
    """
    joined: dict[str, Any] = {}
    taken: dict[str, str] = {}  # part -> the entry that it belongs to
    for entry in state_dict:
        for prefix, name, form in _beginnings(entry):
            parts = [_join(prefix, part.format(name)) for part in form.parts]
            if not all(part in state_dict and part not in taken for part in parts):
                continue
            if _is_left_over(state_dict, prefix, name, parts):
                continue
            whole = _join(prefix, name)
            if whole in state_dict:
                fail_entry(
                    function,
                    "state_dict",
                    entry,
                    state_dict[entry],
                    f"is a part of {whole!r}, which is in `state_dict` as well",
                    "Drop one of them.",
                )
            layer = layer_of(prefix)
            arrays = [to_numpy(state_dict[part]) for part in parts]
            try:
                array = form.join(*arrays, transposed=bool(layer and layer.kind == "transposed"))
            except ValueError as error:
                rule = f"does not make {whole!r} together with {', '.join(map(repr, parts[1:]))}"
                fail_entry(function, "state_dict", entry, arrays[0], rule, f"{error}.")
            joined[whole] = array
            taken |= dict.fromkeys(parts, whole)
            break
    found: dict[str, Any] = {}
    for entry, value in state_dict.items():
        whole = taken.get(entry, entry)
        found[whole] = joined.get(whole, value)
    return found


def is_part(entry: str) -> bool:
    """Whether `entry` has a name that PyTorch gives to a part of a tensor."""
    return f".{_NEW}." in f".{entry}" or entry.rpartition(".")[2] in _OLD


def fail_part(function: str, argument: str, entry: str, value: Any) -> NoReturn:
    """Refuse a part of a tensor that cannot be put together, or is to be filled."""
    _, new, after = f".{entry}".rpartition(f".{_NEW}.")
    if new:
        name = after.split(".")[0]
        remove = f"torch.nn.utils.parametrize.remove_parametrizations(layer, {name!r})"
    else:
        name, _, end = entry.rpartition(".")[2].rpartition("_")
        remove = f"{_REMOVE_OLD.get(end, _REMOVE_OLD['g'])}(layer, {name!r})"
    rule = f"is a part of the tensor {name!r}"
    if argument == "like":
        rule += f", which `{function}` makes whole"
    else:
        rule += (
            ", whose other parts are not there, or not known (those of weight norm, spectral norm "
            "and pruning masks are)"
        )
    hint = (
        f"Undo parametrizations, such as weight norm, in PyTorch first: `{remove}`, and then take "
        "the state dict."
    )
    fail_entry(function, argument, entry, value, rule, hint)


def _beginnings(entry: str) -> list[tuple[str, str, _Form]]:
    """The layer, the tensor's name and the form of which `entry` may be the first part."""
    found = []
    for form in _FORMS:
        before, after = form.parts[0].split("{}")
        if not entry.endswith(after):
            continue
        prefix, _, name = entry[: len(entry) - len(after)].rpartition(".")
        if before:  # "parametrizations."
            start = before.rstrip(".")
            if prefix != start and not prefix.endswith(f".{start}"):
                continue
            prefix = prefix[: -len(start)].rstrip(".")
        if name:
            found.append((prefix, name, form))
    return found


def _is_left_over(state_dict: Mapping[str, Any], prefix: str, name: str, parts: list[str]) -> bool:
    """Whether other entries say that more has been done to the tensor than `parts` tell."""
    start = _join(prefix, _NEW, name) + "."
    return any(entry.startswith(start) and entry not in parts for entry in state_dict)


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)
