"""compiler_options: what `jax.jit` takes, on the versions that need it."""

import functools
import os
import re

import jax
import jax.numpy as jnp
import pytest
from compilation import AS_USERS
from programs import compiled

import convjax
from convjax._lowerings import target
from convjax._lowerings.target import LARGE, SMALL, Target


def by_ynnpack(function, *operands, options=None):
    """Whether XLA gives a convolution of the function to YNNPACK."""
    jitted = jax.jit(function, compiler_options=AS_USERS | (options or {}))
    lines = compiled(jitted, *operands).splitlines()
    return any("__ynn_fusion" in line and "/conv_general_dilated" in line for line in lines)


def test_jit_takes_them():
    options = convjax.compiler_options("cpu")
    x, kernel = jnp.ones((1, 20, 20, 32)), jnp.ones((3, 3, 32, 32))
    direct = functools.partial(convjax.conv, algorithm="direct")

    unasked = by_ynnpack(direct, x, kernel)
    assert unasked == bool(options)
    kept = unasked and "xla_cpu_experimental_ynn_fusion_type" not in options
    assert by_ynnpack(direct, x, kernel, options=options) == kept


def test_sums_stay_with_ynnpack():
    """XLA's own take longer: depthwise training steps were seen to take 1.7 times as long."""
    options = AS_USERS | convjax.compiler_options("cpu")
    jitted = jax.jit(lambda x: jnp.sum(x**2), compiler_options=options)
    text = compiled(jitted, jnp.ones((64, 4096)))
    assert ("__ynn_fusion" in text) == bool(convjax.compiler_options("cpu"))


@pytest.mark.parametrize("bits", [256, 512])
@pytest.mark.parametrize("version, slow", [("0.10.2", True), ("0.12.0.1", False)])
def test_a_fast_ynnpack_stays(monkeypatch, version, slow, bits):
    """That of later jaxlibs, where vectors have 512 bits."""
    monkeypatch.setattr(target, "installed", lambda: version)
    monkeypatch.setattr(target, "vector_bits", lambda: bits)
    options = convjax.compiler_options("cpu")
    assert ("xla_cpu_experimental_ynn_fusion_type" in options) == (slow or bits == 256)
    assert options["xla_cpu_prefer_vector_width"] == 512


def test_an_unknown_release_may_refuse_options(monkeypatch):
    monkeypatch.setattr(target, "installed", lambda: "0.99.0")
    assert convjax.compiler_options("cpu") == {}


def test_xla_compiles_for_the_width_of_vectors(tmp_path):
    """Its functions bear the width for LLVM, in what it writes of them where it is asked to."""
    options = convjax.compiler_options("cpu")
    dumped = {"xla_dump_to": str(tmp_path), **AS_USERS, **options}
    depthwise = functools.partial(convjax.conv, feature_group_count=16)
    x, kernel = jnp.ones((1, 8, 8, 16)), jnp.ones((3, 3, 1, 16))
    jax.jit(depthwise, compiler_options=dumped).lower(x, kernel).compile()
    written = "".join(path.read_text() for path in tmp_path.glob("*ir-no-opt.ll"))
    widths = set(re.findall(r'"prefer-vector-width"="(\d+)"', written))
    if not widths:
        pytest.skip("this jaxlib writes no LLVM code")
    assert widths == {str(options.get("xla_cpu_prefer_vector_width", 256))}


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("strides", [1, 2])
def test_what_is_chosen_needs_none(batch, strides):
    """Forward and both gradients, with channels for which XLA would take YNNPACK."""
    x, kernel = jnp.ones((batch, 20, 20, 32)), jnp.ones((3, 3, 32, 32))
    forward = functools.partial(convjax.conv, strides=strides)
    y = forward(x, kernel)
    here = Target.here("cpu")
    if strides > 1 or LARGE in here.ynnpack_slower:
        gradient = lambda x, k, y: jax.vjp(lambda k: forward(x, k), k)[1](y)  # noqa: E731
        assert not by_ynnpack(gradient, x, kernel, y)
    if SMALL in here.ynnpack_slower:  # another is as fast as Eigen there
        assert not by_ynnpack(forward, x, kernel)
        assert not by_ynnpack(lambda x, k, y: jax.vjp(forward, x, k)[1](y), x, kernel, y)


