"""Trees of dicts as flat dicts of paths, and the collections of Flax linen."""

from collections.abc import Iterator, Mapping
from typing import Any

from convjax._core import checks
from convjax._core.aliases import AnyTree
from convjax._core.public import public_with

Tree = dict[Any, Any]


@public_with(variables=checks.mapping, tree=checks.mapping)
def split_collections(tree: AnyTree) -> dict[str, Tree]:
    """A tree from `from_torch` as Flax linen's variables: parameters and running averages.

    Args:
        tree: nested mappings, whose leaves `mean` and `var` are running averages.

    Returns:
        ``{"params": ..., "batch_stats": ...}``; the second only if there are any.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> tree = {"bn": {"scale": np.ones(8), "mean": np.ones(8)}}
        >>> {k: list(v["bn"]) for k, v in interop.split_collections(tree).items()}
        {'params': ['scale'], 'batch_stats': ['mean']}
    """
    parts: dict[str, dict[tuple[Any, ...], Any]] = {"params": {}, "batch_stats": {}}
    for path, value in leaves(tree):
        parts["batch_stats" if path[-1] in ("mean", "var") else "params"][path] = value
    return {name: tree_of(part) for name, part in parts.items() if part}


@public_with(variables=checks.mapping, tree=checks.mapping)
def merge_collections(variables: AnyTree) -> Tree:
    """Flax linen's variables as one tree, for `to_torch`: the inverse of `split_collections`.

    Args:
        variables: ``{"params": ..., "batch_stats": ...}``.

    Returns:
        One tree with the leaves of all.

    Raises:
        ValueError: a leaf in both.

    Example:
        >>> import numpy as np
        >>> from convjax import interop
        >>> variables = {"params": {"bn": {"scale": 1.0}}, "batch_stats": {"bn": {"mean": 0.0}}}
        >>> interop.merge_collections(variables)
        {'bn': {'scale': 1.0, 'mean': 0.0}}
    """
    found: dict[tuple[Any, ...], Any] = {}
    for collection in variables.values():
        for path, value in leaves(collection):
            if path in found:
                rule = "is in two collections"
                checks.fail("merge_collections", "variables", dotted(path), rule)
            found[path] = value
    return tree_of(found)


def dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def leaves(tree: AnyTree, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, key))
        elif value is not None:
            yield (*path, key), value


def tree_of(flat: Mapping[tuple[Any, ...], Any]) -> Tree:
    tree: Tree = {}
    for path, value in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return tree
