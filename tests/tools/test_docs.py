"""The README and the site: their code runs, their tables are current, their laws have tests."""

import ast
import csv
import inspect
import json
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from documentation import kinds as kind_pages
from documentation import pages
from documentation import types as type_pages
from documentation.calls import CALLS
from documentation.pages import ROOT, blocks

import convjax
from benchmarks.harness import readme
from convjax import kinds

os.environ.setdefault("KERAS_BACKEND", "jax")
PAGES = pages.written()
BLOCKS = blocks(PAGES["README.md"])
GAINS = ("README.md", "gains")
OTHERS = ("torch", "keras", "flax", "optax", "orbax", "equinox", "haiku", "matplotlib", "PIL")


def need(code: str) -> None:
    """Skip where a library that the code imports is missing."""
    for name in OTHERS:
        if re.search(rf"^\s*(import|from) {name}\b", code, re.MULTILINE):
            pytest.importorskip(name)


def same(ours, theirs) -> None:
    """The numbers of this library and of another one; PyTorch's are channels-first."""
    if type(theirs).__module__ == "torch":
        theirs = np.moveaxis(theirs.detach().numpy(), 1, -1)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4, atol=1e-4)


def run(code: str, name: str, namespace: dict) -> None:
    exec(compile(code, name, "exec"), namespace)


# The article's pages hold Python sessions, which test_article.py runs.
PROGRAMS = [
    page for page, text in PAGES.items() if blocks(text) and not page.startswith("docs/article/")
]


@pytest.mark.parametrize("page", PROGRAMS)
def test_the_code_of_a_page_runs(page):
    """Its blocks run in order, as one program; of a pair, `theirs` and `ours` are equal."""
    need("\n".join(blocks(PAGES[page])))
    namespace: dict = {}
    pairs = 0
    for number, block in enumerate(blocks(PAGES[page])):
        run(block, f"{page}, python block {number + 1}", namespace)
        if "ours" in namespace and "theirs" in namespace:
            same(namespace.pop("ours"), namespace.pop("theirs"))
            pairs += 1
    assert "ours" not in namespace and "theirs" not in namespace, "half a pair"
    assert pairs == sum("theirs = " in block for block in blocks(PAGES[page]))


@pytest.mark.parametrize("kind", kinds.KINDS)
@pytest.mark.parametrize("library", ["PyTorch", "Flax", "lax", "Keras"])
def test_the_same_call_in_another_library(kind, library):
    setup, *calls = blocks(kind_pages.page(kinds.KINDS[kind]))
    assert list(CALLS[kind].values()) == [call.rstrip("\n") for call in calls]
    code = CALLS[kind][library]
    need(code)
    namespace: dict = {}
    run(setup, f"docs/kinds/{kind}.md", namespace)
    run(code, f"docs/kinds/{kind}.md, {library}", namespace)
    same(namespace["ours"], namespace["theirs"])


def test_a_wrong_pair_is_seen():
    ones = np.ones((1, 2, 3, 4))
    same(ones, ones)
    for wrong in (2 * ones, ones[..., :1], ones.transpose(0, 2, 1, 3)):
        with pytest.raises(AssertionError):
            same(ones, wrong)


# ---- what pages say is what the library has ------------------------------------------------------


def between(page: str, name: str) -> str:
    return readme.between_markers(PAGES[page], name).group(2)


STALE = "is stale: run `./scripts/docs`, which writes it, and commit the result"


def test_table_of_kinds():
    assert between("docs/kinds.md", "kinds") == kind_pages.table(), f"docs/kinds.md {STALE}"


def test_every_kind_has_a_page():
    listed = re.findall(r"^kinds/(\w+)$", PAGES["docs/kinds.md"], re.MULTILINE)
    assert listed == list(kinds.KINDS)
    assert set(CALLS) == set(kinds.KINDS)
    wanted = kind_pages.pages()
    assert set(wanted) == {f"kinds/{name}.md" for name in kinds.KINDS}
    for name, text in wanted.items():
        assert (ROOT / "docs" / name).read_text("utf-8") == text, f"docs/{name} {STALE}"
    assert len(list((ROOT / "docs" / "kinds").iterdir())) == len(wanted)


def test_the_page_of_types():
    assert PAGES[f"docs/{type_pages.PATH}"] == type_pages.page(), f"docs/{type_pages.PATH} {STALE}"
    for name, (meaning, _) in type_pages.types().items():
        assert meaning.endswith("."), f"a comment above `{name}` says what it is for"
    assert type_pages.EXAMPLES.keys() <= type_pages.types().keys()


@pytest.mark.parametrize("name", type_pages.EXAMPLES)
def test_conv_takes_the_examples_of_a_type(name):
    argument, values = type_pages.EXAMPLES[name]
    x, kernel = jnp.ones((2, 6, 5, 3)), jnp.ones((3, 2, 3, 4))
    for value in values:
        given = eval(value, {"jax": jax, "jnp": jnp})
        assert convjax.conv(x, kernel, **{argument: given}).size, value
    with pytest.raises((TypeError, ValueError), match=f"^conv: `{argument}`"):
        convjax.conv(x, kernel, **{argument: "none of them"})


