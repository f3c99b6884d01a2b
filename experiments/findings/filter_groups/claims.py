"""The claims and figures of `filter_groups`, from what it measured."""

from collections.abc import Sequence

import numpy as np
from flax import nnx

from convjax.models import NetworkInNetwork, counts_of
from experiments.findings.filter_groups.figures import figures
from experiments.findings.filter_groups.scores import (
    AUTHORS,
    AUTHORS_2A,
    AUTHORS_MEANS,
    AUTHORS_PLAIN,
    GROUPS,
    ROOT2,
    TABLE,
    Measured,
    blocks_of,
    off_block,
    panel_mean,
    scores,
)
from experiments.page.report import Section
from experiments.page.verdicts import above, below, equal, estimate
from experiments.run.settings import Settings

CLOSE_SCORE, CLOSE_CHANCE, CLOSE_ACCURACY = 0.1, 0.05, 0.02
CLOSE_RATIO = 0.25  # of the published one


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
            _conv2a(page, settings, groups, found)
    _levels(page, settings, by_groups)
    _choices(page, settings, by_groups)
    _accuracy(page, settings, by_groups)
    _cost(page)
    figures(page, by_groups)
    return page


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
        what="excess",
    )


def _conv2a(page: Section, settings: Settings, groups: int, found: Sequence[Measured]) -> None:
    """The map of conv1c to conv2a, which has twice the groups."""
    blocks = blocks_of("2a", groups)
    after, before = (scores(found, blocks, when, "2a") for when in ("after", "before"))
    trained, gained = estimate(after.N), estimate(after.N - before.N)
    highest = np.array([np.quantile(m.null_others["2a"], 0.975) for m in found])
    beyond = estimate(after.N - highest)
    paper = AUTHORS_2A.get(groups)
    close = round(paper.N, 3) if paper else 0.0
    ours = f"Here R is {after.R.mean():.2f} and E {after.E.mean():.3f}"
    page.finding(
        f"Another pair, conv1c and conv2a: {blocks} blocks (score N)",
        close if paper else None,
        *trained,
        equal(settings, trained, close - CLOSE_SCORE, close + CLOSE_SCORE, "N")
        if paper
        else above(settings, trained, CLOSE_CHANCE, "N"),
        f"{ours}; the authors' figure has {paper.R:g} and {paper.E:g}."
        if paper
        else f"{ours}; the authors' figure of this network was not read.",
    )
    page.finding(
        f"… control: above the same networks before training (difference of N; they have "
        f"{before.N.mean():.2f})",
        None,
        *gained,
        above(settings, gained, what="the difference"),
    )
    page.finding(
        "… null: above random orders of the channels (N less the 97.5th percentile of 200 orders)",
        None,
        *beyond,
        above(settings, beyond, what="the difference"),
    )


def _levels(page: Section, settings: Settings, by_groups: dict[int, list[Measured]]) -> None:
    """How dark the maps are outside their blocks."""
    grouped = [g for g in by_groups if g > 1]
    if len(grouped) < 2:
        return

    def slopes(when: str) -> np.ndarray:
        """Change of the level for every doubling of the groups, for every seed."""
        levels = [[off_block(getattr(m, when)["whitened"], g) for m in by_groups[g]]
                  for g in grouped]  # fmt: skip
        listed[when] = ", ".join(f"{np.mean(level):.3f}" for level in levels)
        return np.polyfit(np.log2(grouped), np.asarray(levels), 1)[0]

    listed: dict[str, str] = {}
    after, before = slopes("after"), slopes("before")
    fall, gained = estimate(after), estimate(after - before)
    numbers = ", ".join(map(str, grouped))
    page.finding(
        "Outside the blocks the map gets darker with more groups (mean by the largest entry: "
        "change for every doubling)",
        None,
        *fall,
        below(settings, fall, what="the change"),
        f"With {numbers} groups it is {listed['after']}.",
    )
    page.finding(
        "… control: it falls more than before training (difference of the changes)",
        None,
        *gained,
        below(settings, gained, what="the difference"),
        f"Before training it is {listed['before']}.",
    )
    most, least = max(grouped), min(grouped)
    means = [np.array([panel_mean(m.after["whitened"]) for m in by_groups[g]])
             for g in (least, most)]  # fmt: skip
    darker = estimate(means[1] - means[0])
    page.finding(
        f"… and so does the whole panel (mean by the largest entry, {most} groups less {least})",
        round(AUTHORS_MEANS[1] - AUTHORS_MEANS[0], 3),
        *darker,
        below(settings, darker, what="the difference"),
        f"Here from {means[0].mean():.3f} to {means[1].mean():.3f}; in the authors' panels from "
        f"{AUTHORS_MEANS[0]:.3f} to {AUTHORS_MEANS[1]:.3f}.",
    )


