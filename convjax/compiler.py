"""Options of XLA's compiler that make convolutions faster, where one does."""

import functools
import importlib.metadata
import os
import pathlib
import re

from convjax import _checks
from convjax._public import public

_YNNPACK = "xla_cpu_experimental_ynn_fusion_type"
_SUMS = "LIBRARY_FUSION_TYPE_REDUCE"  # what YNNPACK keeps: without it XLA's own sums are slower
_WIDTH = "xla_cpu_prefer_vector_width"
_CPUINFO = pathlib.Path("/proc/cpuinfo")
_PLATFORMS = ("cpu", "gpu", "cuda", "rocm", "tpu")


@public
def compiler_options(platform: str) -> dict[str, str | bool | int]:
    """Options for ``jax.jit(f, compiler_options=...)`` under which convolutions compile best.

    On CPU, jaxlib 0.10 to 0.12 compute dense two-dimensional convolutions by YNNPACK. Without it
    they, and their gradients, take half to two thirds of the time on 0.10; on 0.12 mostly
    four fifths forward and two thirds in training, where nothing else runs on the machine's other
    cores, but more than with it where vectors have 512 bits (AVX-512): there it stays. And what XLA
    compiles itself uses vectors of 256 bits unless asked: with 512, sums over taps, as of depthwise
    convolutions, took two thirds to nine tenths of the time (AMD Zen 4). Processors without them
    compile as before. No other platform has been measured to need an option: there the dictionary
    is empty.

    Only the outermost ``jit`` takes options, and shows them to nobody: no function of this library
    can set them by itself, or choose its lowerings by them. It does see the first option in the
    environment, ``XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE``,
    which leaves sums alone to YNNPACK, and then evades nothing. The README's benchmark has the
    figures.

    Args:
        platform: "cpu", "gpu", "cuda", "rocm" or "tpu".

    Returns:
        Names and values, as ``jax.jit`` takes them.

    Raises:
        ValueError: `platform` is none of these.

    Example:
        >>> import jax, jax.numpy as jnp, convjax
        >>> options = convjax.compiler_options("cpu")
        >>> step = jax.jit(convjax.conv, compiler_options=options)
        >>> step(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))).shape
        (1, 8, 8, 4)

    Source: XLA's flags of the CPU compiler, xla/debug_options_flags.cc, 2026,
        https://github.com/openxla/xla
    """
    _checks.choice("compiler_options", "platform", platform, _PLATFORMS)
    if platform != "cpu" or not _jaxlib_has_ynnpack():
        return {}
    off: dict[str, str | bool | int] = {_YNNPACK: _SUMS} if _is_slow_for_large_windows() else {}
    return off | {_WIDTH: 512}


@functools.cache
def uses_ynnpack() -> bool:
    """Whether XLA on CPU here computes dense two-dimensional convolutions by YNNPACK, unasked."""
    return _jaxlib_has_ynnpack() and not _switched_off(os.environ.get("XLA_FLAGS", ""))


@functools.cache
def has_slow_ynnpack() -> bool:
    """Whether that takes longer than Eigen for all of them, as that of jaxlib 0.10 does."""
    return uses_ynnpack() and importlib.metadata.version("jaxlib").startswith("0.10.")


def has_fast_ynnpack() -> bool:
    """Whether it is there, and as fast as Eigen for small windows."""
    return uses_ynnpack() and not has_slow_ynnpack()


@functools.cache
def has_slow_ynnpack_for_large_windows() -> bool:
    """Whether that takes longer than Eigen for large windows, as kernels' gradients have."""
    return uses_ynnpack() and _is_slow_for_large_windows()


def _is_slow_for_large_windows() -> bool:
    """Every YNNPACK seen is with vectors of 256 bits, with 512 that of jaxlib 0.10. (That of 0.11
    was not measured with them.)"""
    return importlib.metadata.version("jaxlib").startswith("0.10.") or not _has_avx512()


def _has_avx512() -> bool:
    """Whether Linux says so of this machine's processor."""
    try:
        text = _CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return re.search(r"^flags\b.*\bavx512f\b", text, re.MULTILINE) is not None


@functools.cache
def runs_loops_on_one_thread() -> bool:
    """Whether XLA on CPU makes one kernel, which one thread runs, of a whole loop of array
    operations: jaxlib 0.12 does, 0.10 and 0.11 did not. (The pass that does so is meant for loops
    of under a kilobyte: xla/service/cpu/small_while_loop_hoisting_pass.cc.)"""
    return not importlib.metadata.version("jaxlib").startswith(("0.10.", "0.11."))


def _jaxlib_has_ynnpack() -> bool:
    """Seen on 0.10.2, 0.11.2 and 0.12.0.1, which know both options. Another may refuse one."""
    return importlib.metadata.version("jaxlib").startswith(("0.10.", "0.11.", "0.12."))


def _switched_off(flags: str) -> bool:
    """Whether these flags of XLA keep convolutions from YNNPACK.

    The last one counts: a list of what YNNPACK gets, or of changes to it, each with its sign.
    """
    given = re.findall(rf"--{_YNNPACK}=(\S*)", flags)
    if not given:
        return False
    kinds = given[-1].lower().split(",")
    if all(kind[:1] in ("+", "-") for kind in kinds):
        return any(kind.startswith("-") and "convolution" in kind for kind in kinds)
    return not any("convolution" in kind for kind in kinds)
