"""The page grows as experiments end; one that fails gets a section, and the others stay."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments import registry
from experiments.__main__ import main
from experiments.page import html, report, stored
from experiments.run import pool
from experiments.run.data import DataError
from experiments.run.settings import Settings

ROOT = Path(__file__).parents[2]

BROKEN = "ValueError: a number that is broken"


def found(name: str) -> report.Section:
    section = report.Section(name, f"What {name} finds", "An introduction.")
    section.exact(f"a claim of {name}", 1, 1)
    return section


def module(name: str, run: Callable[[Settings], Any] | None = None) -> Any:
    """A tiny experiment, with the first sentence that the page shows of it."""

    def plain(settings: Settings) -> report.Section:
        list(settings.track(range(2)))
        return found(name)

    return SimpleNamespace(
        PARTS=range(2), run=run or plain, __doc__=f"About {name}:\ntwo lines.\n\nMore."
    )


def broken(settings: Settings) -> report.Section:
    raise ValueError("a number that is broken")


def several(monkeypatch: pytest.MonkeyPatch, **runs: Any) -> None:
    tiny = {name: module(name, run) for name, run in runs.items()}
    monkeypatch.setattr(registry, "EXPERIMENTS", tiny)
    monkeypatch.setattr(registry, "SECONDS", {"second": 40, "third": 110})


def read(folder: Path) -> tuple[str, dict[str, Any]]:
    numbers = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return (folder / "index.html").read_text(encoding="utf-8"), numbers


def sections(text: str) -> list[str]:
    return re.findall(r'<section id="([\w-]+)"', text)


def test_the_page_is_written_after_every_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tiny experiment reads the page that the reader has while it runs."""
    seen = []

    def look(name: str) -> Callable[[Settings], report.Section]:
        def run(settings: Settings) -> report.Section:
            seen.append(read(tmp_path))
            return found(name)

        return run

    names = ("first", "second", "third")
    several(monkeypatch, **{name: look(name) for name in names})
    assert main(["--out", str(tmp_path)]) == 0
    for number, (text, numbers) in enumerate([*seen, read(tmp_path)]):
        done, waiting = names[:number], names[number:]
        assert sections(text) == [*done, *["to-come"] * bool(waiting)]
        assert [row["experiment"] for row in numbers["claims"]] == list(done)
        assert numbers.get("to_come", []) == list(waiting) and "failed" not in numbers
        assert ('http-equiv="refresh"' in text) == bool(waiting)
        for name in names:
            listed = f"<li><b>{name}</b>: About {name}: two lines. <small>" in text
            assert listed == (name in waiting)
    first, _ = seen[0]
    assert '<a href="#to-come">3 sections</a> still to come' in first
    assert "<small>about 40 seconds</small>" in first
    assert "<small>about 2 minutes</small>" in first
    assert "<small></small>" in first  # of which nothing is known


