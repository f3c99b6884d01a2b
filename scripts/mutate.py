"""Law "planted faults": the test suite can fail.

Plant one fault at a time in a copy, and see a test turn red.

    python scripts/mutate.py            # all faults; exit status 1 if one survives
    python scripts/mutate.py NAME ...   # the faults whose names contain one of these words
    python scripts/mutate.py --check    # only whether every fault still finds its place (fast)
    python scripts/mutate.py --jobs 4

`faults/` lists them: each is one exact replacement in one file of `convjax/`.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from faults import FAULTS, Fault

ROOT = pathlib.Path(__file__).resolve().parent.parent
PASSED, FAILED = 0, 1  # pytest's exit statuses; others mean that it could not run the tests


def misplaced(fault: Fault) -> str | None:
    """Why `fault` cannot be planted in the tree as it is, or None."""
    path = ROOT / "convjax" / fault.file
    if not path.is_file():
        return f"{fault.file} does not exist"
    count = path.read_text().count(fault.old)
    return None if count == 1 else f"its text occurs {count} times in {fault.file}"


def run_tests(tests: str, fault: Fault | None = None) -> tuple[int, float, str]:
    """Exit status, seconds and output of `tests` in a copy of the tree with `fault` in it."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copy = pathlib.Path(folder)
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        for name in ("convjax", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", copy)
        if fault is not None:
            path = copy / "convjax" / fault.file
            path.write_text(path.read_text().replace(fault.old, fault.new))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--tb=short",
            "-p",
            "no:cacheprovider",
        ]
        environment = os.environ | {
            "PYTHONPATH": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_PROFILE": "no shrinking",
        }
        start = time.perf_counter()
        done = subprocess.run(
            [*command, *tests.split()], cwd=copy, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        return done.returncode, seconds, done.stdout


def reason(output: str) -> str:
    """The first line that says what went wrong, cut to a table's width."""
    lines = [line[1:].strip() for line in output.splitlines() if line.startswith("E ")]
    return next((line for line in lines if line), "?")[:60]


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant faults; every one must turn a test red.")
    parser.add_argument("names", nargs="*", help="only faults whose name contains one of these")
    parser.add_argument("--check", action="store_true", help="only check that all can be planted")
    parser.add_argument("--jobs", type=int, default=2, help="how many to try at once")
    options = parser.parse_args()

    chosen = [f for f in FAULTS if not options.names or any(n in f.name for n in options.names)]
    problems = [f"{f.name}: {why}" for f in chosen if (why := misplaced(f))]
    if problems:
        print("These faults cannot be planted:", *problems, sep="\n  ")
        return 1
    if options.check:
        print(f"All {len(chosen)} faults can be planted.")
        return 0

    every = " ".join(sorted({test for fault in chosen for test in fault.tests.split()}))
    print("Without any fault ...", end=" ", flush=True)
    status, seconds, output = run_tests(every)
    print("green" if status == PASSED else "NOT GREEN", f"({seconds:.0f} s)")
    if status != PASSED:
        print(output[-3000:])
        return 1

    survivors = 0
    print(f"\n| {'fault':58} | {'file':24} | verdict  | seconds | first sign")
    print(f"|{'-' * 60}|{'-' * 26}|{'-' * 10}|{'-' * 9}|-----------")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for fault, (status, seconds, output) in zip(
            chosen, pool.map(lambda f: run_tests(f.tests, f), chosen), strict=True
        ):
            verdict = {FAILED: "red", PASSED: "SURVIVED"}.get(status, "BROKEN")
            survivors += verdict != "red"
            row = f"| {fault.name:58} | {fault.file:24} | {verdict:8} | {seconds:7.1f}"
            print(f"{row} | {reason(output) if verdict == 'red' else ''}", flush=True)
            if verdict == "BROKEN":
                print(output[-3000:])
    print(f"\n{len(chosen) - survivors} of {len(chosen)} faults turn the tests red.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
