"""The reference's pages: one for each public module, which lists what the module offers."""

from types import ModuleType

from documentation import names


def page(path: str, module: ModuleType) -> str:
    """The page of a public module: its docstring, and a table of its names."""
    lines = [path, "=" * len(path), "", f".. automodule:: {path}", "   :no-members:", ""]
    lines += [f".. currentmodule:: {path}", "", ".. autosummary::", "   :toctree: ../names", ""]
    return "\n".join([*lines, *(f"   {name}" for name in names.offered(module)), ""])


def pages() -> dict[str, str]:
    """File names below ``docs/`` and their text."""
    return {
        f"reference/modules/{path}.rst": page(path, module)
        for path, module in names.modules().items()
    }
