"""The package: its imports, exports, signatures and docstrings, and that its wheel works alone."""

import ast
import graphlib
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from test_docs import BLOCKS

import convjax

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "convjax"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TREES = {
    source.relative_to(PACKAGE).as_posix(): ast.parse(source.read_text()) for source in SOURCES
}
FUNCTIONS = {
    name: value for name in convjax.__all__ if inspect.isfunction(value := getattr(convjax, name))
}
FUNCTIONS |= {
    f"analysis.{name}": value
    for name in convjax.analysis.__all__
    if inspect.isfunction(value := getattr(convjax.analysis, name))
}
DRAWINGS = {
    f"draw.{name}": value
    for name in convjax.draw.__all__
    if inspect.isfunction(value := getattr(convjax.draw, name))
}
DROP_INS = {"conv_general_dilated"}
# One layer, or a stack: its sizes are positional. A function, or a decorator that waits for one.
TWO_FORMS = {"analysis.overlap_counts", "jit"}
NO_SOURCE = {"convs_saveable", "explain", "cost_of"}
CONVOLUTIONS = {
    "conv",
    "conv_general_dilated",
    "conv_general_dilated_local",
    "conv_general_dilated_patches",
    "conv_transpose",
    "conv_with_general_padding",
}
# Rooms that may import more than jax and numpy; `import convjax` loads none of them.
OPTIONAL_ROOMS = ("nn/", "linen/", "models/", "draw/")


def imports(name: str) -> set[str]:
    """Absolute names of the modules that a file of the package imports."""
    package = ["convjax", *name.split("/")[:-1]]
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, [base, node.module]))
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def starts(modules: set[str], *prefixes: str) -> set[str]:
    return {m for m in modules if any(m == p or m.startswith(p + ".") for p in prefixes)}


def loaded(code: str) -> set[str]:
    """The modules that are loaded after `code`."""
    code += "; import json, sys; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return set(json.loads(out.stdout))


# What `import convjax` may load: the operation, its functions, and what reads programs
LIGHT = "_core _functional _lowerings _operation _programs _sharding arithmetic lax"


def test_import_is_light():
    """A bound on what is loaded, not on the time, which depends on the machine."""
    before, after = loaded("import jax, jax.numpy"), loaded("import jax, jax.numpy, convjax")
    heavy = "flax matplotlib PIL optax orbax skimage sklearn torch pytest hypothesis chex tqdm"
    assert not after & set(heavy.split())
    ours = {m.split(".")[1] for m in after if m.startswith("convjax.")}
    assert "lax" in ours
    assert ours <= set(LIGHT.split())
    others = {m for m in after - before if m.split(".")[0] != "convjax"}
    assert {m.split(".")[0] for m in others} <= {"jax"} | sys.stdlib_module_names
    experiments = {m for m in others if m.startswith("jax.experimental.")}
    assert experiments <= {
        "jax.experimental.xla_metadata",
        "jax.experimental.shard_map",
        "jax.experimental.custom_partitioning",
    }
    assert len(others) < 60, "jax.experimental.sparse was 216 modules, and half the time"


def test_rooms_are_there_when_asked_for():
    code = "import convjax; before = dir(convjax); print(convjax.{0}.__name__); "
    code += "from convjax import {0}; assert dir(convjax) == before and '{0}' in before"
    for room in ("analysis", "arithmetic", "cost", "equivalents", "interop", "kinds"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(room)], capture_output=True, text=True, cwd=ROOT
        )
        assert done.stdout == f"convjax.{room}\n", done.stderr
    assert set(convjax.__all__) | {"nn", "linen", "models", "initializers"} <= set(dir(convjax))
    with pytest.raises(AttributeError, match="module 'convjax' has no attribute 'nothing'"):
        _ = convjax.nothing