def _choices(page: Section, settings: Settings, by_groups: dict[int, list[Measured]]) -> None:
    """What becomes of the blocks of the most groups by other ways to draw the map."""
    most = max(by_groups)
    found = by_groups[most]
    each = {kind: scores(found, most, kind=kind) for kind in ("whitened", "raw", "pearson")}
    energy = {kind: score.E for kind, score in each.items()}
    paper = AUTHORS_PLAIN.get(most)
    lost = estimate(energy["whitened"] - energy["raw"])
    page.finding(
        f"It is the whitening that shows the blocks: E whitened less E of the plain covariance "
        f"({most} groups)",
        round(AUTHORS[most].E - paper.E, 3) if paper else None,
        *lost,
        above(settings, lost, what="the difference"),
        f"E is {energy['whitened'].mean():.3f} whitened, {energy['raw'].mean():.3f} plain, "
        f"{energy['pearson'].mean():.3f} for Pearson's correlation; chance is {1 / most:.3f}.",
    )
    if paper:
        for letter, ours, bound in (
            ("E", energy["raw"], CLOSE_SCORE),
            ("R", each["raw"].R, CLOSE_RATIO * paper.R),
        ):
            theirs, plain = getattr(paper, letter), estimate(ours)
            page.finding(
                f"… the plain covariance of {most} groups: {letter}",
                theirs,
                *plain,
                equal(settings, plain, theirs - bound, theirs + bound, letter),
            )
    after, before = (scores(found, most, when, "linear").N for when in ("after", "before"))
    highest = np.array([np.quantile(m.null_others["linear"], 0.975) for m in found])
    linear, gained = estimate(after - highest), estimate(after - before)
    page.finding(
        f"The blocks do not need the ReLU: responses taken before it have them too (N of {most} "
        "groups less the 97.5th percentile of 200 random orders)",
        None,
        *linear,
        above(settings, linear, what="the difference"),
        f"N is {after.mean():.2f} before the ReLU and {each['whitened'].N.mean():.2f} after it. "
        "Deep Roots does not say which it draws; the means of its responses are those after.",
    )
    page.finding(
        f"… control: before the ReLU too, above the same networks before training (difference of "
        f"N; they have {before.mean():.2f})",
        None,
        *gained,
        above(settings, gained, what="the difference"),
    )
    for layer, name in (("2b", "conv2a and conv2b"), ("3b", "conv3a and conv3b")):
        blocks = blocks_of(layer, most)
        chance = estimate(scores(found, blocks, kind=layer).N)
        page.finding(
            f"Control: a layer without groups has no blocks ({name}, scored with {blocks}; N)",
            0,
            *chance,
            equal(settings, chance, -CLOSE_CHANCE, CLOSE_CHANCE, "N"),
            "The same networks: a 1×1 layer mixes all the groups before it.",
        )


def _accuracy(page: Section, settings: Settings, by_groups: dict[int, list[Measured]]) -> None:
    """What grouping costs, and whether it regularises."""
    if 1 not in by_groups:
        return
    plain = np.array([m.accuracy for m in by_groups[1]])
    for groups in (g for g in by_groups if g > 1):
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
            np.array([m.gap for m in by_groups[groups]]) - np.array([m.gap for m in by_groups[1]])
        )
        page.finding(
            f"… as a regulariser: a smaller gap between training and test accuracy than without "
            f"groups (difference, {groups} groups)",
            None,
            *gap,
            below(settings, gap, what="the difference"),
        )


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
