"""What makes the site: docstrings become reStructuredText, and the strict build can fail."""

import subprocess
import sys

import pytest
from documentation import generate, names
from documentation.docstrings import convert
from documentation.pages import ROOT

KNOWN = {"convjax.conv": None, "convjax.cost.conv": None, "convjax.hold": None}


def converted(text: str, module: str = "convjax") -> str:
    return "\n".join(convert(text.split("\n"), KNOWN, module)).strip()


def test_stars_are_stars_and_literals_stay():
    assert converted("x (N, *space, I) and ``(*K, I)``") == r"x (N, \*space, I) and ``(*K, I)``"
    assert converted("I_ and a|b") == r"I\_ and a\|b"


def test_names_in_backticks():
    assert converted("see `conv`") == "see :py:obj:`~convjax.conv`"
    assert converted("see `conv`", "convjax.cost") == "see :py:obj:`~convjax.cost.conv`"
    assert converted("see `convjax.hold`") == "see :py:obj:`convjax.hold`"
    assert converted("the argument `strides`") == "the argument ``strides``"


def test_examples_stay_as_they_are():
    text = "Say *this*.\n\nExample:\n    >>> 2 * 3 * `4`\n    *6*\n\nAnd *that*."
    kept = "    >>> 2 * 3 * `4`\n    *6*"
    assert converted(text) == f"Say \\*this\\*.\n\nExample:\n{kept}\n\nAnd \\*that\\*."


def test_arguments_that_are_described_together():
    text = "Args:\n    strides, padding,\n        padding_mode: as in `conv`.\n    groups: G."
    joined = "    strides, padding, padding_mode: as in :py:obj:`~convjax.conv`.\n    groups: ``G``"
    assert converted(text) == f"Args:\n{joined}"


def test_the_source_is_one_paragraph():
    text = "One line.\n\nSource: Someone,\n    2016, https://a.org"
    assert converted(text) == "One line.\n\n**Source:** Someone, 2016, https://a.org"


def test_what_is_no_page_is_copied(tmp_path):
    docs, site = tmp_path / "docs", tmp_path / "site"
    for name in ("page.md", "conf.py", "_static/a.css", "article/F1.svg", "explainer/index.html"):
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_text(name)
    assert generate.copy(docs, site) == ["article/F1.svg", "explainer/index.html"]
    assert (site / "article" / "F1.svg").read_text() == "article/F1.svg"
    (docs / "page.html").write_text("another")
    with pytest.raises(ValueError, match=r"docs/page.html would replace the page of page.md"):
        generate.copy(docs, site)


def test_public_names():
    found = names.everything()
    for name in ("convjax.conv", "convjax.nn.Conv", "convjax.cost.Cost", "convjax.kinds.KINDS"):
        assert name in found
    assert not [name for name in found if name.rsplit(".", 1)[1].startswith("_")]


@pytest.mark.slow
def test_the_strict_build_can_fail(tmp_path):
    """A link to nothing, and public names without a page: each is a warning, which is an error."""
    for module in ("sphinx", "myst_parser", "furo", "sphinx_copybutton", "sphinx_design", "flax"):
        pytest.importorskip(module)
    source = tmp_path / "docs"
    (source / "_static").mkdir(parents=True)
    (source / "index.md").write_text(
        "# Page\n\n[nothing](nowhere.md), {py:obj}`convjax.nothing`\n\n"
        "```{eval-rst}\n.. autofunction:: convjax.conv\n```\n"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-c", ROOT / "docs", "-b"]
    done = subprocess.run([*command, "dummy", source, out], capture_output=True, text=True)
    assert done.returncode == 1
    assert "'nowhere.md'" in done.stderr
    assert "py:obj reference target not found: convjax.nothing" in done.stderr
    assert "convjax.conv_transpose is public and has no page" in done.stderr
    assert "convjax.conv is public and has no page" not in done.stderr
