"""`scripts/flax_own_tests.py` on a source tree in miniature: it swaps, counts, and can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PASSING = """
import jax.numpy as jnp
from jax import random
from flax import {api} as module

def test_conv():
    assert {call}.shape == (1, 8, 4)
"""
NNX = "module.Conv(3, 4, 3, rngs=module.Rngs(0))(jnp.ones((1, 8, 3)))"
LINEN = (
    "module.Conv(4, 3).init_with_output(__import__('jax').random.key(0), jnp.ones((1, 8, 3)))[0]"
)
FAILING = """
def test_conv_is_flaxs():
    assert module.Conv.__module__.startswith("flax.")
"""


def run(tree, *more):
    """Exit status and output of the script on tests like Flax's, `more` added to NNX's."""
    for path, text in (
        ("nnx/nn/conv_test.py", "".join([PASSING.format(api="nnx", call=NNX), *more])),
        ("linen/linen_linear_test.py", PASSING.format(api="linen", call=LINEN)),
    ):
        file = tree / "tests" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    command = [sys.executable, ROOT / "scripts" / "flax_own_tests.py", tree]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout


@pytest.mark.slow
def test_passing(tmp_path):
    status, output = run(tmp_path)
    assert status == 0
    assert "with Flax: 2 passed\nwith convjax: 2 passed\n" in output
    assert "calls of our linen Conv, 1 calls of our nnx Conv, " in output


@pytest.mark.slow
def test_failing(tmp_path):
    status, output = run(tmp_path, FAILING)
    assert status == 1
    assert "with Flax: 3 passed\nwith convjax: 1 failed, 2 passed\n" in output
    assert (
        "passes with Flax, with convjax failed: nnx/nn/conv_test.py::test_conv_is_flaxs" in output
    )


def test_no_tests_there(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "flax_own_tests.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "has no nnx/nn/conv_test.py, linen/linen_linear_test.py" in done.stderr
