"""Docstrings, comments and documentation keep to words that readers outside of the project know."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Words that the project once used in a sense of its own, or in place of a common one.
PRIVATE = {
    "alone": "only",
    "apart": "separately, or the distance",
    "besides": "also, except, or in addition to",
    "likewise": "the same for",
    "mend": "hint",
    "mended": "repaired",
    "met": "read, or found",
    "unasked": "by default",
}
FOUND = re.compile(rf"\b({'|'.join(PRIVATE)})\b", re.IGNORECASE)
SOURCES = sorted((ROOT / "convjax").rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def prose(source: str) -> str:
    """Docstrings and comments of a Python file."""
    found = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            found.append(ast.get_docstring(node) or "")
    return "\n".join(found)


def private(text: str) -> dict[str, str]:
    """Private words in `text`, code in backticks left out, each with a word to use."""
    text = re.sub(r"(`+).*?\1", "", text, flags=re.DOTALL)
    return {word.lower(): PRIVATE[word.lower()] for word in FOUND.findall(text)}


def test_the_search_finds_private_words():
    source = (
        '"""What is met, apart."""\n\n\ndef f():\n    """`met`: x."""\n    return 1  # its mend\n'
    )
    assert set(private(prose(source))) == {"met", "apart", "mend"}
    assert not private("A method takes the `alone` of metrics; whatever mends it.")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_and_comments_use_common_words(path):
    assert not private(prose(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_use_common_words(path):
    assert not private(path.read_text(encoding="utf-8"))
