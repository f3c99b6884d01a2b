"""Run jax's own convolution tests with lax, then with convjax's drop-ins, and compare test by test.

    python scripts/jax_own_tests.py PATH_TO_JAX_TESTS [--algorithm NAME[,NAME...]]

PATH_TO_JAX_TESTS is the folder `tests` of jax's source at the installed release. In the second run
the `lax` that its test modules see (`lax` and `jax.lax`) has our convolution functions. It fails
(exit 1) if a test that passes with lax does not pass with ours, or if our operation was never used.
`--algorithm` runs every convolution that the named lowering accepts through that lowering, in a run
for each name; "select" is the default choice, "all" is that and every lowering.

jax's tests need absl-py, hypothesis and pytest besides jax. Extra arguments go to pytest.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path
from typing import Any

FILES = ["lax_test.py", "lax_vmap_test.py", "lax_autodiff_test.py"]
SELECTION = "Conv or conv"
CASES = "25"
DEFAULT = "select"
REPORT = "CONVJAX_OWN_TESTS_REPORT"
SWAP = "CONVJAX_OWN_TESTS_SWAP"


class Proxy(types.ModuleType):
    """A module like `original`, some of whose attributes are replaced."""

    def __init__(self, original: types.ModuleType, replaced: dict[str, Any]) -> None:
        super().__init__(original.__name__, original.__doc__)
        self.__dict__.update(replaced)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class Plugin:
    """Record each test's outcome, and how often our operation was bound and lowered."""

    def __init__(self, swap: str) -> None:
        self.outcomes: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        if swap:
            self.swap("" if swap == DEFAULT else swap)

    def swap(self, algorithm: str) -> None:
        """Give `jax` a `lax` with our functions, before the test modules import it."""
        import jax

        import convjax.lax
        from convjax import operation
        from convjax.lowerings import LOWERINGS, select

        real_bind, real_select = operation.conv_p.bind, select.select
        if algorithm and algorithm not in LOWERINGS:
            sys.exit(f"no lowering {algorithm!r}: there are {', '.join(LOWERINGS)}")

        def bind(*operands: Any, **params: Any) -> Any:
            self.counts["bound"] += 1
            return real_bind(*operands, **params)

        def choose(problem: Any, *where: Any) -> select.Choice:
            choice = real_select(problem, *where)
            if algorithm and LOWERINGS[algorithm].accepts(problem) is None:
                choice = select.Choice(algorithm, "--algorithm", choice.name)
            self.counts[f"lowered as {choice.name}"] += 1
            return choice

        operation.conv_p.bind = bind  # type: ignore[method-assign]
        select.select = choose  # type: ignore[assignment]
        ours = {name: getattr(convjax.lax, name) for name in convjax.lax.__all__}
        jax.lax = Proxy(jax.lax, ours)  # type: ignore[assignment]

    def pytest_runtest_logreport(self, report: Any) -> None:
        worse = ("passed", "skipped", "failed")
        before = self.outcomes.get(report.nodeid, "passed")
        self.outcomes[report.nodeid] = max(before, report.outcome, key=worse.index)

    def pytest_sessionfinish(self) -> None:
        found = {"outcomes": self.outcomes, "counts": self.counts}
        Path(os.environ[REPORT]).write_text(json.dumps(found))


def pytest_configure(config: Any) -> None:
    """Called by pytest, to which this file is a plugin."""
    config.pluginmanager.register(Plugin(os.environ[SWAP]))


def run(tests: Path, swap: str, extra: list[str]) -> tuple[dict[str, str], dict[str, int]]:
    """Outcome by test, and the counts, of one run of pytest."""
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")
        path = [str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "JAX_NUM_GENERATED_CASES": os.environ.get("JAX_NUM_GENERATED_CASES", CASES),
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            REPORT: str(report),
            SWAP: swap,
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", Path(__file__).stem]
        command += ["-p", "no:cacheprovider", "-c", f"{folder}/pytest.ini", f"--rootdir={tests}"]
        command += ["-k", SELECTION, *extra, *FILES]
        code = subprocess.run(command, cwd=tests, env=environment, stdin=subprocess.DEVNULL)
        if not report.exists():
            sys.exit(f"pytest ended without a report (exit status {code.returncode})")
        found = json.loads(report.read_text())
    return found["outcomes"], found["counts"]


def compare(theirs: dict[str, str], ours: dict[str, str], counts: dict[str, int], name: str) -> int:
    """Print how a run with ours compares with lax's; 1 where it is worse or compares nothing."""
    passing = [test for test, outcome in theirs.items() if outcome == "passed"]
    worse = {test: ours.get(test, "missing") for test in passing if ours.get(test) != "passed"}
    for side, outcomes in (("lax", theirs), (f"convjax, {name}", ours)):
        total = Counter(outcomes.values())
        print(f"with {side}: " + ", ".join(f"{total[k]} {k}" for k in sorted(total)))
    print(
        f"with convjax, {name}: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
    )
    for test, outcome in worse.items():
        print(f"passes with lax, with convjax {outcome}: {test}")
    used = counts.get("bound" if name == DEFAULT else f"lowered as {name}", 0)
    if not used:
        print("convjax's operation was never used: these runs compare nothing")
    sys.stdout.flush()
    return 1 if worse or not used or not passing else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tests", type=Path, help="the folder `tests` of jax's source")
    parser.add_argument(
        "--algorithm", default=DEFAULT, help="the lowerings to run where they accept, by commas"
    )
    arguments, extra = parser.parse_known_args()
    tests = arguments.tests.resolve()
    if missing := [name for name in FILES if not (tests / name).is_file()]:
        parser.error(f"{tests} has no {', '.join(missing)}")
    names = arguments.algorithm.split(",")
    if names == ["all"]:
        from convjax.lowerings import LOWERINGS

        names = [DEFAULT, *LOWERINGS]

    print("==> with lax", flush=True)
    theirs, _ = run(tests, "", extra)
    status = 0
    for name in names:
        print(f"==> with convjax, {name}", flush=True)
        status |= compare(theirs, *run(tests, name, extra), name)
    return status


if __name__ == "__main__":
    sys.exit(main())