@pytest.mark.parametrize("page", readme.PAGES)
def test_tables_of_benchmarks(page):
    name, table = readme.PAGES[page]
    assert between(page, name) == table(readme.FOLDER), (
        f"{page}'s table is stale: run `scripts/benchmark --readme`"
    )


def test_the_gains_are_the_file_s_numbers():
    """Read without the benchmark's code: medians of training steps, PyTorch's faster format."""
    lines = (readme.FOLDER / f"{readme.GAINS}.csv").read_text("utf-8").splitlines()
    cells = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    shown = re.findall(r"^\| .+ \((.+)\) \| (\S+) \| (\S+) \| (\S+) \|$", between(*GAINS), re.M)
    assert len(shown) == len(readme.GAINS_ROWS) >= 6
    for name, (shape, *numbers) in zip(readme.GAINS_ROWS, shown, strict=True):
        (cell,) = (c for c in cells if (c["row"], c["cell"]) == (name, "training"))
        assert shape.replace("×", "x").replace(" → ", "->") == cell["shape"].split(",")[0]
        torch = min(float(cell["ms:torch_nchw"]), float(cell["ms:torch_nhwc"]))
        wanted = [float(cell["ms:lax"]), float(cell["ms:convjax"]), torch]
        found = [float(number.replace(",", "")) for number in numbers]
        assert found == pytest.approx(wanted, rel=5e-3)


def test_the_gains_of_whole_models_are_the_file_s_numbers():
    text = (readme.FOLDER / "models" / f"{readme.GAINS_MODELS}.json").read_text("utf-8")
    models = json.loads(text)["models"]
    shown = re.findall(r"^\| (\w+), \w+ \| (\S+) \| (\S+) \| (\S+) \|$", between(*GAINS), re.M)
    assert [name for name, *_ in shown] == list(models) and len(models) >= 5
    for name, *times in shown:
        for way, time in zip(("lax", "convjax", "PyTorch"), times, strict=True):
            cell = models[name]["training"].get(way)
            if cell is None:
                assert time == "—"
            else:
                assert float(time.replace(",", "")) == pytest.approx(cell["ms"], rel=5e-3)


def test_the_reference_lists_every_public_name():
    text = PAGES["docs/reference/index.md"]
    listed = re.findall(r"^   ([A-Za-z]\w*)$", text, re.MULTILINE)
    assert len(listed) == len(set(listed))
    wanted = {name for name in convjax.__all__ if not inspect.ismodule(getattr(convjax, name))}
    assert not wanted - set(listed), "add these names to docs/reference/index.md"
    assert not set(listed) - wanted, "remove these names from docs/reference/index.md"


def test_the_readme_is_short_and_shows_the_door():
    text = PAGES["README.md"]
    assert len(text.encode()) <= 8_000
    first_screen = "\n".join(text.splitlines()[:60])
    for needed in ("pip install .", "convjax.accelerate(", "| PyTorch, ms |", "not measured"):
        assert needed in first_screen


def test_links_of_the_readme():
    """Every page that it points to is there. (Sphinx checks the links of the site.)"""
    targets = re.findall(r"\]\(((?!https?:)[^)#]+)", PAGES["README.md"])
    assert len(targets) > 5
    assert not [target for target in targets if not (ROOT / target).is_file()]


def test_the_table_of_rooms():
    """Every module of the library is in one row, and imports only from its row and rows above."""
    table = PAGES["docs/architecture.md"].split("| rooms |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    row_of = {name: n for n, row in enumerate(rows) for name in re.findall(r"`(\w+)/?`", row)}
    package = ROOT / "convjax"
    found = {path.stem if path.is_file() else path.name for path in package.iterdir()}
    assert set(row_of) == found - {"__init__", "__pycache__", "py"}
    for path in sorted(package.rglob("*.py")):
        here = path.relative_to(package).parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("convjax"):
                names = node.module.split(".")[1:2] or [alias.name for alias in node.names]
                for name in names:
                    assert row_of[name] <= row_of[here], f"{path.name} imports {name}"


# ---- laws have names, and tests ------------------------------------------------------------------

LAWS = {
    name: re.findall(r"`([\w/]+\.py)`", files)
    for name, files in re.findall(
        r"^\| ([\w ]+) \| .*?\. \| (`.*`) \|$", PAGES["docs/testing.md"], re.MULTILINE
    )
}
SOURCES = sorted(
    path
    for folder in ("convjax", "experiments", "scripts", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
CITED = re.compile(r'\b[Ll]aws? "([a-zA-Z ]+)"(?: and "([a-zA-Z ]+)")?')


def test_laws_have_test_files():
    assert len(LAWS) >= 12
    for name, files in LAWS.items():
        assert files, name
        for file in files:
            assert (ROOT / file).is_file(), f"{name}: {file}"
            text = (ROOT / file).read_text("utf-8")
            cited = {law for match in CITED.findall(text) for law in match}
            assert name in cited, f'{file} does not say: law "{name}"'


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_laws_have_names_and_not_numbers(path):
    text = path.read_text("utf-8")
    cited = {law for match in CITED.findall(text) for law in match if law}
    assert cited <= LAWS.keys()
    numbered = re.compile(r"\blaws? \d|section \d+ of the design", re.IGNORECASE)
    documented = [
        ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    comments = re.findall(r"#.*", text)
    assert not [words for words in (*documented, *comments) if numbered.search(words)]
