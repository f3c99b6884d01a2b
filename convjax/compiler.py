"""Options of XLA's compiler that make convolutions faster, and what this jaxlib does by default."""

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

    There are two, and both are for CPUs.

    The first keeps YNNPACK for sums only. jaxlib 0.10 to 0.12 compute dense two-dimensional
    convolutions by YNNPACK. Without it, these convolutions and their gradients take half to two
    thirds of the time on jaxlib 0.10. On 0.12 they take about four fifths of the time forward and
    two thirds in training, if nothing else runs on the machine's other cores. With vectors of 512
    bits (AVX-512), 0.12 is faster with YNNPACK: there, and on 0.11, the option is left out.

    The second asks XLA for vectors of 512 bits. XLA uses 256 bits by default. With 512 bits, sums
    over taps, as in depthwise convolutions, took two thirds to nine tenths of the time (AMD Zen 4).
    Processors without AVX-512 compile as before.

    No other platform has been measured to need an option: there the dictionary is empty.

    JAX takes options from the outermost ``jit`` only and shows them to no function. So this library
    can neither set them by itself nor choose lowerings by them. It does read the environment: if
    ``XLA_FLAGS`` has ``--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE``, it does
    not use the lowering `spread_rows`. The benchmarks in the documentation have the figures.

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
    """Whether XLA on CPU here computes dense two-dimensional convolutions by YNNPACK by default."""
    return _jaxlib_has_ynnpack() and not _switched_off(os.environ.get("XLA_FLAGS", ""))


@functools.cache
def has_slow_ynnpack() -> bool:
    """Whether YNNPACK is slower than Eigen for all of them, as in jaxlib 0.10."""
    return uses_ynnpack() and importlib.metadata.version("jaxlib").startswith("0.10.")


def has_fast_ynnpack() -> bool:
    """Whether YNNPACK is there, and as fast as Eigen for small windows."""
    return uses_ynnpack() and not has_slow_ynnpack()


@functools.cache
def has_slow_ynnpack_for_large_windows() -> bool:
    """Whether YNNPACK is slower than Eigen for large windows, as in kernels' gradients."""
    return uses_ynnpack() and _is_slow_for_large_windows()


def _is_slow_for_large_windows() -> bool:
    """With vectors of 256 bits YNNPACK is slower in jaxlib 0.10 to 0.12; with 512 bits in 0.10.

    (jaxlib 0.11 was not measured with vectors of 512 bits.)
    """
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
    """Whether XLA on CPU compiles a loop of array operations into one kernel for one thread.

    jaxlib 0.12 does, 0.10 and 0.11 did not. The pass that does so is meant for loops of less than a
    kilobyte: xla/service/cpu/small_while_loop_hoisting_pass.cc.
    """
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
