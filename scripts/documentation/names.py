"""The public names: which modules have a page, and what each of them offers."""

import importlib
import inspect
from types import ModuleType
from typing import Any

import convjax


def modules() -> dict[str, ModuleType]:
    """The public modules by their full name, in the order of the alphabet."""
    exported = [name for name in convjax.__all__ if inspect.ismodule(getattr(convjax, name))]
    names = sorted({*exported, *convjax._ROOMS})
    return {f"convjax.{name}": importlib.import_module(f"convjax.{name}") for name in names}


def offered(module: ModuleType) -> list[str]:
    """What a public module offers: its `__all__`, or the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def everything() -> dict[str, Any]:
    """Every public name, in full, with its value: all of these have a page."""
    found = {f"convjax.{name}": getattr(convjax, name) for name in convjax.__all__}
    for path, module in modules().items():
        found[path] = module
        found |= {f"{path}.{name}": getattr(module, name) for name in offered(module)}
    return found
