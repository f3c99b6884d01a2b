"""The figures of `filter_groups`, from what it measured."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes

from convjax.draw.charts import Theme, blocks
from experiments.findings.filter_groups.scores import (
    AUTHORS,
    AUTHORS_2A,
    AUTHORS_PLAIN,
    Measured,
    Scores,
    blocks_of,
    n_score,
    scores,
)
from experiments.page.figures import chart, errors
from experiments.page.report import Picture, Section
from experiments.page.verdicts import estimate


def _groups(number: int) -> str:
    return f"{number} groups" if number > 1 else "no groups"


def figures(page: Section, by_groups: dict[int, list[Measured]]) -> None:
    """The maps, their controls, other maps, and curves."""
    grouped = [g for g in by_groups if g > 1]
    firsts = [found[0] for found in by_groups.values()]
    page.figure(
        "Trained: as many blocks as groups",
        "|Covariance| between the whitened responses of conv2c (rows) and conv3a (columns), each "
        "map scaled to its own maximum; the outlines are the groups.",
        [_panel(_groups(m.groups), m.after["whitened"], m.groups) for m in firsts],
        [("each", "R / E / N, means of the seeds")]
        + [
            (f"{g} groups", f"{_triple(scores(by_groups[g], g))} (authors {_triple(AUTHORS[g])})")
            for g in grouped
        ],
    )
    page.figure(
        "The control: the same networks before training",
        "Nothing has been learned here, and blocks are there all the same: a channel of conv3a "
        "computes from its own group's channels only, so it depends on them more than on others.",
        [_panel(_groups(m.groups), m.before["whitened"], m.groups) for m in firsts],
        [("each", "R / E / N, means of the seeds")]
        + [(f"{g} groups", _triple(scores(by_groups[g], g, "before"))) for g in grouped],
    )
    _others(page, grouped[-1], by_groups)
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


def _others(page: Section, most: int, by_groups: dict[int, list[Measured]]) -> None:
    """The network with the most groups, drawn in other ways."""
    first, double = by_groups[most][0], 2 * most
    facts = [("each", "R / E / N")]
    for g, found in by_groups.items():
        if g > 1:
            blocks_ = blocks_of("2a", g)
            ours = _triple(scores(found, blocks_, kind="2a"))
            paper = f" (authors {_triple(AUTHORS_2A[g])})" if g in AUTHORS_2A else ""
            facts.append((f"conv1c to conv2a, {blocks_} groups", ours + paper))
    for g, found in by_groups.items():
        if g > 1:
            after, before = (_triple(scores(found, g, w, "linear")) for w in ("after", "before"))
            facts.append((f"before ReLU, {g} groups", f"{after} (untrained {before})"))
    plain = _triple(scores(by_groups[most], most, kind="raw"))
    paper = f" (authors {_triple(AUTHORS_PLAIN[most])})" if most in AUTHORS_PLAIN else ""
    facts.append((f"not whitened, {most} groups", plain + paper))
    page.figure(
        "The same trained network in other maps",
        f"With {most} groups in conv3a and {double} in conv2a: the layer before conv2a; conv2c and "
        "conv3a taken before the ReLU, and as plain covariances; and the 1×1 layers after the "
        "grouped ones, which mix the groups and have no blocks.",
        [
            _panel("conv1c to conv2a", first.after["2a"], double),
            _panel("before the ReLU", first.after["linear"], most),
            _panel("not whitened", first.after["raw"], most),
            _panel("conv2a to conv2b", first.after["2b"], double),
            _panel("conv3a to conv3b", first.after["3b"], most),
        ],
        facts,
    )


def _triple(found: Scores) -> str:
    """R / E / N in words: means over the networks."""
    return " / ".join(f"{np.mean(values):.3g}" for values in found)


def _panel(label: str, values: np.ndarray, groups: int) -> Picture:
    """A map scaled to its own maximum, its blocks outlined and its score in the label."""
    matrix = np.abs(values)
    n = f": N = {round(n_score(matrix, groups), 2) + 0.0:.2f}" if groups > 1 else ""

    def draw(axes: Axes, theme: Theme) -> None:
        blocks(axes, theme, matrix, groups)

    return chart(label + n, draw, 200, 200)


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
