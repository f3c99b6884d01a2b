"""How Sphinx builds the site. `./scripts/docs` runs it, strictly: a warning is an error."""

import logging
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "scripts")]

from documentation import generate, hooks  # noqa: E402

import convjax  # noqa: E402
from convjax._core import aliases, options  # noqa: E402

project = "convjax"
author = "The convjax authors"
project_copyright = "2026, the convjax authors"
version = release = convjax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_templates", "_static", "Thumbs.db", ".DS_Store"]
templates_path = ["_templates"]
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes_action = "D"  # dashes only: "SAME" is code
python_maximum_signature_line_length = 80

# ---- the reference: a page for every public name, from its docstring -----------------------------
autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints_format = "short"
# Sphinx would read defaults from the source, where `**options` stands for most of them.
autodoc_preserve_defaults = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Source", "Shapes", "Units", ("Attributes", "params_style")]

# ---- strict: every name that a page refers to must exist -----------------------------------------
nitpicky = True
# What other packages define has no page here, and the build asks no network for their lists of
# names. A type of ours in a signature may be one that nobody needs to name: it has no page either.
nitpick_ignore_regex = [
    (r"py:.*", r"(jax|jaxlib|numpy|np|flax|nnx|nn|typing|collections|fractions|inspect)(\..*)?"),
    (r"py:.*", r"(Any|Array|BCOO|ArrayLike|Callable|Fraction|Iterable|Iterator|Literal|Mapping)"),
    (r"py:.*", r"(Module|NamedTuple|Param|Rngs|Sequence|Self|Shape|Variable|optional)"),
    (r"py:class", r"convjax\..*|\w+Options|P|SingleKind|StagedKind|Jitted"),
    (r"py:class", "|".join(name for name in (*vars(aliases), *vars(options)) if name[0].isupper())),
]
# A page may show a picture that a command draws (it says which); the text is built without it.
suppress_warnings = ["image.not_readable"]

# ---- looks ---------------------------------------------------------------------------------------
html_theme = "furo"
html_title = f"convjax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"


class EmptyPattern(logging.Filter):
    """Sections of the contents name pages by patterns, and a pattern may match no page yet."""

    def filter(self, record):
        return "didn't match any documents" not in str(record.msg)


def copy(app, error):
    if not error and app.builder.name == "html":
        generate.copy(HERE, pathlib.Path(app.outdir))


def setup(app):
    """Write the pages that are made from the library, and read its docstrings as plain text."""
    for handler in logging.getLogger("sphinx").handlers:
        handler.filters.insert(0, EmptyPattern())  # before the filter that counts warnings
    generate.write(HERE)
    hooks.connect(app)
    app.connect("build-finished", copy)
