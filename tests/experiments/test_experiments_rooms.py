"""The rooms of `experiments/`: what they import of the library and of each other."""

import ast
import inspect
from pathlib import Path

import pytest

for package in ("flax", "matplotlib"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

import convjax  # noqa: E402
from experiments import registry  # noqa: E402

FOLDER = Path(inspect.getfile(registry)).parent
TREES = {
    path.relative_to(FOLDER).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in FOLDER.rglob("*.py")
}
# What the experiments use of the library beyond its public names: the small parts of which the
# networks are made, the published tables, the sizes of a kind, and the colours of the pictures.
BEYOND = {
    "convjax.draw.charts",
    "convjax.kinds.Sizes",
    "convjax.models.context.DILATIONS",
    "convjax.models.googlenet.MODULES",
    "convjax.models.parts",
}


def imported(tree: ast.Module) -> set[str]:
    """What a module imports, by its full name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_public(name: str) -> bool:
    """Whether `name` is in `__all__` of a room of the library, or such a room."""
    value, path = convjax, name.split(".")[1:]
    for depth, part in enumerate(path):
        if depth or part not in dir(convjax):
            if part not in getattr(value, "__all__", ()):
                return False
        value = getattr(value, part)
    return True


@pytest.mark.parametrize("name", TREES)
def test_experiments_use_public_names(name):
    for used in imported(TREES[name]):
        if used.split(".")[0] == "convjax" and not any(
            used == more or used.startswith(f"{more}.") for more in BEYOND
        ):
            assert is_public(used), used


def test_what_is_listed_is_used():
    everything = set().union(*map(imported, TREES.values()))
    for more in BEYOND:
        assert any(used == more or used.startswith(f"{more}.") for used in everything), more


def test_rooms_of_the_experiments_have_an_order():
    """`page` and `run` know no experiment; the article's know no finding."""
    for name, tree in TREES.items():
        room, used = name.split("/")[0], imported(tree)
        for other in {"run": ("article", "findings"), "page": ("article", "findings", "run"),
                      "article": ("findings",)}.get(room, ()):  # fmt: skip
            found = {one for one in used if one.startswith(f"experiments.{other}")}
            assert not found, (name, found)


def test_the_readme_names_every_experiment():
    text = (FOLDER / "README.md").read_text("utf-8")
    assert not [name for name in registry.EXPERIMENTS if f"`{name}`" not in text]
