"""Sections 11 and 12: shuffled and pointwise grouped convolution."""

import jax.numpy as jnp

import convjax
from convjax import draw
from figures.registry import beside, figure

CHANNELS, GROUPS = 9, 3
KERNEL = jnp.ones((1, 1, CHANNELS // GROUPS, CHANNELS))


def grouped(x):
    return convjax.grouped_conv(x, KERNEL, GROUPS)


def shuffled(x):
    return convjax.channel_shuffle(x, GROUPS)


@figure("F45", "11")
def without_shuffle():
    """Two grouped convolutions one after the other: the groups never meet."""
    return draw.connectivity(
        grouped, grouped, shape=(1, 1, 1, CHANNELS), names=("GConv1", "GConv2")
    )


@figure("F46", "11")
def with_shuffle():
    """With a shuffle between them every output depends on every input."""
    names = ("GConv1", "shuffle", "GConv2")
    return draw.connectivity(grouped, shuffled, grouped, shape=(1, 1, 1, CHANNELS), names=names)


@figure("F47", "12")
def pointwise_grouped():
    """Not in the article: a 1×1 layer without and with groups, as in ShuffleNet."""
    options = {"in_features": 24, "out_features": 24}
    dense = draw.layer("pointwise", (7, 7), title="1×1", **options)
    groups = draw.layer(
        "pointwise_grouped", (7, 7), feature_group_count=3, title="1×1 in 3 groups", **options
    )
    return beside("Pointwise, and pointwise grouped", dense, groups)
