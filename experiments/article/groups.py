"""Groups, depthwise convolution and the channel shuffle: sections 10 to 12 of the article."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from convjax.draw.charts import matrix
from experiments.page.figures import chart
from experiments.page.report import Picture, Section
from experiments.run.measure import channel_reach, difference, integers, macs, out_shape, weights
from experiments.run.settings import Settings


def run(settings: Settings) -> Section:
    """Run the experiment."""
    section = Section(
        "groups",
        "10–12 · Groups and the channel shuffle",
        "Which input channels reach which output channels is read off the Jacobian of the real "
        "functions: an entry that is zero means no path.",
    )
    for part in settings.track(PARTS):
        part(section, settings)
    return section


def halves(section: Section, settings: Settings) -> None:
    """Two groups are two convolutions, with half of the weights."""
    x, k = integers(settings.seed, 1, 7, 7, 6), integers(settings.seed + 1, 3, 3, 3, 8)
    whole = convjax.grouped_conv(x, k, 2)
    parts = [convjax.conv(x[..., :3], k[..., :4]), convjax.conv(x[..., 3:], k[..., 4:])]
    section.identity(
        "The first filter group convolves [:, :, 0:Din/2], the second the other half; the results "
        "are stacked",
        "equal",
        difference(whole, jnp.concatenate(parts, -1)),
        0,
    )
    section.exact(
        "Two groups create 2 × Dout/2 = Dout channels (Din = 6, Dout = 8)", 8, whole.shape[-1]
    )
    dense = weights((3, 3, 64, 128))
    grouped = {g: (3, 3, 64 // g, 128) for g in (1, 2, 4, 8, 16)}
    section.exact(
        "2 groups have (h·w·Din/2·Dout/2)·2 parameters: half (3×3, 64 to 128 channels)",
        dense // 2,
        weights(grouped[2]),
    )
    section.exact(
        "Parameters decrease as the number of groups increases (1, 2, 4, 8, 16 groups): as 1/g",
        [dense // g for g in grouped],
        [weights(shape) for shape in grouped.values()],
    )
    costs = [
        macs(lambda x, k, g=g: convjax.grouped_conv(x, k, g), (1, 9, 9, 64), shape)
        for g, shape in grouped.items()
    ]
    section.exact(
        "“The total operations are significantly reduced” in the same proportion",
        [costs[0] // g for g in grouped],
        costs,
    )


def depthwise(section: Section, settings: Settings) -> None:
    """As many groups as channels."""
    x, k = integers(settings.seed, 1, 7, 7, 6), integers(settings.seed + 1, 3, 3, 1, 12)
    section.exact(
        "With Din groups each filter has depth Din / Din = 1: depths that 6 channels in 6 groups "
        "accept",
        [1],
        [depth for depth in range(1, 7) if _accepts(depth, 6)],
    )
    section.identity(
        "Din groups of one filter each: depthwise convolution",
        "equal",
        difference(convjax.grouped_conv(x, k[..., :6], 6), convjax.depthwise_conv(x, k[..., :6])),
        0,
    )
    section.exact(
        "With Dout/Din = 2 filters per group it differs from depthwise convolution",
        True,
        difference(convjax.grouped_conv(x, k, 6), convjax.depthwise_conv(x, k)) > 0,
        "It is depthwise convolution with a channel multiplier of 2; the article's is the case 1.",
    )


def shuffle(section: Section, settings: Settings) -> None:
    """Groups block the flow of information; a shuffle lets it through."""
    channels, groups = 6, 3
    order = convjax.channel_shuffle(jnp.arange(1, channels + 1), groups)
    section.exact(
        "Channel shuffle of 1 2 | 3 4 | 5 6: each group's channels go to different groups",
        [1, 3, 5, 2, 4, 6],
        order,
    )
    section.identity(
        "The shuffle loses nothing: `channel_unshuffle` undoes it",
        "equal",
        difference(convjax.channel_unshuffle(order, groups), jnp.arange(1, channels + 1)),
        0,
    )
    n, g = 12, 3
    first, second = (jax.random.normal(jax.random.key(i), (1, 1, n // g, n)) for i in range(2))
    grouped, shuffled = convjax.grouped_conv, convjax.shuffled_grouped_conv
    reach: dict[str, Callable[[jax.Array], jax.Array]] = {
        "one grouped layer": lambda x: grouped(x, first, g),
        "two grouped layers": lambda x: grouped(grouped(x, first, g), second, g),
        "channel shuffle alone": lambda x: convjax.channel_shuffle(x, g),
        "grouped, shuffled, grouped": lambda x: grouped(shuffled(x, first, g), second, g),
    }
    found = {name: channel_reach(function, n) for name, function in reach.items()}
    block = np.kron(np.eye(g, dtype=int), np.ones((n // g, n // g), int))
    section.identity(
        "“This blocks information flow between channel groups”: after two grouped layers (12 "
        "channels, 3 groups) the reach is block-diagonal",
        "block-diagonal",
        difference(found["two grouped layers"], block),
        0,
        what="pairs that differ",
    )
    section.exact(
        "With a shuffle between them every output channel sees every input channel: pairs reached",
        n * n,
        int(found["grouped, shuffled, grouped"].sum()),
    )
    section.identity(
        "Shuffled grouped convolution = grouped convolution, then channel shuffle",
        "equal",
        difference(
            convjax.shuffled_grouped_conv(jnp.ones((1, 1, 1, n)), first, g),
            convjax.channel_shuffle(convjax.grouped_conv(jnp.ones((1, 1, 1, n)), first, g), g),
        ),
        0,
    )

    def panel(name: str, values: np.ndarray) -> Picture:
        label = f"{name}: {int(values.sum())} of {values.size} pairs"
        return chart(label, lambda axes, theme: matrix(axes, theme, values), 230, 230)

    section.figure(
        "Who can see whom",
        "12 channels in 3 groups; a row for every output channel, a column for every input "
        "channel, filled where the first depends on the second. However many grouped layers are "
        "stacked, the blocks stay apart. One shuffle between two of them connects everything.",
        [panel(name, values) for name, values in found.items()],
    )


def pointwise_grouped(section: Section, settings: Settings) -> None:
    """Section 12."""
    x, k = integers(settings.seed, 1, 5, 6, 12), integers(settings.seed + 1, 1, 1, 4, 9)
    section.identity(
        "Pointwise grouped convolution is grouped convolution with 1×1 filters",
        "equal",
        difference(convjax.pointwise_grouped_conv(x, k, 3), convjax.grouped_conv(x, k, 3)),
        0,
    )
    dense = macs(convjax.pointwise_conv, (1, 28, 28, 240), (1, 1, 240, 240))
    grouped = macs(
        lambda x, k: convjax.pointwise_grouped_conv(x, k, 3), (1, 28, 28, 240), (1, 1, 80, 240)
    )
    section.exact(
        "1×1 convolutions are costly too; 3 groups cost a third (240 channels, 28×28)",
        dense // 3,
        grouped,
        f"{grouped:,} instead of {dense:,} multiplications.",
    )


def _accepts(depth: int, groups: int) -> bool:
    """Whether filters of this depth fit 6 channels in so many groups."""
    try:
        out_shape(lambda x, k: convjax.grouped_conv(x, k, groups), (1, 7, 7, 6), (3, 3, depth, 12))
    except ValueError:
        return False
    return True


PARTS = (halves, depthwise, shuffle, pointwise_grouped)
