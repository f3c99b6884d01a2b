"""The claims and figures of `kernel_rank`, from what it measured."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from convjax.draw.charts import SIGNED, Theme, matrix
from experiments.page.figures import chart, errors
from experiments.page.report import Section
from experiments.page.verdicts import above, below, equal, estimate
from experiments.run.settings import Settings

CLOSE = 0.02  # of accuracy
DRAWN_CLOSE, FIT_CLOSE = 5e-3, 1e-3
# Mean energy of ranks 1 and 2 of Gaussian filters, as the documentation of `rank_energy` has it.
DOCUMENTED = {3: (0.747, 0.971), 5: (0.547, 0.823)}
NAMES = {"3x3": "3×3", "5x5": "5×5"}
SEPARABLE = ("Sobel", "Gaussian")


class Measured(NamedTuple):
    """One network.

    Attributes:
        seed, accuracy: of it.
        energy: (layers, ranks), by "trained", "untrained" and "shuffled".
        truncated: the accuracy with all filters truncated, by rank.
        single: (layers, 2), the accuracy with one layer truncated to rank 1 or 2.
        disturbed: the accuracy with noise as large as what truncation to rank 1 takes.
    """

    seed: int
    accuracy: float
    energy: dict[str, np.ndarray]
    truncated: dict[int, float]
    single: np.ndarray
    disturbed: float


class Fitted(NamedTuple):
    """A target, the separable filter (5, 5) that was fitted to it, and the error of the fit.

    Attributes:
        target, fit: filters, the second for a target of norm 1.
        error: squared, relative to the target's response.
        left: of the target's energy, what the first term of its SVD leaves.
    """

    target: np.ndarray
    fit: np.ndarray
    error: float
    left: float


def section(
    settings: Settings,
    measured: Mapping[str, Sequence[Measured]],
    random: Mapping[int, np.ndarray],
    fits: Mapping[str, Fitted],
    setting: str,
) -> Section:
    """The section of the page."""
    page = Section(
        "kernel_rank",
        "8.1 · Which kernels are separable? The rank of learned filters",
        "The article says that spatially separable convolution is rarely used, since not every "
        "kernel can be divided. How far are learned ones from it? The squared singular values of a "
        "filter say how much of its energy a sum of one, two, … separable filters keeps. A random "
        "filter keeps a good part too, so learned ones are compared with Gaussian ones, with the "
        "same networks before training, and with their own weights in random places. Networks of "
        f"three convolutions. {setting}",
    )
    _random(page, random)
    for arm in NAMES:
        if measured.get(arm):
            _energies(page, settings, arm, measured[arm], random)
            _truncation(page, settings, arm, measured[arm])
    if measured.get("separable"):
        _trained(page, settings, measured)
    _fits(page, fits)
    _figures(page, measured, random, fits)
    return page


def gaussian_3x3(points: int = 400) -> np.ndarray:
    """The mean energy of ranks 1, 2, 3 of 3x3 Gaussian filters, by integration.

    The singular values s have the density prod |s_i^2 - s_j^2| exp(-|s|^2 / 2), and shares depend
    on the direction of s alone: the integral over an octant of the sphere, by the midpoint rule.
    """
    middles = (np.arange(points) + 0.5) / points
    height, turn = np.meshgrid(middles, middles * np.pi / 2)  # equal areas of the sphere
    flat = np.sqrt(1 - height**2)
    squares = np.stack([height, flat * np.cos(turn), flat * np.sin(turn)]) ** 2
    a, b, c = squares
    weight = np.abs((a - b) * (a - c) * (b - c))
    ordered = -np.sort(-squares, axis=0)
    return np.cumsum((ordered * weight).sum((1, 2)) / weight.sum())


def _random(page: Section, random: Mapping[int, np.ndarray]) -> None:
    page.identity(
        "Random Gaussian 3×3 filters: mean energy of ranks 1 and 2, drawn and integrated",
        "equal",
        np.abs(random[3] - gaussian_3x3())[:2].max(),
        DRAWN_CLOSE,
        f"By integration {gaussian_3x3()[0]:.4f} and {gaussian_3x3()[1]:.4f}.",
    )
    page.identity(
        "Random Gaussian 5×5 filters: the same, drawn and as `rank_energy` documents",
        ", ".join(map(str, DOCUMENTED[5])),
        np.abs(random[5][:2] - DOCUMENTED[5]).max(),
        DRAWN_CLOSE,
    )


def _mean(found: Sequence[Measured], when: str, rank: int = 1) -> np.ndarray:
    """The energy of a rank, of every network: the mean over its layers."""
    return np.array([m.energy[when][:, rank - 1].mean() for m in found])


def _energies(
    page: Section,
    settings: Settings,
    arm: str,
    found: Sequence[Measured],
    random: Mapping[int, np.ndarray],
) -> None:
    name, null = NAMES[arm], random[int(arm[0])][0]
    after = _mean(found, "trained")
    gained = estimate(after - null)
    page.finding(
        f"Learned {name} filters are nearer to separable than Gaussian ones (energy of rank 1, "
        f"difference; {after.mean():.3f} and {null:.3f})",
        None,
        *gained,
        above(settings, gained, what="the difference"),
    )
    for when, words in (
        ("untrained", "control: than those of the same networks before training"),
        ("shuffled", "null: than their own weights in random places"),
    ):
        before = _mean(found, when)
        gained = estimate(after - before)
        page.finding(
            f"… {words} (difference; they have {before.mean():.3f})",
            None,
            *gained,
            above(settings, gained, what="the difference"),
        )


def _truncation(page: Section, settings: Settings, arm: str, found: Sequence[Measured]) -> None:
    name = NAMES[arm]
    whole = np.array([m.accuracy for m in found])
    one, two = (np.array([m.truncated[rank] for m in found]) for rank in (1, 2))
    change = estimate(one - whole)
    page.finding(
        f"Not all kernels can be divided: truncating all {name} filters to rank 1, without "
        f"retraining, lowers the accuracy (difference; {one.mean():.1%} and {whole.mean():.1%})",
        None,
        *change,
        below(settings, change, what="the difference"),
    )
    noise = np.array([m.disturbed for m in found])
    change = estimate(one - noise)
    page.finding(
        f"… null: less than noise of the same size in every filter does (difference; the noise "
        f"leaves {noise.mean():.1%})",
        None,
        *change,
        above(settings, change, what="the difference"),
    )
    change = estimate(two - whole)
    page.finding(
        f"… rank 2 suffices for {name} filters (difference; {two.mean():.1%})",
        None,
        *change,
        equal(settings, change, -CLOSE, CLOSE, "the difference"),
    )


def _trained(page: Section, settings: Settings, measured: Mapping[str, Sequence[Measured]]) -> None:
    inside = np.array([m.accuracy for m in measured["separable"]])
    whole = np.array([m.accuracy for m in measured["5x5"]])
    change = estimate(inside - whole)
    page.finding(
        f"5×5 filters trained as columns times rows: about the accuracy of full ones (difference; "
        f"{inside.mean():.1%} and {whole.mean():.1%})",
        None,
        *change,
        equal(settings, change, -CLOSE, CLOSE, "the difference"),
        "Every filter of this network has rank 1, from its first step to its last.",
    )
    after = np.array([m.truncated[1] for m in measured["5x5"]])
    change = estimate(inside - after)
    page.finding(
        "… control: above filters of rank 1 that were made after training (difference)",
        None,
        *change,
        above(settings, change, what="the difference"),
    )


def _fits(page: Section, fits: Mapping[str, Fitted]) -> None:
    page.identity(
        f"A separable filter learns {' and '.join(SEPARABLE)} without error",
        "no error",
        max(fits[name].error for name in SEPARABLE),
        FIT_CLOSE,
        what="largest relative error",
    )
    others = [name for name in fits if name not in SEPARABLE]
    worst = max(abs(fits[name].error - fits[name].left) for name in others)
    page.identity(
        f"Of {', '.join(others)} it misses just the energy that the SVD's first term leaves",
        "equal",
        worst,
        FIT_CLOSE,
        f"Left are {', '.join(f'{fits[name].left:.3f}' for name in others)} of the energy: where "
        "the task is one of these filters, one separable filter does not suffice.",
    )


# ---- figures ---------------------------------------------------------------------------------

Drawing = Callable[[Axes, Theme], None]


def _figures(
    page: Section,
    measured: Mapping[str, Sequence[Measured]],
    random: Mapping[int, np.ndarray],
    fits: Mapping[str, Fitted],
) -> None:
    shown = {arm: measured[arm] for arm in NAMES if measured.get(arm)}
    page.figure(
        "How much of a filter one separable filter keeps",
        "Mean energy of rank 1 in every layer, with its 95 % interval over the seeds. The dotted "
        "line is the mean of random Gaussian filters. What lies above the other lines was learned: "
        "weights in one filter came to depend on each other's rows and columns.",
        [chart(f"{NAMES[arm]} filters", _energy_chart(found, random[int(arm[0])][0]), 340, 280)
         for arm, found in shown.items()],
        [(f"{NAMES[arm]}: ranks 1, 2 trained / Gaussian",
          f"{_mean(found, 'trained').mean():.3f}, {_mean(found, 'trained', 2).mean():.3f} / "
          f"{random[int(arm[0])][0]:.3f}, {random[int(arm[0])][1]:.3f}")
         for arm, found in shown.items()],
    )  # fmt: skip
    page.figure(
        "Accuracy with truncated filters",
        "Test accuracy after every filter was replaced by its best approximation of a rank, "
        "without retraining; the cross is noise as large as what rank 1 takes away. Then with one "
        "layer at a time truncated to rank 1.",
        [
            chart("All layers at once", _rank_chart(shown), 340, 280),
            chart("One layer at a time, rank 1", _layer_chart(shown), 340, 280),
        ],
    )
    page.figure(
        "Targets that one separable filter can learn, and others",
        "Left the target, right the separable filter that was trained to do the same; in the "
        "title the share of the response that it misses.",
        [chart(f"{name}: misses {f.error:.0%}", _pair(f), 230, 130) for name, f in fits.items()],
        [(name, f"error {f.error:.4f}, left by the SVD {f.left:.4f}") for name, f in fits.items()],
    )


def _energy_chart(found: Sequence[Measured], null: float) -> Drawing:
    def draw(axes: Axes, theme: Theme) -> None:
        layers = range(1, 1 + len(found[0].energy["trained"]))
        for when, colour in zip(("trained", "untrained", "shuffled"), (theme.two, theme.one,
                                theme.quiet), strict=True):  # fmt: skip
            each = [estimate([m.energy[when][layer - 1, 0] for m in found]) for layer in layers]
            errors(axes, layers, each, color=colour, label=when)
        axes.axhline(null, color=theme.ink, linestyle=":", linewidth=1.2, label="Gaussian")
        axes.set(xlabel="layer", ylabel="energy of rank 1", xticks=list(layers))
        axes.legend(fontsize=8)

    return draw


def _rank_chart(shown: Mapping[str, Sequence[Measured]]) -> Drawing:
    def draw(axes: Axes, theme: Theme) -> None:
        for (arm, found), colour in zip(shown.items(), (theme.one, theme.two), strict=False):
            ranks = [*found[0].truncated, len(found[0].truncated) + 1]
            each = [estimate([m.truncated[r] for m in found]) for r in ranks[:-1]]
            each.append(estimate([m.accuracy for m in found]))
            errors(axes, ranks, each, color=colour, label=NAMES[arm])
            noise = estimate([m.disturbed for m in found])
            errors(axes, [1], [noise], color=colour, marker="x", linestyle="none", markersize=8)
        axes.set(xlabel="rank", ylabel="test accuracy")
        axes.set_xticks(range(1, 1 + max(len(found[0].truncated) + 1 for found in shown.values())))
        axes.legend(loc="lower right")

    return draw


def _layer_chart(shown: Mapping[str, Sequence[Measured]]) -> Drawing:
    def draw(axes: Axes, theme: Theme) -> None:
        for (arm, found), colour in zip(shown.items(), (theme.one, theme.two), strict=False):
            layers = range(1, 1 + len(found[0].single))
            each = [estimate([m.single[n - 1, 0] for m in found]) for n in layers]
            errors(axes, layers, each, color=colour, label=NAMES[arm])
            whole = float(np.mean([m.accuracy for m in found]))
            axes.axhline(whole, color=colour, linestyle=":", linewidth=1)
        axes.set(xlabel="layer", ylabel="test accuracy", xticks=list(layers))
        axes.legend()

    return draw


def _pair(found: Fitted) -> Drawing:
    target = np.pad(found.target, (5 - len(found.target)) // 2) / np.linalg.norm(found.target)

    def draw(axes: Axes, theme: Theme) -> None:
        limit = float(np.abs(target).max())
        for left, values in ((0, target), (6, found.fit)):
            matrix(axes, theme, values, left=left, cmap=SIGNED, limits=(-limit, limit))
        axes.set(xlim=(-0.6, 10.6), ylim=(4.6, -0.6))

    return draw