OPTION = "--xla_cpu_experimental_ynn_fusion_type="


@pytest.mark.parametrize(
    "flags, off",
    [
        ("", False),
        ("--xla_cpu_other=1", False),
        (OPTION, True),
        (f"--xla_a=1 {OPTION} --xla_b=2", True),
        (f"{OPTION}LIBRARY_FUSION_TYPE_REDUCE", True),
        (f"{OPTION}LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT", True),
        (f"{OPTION}LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,INDIVIDUAL_CONVOLUTION", False),
        (f"{OPTION}-individual_convolution", True),
        (f"{OPTION}+individual_dot", False),
        (f"{OPTION} {OPTION}individual_convolution", False),
    ],
)
def test_the_environment_is_seen(flags, off):
    assert target.switches_ynnpack_off(flags) == off
    found = Target.of("cpu", "0.10", ynnpack=not off)
    assert bool(found.ynnpack_slower) == (not off)


@pytest.mark.parametrize(
    "flags, bits, amx",
    [
        ("flags\t\t: fpu avx2 avx512f\n", 512, False),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile\n", 512, True),
        ("flags\t: fpu avx2\nbugs: avx512f amx_bf16\n", 256, False),
        ("", 256, False),
    ],
)
def test_the_processor_is_seen(tmp_path, flags, bits, amx):
    """As Linux describes it; elsewhere vectors of 256 bits are assumed."""
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\n" + flags)
    assert target.vector_bits(info) == bits
    assert target.has_amx(info) == amx and not target.has_amx(tmp_path / "none")
    assert target.vector_bits(tmp_path / "none") == 256


def test_this_machine_is_the_target_by_default():
    here = Target.here("cpu")
    assert here == Target.of(
        "cpu",
        target.installed(),
        vector_bits=target.vector_bits(),
        amx=target.has_amx(),
        ynnpack=not target.switches_ynnpack_off(os.environ.get("XLA_FLAGS", "")),
    )
    assert Target.here("cpu", "XLA").split == "XLA" and not Target.here("cpu", "XLA").is_one_cpu
    assert Target.here("tpu") == Target("tpu")


def test_every_release_says_what_was_seen():
    for release, row in target.JAXLIB.items():
        assert row.seen.startswith(release) and "scripts/benchmark" in row.seen
        assert set(row.slower) == {256, 512}
    assert target.known_release("0.12.7") == ("0.12", "")
    assert target.known_release("1.0.0")[0] == "0.12"


def test_channels_stay_last_on_cuda():
    """XLA knows the option: it refuses unknown ones, on every platform."""
    options = convjax.compiler_options("cuda")
    assert options == {"xla_gpu_force_conv_nhwc": True}
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1) == 2


@pytest.mark.parametrize("platform", ["gpu", "rocm", "tpu"])
def test_other_platforms_need_none(platform):
    assert convjax.compiler_options(platform) == {}


def test_unknown_platforms():
    with pytest.raises(ValueError, match=r"^compiler_options: `platform` \(='metal'\) must be one"):
        convjax.compiler_options("metal")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("gpu",), {}, r"`platform` \(='gpu'\) must be .* \"cuda\" or \"rocm\"\.$"),
        (("CPU",), {}, r"`platform` \(='CPU'\) must be \"cpu\""),
        ((5,), {}, r"`platform` \(=5\)"),
        (("cpu", 0.12), {}, r"`jaxlib` \(=0.12\) must be a version in words"),
        (("cpu", "new"), {}, r"`jaxlib` \(='new'\)"),
        (("cpu",), {"vector_bits": 128}, r"`vector_bits` \(=128\) must be 256 or 512"),
        (("cpu",), {"amx": "yes"}, r"`amx` \(='yes'\) must be True or False"),
        (("cpu",), {"split": "us"}, r"`split` \(='us'\) must be one of \"nobody\", \"XLA\""),
        (("cpu",), {"ynnpack": "no"}, r"`ynnpack` \(='no'\) must be True or False"),
    ],
    ids=str,
)
def test_a_target_that_there_is_not_is_refused_in_words(arguments, options, message):
    with pytest.raises((TypeError, ValueError), match=f"^Target.of: {message}"):
        Target.of(*arguments, **options)
