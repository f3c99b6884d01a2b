"""The command ``python -m experiments``: its page, its results, and what it leaves behind."""

import base64
import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from convjax.kinds import KINDS

PACKAGES = ("flax", "matplotlib", "optax", "orbax.checkpoint", "PIL", "skimage", "sklearn", "tqdm")
for package in PACKAGES:
    pytest.importorskip(package, reason="needs the `experiments` extra")

from experiments import registry  # noqa: E402
from experiments.__main__ import main  # noqa: E402
from experiments.article import photo  # noqa: E402
from experiments.page import report  # noqa: E402
from experiments.run import lock, processes  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402

ROOT = Path(__file__).parents[2]
KEYS = {"experiment", "claim", "paper", "ours", "uncertainty", "verdict", "rule"}

# What the article has wrong, or says without its condition: (experiment, article, computed here).
NOT_REPRODUCED = [
    ("true_convolution", "equal", "largest difference"),  # translation invariance
    ("shapes", 5, 3),  # 'same' padding at stride 2
    ("shapes", True, False),  # 'valid' is always smaller
    ("transposed", "equal", "largest difference"),  # C^T C = 1
    ("transposed", "equal", "largest difference"),  # hence C^T Small = Large
    ("transposed", "even", "spread of a flat area"),  # divisible sizes, random kernel
    ("dilated", 7, 5),
    ("dilated", 15, 7),
    ("dilated", [3, 3], [1, 1]),  # the red dots
    ("worked_numbers", 0.41333, 0.42857),
    ("worked_numbers", 0.287, 0.28965),
    ("worked_numbers", 9, 8.4088),
    ("worked_numbers", 25, 20.915),
    ("worked_numbers", True, False),  # h is even
    ("groups", True, False),  # grouped with Din groups is no depthwise convolution
]

# The experiments that train, or time, and so decide nothing in a smoke run.
TRAINED = {
    "causal",
    "checkerboard",
    "colour_groups",
    "context",
    "depthwise_separable",
    "filter_groups",
    "flattened",
    "kernel_rank",
    "motion",
    "reductions",
    "regulariser",
    "shuffle",
}


class Run(NamedTuple):
    folder: Path
    page: str
    claims: list[dict[str, Any]]
    printed: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of the whole command; parallel workers of pytest share it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, done = root / "experiments", root / "experiments.done"
    try:
        folder.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 1000
        while not done.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
    else:
        command = [sys.executable, "-m", "experiments", "--profile", "smoke", "--out", str(folder)]
        quick = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # many small programs
        ended = subprocess.run(
            command, cwd=ROOT, env=quick, capture_output=True, text=True, timeout=960
        )
        done.write_text(f"{ended.returncode}\n{ended.stdout}\n{ended.stderr}", encoding="utf-8")
    status, _, printed = done.read_text(encoding="utf-8").partition("\n")
    assert status == "0", printed
    claims = json.loads((folder / "results.json").read_text(encoding="utf-8"))["claims"]
    return Run(folder, (folder / "index.html").read_text(encoding="utf-8"), claims, printed)


class Parsed(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def images(self) -> list[str]:
        found = [(tag, attrs.get("src", attrs.get("srcset"))) for tag, attrs in self.tags]
        return [uri or "" for tag, uri in found if tag in ("img", "source")]


def test_the_command_prints_a_summary_and_leaves_two_files(run: Run) -> None:
    assert sorted(path.name for path in run.folder.iterdir()) == ["index.html", "results.json"]
    for words in ("86,400", "not reproduced", f"{len(run.claims)} claims", "index.html"):
        assert words in run.printed


def test_the_results_have_the_schema(run: Run) -> None:
    for claim in run.claims:
        assert set(claim) == KEYS
        assert claim["verdict"] in report.VERDICTS
        assert claim["rule"] and claim["claim"]
        if claim["verdict"] == report.EXACT and "difference" not in str(claim["ours"]):
            assert claim["paper"] == claim["ours"] or claim["uncertainty"] is None
    assert {claim["experiment"] for claim in run.claims} == set(registry.EXPERIMENTS)
    assert len(run.claims) >= 100


def test_the_worked_numbers_come_out(run: Run) -> None:
    exact = {str(c["ours"]) for c in run.claims if c["verdict"] == "exact" and c["ours"]}
    for number in (81, 15, 45, 27, 72, 86_400, 675, 9_600, 10_275, 36):
        assert str(number) in exact
    for numbers in ([6, 9], [12, 12, 17], [4, 16], [4, 4], [5, 5], [3, 7, 15], [1, 3, 5, 2, 4, 6]):
        assert any(str(numbers)[1:-1] in found for found in exact), numbers


def test_exactly_the_article_s_errors_are_not_reproduced(run: Run) -> None:
    found = [
        (claim["experiment"], claim["paper"], claim["ours"])
        for claim in run.claims
        if claim["verdict"] == "not reproduced"
    ]
    assert len(found) == len(NOT_REPRODUCED)
    for (experiment, paper, ours), (*expected, value) in zip(found, NOT_REPRODUCED, strict=True):
        assert [experiment, paper] == expected
        if isinstance(value, str):
            assert ours.startswith(value)
        elif isinstance(value, float):
            assert ours == pytest.approx(value, rel=1e-4)
        else:
            assert ours == value


def test_what_is_trained_stays_undecided_in_a_smoke_run(run: Run) -> None:
    undecided = [claim for claim in run.claims if claim["verdict"] == "undecided"]
    assert {claim["experiment"] for claim in undecided} == TRAINED
    assert len(undecided) >= 20
    assert all("reproduced if" in claim["rule"] for claim in undecided)


def test_the_page_needs_nothing_but_itself(run: Run) -> None:
    parsed = Parsed(run.page)
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "video", "audio")
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in run.page and "@import" not in run.page
    assert parsed.images() and all(uri.startswith("data:image/") for uri in parsed.images())
    assert len(run.page) < 4_000_000


