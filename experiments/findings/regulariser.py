"""Groups as a regulariser: the gap between training and test pictures, with few and with many.

Section 10 of the article reports that grouped convolution "may give a better model". Deep Roots'
networks with groups are as accurate as without, on all of CIFAR-10. Here the same networks are
trained on few pictures too, for as many steps, where a regulariser has most to do.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from convjax.draw.charts import Theme
from experiments.findings.filter_groups import network_in_network
from experiments.findings.filter_groups.scores import TABLE
from experiments.page.figures import chart, errors
from experiments.page.report import Section
from experiments.page.verdicts import above, below, equal, estimate
from experiments.run import experiment
from experiments.run.arms import Budget, Trained, trained
from experiments.run.networks import crop_and_mirror
from experiments.run.settings import Settings

FEW, MANY, NARROW = "few", "many", "narrow"
GROUPS = (1, 2, 4, 8)  # of conv3a; conv2a has twice as many
CLOSE_ACCURACY = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan(Budget):
    """What a profile does; `train` and `epochs` are those of many pictures.

    Attributes:
        few: how many pictures are few.
        features: of the network, but for the classes.
        narrow: of a network without groups, with about the parameters of the one with most groups.
        groups: of conv3a.
        augment: crops and mirrors.
    """

    few: int
    features: tuple[int, ...]
    narrow: tuple[int, ...]
    groups: tuple[int, ...] = GROUPS
    augment: bool = False

    def of(self, pictures: str) -> "Plan":
        """The plan with so many pictures; the steps stay as many."""
        if pictures == MANY:
            return self
        return dataclasses.replace(
            self, train=self.few, epochs=self.epochs * self.train // self.few
        )


SMALL = (32,) * 8
PLANS = {
    "smoke": Plan(
        2, 16, 32, 16, 1, 16, 0.05, few=16, features=(4,) * 8, narrow=(3,) * 8, groups=(1, 2)
    ),
    "quick": Plan(
        2, 16, 800, 500, 4, 40, 0.05, few=200, features=SMALL, narrow=(16,) * 8, groups=(1, 8)
    ),
    "standard": Plan(
        3, 16, 4_000, 1_000, 3, 50, 0.05, few=500, features=SMALL, narrow=(16,) * 8
    ),
    "full": Plan(
        3, 32, 50_000, 10_000, 60, 128, 0.1, few=5_000, narrow=(78,) * 8,
        features=(192, 160, 96, 192, 192, 192, 192, 192), augment=True,
    ),
}  # fmt: skip


EXPECTED = {
    "standard": "27 small networks of 240 steps, about 10 minutes on one core, below 2 GB.",
    "full": "27 networks of 23,400 steps: 6e16 floating-point operations, 1 to 3 hours on one H100 "
    "(from the operations at 5 to 15 TFLOP/s, not measured), below 20 GB of memory.",
}


class Arm(NamedTuple):
    """One network on one number of pictures."""

    pictures: str
    groups: int  # 0 stands for the narrow network

    @property
    def label(self) -> str:
        return f"{self.pictures}-{f'groups{self.groups}' if self.groups else NARROW}"


ARMS = (*(Arm(p, g) for p in (FEW, MANY) for g in GROUPS), Arm(FEW, 0))
LABELS = {arm.label: arm for arm in ARMS}
PARTS = tuple(LABELS)


class Measured(NamedTuple):
    """One network: its accuracies, the gap before training, and its parameters."""

    seed: int
    train: float
    test: float
    gap_before: float
    parameters: int

    @property
    def gap(self) -> float:
        return self.train - self.test


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _report(settings: Settings, plan: Plan, found: dict[str, list[Measured]]) -> Section:
    return report(settings, plan, {LABELS[label]: each for label, each in found.items()})


def _measure(settings: Settings, plan: Plan, part: str) -> list[Measured] | None:
    arm = LABELS[part]
    if arm.groups not in (*plan.groups, 0):
        return None
    if settings.profile == "smoke" and not (arm.pictures == FEW and arm.groups):
        return None  # every arm takes seconds to compile
    features = plan.features if arm.groups else plan.narrow
    build = functools.partial(network_in_network, features, arm.groups or 1)
    augment = crop_and_mirror if plan.augment else None
    runs = trained(
        settings, "regulariser", arm.label, build, plan.of(arm.pictures), augment=augment
    )
    return [_measured(run) for run in runs]


def _measured(run: Trained) -> Measured:
    beginning = run.beginning()
    train, test = (
        run.classifier.accuracy(*beginning, split) for split in (run.dataset.train,
                                                                 run.dataset.test)
    )  # fmt: skip
    parameters = run.counts().parameters("deep_roots")
    return Measured(run.seed, run.train_accuracy(), run.accuracy(), train - test, parameters)


def report(settings: Settings, plan: Plan, found: dict[Arm, list[Measured]]) -> Section:
    """The claims and figures."""
    few, many = plan.of(FEW), plan
    section = Section(
        "regulariser",
        "10 · Filter groups as a regulariser",
        "A network with filter groups has fewer weights, so it should have less room to learn its "
        "training pictures by heart: the gap between training and test accuracy should fall with "
        f"more groups, and test accuracy stay, until the groups are too many. {few.train:,} and "
        f"{many.train:,} training pictures, the same test pictures, the same {plan.steps:,} steps. "
        f"Networks in Network with {', '.join(map(str, plan.features))} channels on "
        f"{plan.words(settings)}",
    )
    _gap(section, settings, plan, found)
    _accuracy(section, settings, plan, found)
    if Arm(MANY, 1) in found:
        _many(section, settings, plan, found)
    if Arm(FEW, 0) in found:
        _narrow(section, settings, plan, found)
    _figure(section, plan, found)
    return section


def of(found: Sequence[Measured], name: str) -> np.ndarray:
    """One number of every network."""
    return np.array([getattr(measured, name) for measured in found])


def _pictures(found: dict[Arm, list[Measured]]) -> list[str]:
    """Few, and many if they were trained on too."""
    return [pictures for pictures in (FEW, MANY) if Arm(pictures, 1) in found]


def slopes(found: dict[Arm, list[Measured]], pictures: str, name: str) -> np.ndarray:
    """Change of a number for every doubling of the groups, for every seed."""
    groups = [arm.groups for arm in found if arm.pictures == pictures and arm.groups]
    values = [of(found[Arm(pictures, g)], name) for g in groups]
    return np.polyfit(np.log2(groups), np.stack(values), 1)[0]


def _gap(
    section: Section, settings: Settings, plan: Plan, found: dict[Arm, list[Measured]]
) -> None:
    """The gap falls; and not before training."""
    falls = estimate(slopes(found, FEW, "gap"))
    section.finding(
        f"With {plan.few:,} training pictures the gap between training and test accuracy falls "
        "with more groups (change for every doubling)",
        None,
        *falls,
        below(settings, falls, what="the change"),
        f"With {', '.join(map(str, plan.groups))} groups it is {_gaps(plan, found, FEW)}.",
    )
    null = estimate(slopes(found, FEW, "gap_before"))
    section.finding(
        "… null: before training the gap does not change with the groups (change for every "
        "doubling)",
        0,
        *null,
        equal(settings, null, -CLOSE_ACCURACY, CLOSE_ACCURACY, "the change"),
    )


def _gaps(plan: Plan, found: dict[Arm, list[Measured]], pictures: str) -> str:
    """The means, listed."""
    return ", ".join(f"{of(found[Arm(pictures, g)], 'gap').mean():.1%}" for g in plan.groups)


def _many(
    section: Section, settings: Settings, plan: Plan, found: dict[Arm, list[Measured]]
) -> None:
    """Control: many pictures, which leave less to regularise."""
    more = estimate(slopes(found, FEW, "gap") - slopes(found, MANY, "gap"))
    section.finding(
        f"Control: the gap falls more than with {plan.train:,} pictures, where there is less to "
        "regularise (difference of the changes)",
        None,
        *more,
        below(settings, more, what="the difference"),
        f"With {plan.train:,} it is {_gaps(plan, found, MANY)}.",
    )
    data = estimate(of(found[Arm(FEW, 1)], "gap") - of(found[Arm(MANY, 1)], "gap"))
    section.finding(
        f"Control: without groups, few pictures leave a larger gap than many ({plan.few:,} less "
        f"{plan.train:,})",
        None,
        *data,
        above(settings, data, what="the difference"),
    )


def _accuracy(
    section: Section, settings: Settings, plan: Plan, found: dict[Arm, list[Measured]]
) -> None:
    """Test accuracy: about the same with some groups, less with many."""
    for pictures in _pictures(found):
        plain, number = of(found[Arm(pictures, 1)], "test"), plan.of(pictures).train
        for groups in plan.groups[1:]:
            test = of(found[Arm(pictures, groups)], "test")
            change = estimate(test - plain)
            paper = TABLE.get(groups) if pictures == MANY else None
            last = groups == max(GROUPS)
            section.finding(
                f"{number:,} pictures: test accuracy of {groups} groups less that of none "
                f"({test.mean():.1%} and {plain.mean():.1%}); "
                + ("too many groups cost some" if last else "it stays"),
                round(paper[4] - TABLE[1][4], 4) if paper else None,
                *change,
                below(settings, change, what="the difference")
                if last
                else equal(settings, change, -CLOSE_ACCURACY, CLOSE_ACCURACY, "the difference"),
                "The article's value is Deep Roots', of its own networks on CIFAR-10."
                if paper
                else "",
            )


def _narrow(
    section: Section, settings: Settings, plan: Plan, found: dict[Arm, list[Measured]]
) -> None:
    """Control: as few parameters, without groups."""
    most = max(plan.groups)
    grouped, narrow = found[Arm(FEW, most)], found[Arm(FEW, 0)]
    sizes = f"{grouped[0].parameters:,} and {narrow[0].parameters:,} parameters"
    for name, words, decide in (
        ("gap", "a smaller gap", below),
        ("test", "a higher test accuracy", above),
    ):
        ours, theirs = of(grouped, name), of(narrow, name)
        change = estimate(ours - theirs)
        section.finding(
            f"Control: is it the grouping? {most} groups have {words} than a narrower network "
            f"without groups ({plan.few:,} pictures; {ours.mean():.1%} less {theirs.mean():.1%})",
            None,
            *change,
            decide(settings, change, what="the difference"),
            f"{sizes}; if it does not hold, fewer weights do as well.",
        )


def _figure(section: Section, plan: Plan, found: dict[Arm, list[Measured]]) -> None:
    def lines(axes: Axes, name: str, colour: str, line: str, label: str, pictures: str) -> None:
        each = [estimate(of(found[Arm(pictures, g)], name)) for g in plan.groups]
        errors(axes, plan.groups, each, color=colour, linestyle=line, label=label)

    def beyond(axes: Axes, name: str, theme: Theme) -> None:
        if Arm(FEW, 0) in found:
            mean = of(found[Arm(FEW, 0)], name).mean()
            axes.plot(max(plan.groups), mean, "x", color=theme.ink, label="narrower, few")
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(plan.groups), [str(g) for g in plan.groups])
        axes.minorticks_off()
        axes.set_xlabel("groups in conv3a")

    def gap(axes: Axes, theme: Theme) -> None:
        for pictures, colour in zip(_pictures(found), (theme.two, theme.one), strict=False):
            lines(axes, "gap", colour, "-", f"{plan.of(pictures).train:,}", pictures)
        lines(axes, "gap_before", theme.quiet, ":", "untrained", FEW)
        beyond(axes, "gap", theme)
        axes.legend(title="training pictures", fontsize=8)

    def accuracy(axes: Axes, theme: Theme) -> None:
        for pictures, colour in zip(_pictures(found), (theme.two, theme.one), strict=False):
            number = f"{plan.of(pictures).train:,}"
            lines(axes, "test", colour, "-", f"{number}, test", pictures)
            lines(axes, "train", colour, ":", f"{number}, training", pictures)
        beyond(axes, "test", theme)
        axes.set_ylim(0, 1.02)
        axes.legend(fontsize=8, ncols=2, loc="lower left")

    section.figure(
        "Fewer weights, a smaller gap?",
        "Training less test accuracy, then both, against the number of groups, with 95 % intervals "
        "over the seeds. A gap can also fall because the training pictures are learned less well: "
        "that is no gain unless test accuracy stays. The cross is a narrower network without "
        "groups of about as many parameters as that with most groups.",
        [chart("Gap", gap, 380, 300), chart("Accuracy", accuracy, 380, 300)],
        [
            (_words(arm), f"{each[0].parameters:,} parameters")
            for arm, each in found.items()
            if arm.pictures == FEW
        ],
    )


def _words(arm: Arm) -> str:
    if not arm.groups:
        return "no groups, narrower"
    return f"{arm.groups} groups" if arm.groups > 1 else "no groups"
