"""Where a program will run, as far as the choice of a lowering depends on it.

No other file reads versions, environment variables or the processor.
"""

import dataclasses
import functools
import importlib.metadata
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from jax.extend.backend import get_backend

from convjax._core import checks
from convjax._core.declared import Options
from convjax._lowerings import probe

Split = Literal["nobody", "XLA"]
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
GPUS = ("cuda", "rocm")

# Dense two-dimensional convolutions, as YNNPACK's speed differs between them. A gradient of a
# kernel has a large window: the gradient of the result. With a stride, that window is dilated.
SMALL, LARGE, DILATED = "small windows", "large windows", "large dilated windows"


@dataclasses.dataclass(frozen=True)
class Jaxlib:
    """What one release of jaxlib does to convolutions on a CPU, and how that was seen.

    Attributes:
        slower: for 256 and 512 bits a vector, the dense two-dimensional convolutions for which
            YNNPACK, to which XLA gives them, takes longer than Eigen.
        slower_with_amx: the same on processors with AMX, Intel's instructions for matrices.
        one_thread_loops: whether XLA compiles a small ``while`` loop of array operations into one
            kernel for one thread.
        faster_groups: whether XLA's own convolutions in groups of 5 to 14 channels take a seventh
            to three fifths of the time that they take on 0.10.
        onednn: whether oneDNN, which XLA uses for convolutions where it is asked to, was measured
            to be faster.
        seen: the versions that were looked at, and commands that show it.
    """

    slower: Mapping[int, frozenset[str]]
    slower_with_amx: frozenset[str]
    one_thread_loops: bool
    faster_groups: bool
    onednn: bool
    seen: str


_COMMAND = "scripts/benchmark --rows '^dense' --peers lax --out DIR"
_GROUPS = "scripts/tune_select.py FEW_UNEVEN_PAIRS UNEVEN_CHANNELS"
_LOOPS = "pytest tests/laws/test_lowerings.py -k turns_of_a_large_window"

