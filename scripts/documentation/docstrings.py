"""Docstrings as this library writes them, made into what Sphinx reads.

Ours are plain text: `name` in single backticks is an argument or a function, and a star is a star,
as in the shape (N, *space, I). Sphinx reads reStructuredText, where both mean something else.
"""

import re
from typing import Any

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
    lines = _SOURCE.sub("", whole).rstrip().split("\n")
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
        paragraph = " ".join(source.group(1).split())
        found += ["", f"**Source:** {as_rst(paragraph, known, module)}", ""]
    return found
