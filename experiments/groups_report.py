"""The claims and figures of `filter_groups`, from what it measured."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.axes import Axes

from convjax.analysis import block_scores
from convjax.models import NetworkInNetwork, counts_of
from experiments.figures import Theme, blocks, chart, errors
from experiments.report import Picture, Section
from experiments.settings import Settings
from experiments.verdicts import above, below, equal, estimate

GROUPS = (1, 2, 4, 8, 16)  # of conv3a
SCORED = (2, 4, 8, 16)


class Scores(NamedTuple):
    """R, E and N: numbers, or arrays with an entry for every network."""

    R: Any
    E: Any
    N: Any


# R, E and N of the authors' figures, read from their colours, so to about one percent.
AUTHORS = {
    2: Scores(1.77, 0.755, 0.51),
    4: Scores(2.27, 0.642, 0.52),
    8: Scores(3.11, 0.584, 0.52),
    16: Scores(4.74, 0.602, 0.58),
}
# Deep Roots' table: conv2a's and conv3a's groups, parameters, MACs with each bias once, accuracy.
TABLE = {
    1: (1, 1, 966_986, 222_487_946, 0.9211),
    2: (4, 2, 455_498, 123_397_514, 0.9202),
    4: (8, 4, 314_954, 103_343_498, 0.9215),
    8: (16, 8, 244_682, 93_316_490, 0.9167),
}
ROOT2 = (2, 1, 736_586, 163_505_546)
CLOSE_SCORE, CLOSE_CHANCE, CLOSE_ACCURACY = 0.1, 0.05, 0.02


class Measured(NamedTuple):
    """One network: its maps before and after training, and what it can do and costs."""

    groups: int
    seed: int
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    null: dict[int, np.ndarray]
    accuracy: float
    train_accuracy: float
    parameters: int
    macs: int


def section(settings: Settings, measured: Sequence[Measured], setting: str) -> Section:
    """The section of the page."""
    page = Section(
        "filter_groups",
        "10 · Filter groups and the correlation of filters",
        "The article's figure of filter correlations is Deep Roots' map of |covariance| between "
        "the whitened responses of conv2c (rows) and conv3a (columns). With g groups in conv3a it "
        "shows g blocks. How much of that is learned? R is the mean inside the blocks by the mean "
        "outside, E the share of energy inside, N = (E − 1/g)/(1 − 1/g): 0 by chance, 1 if all is "
        f"inside. {setting}",
    )
    by_groups = {g: [m for m in measured if m.groups == g] for g in GROUPS}
    by_groups = {g: found for g, found in by_groups.items() if found}
    for groups, found in by_groups.items():
        if groups == 1:
            _ungrouped(page, settings, found)
        else:
            _grouped(page, settings, groups, found)
    _between(page, settings, by_groups)
    _cost(page)
    _figures(page, by_groups)
    return page


def _groups(number: int) -> str:
    return f"{number} groups" if number > 1 else "no groups"


def n_score(matrix: np.ndarray, groups: int) -> float:
    """N of one map."""
    return float(block_scores(jnp.asarray(matrix), groups).N)


def scores(
    found: Sequence[Measured], groups: int, when: str = "after", kind: str = "whitened"
) -> Scores:
    """R, E and N of every network's map: three arrays."""
    each = [block_scores(jnp.asarray(getattr(m, when)[kind]), groups) for m in found]
    return Scores(*np.asarray(each, float).T)


def _grouped(page: Section, settings: Settings, groups: int, found: Sequence[Measured]) -> None:
    after, before = (scores(found, groups, when).N for when in ("after", "before"))
    nulls = [m.null[groups] for m in found]
    highest = np.array([np.quantile(null, 0.975) for null in nulls])
    trained, gained = estimate(after), estimate(after - before)
    words = f"{groups} groups in conv3a"
    paper = AUTHORS[groups].N
    page.finding(
        f"{words}: the map of the trained network has {groups} blocks (score N)",
        paper,
        *trained,
        equal(settings, trained, paper - CLOSE_SCORE, paper + CLOSE_SCORE, "N"),
        "The article's value is that of Deep Roots' own figure, of a larger network on CIFAR-10.",
    )
    page.finding(
        f"… control: above the same networks before training (difference of N; they have "
        f"{before.mean():.2f})",
        None,
        *gained,
        above(settings, gained, what="the difference"),
        "What training adds to what the architecture alone gives.",
    )
    beyond = estimate(after - highest)
    page.finding(
        "… null: above random orders of the channels (N less the 97.5th percentile of 200 orders)",
        None,
        *beyond,
        above(settings, beyond, what="the difference"),
    )
    alone = estimate(before - np.array([null.mean() for null in nulls]))
    page.finding(
        "… and what the architecture alone gives: N before training, less the mean of the orders",
        None,
        *alone,
        above(settings, alone, what="the difference"),
        "Blocks that an untrained network shows too: the figure by itself is no proof of learning.",
    )


