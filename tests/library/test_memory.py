"""`keep_memory`: a program takes the same memory in its next run, where the C library can."""

import ctypes
import subprocess
import sys

import pytest

# A training step that allocates tens of megabytes in each run: how many pages were cleared for a
# run, the least of five. On a busy machine a thread may allocate at another time than before, and
# that run takes more memory than the process ever had.
COUNTED = """
import resource, sys
import jax, jax.numpy as jnp
import convjax

if sys.argv[1] == "keep":
    assert convjax.keep_memory()
x, kernel = jnp.ones((8, 64, 64, 64)), jnp.ones((1, 1, 64, 256))
run = jax.jit(jax.value_and_grad(lambda x, kernel: (convjax.conv(x, kernel) ** 2).sum(), (0, 1)))
for _ in range(6):
    jax.block_until_ready(run(x, kernel))
cleared = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
pages = []
for _ in range(5):
    before = cleared()
    jax.block_until_ready(run(x, kernel))
    pages.append(cleared() - before)
print(min(pages))
"""


def pages(how):
    command = [sys.executable, "-c", COUNTED, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="this C library has no such setting",
)
def test_a_program_takes_the_same_memory_again():
    assert pages("keep") < pages("leave") / 3


def test_other_c_libraries_change_nothing():
    program = "import ctypes, convjax; ctypes.CDLL = lambda name: object(); "
    program += "assert convjax.keep_memory() is False"
    subprocess.run([sys.executable, "-c", program], check=True)
