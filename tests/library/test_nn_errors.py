"""What the modules refuse, in one sentence that names module, argument, value, rule and hint."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from convjax import linen, nn

RNGS = nnx.Rngs(0)
IMAGE = jnp.ones((2, 8, 9, 6))


def made(name, *args, **options):
    return getattr(nn, name)(*args, **options, rngs=RNGS)


def applied(layer, x=IMAGE):
    return jax.eval_shape(lambda: layer.init_with_output(jax.random.key(0), x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: made("Conv", 6, 4, 3)(IMAGE),
            r"^Conv: `kernel_size` \(=3\) means one spatial axis, and `inputs` has 4 axes. "
            r"Give one extent per spatial axis, such as `kernel_size=\(3, 3\)`; `\(3,\)` ",
        ),
        (
            lambda: made("ConvTranspose", 6, 4, 5)(jnp.ones((1, 4, 4, 4, 6))),
            r"^ConvTranspose: `kernel_size` \(=5\) means .*`kernel_size=\(5, 5, 5\)`",
        ),
        (
            lambda: made("GroupedConv", 6, 4, 3, 2)(IMAGE),
            r"^GroupedConv: `kernel_size` \(=3\) means one spatial axis",
        ),
        (
            lambda: applied(linen.Conv(4, 3)),
            r"^Conv: `kernel_size` \(=3\) means one spatial axis",
        ),
        (
            lambda: made("Conv", 5, 4, (3, 3))(IMAGE),
            r"^Conv: `inputs` \(=\(2, 8, 9, 6\)\) must have `in_features` \(=5\) channels on its "
            r"last axis\.$",
        ),
        (
            lambda: made("Conv", 8, 4, (3, 3))(IMAGE),
            r"must have `in_features` \(=8\) .*It looks channels-first: move its channels last",
        ),
        (
            lambda: made("Conv", 6, 4, (3, 3))(jnp.ones((9, 6))),
            r"^Conv: `inputs` \(=\(9, 6\)\) must have at least 3 axes: 2 spatial ones and channels",
        ),
        (
            lambda: made("GroupedConv", 6, 9, (3, 3), 4),
            r"^GroupedConv: `groups` \(=4\) must divide `in_features` \(=6\)",
        ),
        (
            lambda: made("PointwiseGroupedConv", 6, 8, 3),
            r"^PointwiseGroupedConv: `groups` \(=3\) must divide `out_features` \(=8\)",
        ),
        (
            lambda: made("ConvTranspose", 6, 8, (3,), feature_group_count=3),
            r"^ConvTranspose: `feature_group_count` \(=3\) must divide `out_features` \(=8\)",
        ),
        (
            lambda: applied(linen.GroupedConv(8, (3, 3), 3)),
            r"^GroupedConv: `groups` \(=3\) must divide `features` \(=8\)",
        ),
        (
            lambda: applied(linen.GroupedConv(8, (3, 3), 4)),
            r"^GroupedConv: `groups` \(=4\) must divide `channels of inputs` \(=6\)",
        ),
        (
            lambda: made("GroupedConv", 6, 9, (3, 3), 0),
            r"^GroupedConv: `groups` \(=0\) must be at ",
        ),
        (lambda: made("Conv", 0, 9, (3,)), r"^Conv: `in_features` \(=0\) must be at least 1"),
        (lambda: made("Conv", 3, 0, (3,)), r"^Conv: `out_features` \(=0\) must be at least 1"),
        (
            lambda: made("Conv", 3, 4, (3, 0)),
            r"^Conv: `kernel_size` \(=\(3, 0\)\) must be at least",
        ),
        (lambda: made("Conv", 3, 4, ()), r"^Conv: `kernel_size` \(=\(\)\) must have at least one"),
        (lambda: made("Conv", 3, 4, (3, 3), (1, 1, 2)), r"^Conv: `strides` \(=\(1, 1, 2\)\) must"),
        (lambda: made("PointwiseConv", 3, 4, rank=0), r"^PointwiseConv: `rank` \(=0\) must be at"),
        (
            lambda: made("DepthwiseConv", 3, (3,), 0),
            r"^DepthwiseConv: `channel_multiplier` \(=0\) must be at least 1",
        ),
        (
            lambda: made("SpatiallySeparableConv", 3, 4, (3, 3, 3), (2,)),
            r"^SpatiallySeparableConv: `mid_features` \(=\(2,\)\) must have one entry",
        ),
        (
            lambda: made("SubpixelConv", 3, 4, (3, 3), (2, 0)),
            r"^SubpixelConv: `scale` \(=\(2, 0\)\) must be at least 1",
        ),
        (
            lambda: made("ConvTranspose", 3, 4, (3,), convention="torch"),
            r"^ConvTranspose: `convention` \(='torch'\) must be one of \"flax\", \"adjoint\"",
        ),
        (
            lambda: made("Conv", 6, 4, (3, 3), mask=jnp.ones((3, 3)))(IMAGE),
            r"^Conv: `mask` \(=\(3, 3\)\) must have the kernel's shape \(3, 3, 6, 4\)",
        ),
        (lambda: nn.ChannelShuffle(0), r"^ChannelShuffle: `groups` \(=0\) must be at least 1"),
        (
            lambda: nn.ChannelShuffle(4)(IMAGE),
            r"^channel_shuffle: `groups` \(=4\) must divide the channels of `x` \(=6\)",
        ),
    ],
)
def test_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: made("GroupedConv", 6, 9, (3, 3), 3, dilation=2),
            r"^GroupedConv: there is no option `dilation` \(did you mean `kernel_dilation`\?\). It "
            r"takes `in_features`, .*`kernel_dilation`, .*`use_bias`, .*`bias_metadata`\.$",
        ),
        (
            lambda: made("PointwiseConv", 6, 9, padding="VALID"),
            r"^PointwiseConv: there is no option `padding`",
        ),
        (lambda: made("Conv", 3, 4, "3"), r"^Conv: `kernel_size` .* must be an integer or a seq"),
        (lambda: made("Conv", 3, 4.0, (3,)), r"^Conv: `out_features` \(=4.0\) must be an integer"),
        (
            lambda: made("GroupedConv", 6, 9, (3,), True),
            r"^GroupedConv: `groups` \(=True\) must be",
        ),
    ],
)
def test_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()
