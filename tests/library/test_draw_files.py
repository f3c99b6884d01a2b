"""What `convjax.draw` returns beside `arithmetic`, the files it writes, and its command line."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import convjax
from convjax import draw
from convjax.draw.__main__ import main
from convjax.kinds import KINDS

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).parents[2]


def test_importing_the_room_loads_no_extra():
    code = (
        "import sys, convjax.draw as d; x = d.arithmetic('dense', 4, 2); x.svg(); x.html();"
        "print(sorted({'matplotlib', 'PIL', 'flax'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"


# ---- the other drawings --------------------------------------------------------------------------


@pytest.mark.parametrize("transpose", [False, True])
def test_matrix(transpose):
    """C is the oracle's matrix, its cells are its non-zeros, and rows are results."""
    kernel = np.arange(1, 10).reshape(3, 3)
    drawing = draw.matrix(
        "dense", (4, 4), 3, padding="VALID", kernels=kernel, transpose=transpose, numbers=False
    )
    expected = oracle.matrix(kernel[..., None, None], (4, 4), padding="VALID")
    np.testing.assert_array_equal(drawing.details, expected.T if transpose else expected)
    heat = [
        e
        for e in ET.fromstring(drawing.svg()).iter(f"{SVG}rect")
        if (e.get("class") or "").startswith("cj-heat")
    ]
    assert len(heat) == 36
    assert "36 not zero" in drawing.title


def test_matrix_of_an_array():
    values = np.arange(-3, 9).reshape(3, 4)
    drawing = draw.matrix(values, title="M", blocks=1)
    assert drawing.title == "M: 3×4, 11 not zero"
    assert 'class="cj-signed-4"' in drawing.svg()
    large = draw.matrix(np.ones((100, 100)))
    assert large.svg().count("<image") == 1  # summarised
    with pytest.raises(ValueError, match="matrix: `matrix` .* must have two axes"):
        draw.matrix(np.ones(3))
    with pytest.raises(ValueError, match="is for a kind's name, not for an array"):
        draw.matrix(np.ones((3, 3)), padding=1)


def test_connectivity():
    """Groups stay apart without a shuffle; with one, n = C/g >= g makes all reach all."""
    kernel = jnp.ones((1, 1, 3, 9))

    def grouped(x):
        return convjax.grouped_conv(x, kernel, 3)

    def shuffled(x):
        return convjax.channel_shuffle(x, 3)

    apart = draw.connectivity(grouped, grouped, shape=(1, 1, 1, 9))
    np.testing.assert_array_equal(apart.details, np.kron(np.eye(3), np.ones((3, 3))) > 0)
    assert draw.connectivity(grouped, shuffled, grouped, shape=(1, 1, 1, 9)).details.all()
    svg = apart.svg()
    assert svg.count('data-k="c0.') == svg.count('data-k="c2.') == 9
    assert svg.count("cj-link-0") - 1 - 1 == 2 * 9  # two rules of style, nine lines per layer
    with pytest.raises(ValueError, match="at most 64 can be drawn"):
        draw.connectivity(shuffled, shape=(1, 1, 1, 66))
    with pytest.raises(ValueError, match="must be at least one function"):
        draw.connectivity(shape=(1, 1, 1, 4))


@pytest.mark.parametrize(("k", "s"), [(2, 1), (3, 1), (2, 2), (4, 2), (3, 2), (5, 2), (1, 2)])
def test_overlap(k, s):
    line, plane = draw.overlap(k, s, 6), draw.overlap((k, 2), (s, 1), (4, 3))
    np.testing.assert_array_equal(line.details, convjax.analysis.overlap_counts(k, s, 6))
    expected = convjax.analysis.overlap_counts((k, 2), (s, 1), (4, 3))
    np.testing.assert_array_equal(plane.details, expected)
    assert line.svg().count('data-k="1.') == len(line.details)
    with pytest.raises(ValueError, match="^overlap: `kernel_size`"):
        draw.overlap(0, s, 6)
    even = k % s == 0
    assert (" even" in line.title) == even and ("uneven" in line.title) == (not even)


def test_receptive_field():
    drawing = draw.receptive_field([(3, 1, 1), (3, 1, 2), (3, 1, 4)])
    line = np.array([1, 1, 1])
    for dilation, found in zip((1, 2, 4), drawing.details, strict=True):
        if dilation > 1:
            taps = np.zeros(2 * dilation + 1, int)
            taps[::dilation] = 1
            line = np.convolve(line, taps)
        np.testing.assert_array_equal(found, np.outer(line, line))
    assert "3×3, then 7×7, then 15×15" in drawing.title
    with pytest.raises(ValueError, match="at most 128 can be drawn"):
        draw.receptive_field([(65, 2), (65, 2)])


