"""Lists and dictionaries among the arguments, which a function may change in place."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from convjax._programs.changes.modules import identical, is_module, leaves

Path = tuple[Any, ...]


class _Part(NamedTuple):
    """A part of the arguments, and what it held before the call."""

    node: Any
    held: Any


@dataclasses.dataclass(frozen=True)
class _Kept:
    """In what a container holds after the call: a part of the arguments before it."""

    path: Path


class Recorder:
    """A call of `fn` on copies of its arguments, and which lists and dictionaries it changes."""

    def __init__(self, function: str, fn: Callable[..., Any]) -> None:
        self.function, self.fn = function, fn
        self.changed: list[tuple[Path, list[Any]]] = []  # where, and the new keys
        self.contents: list[dict[Any, Any]] = []  # by key; of the trace

    def call(self, args: Any, kwargs: Any) -> Any:
        """The result; `changed` and `contents` say what has changed."""
        parts = dict(_parts((args, kwargs)))
        result = self.fn(*args, **kwargs)
        found = self._edits(parts)
        self.changed = [(path, list(new)) for path, new in found.items()]
        self.contents = list(found.values())
        return result

    def _edits(self, parts: dict[Path, _Part]) -> dict[Path, dict[Any, Any]]:
        paths = {id(part.node): path for path, part in parts.items()}
        found = {}
        for path, (node, held) in parts.items():
            if isinstance(node, (dict, list)):
                new, old = _items(node), _items(held)
                if list(new) != list(old) or not identical([*new.values()], [*old.values()]):
                    found[path] = {
                        key: _Kept(paths[id(value)]) if id(value) in paths else value
                        for key, value in new.items()
                    }
            elif not identical(_leaves_or(held, node), held):
                raise ValueError(
                    f"{self.function}: `fn` changes an argument of type {type(node).__name__} in "
                    "place, and what it changes is a copy. Return the new values from `fn`."
                )
        return found

    def apply(self, args: Any, contents: list[dict[Any, Any]]) -> None:
        """Give the caller's lists and dictionaries what they hold after the call."""
        self.contents = []  # no tracer may outlive the trace
        if not self.changed:
            return
        at = {path: part.node for path, part in _parts(args)}
        for (path, keys), new in zip(self.changed, contents, strict=True):
            node = at[path]
            held = [at[v.path] if isinstance(v := new[key], _Kept) else v for key in keys]
            node.clear()
            if isinstance(node, dict):
                node.update(zip(keys, held, strict=True))
            else:
                node.extend(held)


def _parts(node: Any, path: Path = ()) -> Iterator[tuple[Path, _Part]]:
    """Every list, dictionary and other node of a pytree by its path, but NNX's modules."""
    if isinstance(node, (dict, list)):
        yield path, _Part(node, node.copy())
    elif not isinstance(node, tuple):
        if not is_module(node) and not jax.tree_util.all_leaves([node]):
            yield path, _Part(node, leaves(node))
        return
    for key, value in _items(node).items():
        yield from _parts(value, (*path, key))


def _items(node: Any) -> dict[Any, Any]:
    return dict(node.items() if isinstance(node, dict) else enumerate(node))


def _leaves_or(default: list[Any], node: Any) -> list[Any]:
    """The leaves of `node`; `default` where it has become invalid, as Equinox's old states do."""
    try:
        return leaves(node)
    except ValueError:
        return default
