"""The README: every python block runs, and its table and list are those of the library."""

import re
from pathlib import Path

import pytest

import convjax
from convjax import kinds

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def between(marker: str) -> str:
    """The text between `<!-- marker -->` and `<!-- end of marker -->`."""
    found = re.search(rf"<!-- {marker} -->\n(.*?)<!-- end of {marker} -->", README, re.DOTALL)
    assert found, f"README.md has no {marker!r} markers"
    return found.group(1)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number):
    if "flax" in BLOCKS[number]:
        pytest.importorskip("flax")
    exec(compile(BLOCKS[number], f"README.md, python block {number + 1}", "exec"), {})


def test_there_are_blocks():
    assert len(BLOCKS) >= 3
    assert "convjax" in BLOCKS[0]


def test_table_of_kinds():
    assert between("kinds").strip() == kinds.markdown_table().strip(), (
        "README.md's table is stale: replace it by what `python -m convjax.kinds` prints"
    )


def test_public_names():
    listed = re.findall(r"`([^`]+)`", between("names"))
    assert len(listed) == len(set(listed))
    assert set(listed) == set(convjax.__all__)


def test_table_of_benchmarks():
    from benchmarking import readme

    assert between("benchmark") == readme.markdown(), (
        "README.md's table is stale: run `scripts/benchmark.py --readme`"
    )
