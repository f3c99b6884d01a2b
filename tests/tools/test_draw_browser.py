"""Players and the explainer in a headless Chromium: they move, and the knobs change the numbers."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import browser
import numpy as np
import pytest
from test_explainer import priced, random_settings

from convjax import draw
from convjax.kinds import KINDS

ROOT = Path(__file__).parents[2]
EXPLAINER = ROOT / "docs" / "explainer" / "index.html"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.found() is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The text of axe-core, from npm; without it, or npm, the test is skipped."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, which fetches axe-core")
    done = subprocess.run(
        ["npm", "pack", "--silent", "axe-core@4"], cwd=folder, capture_output=True, timeout=120
    )
    found = list(folder.glob("*.tgz"))
    if done.returncode or not found:
        pytest.skip("npm reaches no registry here")
    with tarfile.open(found[0]) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.fixture
def player(tmp_path):
    drawing = draw.arithmetic("transposed", (2, 2), 3, strides=2, padding="VALID")
    return drawing, drawing.save(tmp_path / "player.html", seconds=0.2)


def words(chromium):
    return chromium.js("document.getElementById('words').textContent")


def test_a_player_moves(chromium, player):
    drawing, path = player
    frames = drawing.scene.frames
    chromium.open(path)
    assert words(chromium) == frames[drawing.scene.still].words
    taps = "document.querySelectorAll('#layer .cj-tap').length"
    assert chromium.js(taps) == 2 * drawing.details.depends[0][drawing.scene.still].sum()
    chromium.js("document.activeElement.blur()")
    chromium.key("Home")
    assert words(chromium) == frames[0].words
    chromium.key("ArrowRight")
    assert words(chromium) == frames[1].words
    chromium.key("ArrowLeft")
    chromium.key("ArrowLeft")
    assert words(chromium) == frames[-1].words
    chromium.js(
        "{const s = document.getElementById('step'); s.value = 7;"
        "s.dispatchEvent(new Event('input'))}"
    )
    assert words(chromium) == frames[7].words
    assert chromium.js("document.getElementById('count').textContent") == f"8 / {drawing.steps}"
    chromium.key(" ", "Space", " ")
    chromium.wait(f"document.getElementById('words').textContent === {frames[9].words!r}")
    chromium.key(" ", "Space", " ")
    assert chromium.js("document.getElementById('play').textContent") == "Play"
    assert chromium.faults() == []


def test_cells_of_a_player_answer(chromium, player):
    drawing, path = player
    chromium.open(path)
    event = "new MouseEvent('click', {bubbles: true})"
    click = "document.querySelector('[data-k=\"%s\"]').dispatchEvent(" + event + ")"
    chromium.js(click % "1.24")
    assert words(chromium) == drawing.scene.frames[24].words
    chromium.js(click % "0.3")
    lit = "[...document.querySelectorAll('.lit')].map(e => e.dataset.k)"
    fed = np.flatnonzero(drawing.details.depends[0][:, 3])
    assert chromium.js(lit) == [f"1.{o}" for o in fed]
    assert "feeds 9 of the output cells" in words(chromium)
    assert chromium.faults() == []


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("kind", ["dense", "grouped", "depthwise_separable", "subpixel"])
def test_players_fit(chromium, tmp_path, kind, width):
    for rank, size in ((1, 5), (2, (4, 4)), (3, (2, 3, 3))):
        path = draw.arithmetic(kind, size, 2).save(tmp_path / f"{rank}.html")
        chromium.open(path, width)
        assert chromium.overflow() <= 0
        assert chromium.faults() == []


def test_animated_svg_moves(chromium, tmp_path):
    drawing = draw.arithmetic("dense", 4, 3)
    drawing.save(tmp_path / "moving.svg", animated=True, seconds=0.2)
    page = tmp_path / "page.html"
    page.write_text((tmp_path / "moving.svg").read_text())
    chromium.open(page)
    shown = (
        "[...document.querySelectorAll('.cj-step')].findIndex("
        "e => getComputedStyle(e).visibility === 'visible')"
    )
    seen = set()
    for _ in range(60):
        seen.add(chromium.js(shown))
        if len(seen - {-1}) == drawing.steps:
            break
        chromium.js("new Promise(done => setTimeout(done, 30))")
    assert seen - {-1} == set(range(drawing.steps))
    chromium.send(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
    )
    assert chromium.js(shown) == drawing.scene.still
    chromium.send("Emulation.setEmulatedMedia", features=[])


# ---- the explainer -------------------------------------------------------------------------------


def fact(chromium, name):
    return chromium.js(
        "[...document.querySelectorAll('#facts dt')].find("
        f"e => e.textContent === {name!r}).nextSibling.textContent"
    )


def turn(chromium, name, value):
    """Set a knob as a reader does."""
    event = "change" if isinstance(value, str) else "input"
    chromium.js(
        f"{{const e = document.getElementById({name!r}); e.value = {value!r};"
        f"e.dispatchEvent(new Event({event!r}))}}"
    )


@pytest.mark.parametrize("width", [360, 1280])
def test_every_kind_and_rank(chromium, width):
    chromium.open(EXPLAINER, width)
    for kind in KINDS:
        turn(chromium, "kind", kind)
        for rank in "123":
            turn(chromium, "rank", rank)
            assert chromium.js("document.getElementById('error').hidden"), (kind, rank)
            assert chromium.js("document.querySelectorAll('#board rect.read').length") > 0
            assert chromium.overflow() <= 0, (kind, rank)
            for library in ("Flax", "PyTorch", "Keras", "lax", "convjax"):
                chromium.js(f"document.getElementById('tab-{library}').click()")
                assert chromium.js("document.getElementById('code').textContent")
    assert chromium.faults() == []


def test_a_hundred_settings_agree_with_the_library(chromium):
    """Set by the address, read from the page, compared with shapes and costs of the library."""
    chromium.open(EXPLAINER)
    rng = np.random.default_rng(5)
    agreed = refused = 0
    while agreed < 100:
        s = random_settings(rng)
        one = {n: s[n][0] for n in ("input", "kernel", "strides", "dilation", "mode", "scale")}
        extra = s["output_padding"][0]
        numbers = None if isinstance(s["padding"], str) else s["padding"][0]
        s |= {name: [value] * s["rank"] for name, value in one.items()}
        s |= {"output_padding": [extra] * s["rank"]}
        s["padding"] = s["padding"] if numbers is None else [numbers] * s["rank"]
        words = {**s, **one, "output_padding": extra}
        words["padding"] = s["padding"] if numbers is None else "numbers"
        if numbers:
            words |= {"lo": numbers[0], "hi": numbers[1]}
        address = "&".join(f"{name}={value}" for name, value in words.items())
        chromium.js(f"location.hash = {address!r}; arrive(); update()")
        hidden = chromium.js("document.getElementById('error').hidden")
        try:
            shape, price = priced(s)
        except ValueError:
            assert not hidden, s
            refused += 1
            continue
        assert hidden, s
        sizes = fact(chromium, "Sizes").split(" → ")[1]
        assert sizes == "×".join(map(str, shape[1:])), s
        assert fact(chromium, "Weights") == f"{price.params:,}", s
        macs = f"{price.macs:,} ({price.useful_macs:,} on real elements)"
        assert fact(chromium, "Multiply-accumulates") == macs, s
        agreed += 1
    assert refused > 3
    assert chromium.faults() == []


def test_knobs_change_what_they_should(chromium):
    chromium.open(EXPLAINER)
    assert fact(chromium, "Sizes") == "3×3×1 → 7×7×1"
    assert fact(chromium, "Relation, first axis").startswith("relation 14")
    turn(chromium, "output_padding", 1)
    assert fact(chromium, "Sizes") == "3×3×1 → 8×8×1"
    turn(chromium, "output_padding", 2)
    error = chromium.js("document.getElementById('error').textContent")
    assert error == "Output padding (2) must be less than the stride (2)."
    turn(chromium, "output_padding", 0)
    turn(chromium, "kind", "dense")
    turn(chromium, "input", 5)
    turn(chromium, "strides", 1)
    turn(chromium, "kernel", 2)
    turn(chromium, "padding", "SAME_LOWER")
    assert "This is SAME_LOWER, not SAME" in chromium.js(
        "document.getElementById('traps').textContent"
    )
    assert chromium.js("document.getElementById('knob-output_padding').hidden")
    saying = "document.getElementById('saying').textContent"
    chromium.js("document.querySelector('#board svg[data-tensor=\"1\"]').focus()")
    before = chromium.js(saying)
    chromium.key("ArrowRight")
    assert chromium.js(saying) != before
    event = "new Event('pointerover', {bubbles: true})"
    hover = f"document.querySelector('#board [data-index=\"0\"]').dispatchEvent({event})"
    chromium.js(hover)
    assert chromium.js(saying).startswith(
        "Input [0, 0] feeds 4 outputs: [0, 0] [0, 1] [1, 0] [1, 1]"
    )
    assert chromium.faults() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", ["explainer", "player"])
def test_axe_finds_no_serious_fault(chromium, axe, player, page, theme):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    chromium.send("Emulation.setEmulatedMedia", features=features)
    chromium.send("Page.setBypassCSP", enabled=True)
    chromium.open(EXPLAINER if page == "explainer" else player[1])
    chromium.js(axe + "; 0")
    found = chromium.js(
        "axe.run().then(r => r.violations.map(v => "
        "[v.impact, v.id, v.nodes.map(n => n.html.slice(0, 120))]))"
    )
    chromium.send("Page.setBypassCSP", enabled=False)
    chromium.send("Emulation.setEmulatedMedia", features=[])
    assert [v for v in found if v[0] in ("serious", "critical")] == []
