"""`keep_memory`: freed memory stays with the process, so that the next program finds it ready."""

import ctypes
from collections.abc import Callable

from convjax._core.public import public

# Numbers of `mallopt` in glibc's malloc.h, and what they are set to.
_TRIM_THRESHOLD = (-1, (1 << 31) - 1)  # bytes at the end of the heap that stay
_MMAP_MAX = (-4, 0)  # allocations that are mapped one by one, and unmapped when they are freed
_ARENA_MAX = (-8, 1)  # one heap for all threads: the others cannot grow beyond 64 MB


@public
def keep_memory() -> bool:
    """Ask the C library to keep freed memory, so that programs on a CPU find theirs ready.

    A program of JAX on a CPU allocates its results and temporaries when it starts. The C library of
    most Linux systems, glibc, takes allocations of over 32 MB from the system, and gives each back
    when it is freed. The system clears that memory page by page in every run. For a training step
    of a large layer this takes longer than the convolutions do.

    After this call the process keeps what it has freed, and the next run takes it again. It holds
    as much memory as it ever needed at once. That is for the whole process, and all libraries in
    it, until it ends. Call it at the beginning of a program.

    Returns:
        True if the C library does so. False on systems whose C library has no such setting (macOS,
        Windows, Linux with musl): nothing has changed then.

    Example:
        >>> import convjax
        >>> kept = convjax.keep_memory()
        >>> kept in (True, False)
        True

    Source: the GNU C Library, ``mallopt``,
        https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html
    """
    mallopt = _mallopt()
    settings = (_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX)
    return mallopt is not None and all([mallopt(*setting) for setting in settings])


def _mallopt() -> Callable[[int, int], int] | None:
    """The C library's function; None if there is none."""
    try:
        return ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return None
