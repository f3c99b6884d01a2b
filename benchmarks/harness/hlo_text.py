"""The text of an optimised HLO program, free of names, so that two programs can be compared.

`same_program` is true of two texts that are equal up to names, metadata and source tables.
"""

import re
from collections.abc import Iterable

# Tables of source locations, one entry a line, which newer XLA prints before the computations.
_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_NAME = re.compile(r"%[\w.\-]+")
# A parameter in a computation's signature: `name: f32[2,3]` or `name: (f32[2], s32[])`.
_PARAMETER = re.compile(r"(?<=[(\s])[\w.\-]+: (?=\(|[a-z]+\d*[a-z\d]*\[)")


def _without(text: str, key: str) -> str:
    """`text` without every ``, key={...}``, whose braces may nest and hold quoted strings."""
    pattern = re.compile(rf",?\s*\b{key}={{")
    while found := pattern.search(text):
        depth, quoted, end = 1, False, found.end()
        while depth and end < len(text):
            c = text[end]
            if c == "\\" and quoted:
                end += 1
            elif c == '"':
                quoted = not quoted
            elif not quoted:
                depth += (c == "{") - (c == "}")
            end += 1
        text = text[: found.start()] + text[end:]
    return text


def _program_lines(text: str) -> Iterable[str]:
    """The lines of computations: no module line, tables, comments or empty lines."""
    inside_table = False
    for line in text.splitlines():
        stripped = line.strip()
        if stripped in _TABLES:
            inside_table = True
        elif not stripped:
            inside_table = False
        elif inside_table or stripped.startswith(("HloModule", "//", "#")):
            continue
        else:
            yield stripped


def normalised(text: str) -> str:
    """The program alone: instructions and computations numbered in order of appearance."""
    lines = []
    for line in _program_lines(text):
        line = _without(line, "metadata")
        line = re.sub(r"/\*.*?\*/", "", line)
        lines.append(_PARAMETER.sub("_: ", line))
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return numbers.setdefault(found.group(), f"%{len(numbers)}")

    return _NAME.sub(number, "\n".join(lines))


def same_program(one: str, other: str) -> bool:
    """Whether two texts are the same program up to names and metadata."""
    return normalised(one) == normalised(other)
