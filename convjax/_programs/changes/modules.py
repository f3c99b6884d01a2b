"""Flax's NNX modules, which a function changes in place: as ``nnx.jit`` does, without Flax's jit.

Flax is never imported here: without it nobody holds a module of it.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax

_TAG = "convjax"  # of NNX's update contexts


def is_module(value: Any) -> bool:
    """Whether `value` is an object that NNX follows: a module, an optimizer, a variable, ..."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, (nnx.Pytree, nnx.Variable))


def leaves(tree: Any) -> list[Any]:
    """The leaves of `tree`, where a module is one."""
    return jax.tree.leaves(tree, is_leaf=is_module)


def opened(fn: Any, args: Any, kwargs: Any) -> tuple[Callable[..., Any], Any, Any]:
    """`fn`, with the modules that it holds among the arguments."""
    if type(fn) is functools.partial:
        return opened(fn.func, (*fn.args, *args), {**fn.keywords, **kwargs})
    if is_module(fn):
        return _call, (fn, *args), kwargs
    if hasattr(fn, "__func__") and is_module(getattr(fn, "__self__", None)):
        return fn.__func__, (fn.__self__, *args), kwargs
    return fn, args, kwargs


def _call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def carry(run: Callable[..., Any], fn: Callable[..., Any], args: Any) -> Any:
    """``fn(*args)`` by `run`: split outside, merge inside, split inside, update outside."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is None:
        return run(fn, args)
    changed = False

    def pure(tree: Any) -> Any:
        nonlocal changed
        inner = nnx.from_tree(tree, ctxtag=_TAG, is_inner=True)
        modules = [leaf for leaf in leaves(inner) if is_module(leaf)]
        before = _split(nnx, modules)
        result = fn(*inner)
        # modules that stay as they are may be of another trace: nothing is written to them
        changed = any(map(is_module, leaves(result))) or not _same(before, _split(nnx, modules))
        return nnx.to_tree((modules, result), ctxtag=_TAG) if changed else result

    with nnx.update_context(_TAG):
        result = run(pure, (nnx.to_tree(args, ctxtag=_TAG),))
        if changed:
            _, result = nnx.from_tree(result, ctxtag=_TAG, is_inner=False)
    return result


def _split(nnx: Any, modules: list[Any]) -> tuple[Any, list[Any]]:
    """The structure of `modules`, and their arrays."""
    with nnx.split_context() as context:
        graph, state = context.split(modules)
    return graph, jax.tree.leaves(state)


def _same(before: tuple[Any, list[Any]], after: tuple[Any, list[Any]]) -> bool:
    return before[0] == after[0] and identical(before[1], after[1])


def identical(before: list[Any], after: list[Any]) -> bool:
    """Whether both hold the same objects."""
    return len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True))