def _ungrouped(page: Section, settings: Settings, found: Sequence[Measured]) -> None:
    for blocks_ in found[0].null:
        score = estimate(scores(found, blocks_).N)
        page.finding(
            f"No groups: scored with {blocks_} blocks, the map is at chance (N)",
            0,
            *score,
            equal(settings, score, -CLOSE_CHANCE, CLOSE_CHANCE, "N"),
        )
    largest = max(
        float(np.linalg.svd(getattr(m, when)["whitened"], compute_uv=False)[0])
        for m in found
        for when in ("before", "after")
    )
    page.identity(
        "Check: singular values of the whitened map are canonical correlations, at most 1",
        "at most 1",
        max(0.0, largest - 1),
        1e-3,
        what="excess over 1",
    )


def _between(page: Section, settings: Settings, by_groups: dict[int, list[Measured]]) -> None:
    """Claims that compare numbers of groups."""
    grouped = [g for g in by_groups if g > 1]
    most, least = max(grouped), min(grouped)
    if most != least:
        levels = {g: np.array([_off_block(m.after["whitened"], g) for m in by_groups[g]])
                  for g in (least, most)}  # fmt: skip
        fall = estimate(levels[most] - levels[least])
        page.finding(
            f"Outside the blocks the map gets darker with more groups (mean by the largest entry, "
            f"{most} groups less {least})",
            round(0.042 - 0.080, 3),
            *fall,
            below(settings, fall, what="the difference"),
        )
    energy = {
        kind: scores(by_groups[most], most, kind=kind).E for kind in ("whitened", "raw", "pearson")
    }
    lost = estimate(energy["whitened"] - energy["raw"])
    page.finding(
        f"It is the whitening that shows the blocks: E whitened less E of the plain covariance "
        f"({most} groups)",
        round(0.602 - 0.188, 3) if most == 16 else None,
        *lost,
        above(settings, lost, what="the difference"),
        f"E is {energy['whitened'].mean():.3f} whitened, {energy['raw'].mean():.3f} plain, "
        f"{energy['pearson'].mean():.3f} for Pearson's correlation; chance is {1 / most:.3f}.",
    )
    if 1 not in by_groups:
        return
    plain = np.array([m.accuracy for m in by_groups[1]])
    for groups in grouped:
        accuracy = np.array([m.accuracy for m in by_groups[groups]])
        change = estimate(accuracy - plain)
        paper = TABLE.get(groups)
        page.finding(
            f"{groups} groups in conv3a: about the accuracy of no groups (difference; "
            f"{accuracy.mean():.1%} and {plain.mean():.1%})",
            round(paper[4] - TABLE[1][4], 4) if paper else None,
            *change,
            equal(settings, change, -CLOSE_ACCURACY, CLOSE_ACCURACY, "the difference"),
            "" if paper else "Deep Roots prints no accuracy of this network.",
        )
        gap = estimate(
            np.array([m.train_accuracy - m.accuracy for m in by_groups[groups]])
            - np.array([m.train_accuracy - m.accuracy for m in by_groups[1]])
        )
        page.finding(
            f"… as a regulariser: a smaller gap between training and test accuracy than without "
            f"groups (difference, {groups} groups)",
            None,
            *gap,
            below(settings, gap, what="the difference"),
        )


