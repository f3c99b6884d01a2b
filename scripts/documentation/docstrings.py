"""Docstrings as this library writes them, made into what Sphinx reads.

Ours are plain text: `name` in single backticks is an argument or a function, and a star is a star,
as in the shape (N, *space, I). Sphinx reads reStructuredtext, where both mean something else.
"""

import inspect
import re
import sys
from typing import Any

from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

from documentation import names

log = logging.getLogger(__name__)

# What stays as it is: literals in double backticks, and roles such as :func:`name`.
_LITERAL = re.compile(r"(``.+?``|:[a-z:]+:`[^`]+`)", re.DOTALL)
_NAME = re.compile(r"`([^`\n]+)`")
_SPECIAL = re.compile(r"([*|]|(?<=\w)_(?!\w))")
# Several arguments that are described together, over two lines.
_NAMES = re.compile(r"^( {4}(?:\w+, )*\w+,)\n {8}((?:\w+, )*\w+:)", re.MULTILINE)
# A description that is one letter, such as "G.", would be read as the start of a list.
_LETTER = re.compile(r"^( +[\w, ]+: )([A-Z])\.$", re.MULTILINE)
# The last paragraph, over as many lines as it has.
_SOURCE = re.compile(r"^Source: (.*(?:\n +.*)*)", re.MULTILINE)
_JAX = "https://docs.jax.dev/en/latest/_autosummary/jax.lax.{}.html"


def _link(match: re.Match[str], known: dict[str, Any], module: str) -> str:
    """A link if the name is public here (in `module`, or at the top), else a literal."""
    name = match.group(1)
    for full in (name, f"{module}.{name}", f"convjax.{name}"):
        if full in known:
            return f":py:obj:`~{full}`" if full != name else f":py:obj:`{full}`"
    return f"``{name}``"


def as_rst(text: str, known: dict[str, Any], module: str) -> str:
    """One piece of running text (no doctest in it)."""
    pieces = _LITERAL.split(text)
    for index in range(0, len(pieces), 2):  # between the literals
        parts = re.split(r"(`[^`\n]+`)", pieces[index])
        parts = [
            _NAME.sub(lambda m: _link(m, known, module), part)
            if part.startswith("`")
            else _SPECIAL.sub(r"\\\1", part)
            for part in parts
        ]
        pieces[index] = "".join(parts)
    return "".join(pieces)


def convert(lines: list[str], known: dict[str, Any], module: str) -> list[str]:
    """A docstring's lines: its examples as they are, the rest made into reStructuredText."""
    whole = _NAMES.sub(r"\1 \2", "\n".join(lines))
    whole = _LETTER.sub(r"\1``\2``", whole)
    source = _SOURCE.search(whole)
    whole = _SOURCE.sub("", whole)
    lines = whole.split("\n")
    found: list[str] = []
    text: list[str] = []

    def flush() -> None:
        if text:
            found.extend(as_rst("\n".join(text), known, module).split("\n"))
            text.clear()

    inside = False
    for line in lines:
        inside = line.lstrip().startswith(">>>") or (inside and bool(line.strip()))
        if inside or not line.strip():
            flush()
            found.append(line)
        else:
            text.append(line)
    flush()
    if source:
        text.append(" ".join(source.group(1).split()))
        found += ["", f"**Source:** {as_rst(text[0], known, module)}", ""]
    return found


def _lax(name: str) -> list[str]:
    short = name.rsplit(".", 1)[1]
    return [
        f"``jax.lax.{short}``, executed by this library.",
        "",
        "The arguments, the results and the errors are those of "
        f"`jax.lax.{short} <{_JAX.format(short)}>`__.",
    ]


def _comment(name: str, value: Any) -> list[str]:
    """The ``#:`` comment above the definition of a constant, wherever that is in the package."""
    module, short = name.rsplit(".", 1)
    for path, found in list(sys.modules.items()):
        if f"{path}.".startswith(f"{module}.") and getattr(found, short, None) is value:
            comments = ModuleAnalyzer.for_module(path).find_attr_docs()
            if ("", short) in comments:
                return comments["", short]
    return []


def connect(app: Any) -> None:
    """Have Sphinx read every docstring through `convert`, before napoleon does; see to pages."""
    known = names.everything()

    def process(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
        if str(getattr(value, "__module__", "")).startswith("jax.") and inspect.isfunction(value):
            lines[:] = _lax(name)
            return
        if what == "data" and name in known:
            lines[:] = _comment(name, value)
        if name in known and not any(line.strip() for line in lines):
            log.warning("%s is public and has no docstring", name)
        module = name if what == "module" else name.rsplit(".", 1)[0]
        lines[:] = convert(lines, known, module)
        if what in ("attribute", "property"):  # napoleon takes "a: b" in a first line for a type
            lines[:1] = lines[0].replace(": ", ":\n", 1).split("\n")

    def check(app: Any, env: Any) -> None:
        there = env.get_domain("py").objects
        for name in sorted(known.keys() - there.keys()):
            log.warning("%s is public and has no page: docs/reference/index.md lists names", name)

    app.connect("autodoc-process-docstring", process, priority=100)
    app.connect("env-check-consistency", check)
