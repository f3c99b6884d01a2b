"""compiler_options: what `jax.jit` takes, on the versions that need it."""

import importlib.metadata

import jax
import jax.numpy as jnp
import pytest

import convjax


def test_jit_takes_them():
    options = convjax.compiler_options("cpu")
    old = importlib.metadata.version("jaxlib").startswith("0.10.")
    assert bool(options) == old
    x, kernel = jnp.ones((1, 20, 20, 32)), jnp.ones((3, 3, 32, 32))
    text = jax.jit(convjax.conv, compiler_options=options).lower(x, kernel).compile().as_text()
    assert "ynn" not in text or not old
    if old:
        assert "ynn" in jax.jit(convjax.conv).lower(x, kernel).compile().as_text()


@pytest.mark.parametrize("platform", ["gpu", "cuda", "rocm", "tpu"])
def test_other_platforms_need_none(platform):
    assert convjax.compiler_options(platform) == {}


def test_unknown_platforms():
    with pytest.raises(ValueError, match=r"^compiler_options: `platform` \(='metal'\) must be one"):
        convjax.compiler_options("metal")
