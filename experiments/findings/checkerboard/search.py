"""Which generator would have the published checkerboards on average? A search, and two tests.

Distill's article does not name its generator. What it leaves open is tried in combination here;
since a generator is looked for until it agrees, agreement is a consistency and no prediction. Two
are tested by other random generators than those of the search.
"""

from itertools import product

import numpy as np

from experiments.findings.checkerboard.generators import (
    COUNTS,
    LARGEST_PHOTO,
    METRICS,
    PUBLISHED,
    Choices,
    fractions,
    printed,
)
from experiments.page.report import NOT_REPRODUCED, REPRODUCED, UNDECIDED, Decision, Section
from experiments.page.verdicts import above, below, equal, estimate
from experiments.run.settings import Settings

GRID = tuple(
    Choices(kernel_size, slope, per_picture, smoothed)
    for per_picture, smoothed, kernel_size, slope in product(
        (False, True), (False, True), (3, 4, 5), (0.0, 0.1, 0.2, 0.3)
    )
)
SEARCHED = {"smoke": 0, "quick": 0, "standard": 24, "full": 40}  # generators of each combination
FRESH = 1_000_000  # number of the first generator of the tests: the search has seen none of them
# Named here and not taken from the search of a run, so that every profile tests the same: a common
# rectifier, and what had most in a search with 40 generators each. With fewer generators it may be
# another slope that has most, of those that normalise each picture and have a last convolution.
TESTED = {
    "leaky rectifiers (0.2, as in DCGAN's discriminator)": Choices(slope=0.2),
    "leaky rectifiers (0.1), each picture normalised by itself, a last 3×3 convolution of "
    "stride 1": Choices(slope=0.1, per_picture=True, smoothed=True),
}
RANGES = [  # of every value, arm by arm
    (where, metric, authors)
    for where, published in PUBLISHED.items()
    for metric, authors in zip(METRICS, published.authors, strict=True)
]


def generator_search(section: Section, settings: Settings) -> None:
    """The search, two generators against the published ranges, and what it turns on."""
    if SEARCHED[settings.profile]:
        indices = range(SEARCHED[settings.profile])
        searched(section, settings, {each: _means(settings.seed, indices, each) for each in GRID})
    fresh = range(FRESH, FRESH + COUNTS[settings.profile])
    for named, choices in list(TESTED.items())[: 1 if settings.profile == "smoke" else None]:
        judged(section, settings, named, _means(settings.seed, fresh, choices))
    if settings.profile != "smoke":
        _cause(section, settings, fresh)


def _means(seed: int, indices: range, choices: Choices) -> np.ndarray:
    """For every generator the mean over its pictures, as `RANGES` has them: (generators, 9)."""
    arms = [fractions(seed, indices, p.deconvolutions, choices).mean(1) for p in PUBLISHED.values()]
    return np.concatenate(arms, -1)


def searched(section: Section, settings: Settings, found: dict[Choices, np.ndarray]) -> None:
    """Claim that some combination has all means within the printed ranges."""
    verdicts = {
        choices: [_decision(settings, means[:, column], column).verdict for column in range(9)]
        for choices, means in found.items()
    }
    inside = {
        choices: sum(
            low <= mean <= high
            for mean, (low, high) in zip(
                means.mean(0), (printed(authors) for *_, authors in RANGES), strict=True
            )
        )
        for choices, means in found.items()
    }
    most = max(inside.values())
    if any(set(each) == {REPRODUCED} for each in verdicts.values()):
        verdict = REPRODUCED
    else:
        all_fail = all(NOT_REPRODUCED in each for each in verdicts.values())
        verdict = NOT_REPRODUCED if all_fail else UNDECIDED
    best = "; ".join(_words(choices) for choices, number in inside.items() if number == most)
    never = [
        f"{where}, {metric}"
        for column, (where, metric, _) in enumerate(RANGES)
        if all(each[column] == NOT_REPRODUCED for each in verdicts.values())
    ]
    section.finding(
        f"Before training, searched over {len(found)} generators that the article may have had: "
        "how many of its nine ranges contain the mean, at most",
        len(RANGES),
        most,
        None,
        Decision(
            verdict,
            "reproduced if the 95 % intervals of all nine means of one of them lie within the "
            "printed ranges, not if one or more lie outside for each of them",
        ),
        "Searched: kernels of 3, 4 and 5; rectifiers of slope 0, 0.1, 0.2 and 0.3 below 0; "
        "normalisation over the batch or of each picture by itself; with and without a last "
        f"convolution of stride 1. Most have: {best}."
        + (f" Outside for all of them: {'; '.join(never)}." if never else ""),
    )


def judged(section: Section, settings: Settings, named: str, means: np.ndarray) -> None:
    """Claim of every published range that the mean lies in it."""
    for column, (where, metric, authors) in enumerate(RANGES):
        mean = estimate(means[:, column])
        section.finding(
            f"Before training, {named}; deconvolution in {where}: mean of the {metric}",
            list(authors),
            *mean,
            _decision(settings, means[:, column], column),
            "The article does not name its generator: this one was chosen from "
            f"{len(GRID)} that were tried here, so that agreement is a consistency and no "
            "prediction. "
            f"{len(means)} generators that the search did not see.",
        )


def _decision(settings: Settings, values: np.ndarray, column: int) -> Decision:
    low, high = printed(RANGES[column][-1])
    what = "the mean over the generators (the printed range and half a unit of its last digits)"
    return equal(settings, estimate(values), low, high, what)


def _words(choices: Choices) -> str:
    return (
        f"kernel {choices.kernel_size}, slope {choices.slope:g}, "
        + ("each picture by itself" if choices.per_picture else "batch")
        + (", last convolution" if choices.smoothed else "")
    )


def _cause(section: Section, settings: Settings, indices: range) -> None:
    """What is painted unevenly is the mean that a rectifier leaves in every channel."""
    slopes = (0.0, 0.3, 1.0)
    relu, leaky, linear = (
        fractions(settings.seed, indices, 1, Choices(slope=slope, per_picture=True))[..., 0].mean(1)
        for slope in slopes
    )
    shares = ", ".join(f"{(1 - a) ** 2 / (np.pi * (1 + a * a)):.3f}" for a in slopes)
    fall = estimate(relu - leaky)
    section.finding(
        "The slope of the rectifier decides, because its mean is what is painted unevenly: "
        "fraction at period 2 of one deconvolution, slope 0 less slope 0.3",
        None,
        *fall,
        above(settings, fall, what="the difference"),
        f"Of normal values, the mean's share of the energy is (1−a)²/(π(1+a²)) behind a slope a: "
        f"{shares} for {', '.join(f'{a:g}' for a in slopes)}. Each picture is normalised by itself "
        f"here. The fractions: {relu.mean():.3f} and {leaky.mean():.3f}.",
    )
    flat = estimate(linear)
    section.finding(
        "… control: without rectifiers (slope 1) there is no mean, and next to no checkerboard",
        None,
        *flat,
        below(settings, flat, LARGEST_PHOTO, "the fraction"),
    )
