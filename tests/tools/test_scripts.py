"""Every script of `scripts/` says what it does, and does nothing, where `--help` is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    path for path in sorted((ROOT / "scripts").glob("*.py")) if "__main__" in path.read_text()
]


def test_there_are_scripts():
    assert len(SCRIPTS) > 8


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_their_arguments(path):
    assert "argparse.ArgumentParser" in path.read_text()


def test_help_is_printed_and_nothing_runs():
    command = [sys.executable, str(ROOT / "scripts" / "fit_select.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: fit_select.py") and "rows" not in done.stdout