@pytest.mark.parametrize("name", TREES)
def test_source(name):
    """Public jax and numpy only, no `assert`, and lax's convolution only where it is lowered."""
    tree, modules = TREES[name], imports(name)
    assert not {m for m in modules if "_src" in m.split(".")}
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: raise, do not assert"
        if isinstance(node, ast.Attribute):
            assert node.attr != "_src", f"line {node.lineno}: jax's private modules"
            lax = ast.unparse(node.value).split(".")[-1].strip("_") == "lax"
            if lax and node.attr in CONVOLUTIONS:
                assert name.startswith("_lowerings/") or name == "lax.py", f"line {node.lineno}"
    if not (name.startswith("_lowerings/") or name == "lax.py"):
        assert not starts(modules, *(f"jax.lax.{convolution}" for convolution in CONVOLUTIONS))
    if not name.startswith(OPTIONAL_ROOMS):
        roots = {m.split(".")[0] for m in modules}
        assert roots <= {"jax", "numpy", "convjax", "__future__"} | sys.stdlib_module_names


@pytest.mark.parametrize("name", TREES)
def test_imports_run_downward(name):
    modules = imports(name)
    assert not starts(modules, "experiments", "benchmarks")
    if name in {
        "_core/checks.py",
        "_core/padding.py",
        "_core/geometry.py",
        "_operation/counting.py",
        "cost.py",
    }:
        # Of jax, at most its symbolic sizes
        assert not starts(modules, "jax.numpy", "jax.lax"), "integers know no arrays"
    if name.startswith("_functional/"):
        assert not starts(modules, "flax")
    if name.startswith(("nn/", "linen/")):  # glue: what they compute is not decided there
        functions = {m for m in starts(modules, "convjax._functional") if m.count(".") > 2}
        assert not functions | starts(modules, "convjax.kinds", "convjax._operation", "numpy")


def room(module: str) -> str:
    """The room of a module: what stands beside `__init__.py`."""
    return module.split(".")[1]


def test_rooms_have_no_circle():
    """So they have an order in which every import runs downward."""
    rooms: dict[str, set[str]] = {}
    for name in TREES:
        if name == "__init__.py":
            continue
        here = name.removesuffix(".py").split("/")[0]
        needed = {room(m) for m in imports(name) if m.startswith("convjax.")}
        rooms.setdefault(here, set()).update(needed - {here})
    rooms = {here: needed & rooms.keys() for here, needed in rooms.items()}
    list(graphlib.TopologicalSorter(rooms).static_order())  # raises CycleError


def test_the_house_is_easy_to_see():
    """Few rooms; what has no underscore is public; and no file is long."""
    rooms = {path.removesuffix(".py").split("/")[0] for path in TREES} - {"__init__"}
    assert len(rooms) <= 20
    shown = {name for name in dir(convjax) if not name.startswith("__")}
    public = {name for name in rooms if not name.startswith("_")} - {"selftest"}  # a command
    assert not {name for name in shown if name.startswith("_")}
    assert public <= shown
    assert shown == public | set(convjax.__all__)
    longest = {path: len((PACKAGE / path).read_text().splitlines()) for path in TREES}
    assert max(longest.values()) <= 400, max(longest, key=longest.__getitem__)


def test_imports_have_no_circle():
    """Each module imports what stands before it in one order of all of them."""
    before: dict[str, set[str]] = {}
    for name in TREES:
        module = ".".join(["convjax", *name.removesuffix(".py").split("/")])
        if module.endswith(".__init__"):
            continue  # a package's face names what is inside it
        before[module] = {m for m in imports(name) if m.startswith("convjax.")}
    before = {module: needed & before.keys() for module, needed in before.items()}
    list(graphlib.TopologicalSorter(before).static_order())  # raises CycleError


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - DROP_INS - TWO_FORMS))
def test_options_are_keyword_only(name):
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        if parameter.default is not parameter.empty:
            assert parameter.kind is parameter.KEYWORD_ONLY, parameter


@pytest.mark.parametrize("name", sorted(FUNCTIONS | DRAWINGS))
def test_public_functions_are_annotated(name):
    function = (FUNCTIONS | DRAWINGS)[name]
    if name not in DROP_INS:
        signature = inspect.signature(function)
        bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
        assert not bare
        assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("name", sorted(FUNCTIONS | DRAWINGS))
