"""What Sphinx does with public names: it reads their docstrings and sees that each has a page."""

import inspect
import pathlib
import sys
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

from documentation import names
from documentation.docstrings import convert
from documentation.generate import EXPERIMENTS

log = logging.getLogger(__name__)
_JAX = "https://docs.jax.dev/en/latest/_autosummary/jax.lax.{}.html"


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


def _open_pages(app: Any, doctree: Any) -> None:
    """Links to HTML that `generate.copy` puts into the site open it, instead of downloading it."""
    docs = pathlib.Path(app.srcdir).resolve()
    here = (docs / app.env.docname).parent
    for node in list(doctree.findall(addnodes.download_reference)):
        target = node["reftarget"]
        path = docs / target.lstrip("/") if target.startswith("/") else here / target
        path = path.resolve()
        if path == docs.parent / EXPERIMENTS / "results.json" and path.exists():
            path = path.with_name("index.html")  # `generate.copy` makes it of these numbers
        elif path.suffix != ".html" or not path.is_relative_to(docs) or not path.exists():
            continue
        site = path.relative_to(docs if path.is_relative_to(docs) else docs.parent).as_posix()
        depth = "../" * app.env.docname.count("/")
        node.replace_self(nodes.reference("", "", *node.children, refuri=depth + site))


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
    app.connect("doctree-read", _open_pages, priority=100)  # before downloads are collected
