"""Processes that compute beside what is timed, as on a machine that is shared."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

# A turn takes about a millisecond. It ends with its parent, however that ends: by a signal, too.
_LOOP = """
import os, sys
print("computing", flush=True)
while os.getppid() == int(sys.argv[1]):
    sum(range(100_000))
"""


@contextlib.contextmanager
def busy(cores: int) -> Iterator[list[int]]:
    """Keep so many cores busy inside the `with` block: one process for each, whose ids it gives.

    They are gone when the block is left, by an error or Ctrl-C too.
    """
    processes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(cores):
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _LOOP, str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,  # Ctrl-C is for this process, which stops the others
                )
            )
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "computing\n":
                raise RuntimeError("a process that should keep a core busy did not start")
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()
