"""Write the pages that are made from the library into ``docs/``.

The pages of the kinds are in the repository, so that they can be read there, and a test compares
them. Git ignores the pages of the reference, which mean nothing to a reader without Sphinx.
"""

import pathlib
import re
import shutil

from documentation import kinds, reference, types
from experiments.page import stored

FOLDERS = ("kinds", "reference/modules")
# A page that the site makes from a file of the repository, at the path of that file's folder.
EXPERIMENTS = pathlib.Path("experiments") / "results"
_TABLE = re.compile("(<!-- kinds -->\n).*?(<!-- end of kinds -->)", re.DOTALL)


def _put(path: pathlib.Path, text: str) -> None:
    """Write a file, unless it has this text: Sphinx reads again what has changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def write(docs: pathlib.Path) -> None:
    """Write every page, and remove pages of what is no longer there."""
    wanted = kinds.pages() | reference.pages() | types.pages()
    for folder in FOLDERS:
        for path in (docs / folder).glob("*.*"):
            if path.relative_to(docs).as_posix() not in wanted:
                path.unlink()
    for name, text in wanted.items():
        _put(docs / name, text)
    page = docs / "kinds.md"
    text = page.read_text(encoding="utf-8")
    _put(page, _TABLE.sub(lambda found: found[1] + kinds.table() + found[2], text))


def copy(docs: pathlib.Path, site: pathlib.Path) -> list[str]:
    """Copy into the site what Sphinx does not make: pictures, and HTML that is complete by itself.

    Links between such files then work as they do in the repository.
    """
    copied = []
    numbers = docs.parent / EXPERIMENTS
    if (numbers / "results.json").exists():
        stored.write(numbers, site / EXPERIMENTS / "index.html")
        copied.append((EXPERIMENTS / "index.html").as_posix())
    for path in sorted(docs.rglob("*")):
        inside = path.relative_to(docs)
        hidden = any(part.startswith(("_", ".")) for part in inside.parts)
        if path.is_file() and not hidden and path.suffix not in (".md", ".rst", ".py"):
            if path.suffix == ".html" and path.with_suffix(".md").exists():
                page = f"{inside.stem}.md"
                raise ValueError(f"docs/{inside} would replace the page of {page}: rename it")
            (site / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, site / inside)
            copied.append(inside.as_posix())
    return copied
