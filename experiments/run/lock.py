"""One command at a time writes to a folder of results."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from experiments.run import processes


class InUseError(Exception):
    """Another command writes to the folder."""


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the folder, which exists, for the time of the block.

    The lock is the system's, on the folder itself: it leaves no file behind, and goes with the
    process however that ends. Of several processes that run as one, the first one takes it for all.

    Raises:
        InUseError: another command has it.
    """
    handle = os.open(directory, os.O_RDONLY) if jax.process_index() == 0 else None
    try:
        if not processes.agreed(handle is None or _taken(handle)):
            raise InUseError(
                f"--out {directory} must belong to one command at a time, and another one that "
                "runs now has it: wait until that ends, or give another --out."
            )
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _taken(handle: int) -> bool:
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ModuleNotFoundError, OSError):
        pass  # a system or a network's disk without locks: the folder is not protected there
    return True
