"""compiler_options: what `jax.jit` takes, on the versions that need it."""

import functools
import importlib.metadata

import jax
import jax.numpy as jnp
import pytest
from compilation import AS_USERS

import convjax
from convjax import compiler


def by_ynnpack(function, *operands, options=None):
    """Whether XLA gives a convolution of the function to YNNPACK."""
    lowered = jax.jit(function, compiler_options=AS_USERS | (options or {})).lower(*operands)
    lines = lowered.compile().as_text().splitlines()
    return any("__ynn_fusion" in line and "/conv_general_dilated" in line for line in lines)


def test_jit_takes_them():
    options = convjax.compiler_options("cpu")
    x, kernel = jnp.ones((1, 20, 20, 32)), jnp.ones((3, 3, 32, 32))
    direct = functools.partial(convjax.conv, algorithm="direct")

    assert not by_ynnpack(direct, x, kernel, options=options)
    assert by_ynnpack(direct, x, kernel) == bool(options)


@pytest.mark.skipif(not compiler.has_slow_ynnpack(), reason="only jaxlib 0.10's YNNPACK is evaded")
def test_what_is_chosen_needs_none():
    """Forward and both gradients, with channels for which jaxlib 0.10 would take YNNPACK."""
    x, kernel = jnp.ones((1, 20, 20, 32)), jnp.ones((3, 3, 32, 32))
    for strides in (1, 2):
        forward = functools.partial(convjax.conv, strides=strides)
        y = forward(x, kernel)
        pull = jax.jit(lambda x, k, y, f=forward: jax.vjp(f, x, k)[1](y))
        for function, operands in ((forward, (x, kernel)), (pull, (x, kernel, y))):
            assert not by_ynnpack(function, *operands)


OPTION = "--xla_cpu_experimental_ynn_fusion_type="


@pytest.mark.parametrize(
    "flags, off",
    [
        ("", False),
        ("--xla_cpu_other=1", False),
        (OPTION, True),
        (f"--xla_a=1 {OPTION} --xla_b=2", True),
        (f"{OPTION}LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT", True),
        (f"{OPTION}LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,INDIVIDUAL_CONVOLUTION", False),
        (f"{OPTION}-individual_convolution", True),
        (f"{OPTION}+individual_dot", False),
        (f"{OPTION} {OPTION}individual_convolution", False),
    ],
)
def test_the_environment_is_seen(monkeypatch, flags, off):
    monkeypatch.setenv("XLA_FLAGS", flags)
    found = compiler.has_slow_ynnpack.__wrapped__()
    assert found == (importlib.metadata.version("jaxlib").startswith("0.10.") and not off)


@pytest.mark.parametrize("platform", ["gpu", "cuda", "rocm", "tpu"])
def test_other_platforms_need_none(platform):
    assert convjax.compiler_options(platform) == {}


def test_unknown_platforms():
    with pytest.raises(ValueError, match=r"^compiler_options: `platform` \(='metal'\) must be one"):
        convjax.compiler_options("metal")
