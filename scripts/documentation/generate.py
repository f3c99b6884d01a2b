"""Write the pages that are made from the library into ``docs/``, where git ignores them."""

import pathlib

from documentation import kinds, reference

FOLDERS = ("kinds", "reference/modules")


def write(docs: pathlib.Path) -> None:
    """Write each page whose text has changed, and remove pages of what is no longer there."""
    wanted = kinds.pages() | reference.pages()
    for folder in FOLDERS:
        for path in (docs / folder).glob("*.*"):
            if path.relative_to(docs).as_posix() not in wanted:
                path.unlink()
    for name, text in wanted.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
