"""Keras' variables on the JAX backend, which a layer changes wherever it is called from.

Keras is never imported here: without it nobody holds a variable of it.
"""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from convjax._core import checks

# What a model does outside of JAX: it reads arrays and writes numbers
_LOOPS = {
    "fit": "train",
    "train_on_batch": "train",
    "evaluate": "test",
    "test_on_batch": "test",
    "predict": "predict",
    "predict_on_batch": "predict",
}


def _keras() -> Any:
    """Keras 3 on JAX, if it is there."""
    keras = sys.modules.get("keras")
    if keras is None or not hasattr(keras, "StatelessScope") or keras.config.backend() != "jax":
        return None
    return keras


def check(function: str, fn: Callable[..., Any]) -> None:
    """Refuse the loops of a Keras model."""
    keras, name = _keras(), getattr(fn, "__name__", "")
    if keras and name in _LOOPS and isinstance(getattr(fn, "__self__", None), keras.Model):
        step = f"model.{_LOOPS[name]}_step"
        checks.fail_type(
            function,
            "fn",
            f"model.{name}",
            "must be a function that JAX can trace, not a loop of Keras",
            f"Write `{step} = {function}({step})`, and then call `model.{name}`.",
        )


class _NoScope(contextlib.nullcontext[None]):
    """Without Keras."""

    def values(self) -> list[Any]:
        return []

    def assign(self, values: list[Any]) -> None:
        pass


def scope() -> Any:
    """A context in which variables keep their values, and that gathers the new ones."""
    keras = _keras()
    if keras is None:
        return _NoScope()

    class Scope(keras.StatelessScope):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.updated: dict[int, Any] = {}

        def add_update(self, update: Any) -> None:
            self.updated[id(update[0])] = update[0]
            super().add_update(update)

        def get_current_value(self, variable: Any) -> Any:
            found = super().get_current_value(variable)
            if found is None and self.original_scope is not None:  # such as one of `fit`
                found = self.original_scope.get_current_value(variable)
            return found

        def values(self) -> list[Any]:
            """What the variables that were changed have become."""
            return [self.get_current_value(variable) for variable in self.updated.values()]

        def assign(self, values: list[Any]) -> None:
            """Change them outside."""
            for variable, value in zip(self.updated.values(), values, strict=True):
                variable.assign(value)

    return Scope()
