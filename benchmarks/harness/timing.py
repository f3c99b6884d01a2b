"""Times of several contenders, interleaved: every round times each of them, in random order."""

import dataclasses
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.harness.busy import busy

Samples = dict[str, list[float]]  # seconds per call, one per round

SAMPLE_S = 0.02  # a sample lasts at least this long: shorter ones read the clock and the scheduler
FEW = 3
# Calls go untimed for so long before a sample. PyTorch's threads wait actively for up to 20 ms
# after its last call, and keep a core from the next contender: on two cores that cost it a fifth.
WARM_S = 0.03
UNTIMED_BELOW_S = 0.2  # a longer call outlasts that, and caches


@dataclasses.dataclass(frozen=True)
class Timed:
    """What is timed; `each` waits for every call, as a CPU wants it, or for the last one alone."""

    call: Callable[[], Any]
    wait: Callable[[Any], Any]
    each: bool = True

    def seconds(self, calls: int) -> float:
        """Mean seconds of one call."""
        start = time.perf_counter()
        wait = self.wait if self.each else _go_on
        for _ in range(calls - 1):
            wait(self.call())  # not named: its memory is free for the next result
        self.wait(self.call())
        return (time.perf_counter() - start) / calls


def _go_on(result: Any) -> None:
    """Wait for nothing."""


def interleaved(
    contenders: Mapping[str, Timed],
    rounds: int,
    *,
    limit_s: float = 90.0,
    rng: random.Random | None = None,
    busy_cores: int = 0,
) -> Samples:
    """`rounds` samples of each; fewer, but at least three, where they would take over `limit_s`.

    Other processes keep `busy_cores` busy meanwhile.
    """
    with busy(busy_cores):
        return _sampled(contenders, rounds, limit_s, rng or random.Random(0))


def _sampled(
    contenders: Mapping[str, Timed], rounds: int, limit_s: float, rng: random.Random
) -> Samples:
    once = {}
    for name, timed in contenders.items():
        timed.seconds(1)  # the first call allocates
        once[name] = timed.seconds(1)
    calls = {name: max(1, math.ceil(SAMPLE_S / max(s, 1e-7))) for name, s in once.items()}
    untimed = {
        name: math.ceil(WARM_S / max(s, 1e-7)) if s < UNTIMED_BELOW_S else 0
        for name, s in once.items()
    }
    one_round = sum((calls[name] + untimed[name]) * once[name] for name in once)
    rounds = max(min(rounds, FEW), min(rounds, int(limit_s / one_round)))
    samples: Samples = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            timed = contenders[name]
            if untimed[name]:
                timed.seconds(untimed[name])
            samples[name].append(timed.seconds(calls[name]))
    return samples


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def paired(samples: Samples, one: str, other: str) -> list[float]:
    """Ratios one/other of the same round."""
    return [a / b for a, b in zip(samples[one], samples[other], strict=True)]


def paired_ratio(samples: Samples, one: str, other: str) -> float:
    """The median of `paired`."""
    return median(paired(samples, one, other))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def loses(ratio: float, lax_s: float) -> bool:
    """Whether convjax/lax is above what noise explains: 1.05 above 5 ms, 1.15 below."""
    return ratio > (1.05 if lax_s > 0.005 else 1.15)
