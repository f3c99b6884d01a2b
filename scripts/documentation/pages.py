"""The pages that people wrote, and the code in them."""

import pathlib
import re

from documentation.generate import FOLDERS

ROOT = pathlib.Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MADE = tuple(f"{folder}/" for folder in (*FOLDERS, "reference/names"))  # from the library


def written(root: pathlib.Path = ROOT) -> dict[str, str]:
    """The README and every page below ``docs/`` that is in the repository, by its path."""
    docs = root / "docs"
    paths = [root / "README.md"]
    for path in sorted(docs.rglob("*.md")):
        if not path.relative_to(docs).as_posix().startswith(_MADE):
            paths.append(path)
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}


def blocks(text: str) -> list[str]:
    """The blocks of Python in a page, in order."""
    return _BLOCK.findall(text)