def test_filters():
    rng = np.random.default_rng(0)
    drawing = draw.filters(rng.normal(size=(5, 5, 3, 8)), groups=2)
    assert drawing.svg().count("<image") == 8
    assert draw.filters(rng.normal(size=(3, 3, 2, 4))).svg().count("<image") == 8
    with pytest.raises(ValueError, match="at most 1024 can be drawn"):
        draw.filters(np.ones((3, 3, 64, 64)))
    with pytest.raises(ValueError, match=r"`groups` \(=3\) must divide the filters"):
        draw.filters(np.ones((3, 3, 3, 8)), groups=3)


def test_layer():
    """The article's numbers: 86,400 multiplications, and 675 + 9,600."""
    options = {"in_features": 3, "out_features": 128, "padding": "VALID"}
    dense = draw.layer("dense", (7, 7), 3, **options)
    assert [(o.params, o.macs) for o in dense.details] == [(3456, 86400)]
    both = draw.layer("depthwise_separable", (7, 7), 3, **options)
    assert [(o.params, o.macs, o.groups) for o in both.details] == [(27, 675, 3), (384, 9600, 1)]
    assert "411 weights, 10,275 MACs" in both.svg()
    assert all(shape in both.svg() for shape in ("7×7×3", "5×5×3", "5×5×128"))
    assert draw.layer("dense", (5, 5, 5), 3).details[0].window == (3, 3, 3)
    assert draw.layer("channel_shuffle", (5, 5)).details == []
    with pytest.raises(ValueError, match="^layer: `padding` .* is not an option of pointwise"):
        draw.layer("pointwise", (5, 5), padding=1)
    with pytest.raises(ValueError, match="must contain a convolution"):
        draw.layer(lambda x: x, (1, 4, 4, 2))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_costs_of_layers(kind, rank):
    """The steps of each kind have the weights and MACs of its closed form."""
    drawing = draw.layer(kind, (5, 4, 3)[:rank], 3)
    worked = KINDS[kind]
    shape = [int(n) for n in drawing.title.split(": ")[1].split(" → ")[0].split("×")]
    sizes = {"batch": 1, "space": shape[:-1], "in_features": shape[-1], "channel_multiplier": 1}
    result = int(drawing.title.split("×")[-1])
    groups = {"grouped": 2, "shuffled_grouped": 2, "pointwise_grouped": 2}.get(kind, 3)
    sizes |= {"out_features": result, "groups": groups, "mid_features": (1,) * (rank - 1)}
    price = worked.example(rank, kernel_size=(3,) * rank, **sizes).cost()
    found = [sum(getattr(o, name) for o in drawing.details) for name in ("params", "macs")]
    assert found == [price.params, price.macs]


def test_network():
    nnx = pytest.importorskip("flax.nnx", reason="the networks need Flax")
    from convjax.models import NETWORKS

    row = NETWORKS["alexnet"]
    drawing = draw.network(row.abstract(groups=2), row.shape({}))
    assert [o.groups for o in drawing.details] == [1, 2, 1, 2, 2, 1, 1, 1]
    assert sum(o.macs for o in drawing.details) == 724_406_816
    assert drawing.svg().count('data-k="m.') == 8
    module = convjax.nn.DepthwiseSeparableConv(8, 16, (3, 3), rngs=nnx.Rngs(0))
    layer = draw.layer(module, (1, 9, 9, 8))
    assert [(o.window, o.groups, o.macs) for o in layer.details] == [
        ((3, 3), 8, 5832),
        ((1, 1), 1, 10368),
    ]
    assert layer.title == "DepthwiseSeparableConv: 9×9×8 → 9×9×16"
    with pytest.raises(ValueError, match="1 to 160 can be drawn"):
        draw.network(lambda x: x, (1, 4, 4, 2))


# ---- files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    return draw.arithmetic("transposed", 2, 3, strides=2)


