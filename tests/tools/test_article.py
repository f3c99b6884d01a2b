"""The pages of the article: their sessions run, their figures exist, and the numbers are right."""

import doctest
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

for package in ("flax", "sklearn", "PIL"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

FOLDER = Path(__file__).parents[2] / "docs" / "article"
PAGES = sorted(FOLDER.glob("[0-9][0-9]-*.md"))
SESSION = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^]]*)\]\(pictures/F(\d\d)\.svg\)")
# Links to pages are Markdown, those to whole HTML files are HTML: the site's builder keeps them.
LINK = re.compile(r"(?:\]\(|href=\")(?!https?:)([^)#\"]+)")
SLOW = {"F19", "F42", "F43", "F44"}  # seconds each: they run networks


@pytest.fixture(scope="module")
def figures():
    sys.path.insert(0, str(FOLDER))
    try:
        from figures import FIGURES

        yield FIGURES
    finally:
        sys.path.remove(str(FOLDER))


def test_twelve_sections_in_order():
    assert [int(page.name[:2]) for page in PAGES] == list(range(1, 13))
    index = (FOLDER / "index.md").read_text()
    assert [name for name in re.findall(r"\((\d\d-[a-z0-9-]+\.md)\)", index)] == [
        page.name for page in PAGES
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_exercises(page):
    text = page.read_text()
    assert "## Exercises" in text and "<details><summary>Answers</summary>" in text


@pytest.mark.parametrize("page", [*PAGES, FOLDER / "drawing.md"], ids=lambda page: page.stem)
def test_answers(page):
    """The sessions of a page, one after the other, print what it says."""
    text = page.read_text()
    session = "\n".join(SESSION.findall(text))
    test = doctest.DocTestParser().get_doctest(session, {}, page.name, str(page), 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said: list[str] = []
    runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_all_figures_are_on_the_pages(figures):
    """F1 to F46, each once, in order, with the alternative text of a sentence."""
    found = [match for page in PAGES for match in PICTURE.findall(page.read_text())]
    assert [int(number) for _, number in found] == list(range(1, 48))
    assert list(figures) == [f"F{n}" for n in range(1, 48)]
    for words, _ in found:
        assert words.endswith(".") and len(words) > 10


def test_links(figures):
    """Every link of the pages leads to a page, the explainer, or a picture that is built."""
    for page in [*PAGES, FOLDER / "index.md", FOLDER / "drawing.md"]:
        for target in LINK.findall(page.read_text()):
            picture = re.fullmatch(r"pictures/F(\d\d)\.(svg|html)", target)
            if picture:
                figure = figures[f"F{int(picture[1])}"]
                assert picture[2] == "svg" or figure.moving, target
            else:
                assert (page.parent / target).exists(), (page.name, target)
        players = set(re.findall(r'href="pictures/F(\d\d)\.html"', page.read_text()))
        shown = {number for _, number in PICTURE.findall(page.read_text())}
        assert players == {n for n in shown if figures[f"F{int(n)}"].moving}


def drawn(figure):
    """The figure's SVG, and its drawing."""
    drawing = figure.draw()
    svg = drawing.svg(animated=figure.moving)
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg") and len(svg) < 400_000
    named = {element.get("id"): element.text for element in root.iter() if element.get("id")}
    title, words = (named[name] for name in root.get("aria-labelledby").split())
    assert title and words
    return drawing, svg


@pytest.mark.parametrize("number", [f"F{n}" for n in range(1, 48) if f"F{n}" not in SLOW])
def test_figure(number, figures):
    drawing, svg = drawn(figures[number])
    assert figures[number].moving == (drawing.steps > 1)
    for text in NUMBERS.get(number, ()):
        assert text in svg, text


# What a reader checks each picture by.
NUMBERS = {
    "F9": ["7×7×3", "5×5×1"],
    "F16": ["2×2 → 5×5"],
    "F17": ["4×16, 36 not zero"],
    "F18": ["rank 4: it cannot be the unit matrix"],
    "F21": ["uneven overlap inside (1 to 2)", "uneven overlap inside (2 to 3)"],
    "F25": ["sees 9×9", "3×3, then 7×7, then 15×15"],
    "F27": ["9 positions × 9 = 81 multiplications"],
    "F28": ["45 + 27 = 72"],
    "F31": ["86,400 MACs"],
    "F35": ["411 weights, 10,275 MACs", "675 MACs", "9,600 MACs"],
    "F38": ["724,406,816 MACs"],
    "F39": ["18,432 weights"],
    "F40": ["9,216 weights"],
    "F45": ["27 of 81 pairs are connected"],
    "F46": ["81 of 81 pairs are connected"],
}


def test_convolution_of_functions(figures):
    """F2 and F3 against the integrals: a box with a decay, in closed form."""
    times, _ = figures["F2"].draw().details
    (_, values, places), *_ = figures["F3"].draw().details
    exact = np.where(places <= 1, 1 - np.exp(-1.5 * places), np.exp(-1.5 * (places - 1)) * 0.7769)
    exact = np.where(places < 0, 0, exact / 1.5)
    inside = places < 2  # where the decay has not been cut off
    # The sum over samples errs by at most the height of one, times their distance of 0.05.
    assert np.abs(values - exact)[inside].max() < 0.0501
    assert len(times) > 10


@pytest.mark.slow
@pytest.mark.parametrize("number", sorted(SLOW))
def test_slow_figure(number, figures):
    drawing, _ = drawn(figures[number])
    if number == "F43":
        scores = [score for _, score in drawing.details]
        assert scores[0] < 0.1 and min(scores[1:]) > 0.15


@pytest.mark.slow
def test_build(tmp_path):
    def build(*words):
        command = [sys.executable, FOLDER / "build.py", "--folder", tmp_path, *words]
        return subprocess.run(command, capture_output=True, text=True)

    assert build("F4", "F9").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["F04.html", "F04.svg", "F09.svg"]
    wrong = build("F99")
    assert wrong.returncode == 2 and "no figure is named F99" in wrong.stderr


SETTINGS = re.compile(r'href="\.\./explainer/index\.html#([^"]+)"')


def test_links_to_settings_name_knobs():
    """The explainer reads each setting that a page links to."""
    view = (FOLDER.parent / "explainer" / "view.js").read_text()
    knobs = set(re.findall(r"^  (\w+): \['", view, re.MULTILINE))
    knobs |= set(re.findall(r" (\w+): \['[A-Z][^']*', -?\d", view))
    found = [s for page in PAGES for s in SETTINGS.findall(page.read_text())]
    assert len(found) >= 10
    for settings in found:
        for pair in settings.split("&amp;"):
            name, value = pair.split("=")
            assert name in knobs and value, pair