def test_docstrings(name):
    text = inspect.getdoc((FUNCTIONS | DRAWINGS)[name]) or ""
    first = text.splitlines()[0] if text else ""
    assert first.endswith("."), "one line first, a sentence"
    if name in DROP_INS:
        return
    function = (FUNCTIONS | DRAWINGS)[name]
    sections = ["Returns:", "Example:"] + ["Source:"] * (name not in NO_SOURCE)
    sections += ["Args:"] * bool(inspect.signature(function).parameters)
    assert not [s for s in sections if s not in text]
    assert ">>> " in text
    described = set(re.findall(r"\w+", text))
    if "options" in described and "options: those of `conv`" in text:
        return
    parameters = set(inspect.signature((FUNCTIONS | DRAWINGS)[name]).parameters)
    parameters = {p for p in parameters if p.strip("_")}
    assert not parameters - described, "every argument is described"


def test_every_public_name_is_there():
    assert list(convjax.__all__) == list(dict.fromkeys(convjax.__all__))
    for name in convjax.__all__:
        value = getattr(convjax, name)
        assert inspect.isfunction(value) or inspect.ismodule(value) or name == "Target"
    for name in ("lax", "analysis", "arithmetic", "cost", "equivalents", "kinds"):
        module = importlib.import_module(f"convjax.{name}")
        undocumented = [
            f
            for f, value in vars(module).items()
            if inspect.isfunction(value)
            and value.__module__ == module.__name__
            and not f.startswith("_")
            and not inspect.getdoc(value)
        ]
        assert not undocumented


def run(*command: object, **options) -> str:
    """The output of a command; a failing one fails the test with what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_one_version():
    """`convjax.__version__` is what the package, the citation and the changelog say."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", convjax.__version__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    home = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{convjax.__version__}"\n' in home.read_text("utf-8")
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == convjax.__version__
    assert f"license: {project['project']['license']}\n" in citation
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest and newest[1] == convjax.__version__


def test_classifiers():
    """They are those of the index, and say which versions of Python the package takes."""
    known = pytest.importorskip("trove_classifiers").classifiers
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["classifiers"]) <= known
    assert len(set(project["classifiers"])) == len(project["classifiers"])
    oldest = project["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in project["classifiers"]


@pytest.mark.slow
def test_what_one_would_upload(tmp_path):
    """`twine check` takes both files; the source distribution has all that is not the library."""
    for module in ("build", "twine"):
        pytest.importorskip(module)
    skip_without_an_index(tmp_path)
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", ROOT)
    files = sorted((tmp_path / "dist").iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    with tarfile.open(files[1]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for needed in ("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "docs/conf.py"):
        assert needed in names
    assert not [n for n in names if n.startswith(("build/", "docs/reference/names/", ".venv"))]
    tracked = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    assert tracked <= names


def skip_without_an_index(folder):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    probe = [*pip, "download", "--no-deps", "--quiet", "--dest", folder / "probe", "hatchling"]
    if subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True).returncode:
        pytest.skip("pip reaches no package index here")


@pytest.mark.slow
def test_wheel_alone(tmp_path):
    """The wheel holds `convjax/` only; in an empty environment the README's first example runs."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    skip_without_an_index(tmp_path)
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("convjax-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(n for n in names if n.endswith("/METADATA"))
        required = [
            line.removeprefix("Requires-Dist: ")
            for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist: ") and "extra ==" not in line
        ]
    assert {n.split("/")[0] for n in names} == {"convjax", metadata.split("/")[0]}
    assert "convjax/py.typed" in names
    assert {n for n in names if n.endswith(".py")} == {f"convjax/{name}" for name in TREES}
    assert sorted(required) == ["jax>=0.10.2", "numpy"]

    venv.create(tmp_path / "empty", with_pip=True)
    scripts = sysconfig.get_path("scripts", "venv", {"base": str(tmp_path / "empty")})
    python = Path(scripts) / "python"
    run(python, *pip[1:], "install", wheel)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    where = run(
        python, "-c", "import convjax; print(convjax.__file__)", cwd=tmp_path, env=environment
    )
    assert (tmp_path / "empty") in Path(where.strip().splitlines()[-1]).parents
    run(python, "-c", BLOCKS[0], cwd=tmp_path, env=environment)