def _off_block(matrix: np.ndarray, groups: int) -> float:
    """Mean absolute value outside the blocks, of a map whose largest entry is 1."""
    size = np.abs(matrix) / np.abs(matrix).max()
    rows, columns = (np.arange(n) * groups // n for n in size.shape)
    return float(size[rows[:, None] != columns].mean())


def _cost(page: Section) -> None:
    """Deep Roots' table of sizes, from the networks at their published size."""
    for name, (a, b, parameters, macs) in {
        "no groups": TABLE[1][:4],
        "root-2": ROOT2,
        **{f"root-{2 * g}": row[:4] for g, row in TABLE.items() if g > 1},
    }.items():
        model = nnx.eval_shape(
            lambda a=a, b=b: NetworkInNetwork(groups2a=a, groups3a=b, rngs=nnx.Rngs(0))
        )
        counts = counts_of(model, (1, 32, 32, 3))
        page.exact(
            f"Deep Roots, {name}: parameters, and multiply-accumulates with each bias once",
            [parameters, macs],
            [counts.parameters("deep_roots"), counts.macs("deep_roots")],
        )


def _figures(page: Section, by_groups: dict[int, list[Measured]]) -> None:
    def panel(found: Measured, when: str) -> Picture:
        matrix = np.abs(getattr(found, when)["whitened"])
        shown = max(2, found.groups)
        n = f": N = {n_score(matrix, shown):.2f}" if found.groups > 1 else ""
        label = f"{_groups(found.groups)}{n}"

        def draw(axes: Axes, theme: Theme) -> None:
            blocks(axes, theme, matrix, found.groups)

        return chart(label, draw, 210, 210)

    firsts = [found[0] for found in by_groups.values()]
    page.figure(
        "Trained: as many blocks as groups",
        "|Covariance| between the whitened responses of conv2c (rows) and conv3a (columns), each "
        "map scaled to its own maximum; the outlines are the groups.",
        [panel(found, "after") for found in firsts],
        [
            (f"R / E / N of {g} groups", " / ".join(f"{values.mean():.3g}" for values in
                                                   scores(found, g)))
            for g, found in by_groups.items() if g > 1
        ] + [
            (f"authors' R / E / N of {g} groups", " / ".join(f"{v:.3g}" for v in AUTHORS[g]))
            for g in by_groups if g > 1
        ],
    )  # fmt: skip
    page.figure(
        "The control: the same networks before training",
        "Nothing has been learned here, and blocks are there all the same: a channel of conv3a "
        "computes from its own group's channels only, so it depends on them more than on others.",
        [panel(found, "before") for found in firsts],
        [
            (f"R / E / N of {g} groups", " / ".join(f"{values.mean():.3g}" for values in
                                                   scores(found, g, "before")))
            for g, found in by_groups.items() if g > 1
        ],
    )  # fmt: skip
    page.figure(
        "Scores, accuracy and cost against the number of groups",
        "First, N with its 95 % interval over the seeds, beside the authors' figure and the range "
        "of 95 % of random orders of the channels. Then the canonical correlations between the two "
        "layers (singular values of the whitened map). Then test accuracy, and what the networks "
        "of this run cost.",
        [
            chart("Score N", _score_chart(by_groups), 380, 280),
            chart("Canonical correlations", _spectrum_chart(by_groups), 380, 280),
            chart("Test accuracy", _accuracy_chart(by_groups), 300, 260),
            chart("Cost, without groups = 1", _cost_chart(by_groups), 300, 260),
        ],
        [
            (_groups(g), f"{found[0].parameters:,} parameters, {found[0].macs:,} MACs")
            for g, found in by_groups.items()
        ],
    )


Drawing = Callable[[Axes, Theme], None]


def _axis(axes: Axes, groups: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(groups), [str(g) for g in groups])
    axes.minorticks_off()
    axes.set_xlabel("groups in conv3a")


def _score_chart(by_groups: dict[int, list[Measured]]) -> Drawing:
    def draw(axes: Axes, theme: Theme) -> None:
        groups = [g for g in by_groups if g > 1]
        for when, word, colour in (
            ("after", "trained", theme.two),
            ("before", "untrained", theme.one),
        ):
            each = [estimate(scores(by_groups[g], g, when).N) for g in groups]
            errors(axes, groups, each, color=colour, label=word)
        axes.plot(groups, [AUTHORS[g].N for g in groups], "x", color=theme.ink, label="authors")
        low, high = (
            [np.quantile(np.concatenate([m.null[g] for m in by_groups[g]]), q) for g in groups]
            for q in (0.025, 0.975)
        )
        axes.fill_between(groups, low, high, color=theme.quiet, alpha=0.5, label="random orders")
        _axis(axes, groups)
        axes.set(ylabel="N", ylim=(-0.1, 1))
        axes.legend(loc="upper left", ncols=2)

    return draw


def _spectrum_chart(by_groups: dict[int, list[Measured]]) -> Drawing:
    def draw(axes: Axes, theme: Theme) -> None:
        for groups, colour in zip((min(by_groups), max(by_groups)), theme.cycle, strict=False):
            for when, line in (("after", "-"), ("before", ":")):
                matrix = getattr(by_groups[groups][0], when)["whitened"]
                word = "trained" if when == "after" else "untrained"
                values = np.linalg.svd(matrix, compute_uv=False)
                axes.plot(values, line, color=colour, label=f"{_groups(groups)}, {word}")
        axes.set(xlabel="number", ylim=(0, 1.02), ylabel="correlation")
        axes.legend()

    return draw


def _accuracy_chart(by_groups: dict[int, list[Measured]]) -> Drawing:
    def draw(axes: Axes, theme: Theme) -> None:
        for name, colour in (("accuracy", theme.two), ("train_accuracy", theme.one)):
            each = [estimate([getattr(m, name) for m in found]) for found in by_groups.values()]
            word = "test" if name == "accuracy" else "training"
            errors(axes, list(by_groups), each, color=colour, label=word)
        _axis(axes, list(by_groups))
        axes.legend()

    return draw


def _cost_chart(by_groups: dict[int, list[Measured]]) -> Drawing:
    def draw(axes: Axes, theme: Theme) -> None:
        for name, colour in (("parameters", theme.two), ("macs", theme.one)):
            values = np.array([getattr(found[0], name) for found in by_groups.values()])
            word = "parameters" if name == "parameters" else "multiply-accumulates"
            axes.plot(list(by_groups), values / values[0], "o-", color=colour, label=word)
        _axis(axes, list(by_groups))
        axes.set_ylim(0, 1.05)
        axes.legend()

    return draw