@pytest.mark.parametrize("where", ["first", "second", "third"])
def test_an_experiment_that_fails_gets_a_section(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    runs = dict.fromkeys(("first", "second", "third"))
    several(monkeypatch, **(runs | {where: broken}))
    assert main(["--out", str(tmp_path)]) == 1
    text, numbers = read(tmp_path)
    assert sections(text) == list(runs)
    others = [name for name in runs if name != where]
    assert [row["experiment"] for row in numbers["claims"]] == others
    assert list(numbers["failed"]) == [where] and BROKEN in numbers["failed"][where]
    assert "to come" not in text and 'http-equiv="refresh"' not in text
    (failed,) = re.findall(rf'<section id="{where}">(.*?)</section>', text, re.DOTALL)
    assert "did not get to its end" in failed and BROKEN in failed
    assert text.count("did not get to its end") == 1
    summary = re.findall(r'<details id="claims-(\w+)"><summary>(.*?)</summary>', text)
    assert [name for name, line in summary if "✗ failed" in line] == [where]
    told = capsys.readouterr()
    assert f"failed: {BROKEN}" in told.out  # the table of plain text
    assert f"experiment {where!r} failed:\nTraceback" in told.err
    assert told.err.endswith(f"python -m experiments: failed: {where}.\n")


def test_an_interrupted_run_keeps_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def stop(settings: Settings) -> report.Section:
        raise KeyboardInterrupt

    several(monkeypatch, first=None, second=stop, third=None)
    assert main(["--out", str(tmp_path)]) == 130
    assert "what is in" in capsys.readouterr().err
    text, numbers = read(tmp_path)
    assert sections(text) == ["first", "to-come"] and numbers["to_come"] == ["second", "third"]
    assert "This run was stopped: " in text and "<h2>Not computed</h2>" in text
    assert 'http-equiv="refresh"' not in text and "still to come" not in text


def test_wrong_arguments_still_stop_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def missing(settings: Settings) -> report.Section:
        raise DataError("the folder has no test_batch.bin.")

    several(monkeypatch, first=None, second=missing, third=None)
    assert main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("the folder has no test_batch.bin.\n")
    assert main(["--out", str(tmp_path), "--jobs", "0"]) == 2
    assert "--jobs 0 must be at least 1" in capsys.readouterr().err


def test_every_experiment_has_an_expected_time() -> None:
    assert registry.SECONDS.keys() == registry.EXPERIMENTS.keys()
    for name, experiment in registry.EXPERIMENTS.items():
        about = registry.about(name, experiment)
        assert 20 < len(about) < 400 and "\n" not in about, name
    order = registry.by_length(registry.EXPERIMENTS)
    assert order[0] == next(iter(registry.EXPERIMENTS)) and set(order) == set(registry.EXPERIMENTS)
    lengths = [registry.SECONDS[name] for name in order[1:]]
    assert lengths == sorted(lengths, reverse=True)


# ---- several at a time -------------------------------------------------------------------------


def serve(connection: Any, cores: tuple[int, ...], settings: Settings) -> None:
    """What a process of these tests runs in place of real experiments."""
    while True:
        name = connection.recv()
        if name == "dies":
            os._exit(7)
        connection.send(("part", name))
        run = broken if name == "fails" else None
        connection.send(("section", pool.section(name, module(name, run), settings)))


def test_a_process_that_dies_takes_no_other_with_it() -> None:
    names, parts = ["a", "dies", "b", "fails", "c", "d"], []
    settings = Settings("smoke", progress=parts.append)
    made = dict(pool.at_once(names, settings, 2, serve))
    assert made.keys() == set(names) and sorted(parts) == ["a", "b", "c", "d", "fails"]
    assert {name for name, section in made.items() if section.failed} == {"dies", "fails"}
    assert "died (exit code 7)" in made["dies"].failed and BROKEN in made["fails"].failed
    assert made["a"] == found("a")


def test_processes_share_the_cores() -> None:
    for jobs in (1, 2, 3):
        shares = pool._shares(jobs)
        assert len(set(shares)) == jobs and all(shares)


@pytest.mark.slow
def test_several_at_a_time_find_the_same(tmp_path: Path) -> None:
    """Real experiments in two processes, in the order of the page: numbers and pictures."""
    pages = []
    for jobs in ("1", "2"):
        folder = tmp_path / jobs
        names = ["shapes", "dilated", "worked_numbers"]
        assert main([*names, "--profile", "smoke", "--out", str(folder), "--jobs", jobs]) == 0
        text, numbers = read(folder)
        assert sections(text) == names
        pages.append((numbers["claims"], re.findall(r'src="(data:[^"]*)"', text)))
    assert pages[0] == pages[1]


def test_the_page_of_stored_numbers_has_every_claim(tmp_path: Path) -> None:
    numbers = json.loads((ROOT / "experiments/results/results.json").read_text("utf-8"))
    made = stored.sections(numbers)
    assert [claim.row() for section in made for claim in section.claims] == numbers["claims"]
    stored.write(ROOT / "experiments" / "results", tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text("utf-8")
    assert text.count("<tr class=") == len(numbers["claims"]) and "<img" not in text


# ---- in a browser --------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), "")


@pytest.mark.skipif(not BROWSER, reason="no chromium or chrome on this machine")
def test_an_unfinished_page_opens_in_a_browser(tmp_path: Path) -> None:
    """With a section, a failed one, and two to come: no console message, nothing too wide."""
    waiting = [html.ToCome(name, f"About {name}.", "about 9 seconds") for name in ("later", "last")]
    made = [found("first"), pool.failed("second", f"Traceback\n  <{BROKEN}>")]
    (tmp_path / "index.html").write_text(html.page(made, {"seed": 0}, waiting), encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        "--window-size=390,900", (tmp_path / "index.html").as_uri(),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    assert sections(ended.stdout) == ["first", "second", "to-come"]
    assert f"&lt;{BROKEN}&gt;" in ended.stdout
