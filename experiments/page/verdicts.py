"""How a verdict follows from repeated measurements: stated rules, with their uncertainty.

A measurement is repeated with several seeds. Its uncertainty is the half-width of the 95 % interval
of the mean (Student's t). With one seed there is none, and nothing is decided; nor is it by a
smoke run, which trains too little to mean anything.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.page.report import NOT_REPRODUCED, REPRODUCED, UNDECIDED, Decision

LEVEL = 0.95


class Run(Protocol):
    """The settings of a run, of which a verdict asks one thing."""

    @property
    def decides(self) -> bool:
        """Whether it trains enough for its numbers to mean anything."""


class Estimate(NamedTuple):
    """A mean, and the half-width of its interval; None with one measurement."""

    mean: float
    half: float | None


def estimate(values: Any) -> Estimate:
    """The mean of independent measurements with its 95 % interval."""
    from scipy import stats

    found = np.asarray(values, float)
    if len(found) < 2:
        return Estimate(float(found.mean()), None)
    quantile = stats.t.ppf((1 + LEVEL) / 2, len(found) - 1)
    half = quantile * found.std(ddof=1) / np.sqrt(len(found))
    return Estimate(float(found.mean()), float(half))


def above(settings: Run, found: Estimate, bound: float = 0.0, what: str = "it") -> Decision:
    """Whether `found` lies above `bound`: by its whole interval, or nothing is decided."""
    rule = f"reproduced if the 95 % interval of {what} lies above {bound:g}, not if it lies below"
    return Decision(_side(settings, found, bound), rule)


def below(settings: Run, found: Estimate, bound: float = 0.0, what: str = "it") -> Decision:
    """Whether `found` lies below `bound`."""
    rule = f"reproduced if the 95 % interval of {what} lies below {bound:g}, not if it lies above"
    mirrored = Estimate(-found.mean, found.half)
    return Decision(_side(settings, mirrored, -bound), rule)


def equal(settings: Run, found: Estimate, low: float, high: float, what: str) -> Decision:
    """Whether `found` lies between two bounds: inside or outside by its whole interval."""
    rule = (
        f"reproduced if the 95 % interval of {what} lies within {low:g} to {high:g}, "
        "not if it lies outside"
    )
    if not settings.decides or found.half is None or not np.isfinite(found.mean):
        return Decision(UNDECIDED, rule)
    lowest, highest = found.mean - found.half, found.mean + found.half
    if low <= lowest and highest <= high:
        return Decision(REPRODUCED, rule)
    outside = highest < low or lowest > high
    return Decision(NOT_REPRODUCED if outside else UNDECIDED, rule)


def _side(settings: Run, found: Estimate, bound: float) -> str:
    if not settings.decides or found.half is None or not np.isfinite(found.mean):
        return UNDECIDED
    if found.mean - found.half > bound:
        return REPRODUCED
    return NOT_REPRODUCED if found.mean + found.half < bound else UNDECIDED