# One row for each release, oldest first.
JAXLIB = {
    "0.10": Jaxlib(
        slower={256: frozenset({SMALL, LARGE, DILATED}), 512: frozenset({SMALL, LARGE, DILATED})},
        slower_with_amx=frozenset({SMALL, LARGE, DILATED}),
        one_thread_loops=False,
        faster_groups=False,
        onednn=False,
        seen=f"0.10.2 with 256 and 512 bits, and with AMX: {_COMMAND}; {_LOOPS}; "
        f"with 256 bits: {_GROUPS}",
    ),
    "0.11": Jaxlib(
        slower={256: frozenset({LARGE, DILATED}), 512: frozenset({DILATED})},
        slower_with_amx=frozenset({LARGE, DILATED}),
        one_thread_loops=False,
        faster_groups=False,  # not measured
        onednn=False,
        seen=f"0.11.2 with 256 bits (512 bits and AMX were not measured): {_COMMAND}; {_LOOPS}",
    ),
    "0.12": Jaxlib(
        slower={256: frozenset({LARGE, DILATED}), 512: frozenset({DILATED})},
        slower_with_amx=frozenset({LARGE, DILATED}),
        one_thread_loops=True,
        faster_groups=True,
        onednn=True,
        seen=f"0.12.0.1 with 256 and 512 bits, and with AMX: {_COMMAND}; {_LOOPS}; "
        f"with 256 bits: {_GROUPS}",
    ),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a program will run.

    Two programs for equal targets get the same lowerings. `Target.here` describes this machine, and
    `Target.of` one that is somewhere else.

    Attributes:
        platform: "cpu", "cuda", "rocm", "tpu", or another that JAX lowers for.
        split: who splits the convolution over several devices: "XLA", or "nobody", where there is
            one device, or the problem is one device's part.
        vector_bits: the width of the processor's vectors, 256 or 512.
        amx: whether the processor has AMX, as Intel's servers have since 2023.
        ynnpack: whether XLA gives dense two-dimensional convolutions to YNNPACK.
        ynnpack_slower: for which of them YNNPACK, or oneDNN in its place, takes longer than Eigen.
        one_thread_loops: whether XLA compiles small loops for one thread.
        faster_groups: whether XLA's own grouped convolutions take less time than on jaxlib 0.10.
        onednn: whether XLA gives convolutions to oneDNN.
        note: what was assumed, for people: "" where nothing was.

    Example:
        >>> import jax, jax.numpy as jnp, convjax
        >>> x, kernel = jnp.ones((8, 28, 28, 64)), jnp.ones((3, 3, 64, 64))
        >>> old = convjax.Target.of("cpu", jaxlib="0.10")
        >>> convjax.explain(convjax.conv, x, kernel, target=old).rows[0].lowering
        'spread_rows'
    """

    platform: str
    split: Split = "nobody"
    vector_bits: int = 256
    amx: bool = False
    ynnpack: bool = False
    ynnpack_slower: frozenset[str] = frozenset()
    one_thread_loops: bool = False
    faster_groups: bool = False
    onednn: bool = False
    note: str = ""

    @classmethod
    def of(
        cls,
        platform: str,
        jaxlib: str = list(JAXLIB)[-1],
        *,
        vector_bits: int = 256,
        amx: bool = False,
        ynnpack: bool = True,
        onednn: bool = False,
        split: Split = "nobody",
    ) -> "Target":
        """A target with this version of jaxlib, such as "0.12" or "0.12.0.1".

        An unknown release counts as the newest that is known, and `note` says so.

        Args:
            platform: "cpu", "cuda", "rocm", "tpu", or another that JAX lowers for.
            jaxlib: the version; only CPUs depend on it.
            vector_bits: the width of the processor's vectors, 256 or 512.
            amx: True if the processor has AMX. Its vectors have 512 bits.
            ynnpack: False if options keep convolutions away from YNNPACK.
            onednn: True if options give convolutions to oneDNN, and so keep them away from YNNPACK.
            split: who splits the convolution over several devices.

        Raises:
            ValueError, TypeError: a name, a version or a width that there is not.
        """
        _check(platform, jaxlib, vector_bits, split)
        checks.flag("Target.of", "amx", amx)
        checks.flag("Target.of", "ynnpack", ynnpack)
        checks.flag("Target.of", "onednn", onednn)
        if platform != "cpu":
            return cls(platform, split)
        row, note = known_release(jaxlib)
        ynnpack = ynnpack and not onednn
        if onednn and (note or not JAXLIB[row].onednn):
            onednn, note = False, note or f"oneDNN was not measured to be faster on jaxlib {jaxlib}"
        elif onednn:
            note = "the program is compiled with oneDNN, as options say"
        known = JAXLIB[row]
        slower = known.slower_with_amx if amx else known.slower[vector_bits]
        return cls(
            platform,
            split,
            512 if amx else vector_bits,
            amx,
            ynnpack,
            slower if ynnpack or onednn else frozenset(),
            known.one_thread_loops,
            known.faster_groups,
            onednn,
            note,
        )

    @classmethod
    def here(
        cls, platform: str, split: Split = "nobody", options: Options | None = None
    ) -> "Target":
        """This machine and its jaxlib, with `platform`.

        Args:
            platform: as in `of`.
            split: as in `of`.
            options: the compiler options that were declared, as sorted pairs. They add to
                ``XLA_FLAGS``.
        """
        return _here(platform, split, options or ())

    @property
    def is_one_cpu(self) -> bool:
        """Whether the program is compiled for a CPU, and XLA splits nothing over devices."""
        return self.platform == "cpu" and self.split == "nobody"

    @property
    def is_one_gpu(self) -> bool:
        """The same for a GPU."""
        return self.platform in ("cuda", "rocm") and self.split == "nobody"


def _check(platform: Any, jaxlib: Any, vector_bits: Any, split: Any) -> None:
    function, word = "Target.of", str(platform).lower()
    if not isinstance(platform, str) or (word in (*PLATFORMS, "gpu") and platform not in PLATFORMS):
        rule = 'must be "cpu", "cuda", "rocm", "tpu", or another name that JAX lowers for'
        hint = 'A "gpu" is "cuda" or "rocm".' if word == "gpu" else ""
        checks.fail(function, "platform", platform, rule, hint)
    if not (isinstance(jaxlib, str) and re.match(r"\d+\.\d+", jaxlib)):
        checks.fail(function, "jaxlib", jaxlib, 'must be a version in words, such as "0.12"')
    if vector_bits not in (256, 512):
        checks.fail(function, "vector_bits", vector_bits, "must be 256 or 512")
    checks.choice(function, "split", split, get_args(Split))


def known_release(jaxlib: str) -> tuple[str, str]:
    """The row of `JAXLIB` for a version, and a note where the version has none of its own."""
    release = ".".join(jaxlib.split(".")[:2])
    if release in JAXLIB:
        return release, ""
    newest = list(JAXLIB)[-1]
    return newest, f"jaxlib {jaxlib} was not measured: the choice is that of jaxlib {newest}"


# ---- this machine ------------------------------------------------------------------------------


@functools.cache
def _here(platform: str, split: Split, options: Options) -> Target:
    if platform != "cpu":
        return Target.of(platform, split=split)
    flags = os.environ.get("XLA_FLAGS", "") + spelled(options)
    ynnpack = not switches_ynnpack_off(flags)
    return Target.of(
        platform,
        installed(),
        vector_bits=vector_bits(),
        amx=has_amx(),
        ynnpack=ynnpack,
        # YNNPACK comes first, and what XLA would do with an unknown option is seen, not assumed.
        onednn=switches_onednn_on(flags) and not ynnpack and probe.calls_onednn(options),
        split=split,
    )


def spelled(options: Options) -> str:
    """Options in the spelling of ``XLA_FLAGS``, of which the last counts."""
    return "".join(
        f" --{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in options
    )


def default_platform() -> str:
    """The platform of JAX's default backend, as JAX lowers for it."""
    platform = str(get_backend().platform)
    return gpu_platform() if platform == "gpu" else platform


def gpu_platform() -> str:
    """What JAX lowers for on this machine's GPUs, "cuda" where there are none."""
    return "rocm" if "rocm" in get_backend().platform_version.lower() else "cuda"


def installed() -> str:
    """The version of jaxlib."""
    return importlib.metadata.version("jaxlib")


_CPUINFO = pathlib.Path("/proc/cpuinfo")


def vector_bits(cpuinfo: pathlib.Path = _CPUINFO) -> int:
    """512 if Linux says that this machine's processor has AVX-512, else 256."""
    return 512 if _has("avx512f", cpuinfo) else 256


def has_amx(cpuinfo: pathlib.Path = _CPUINFO) -> bool:
    """Whether Linux says that this machine's processor has AMX for bfloat16."""
    return _has("amx_bf16", cpuinfo)


def _has(flag: str, cpuinfo: pathlib.Path) -> bool:
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return re.search(rf"^flags\b.*\b{flag}\b", text, re.MULTILINE) is not None


YNNPACK_FLAG = "xla_cpu_experimental_ynn_fusion_type"


def switches_ynnpack_off(flags: str) -> bool:
    """Whether these flags of XLA keep convolutions from YNNPACK.

    The last flag counts. It lists what YNNPACK gets, or changes to that, each with its sign.
    """
    given = re.findall(rf"--{YNNPACK_FLAG}=(\S*)", flags)
    if not given:
        return False
    kinds = given[-1].lower().split(",")
    if all(kind[:1] in ("+", "-") for kind in kinds):
        return any(kind.startswith("-") and "convolution" in kind for kind in kinds)
    return not any("convolution" in kind for kind in kinds)


ONEDNN_FLAG = "xla_cpu_experimental_onednn_custom_call"


def switches_onednn_on(flags: str) -> bool:
    """Whether these flags of XLA ask for convolutions by oneDNN. The last flag counts."""
    given = re.findall(rf"--{ONEDNN_FLAG}(?:=(\S*))?(?=\s|$)", flags)
    return bool(given) and given[-1].lower() in ("", "true", "1")