@pytest.mark.parametrize("ending", [".svg", ".png", ".gif", ".html"])
def test_each_kind_of_file_opens(tmp_path, small, ending):
    path = small.save(tmp_path / f"picture{ending}", scale=1)
    assert path.exists() and path.stat().st_size < 300_000
    if ending == ".svg":
        assert ET.parse(path).getroot().tag == f"{SVG}svg"
    elif ending == ".html":
        text = path.read_text()
        assert text.startswith("<!doctype html>") and 'type="range"' in text
    else:
        image = pytest.importorskip("PIL.Image", reason="needs the `draw` extra")
        with image.open(path) as picture:
            assert picture.size == (small.scene.width, small.scene.height)
            assert getattr(picture, "n_frames", 1) == (small.steps if ending == ".gif" else 1)
            if ending == ".gif":  # frames hold what changed: put together they are the steps
                picture.seek(2)
                step = np.asarray(small.image(step=2, scale=1), int)
                assert np.abs(np.asarray(picture.convert("RGB"), int) - step).mean() < 8
                assert picture.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
            assert picture.convert("RGB").getcolors(1 << 20)  # decodes, to the last row


def test_themes_and_steps(tmp_path, small):
    image = pytest.importorskip("PIL.Image", reason="needs the `draw` extra")
    found = {}
    for name in ("light", "dark"):
        with image.open(small.save(tmp_path / f"{name}.png", theme=name)) as picture:
            found[name] = picture.convert("RGB").getpixel((1, 1))
    assert found["light"] == (255, 255, 255) and max(found["dark"]) < 60
    assert small.svg(step=0) != small.svg(step=1)
    moving = small.svg(animated=True)
    assert moving.count('class="cj-step"') == small.steps
    assert "prefers-reduced-motion" in moving


def test_wrong_files(tmp_path, small):
    with pytest.raises(ValueError, match=r"`path` .* must end in one of .svg, .png, .gif, .html"):
        small.save(tmp_path / "picture.pdf")
    with pytest.raises(ValueError, match="the drawing has 4 steps"):
        small.save(tmp_path / "picture.svg", step=4)
    with pytest.raises(ValueError, match="`scale` .* must be above 0"):
        small.save(tmp_path / "picture.png", scale=0)
    with pytest.raises(ValueError, match="`theme`"):
        small.save(tmp_path / "picture.png", theme="blue")


def test_without_pillow(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"need Pillow: `pip install convjax\[draw\]`"):
        small.save(tmp_path / "picture.png")
    assert main(["dense", "--input", "3", "-o", str(tmp_path / "picture.gif")]) == 2
    assert "need Pillow" in capsys.readouterr().err
    assert small.save(tmp_path / "picture.svg").exists()


def test_notebooks(small):
    assert small._repr_svg_().startswith("<svg")
    assert small._repr_html_().startswith("<iframe srcdoc=")
    assert draw.overlap(3, 2, 3)._repr_html_().startswith("<svg")
    assert str(small).startswith("transposed: 2 → 4")


# ---- the command line ----------------------------------------------------------------------------


def test_list(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_by_one_command(kind, tmp_path, capsys):
    """With every option at its default, in each rank."""
    for words in ([], ["--input", "4"], ["--input", "2x2x2", "--kernel", "2"]):
        path = tmp_path / f"{kind}{len(words)}.svg"
        assert main([kind, *words, "-o", str(path)]) == 0
        assert ET.parse(path).getroot().tag == f"{SVG}svg"
        assert kind.replace("_", " ") in capsys.readouterr().out


def test_options_of_the_command(tmp_path, capsys):
    words = "transposed --input 2x2 --kernel 3x3 --strides 2 --padding valid".split()
    assert main([*words, "-o", str(tmp_path / "a.html")]) == 0
    assert "2×2 → 5×5" in capsys.readouterr().out
    words = "dense --input 3x3 --padding 1,0x0,2 --by input --animated".split()
    assert main([*words, "-o", str(tmp_path / "b.svg")]) == 0
    assert "3×3 → 2×3" in capsys.readouterr().out
    assert main(["dense", "--input", "5", "--groups", "2", "-o", str(tmp_path / "c.svg")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("deconv", "no kind is named 'deconv': choose from dense"),
        ("dense --input axb", "--input (=axb) cannot be read. Give extents"),
        ("dense --strides 0", "`strides` (=0) must be at least 1"),
        ("dense --padding LOTS", "--padding (=LOTS) cannot be read"),
        ("dense --input 99x99", "at most 1,200 can be drawn"),
        ("dense --by kernel", "--by (=kernel) must be one of output, input"),
        ("dense -o picture.pdf", "must end in one of .svg"),
        ("dense --step 99", "the drawing has 16 steps"),
        ("pointwise --padding 1", "is not an option of pointwise"),
        ("dense -o /nowhere/at/all.svg", "No such file"),
    ],
)
def test_bad_arguments(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err and len(captured.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_help_and_unknown_options(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0 and "examples:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main(["--nonsense"])
    assert done.value.code == 2
