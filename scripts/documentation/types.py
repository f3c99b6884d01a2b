"""The page of the types that signatures name, from `convjax._core.aliases` itself."""

import ast
import inspect
import re
from collections import Counter, defaultdict
from typing import Any, NamedTuple

from convjax._core import aliases, options
from documentation import names

PATH = "reference/types.md"
# An argument of `conv` that has the type, and values as one writes them; a test calls `conv`.
EXAMPLES = {
    "Ints": ("strides", ("2", "(2, 1)")),
    "Padding": ("padding", ('"SAME"', "1", "(1, 2)", "((1, 0), (2, 2))")),
    "PaddingMode": ("padding_mode", ('"reflect"', '("wrap", "constant")')),
    "DimensionNumbers": (
        "dimension_numbers",
        ("None", '("NHWC", "HWIO", "NHWC")', '("NHWC", "HWIO", "NCHW")'),
    ),
    "Precision": (
        "precision",
        ("None", '"highest"', "jax.lax.Precision.HIGH", '("default", "highest")'),
    ),
    "ResultType": ("preferred_element_type", ("None", '"float32"', "jnp.float32")),
    "Algorithm": ("algorithm", ("None", '"direct"', '("direct", None, "matmul")')),
}
_HEAD = """\
# Types of arguments

Signatures in this reference name the types of their arguments. This page says what each type
accepts. The names are for readers and for type checkers: no program needs to import them.
"""
_PATHS = {
    "np": "numpy",
    "lax": "jax.lax",
    "DTypeLike": "jax.typing.DTypeLike",
    "NamedSharding": "jax.sharding.NamedSharding",
    "PartitionSpec": "jax.sharding.PartitionSpec",
}


class Alias(NamedTuple):
    """A type: what it is for, and what it accepts."""

    meaning: str
    accepts: list[str]


def types() -> dict[str, Alias]:
    """Every type that `convjax._core.aliases` declares, by its name, with the comment above it."""
    source = inspect.getsource(aliases)
    lines, found = source.splitlines(), {}
    body = ast.parse(source).body
    known = {*_annotated(body), *(node.name for node in body if isinstance(node, ast.ClassDef))}
    for node in body:
        if isinstance(node, ast.AnnAssign) and node.value:
            first = node.lineno - 1
            while lines[first - 1].startswith("#: "):
                first -= 1
            said = " ".join(line.removeprefix("#: ") for line in lines[first : node.lineno - 1])
            accepts = [_shown(member, known) for member in _members(node.value)]
            found[ast.unparse(node.target)] = Alias(said, accepts)
        elif isinstance(node, ast.ClassDef):
            keys = [
                f"the key `{key}`: {_shown(type, known)}"
                for key, type in _annotated(node.body).items()
            ]
            found[node.name] = Alias(inspect.cleandoc(ast.get_docstring(node) or ""), keys)
    return found


def _annotated(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """The names that have an annotation, and their annotations."""
    return {ast.unparse(n.target): n.annotation for n in body if isinstance(n, ast.AnnAssign)}


def _members(node: ast.expr) -> list[ast.expr]:
    """The members of a union."""
    if isinstance(node, ast.BinOp):
        return [*_members(node.left), *_members(node.right)]
    return [node]


def _shown(node: ast.expr, known: set[str]) -> str:
    """One member: its words, a link to its place on the page, or the type in full."""
    text = ast.unparse(node)
    if text.startswith("Literal["):
        *words, last = (f'`"{word}"`' for word in re.findall(r"'(\w+)'", text))
        return f"{', '.join(words)} or {last}"
    if text in known:
        return f"[{text}](#{text.lower()})"
    text = re.sub(r"(?<![\w.])(\w+)", lambda found: _PATHS.get(found[1], found[1]), text)
    return f"`{text}`"


def arguments() -> dict[str, list[str]]:
    """The arguments of public functions and classes that have each of the types.

    Two names of one type cannot be told from each other: they are left out.
    """
    values = {name: getattr(aliases, name) for name in aliases.__annotations__}
    times = Counter(values.values())
    by_type: dict[Any, str] = {}
    for name, value in values.items():
        if times[value] == 1:
            by_type[value] = name
            by_type.setdefault(value | None, name)
    found: dict[str, set[str]] = defaultdict(set)
    for value in names.everything().values():
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        try:
            taken = inspect.signature(value).parameters.values()
        except ValueError:  # a class of which Python writes the constructor, in C
            continue
        for parameter in taken:
            annotation = parameter.annotation
            if isinstance(annotation, options.Named):
                annotation = annotation.type
            if annotation in by_type:
                found[by_type[annotation]].add(parameter.name)
    return {name: sorted(taken) for name, taken in found.items()}


def page() -> str:
    """What every type accepts, which arguments have it, and examples."""
    taken, lines = arguments(), [_HEAD]
    for name, alias in types().items():
        lines += [f"## {name}", "", re.sub(r"``(.*?)``", r"`\1`", alias.meaning), ""]
        if alias.accepts:
            lines += ["It accepts:", "", *(f"- {one}" for one in alias.accepts), ""]
        if name in taken:
            lines += [f"Arguments: {', '.join(f'`{one}`' for one in taken[name])}.", ""]
        if name in EXAMPLES:
            argument, shown = EXAMPLES[name]
            lines += [f"Examples: {', '.join(f'`{argument}={value}`' for value in shown)}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def pages() -> dict[str, str]:
    """The file name below ``docs/`` and its text."""
    return {PATH: page()}
