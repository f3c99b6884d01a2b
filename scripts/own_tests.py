"""Run another project's own tests twice, as they are and with ours swapped in, and compare.

What `jax_own_tests.py` and `flax_own_tests.py` share. Each of these is also the pytest plugin that
swaps, in the second run, before the test modules are imported.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPORT = "CONVJAX_OWN_TESTS_REPORT"
SWAP = "CONVJAX_OWN_TESTS_SWAP"


class Plugin:
    """Record each test's outcome, and in `counts` what the swapped code says of itself."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        if swap := os.environ[SWAP]:
            self.swap(swap)

    def swap(self, what: str) -> None:
        """Put ours in the place of theirs, before the test modules import it."""
        raise NotImplementedError

    def pytest_runtest_logreport(self, report: Any) -> None:
        worse = ("passed", "skipped", "failed")
        before = self.outcomes.get(report.nodeid, "passed")
        self.outcomes[report.nodeid] = max(before, report.outcome, key=worse.index)

    def pytest_sessionfinish(self) -> None:
        found = {"outcomes": self.outcomes, "counts": self.counts}
        Path(os.environ[REPORT]).write_text(json.dumps(found))


def run(
    script: str,
    tests: Path,
    files: Sequence[str],
    selection: str,
    swap: str,
    extra: Sequence[str],
    environment: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, int]]:
    """Outcome by test, and the counts, of one run of pytest on `files` in the folder `tests`.

    Args:
        script: the file that is the plugin.
        selection: pytest's ``-k``.
        swap: what the plugin swaps in; "" for nothing.
        extra: further arguments of pytest.
        environment: further environment variables.
    """
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")
        path = [str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]
        variables = {
            **os.environ,
            **environment,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            REPORT: str(report),
            SWAP: swap,
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", Path(script).stem]
        command += ["-p", "no:cacheprovider", "-c", f"{folder}/pytest.ini", f"--rootdir={tests}"]
        command += ["-k", selection, *extra, *files]
        code = subprocess.run(command, cwd=tests, env=variables, stdin=subprocess.DEVNULL)
        if not report.exists():
            sys.exit(f"pytest ended without a report (exit status {code.returncode})")
        found = json.loads(report.read_text())
    return found["outcomes"], found["counts"]


def compare(
    name: str,
    theirs: Mapping[str, str],
    ours: Mapping[str, str],
    counts: Mapping[str, int],
    used: int,
) -> int:
    """Print both runs' totals and each test that passes with `name` only; 1 if there is one.

    It is 1 too if nothing passed, or if `used`, how often the swapped code ran, is 0.
    """
    passing = [test for test, outcome in theirs.items() if outcome == "passed"]
    worse = {test: ours.get(test, "missing") for test in passing if ours.get(test) != "passed"}
    for which, outcomes in ((name, theirs), ("convjax", ours)):
        total = Counter(outcomes.values())
        print(f"with {which}: " + ", ".join(f"{total[k]} {k}" for k in sorted(total)))
    print("with convjax: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    for test, outcome in worse.items():
        print(f"passes with {name}, with convjax {outcome}: {test}")
    if not used:
        print("convjax's operation was never used: these runs compare nothing")
    return 1 if worse or not used or not passing else 0


def folder_of_tests(parser: Any, tests: Path, files: Sequence[str]) -> Path:
    """`tests`, if it holds `files`; else an error of the command line."""
    tests = tests.resolve()
    if missing := [name for name in files if not (tests / name).is_file()]:
        parser.error(f"{tests} has no {', '.join(missing)}")
    return tests