def test_every_claim_is_in_the_summary_on_top_and_counted(run: Run) -> None:
    summary, sections = run.page.split("</nav>")
    rows = re.findall(r'<tr class="([a-z-]+)(?: following)?"><td>', summary)
    assert [row.replace("-", " ") for row in rows] == [claim["verdict"] for claim in run.claims]
    assert "<tr" not in sections
    for part, tag in ((summary, "details"), (sections, "section")):
        names = re.findall(rf'<{tag} id="(?:claims-)?(\w+)"', part)
        assert names == list(registry.EXPERIMENTS)
        for verdict in report.VERDICTS:
            tallies = re.findall(rf'title="{verdict}">. (\d+)</span>', part)
            found = [claim for claim in run.claims if claim["verdict"] == verdict]
            assert sum(map(int, tallies)) == len(found)


def test_every_picture_decodes_and_is_small(run: Run) -> None:
    from PIL import Image

    for uri in Parsed(run.page).images():
        data = base64.b64decode(uri.partition(",")[2], validate=True)
        Image.open(io.BytesIO(data)).load()
        assert len(data) < 60_000


def test_every_kind_is_on_the_page(run: Run) -> None:
    shown = [attributes["data-kind"] for _, attributes in Parsed(run.page).tags
             if "data-kind" in attributes]  # fmt: skip
    assert shown == list(KINDS)


def test_a_new_kind_appears_without_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = dataclasses.replace(KINDS["dilated"], name="brand_new")
    monkeypatch.setitem(KINDS, "brand_new", kind)
    monkeypatch.setattr(photo, "PARTS", ("brand_new",))
    section = photo.run(Settings("smoke"))
    assert [figure.kind for figure in section.figures] == ["brand_new"]
    assert {claim.verdict for claim in section.claims} <= {"exact", "reproduced"}


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, again, other = (
        registry.EXPERIMENTS["dilated"].run(Settings("smoke", seed)).claims for seed in (0, 0, 7)
    )
    assert first == again
    assert [claim.verdict for claim in first] == [claim.verdict for claim in other]


