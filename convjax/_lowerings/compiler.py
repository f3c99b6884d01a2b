"""Options of XLA's compiler that make convolutions faster."""

from convjax._core import checks, declared
from convjax._core.public import public
from convjax._lowerings import probe, target

__all__ = ["compiler_options"]

_YNNPACK, _ONEDNN = target.YNNPACK_FLAG, target.ONEDNN_FLAG
_SUMS = "LIBRARY_FUSION_TYPE_REDUCE"  # what YNNPACK keeps: without it XLA's own sums are slower
_WIDTH = "xla_cpu_prefer_vector_width"
_CHANNELS_LAST = "xla_gpu_force_conv_nhwc"
_PLATFORMS = ("cpu", "gpu", "cuda", "rocm", "tpu")


@public
def compiler_options(platform: str, *, onednn: bool = False) -> dict[str, str | bool | int]:
    """Options for ``jax.jit(f, compiler_options=...)`` under which convolutions compile best.

    There are two for CPUs, or three, and one for CUDA.

    The first keeps YNNPACK for sums only. jaxlib 0.10 to 0.12 compute dense two-dimensional
    convolutions by YNNPACK. Without it, these convolutions and their gradients take half to two
    thirds of the time on jaxlib 0.10. On 0.12 they take about four fifths of the time forward and
    two thirds in training, if nothing else runs on the machine's other cores. With vectors of 512
    bits (AVX-512), 0.12 is faster with YNNPACK: there, and on 0.11, the option is left out.

    The second asks XLA for vectors of 512 bits. XLA uses 256 bits by default. With 512 bits, sums
    over taps, as in depthwise convolutions, took two thirds to nine tenths of the time (AMD Zen 4).
    Processors without AVX-512 compile as before.

    The option for CUDA keeps channels last. In programs compiled for an H200 and not run, XLA gives
    volumes to cuDNN with channels first, and copies operands and results into that order and back.
    With the option it does not. It is for operands with channels last: with channels first it would
    cause such copies. Nobody has timed it.

    No other platform is known to need an option: there the dictionary is empty.

    With `onednn` there is a third for CPUs: convolutions by oneDNN, where this jaxlib has it. To
    see that, a small convolution is compiled once. Give them to `jit`, which tells the choice of
    lowerings, and not to ``jax.jit``: some gradients take several times longer by oneDNN, products
    of matrices in float16 hundreds of times, and some convolutions are wrong on processors with
    AVX-512 or AMX. Only a choice that knows of it evades that.

    JAX takes options from the outermost ``jit`` only and shows them to no function. So this library
    can neither set them by itself nor choose lowerings by them, unless they are declared: `jit` and
    `compiled_with` do. It does read the environment: if ``XLA_FLAGS`` has
    ``--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE``, it does not use the
    lowering `spread_rows`. The benchmarks in the documentation have the figures.

    Args:
        platform: "cpu", "gpu", "cuda", "rocm" or "tpu".
        onednn: whether CPUs shall compute convolutions by oneDNN, where it is known to be faster.

    Returns:
        Names and values, as ``jax.jit`` takes them.

    Raises:
        ValueError: `platform` is none of these.
        TypeError: `onednn` is neither True nor False.

    Example:
        >>> import jax, jax.numpy as jnp, convjax
        >>> options = convjax.compiler_options("cpu")
        >>> step = jax.jit(convjax.conv, compiler_options=options)
        >>> step(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))).shape
        (1, 8, 8, 4)

    Source: XLA's flags, xla/debug_options_flags.cc, 2026,
        https://github.com/openxla/xla
    """
    checks.choice("compiler_options", "platform", platform, _PLATFORMS)
    checks.flag("compiler_options", "onednn", onednn)
    return known_options(platform, onednn)


def known_options(platform: str, onednn: bool) -> dict[str, str | bool | int]:
    """`compiler_options` for any platform: none where none is known."""
    release, unknown = target.known_release(target.installed())
    if platform not in ("cpu", "cuda") or unknown:  # an unknown release may refuse an option
        return {}
    if platform == "cuda":
        return {_CHANNELS_LAST: True}
    row, bits = target.JAXLIB[release], target.vector_bits()
    given: dict[str, str | bool | int] = {_YNNPACK: _SUMS, _ONEDNN: True, _WIDTH: 512}
    if onednn and row.onednn and probe.calls_onednn(declared.as_options("compiler_options", given)):
        return given
    if target.LARGE in row.slower[bits]:
        return {_YNNPACK: _SUMS, _WIDTH: 512}
    return {_WIDTH: 512}