def test_an_unknown_name_lists_the_choices(tmp_path: Path, capsys: Any) -> None:
    assert main(["phto", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "no experiment is called 'phto'" in error and ", ".join(registry.EXPERIMENTS) in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "cifar"], "--data cifar: neither a folder nor one of photos10, digits"),
        (["--profile", "full"], "--profile full trains on CIFAR-10: give its folder by --data"),
    ],
)
def test_data_that_is_not_there_is_said_first(
    arguments: list[str], words: str, tmp_path: Path, capsys: Any
) -> None:
    assert main(["dilated", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert words in error and "data_batch_1.bin" in error
    assert not (tmp_path / "out").exists()


def test_several_processes_need_all_three_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    assert main(["dilated", "--out", str(tmp_path)]) == 2
    assert "JAX_COORDINATOR_ADDRESS=, JAX_NUM_PROCESSES=2" in capsys.readouterr().err


def test_settings_reach_the_experiment_and_expectations_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """--resume, --data, --seed and the place of the runs; a smoke run keeps none."""
    seen = []

    def run(settings: Settings) -> report.Section:
        seen.append(settings)
        return report.Section("only", "Only", "Nothing.")

    module = SimpleNamespace(PARTS=(), run=run, EXPECTED={"standard": "an hour."})
    monkeypatch.setattr(registry, "EXPERIMENTS", {"only": module})
    options = ["--out", str(tmp_path), "--data", "digits", "--seed", "5", "--resume"]
    assert main(["--profile", "standard", *options]) == 0
    assert "only, profile standard: an hour." in capsys.readouterr().out
    assert main(["--profile", "smoke", *options]) == 0
    assert "an hour" not in capsys.readouterr().out
    standard, smoke = seen
    assert standard.seeds(3) == (5, 6, 7) and standard.data == "digits" and standard.resume
    assert standard.runs == tmp_path / "runs" and standard.bars
    assert smoke.runs is None and not smoke.bars
    made_with = json.loads((tmp_path / "results.json").read_text())["made_with"]
    assert made_with["data"] == "digits" and made_with["seed"] == 5 and made_with["devices"]


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    assert main(["photo", "--out", str(tmp_path / "out")]) == 2
    assert "cannot be a directory" in capsys.readouterr().err


HOLD = """
import sys, time
from pathlib import Path
from experiments.run import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Another process holds the folder, and is killed."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            yield
        finally:
            other.kill()


def test_one_command_at_a_time_writes_to_a_folder(tmp_path: Path, capsys: Any) -> None:
    """The second one is refused and changes nothing; the lock goes even with a killed process."""
    (tmp_path / "index.html").write_text("old", encoding="utf-8")
    command = ["dilated", "--profile", "smoke", "--out", str(tmp_path)]
    with holding(tmp_path):
        assert main(command) == 2
    assert capsys.readouterr().err == (
        f"python -m experiments: --out {tmp_path} must belong to one command at a time, and "
        "another one that runs now has it: wait until that ends, or give another --out.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == "old"
    with lock.held(tmp_path):  # which the killed process no longer has
        pass
    with lock.held(tmp_path):  # nor the block above
        pass


@pytest.mark.slow
def test_several_processes_hold_one_folder_together(tmp_path: Path) -> None:
    """All are refused if another command has it, and none by the others of their own run."""
    for refused in (True, False):
        with holding(tmp_path) if refused else contextlib.nullcontext():
            ended = together(["dilated", "--profile", "smoke", "--out", str(tmp_path)])
        assert [status for status, _ in ended] == [2 if refused else 0] * 2, ended
        for _, error in ended if refused else ():
            assert f"--out {tmp_path} must belong to one command at a time" in error


def together(arguments: list[str]) -> list[tuple[int, str]]:
    """Exit status and errors of two processes that run as one."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    own = os.environ | {"JAX_PLATFORMS": "cpu"}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "experiments", *arguments],
            cwd=ROOT,
            env=own | dict(zip(processes.VARIABLES, (address, "2", str(i)), strict=True)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in running]
    return [(process.returncode, error) for process, error in zip(running, errors, strict=True)]


def test_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    report.write(tmp_path, {"a": "1", "b": "2"})
    with pytest.raises(UnicodeEncodeError):
        report.write(tmp_path, {"a": "3", "b": "\ud800"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "1", "b": "2"}


def test_the_verdicts_follow_their_rules() -> None:
    section = report.Section("name", "title", "intro")
    section.exact("same", [1, 2], (1, 2))
    section.exact("other", 1, 2, "because")
    section.near("near", 0.12, 0.118, 0.005)
    section.near("far", 9, 8.4, 0.01)
    section.near("not a number", 9, float("nan"), 0.01)
    section.identity("zero", "equal", 0, 0)
    section.identity("small", "equal", 1e-7, 1e-6)
    section.identity("large", "equal", 1e-3, 1e-6)
    section.identity("not a number", "equal", float("nan"), 1e-6)
    yes, no = "reproduced", "not reproduced"
    verdicts = [claim.verdict for claim in section.claims]
    assert verdicts == ["exact", no, yes, no, no, "exact", yes, no, no]
    rows = json.loads(report.results([section], {}))["claims"]
    assert rows[1]["rule"].endswith("because") and rows[0]["ours"] == [1, 2]
    assert [report.show(value) for value in (86400, 0.118924, 3.0, True, [3, 7], None)] == [
        "86,400", "0.11892", "3", "yes", "3, 7", "—"
    ]  # fmt: skip


def test_measured_numbers_have_the_digits_that_their_uncertainty_leaves() -> None:
    assert report.show_with(0.033082, 0.0012345) == "0.0331 ± 0.0012"
    assert report.show_with(-12345.6, 89.2) == "-12,346 ± 89"
    assert report.show_with([0.21949, 0.2], [0.0061, 0.02]) == "0.2195 ± 0.0061, 0.200 ± 0.020"
    assert report.show_with(0.11892, 0) == "0.11892" and report.show_with("equal", 1e-5) == "equal"
    assert report.show_with(float("nan"), 0.1) == "nan"
    assert report.show_with(-0.004, 0.39) == "0.00 ± 0.39"


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), "")
PROBE = """<script>addEventListener("load", () => {
const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.body.setAttribute("data-probe", [document.images.length, broken, wide].join(" "));
})</script></body>"""


@pytest.mark.skipif(not BROWSER, reason="no chromium or chrome on this machine")
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_opens_in_a_browser(run: Run, tmp_path: Path, width: int) -> None:
    """No console message, no broken image, nothing wider than the window."""
    probed = tmp_path / "probed.html"
    allowed = run.page.replace("style-src", "script-src 'unsafe-inline'; style-src", 1)
    probed.write_text(allowed.replace("</body>", PROBE), encoding="utf-8")
    for page in (run.folder / "index.html", probed):
        command = [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            f"--window-size={width},900", "--virtual-time-budget=5000", page.as_uri(),
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert not [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    (found,) = re.findall(r'data-probe="(\d+) (\d+) (-?\d+)"', ended.stdout)
    images, broken, wide = map(int, found)
    assert images > 60 and broken == 0 and wide <= 0
