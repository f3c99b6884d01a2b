"""What the command line decided, as every experiment receives it."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

Part = TypeVar("Part")

PROFILES = ("smoke", "quick", "standard", "full")


def _silent(label: str) -> None:
    """Report no progress."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The same settings give the same numbers.

    Attributes:
        profile: "smoke" (seconds each, for tests; what is trained stays undecided), "quick" (all
            within minutes on two cores), "standard" (several seeds, hours) or "full" (at the
            papers' scale, for an accelerator).
        seed: of every random number drawn; what needs several seeds takes those that follow.
        data: what is trained on: a name of `experiments.run.data`, or the folder of CIFAR-10.
        runs: where training runs are kept, a folder each; None keeps none.
        resume: go on from what is kept there.
        bars: show a progress bar for every training run.
        progress: called once for each finished part of an experiment, with its name.
    """

    profile: str = "quick"
    seed: int = 0
    data: str = "photos10"
    runs: Path | None = None
    resume: bool = False
    bars: bool = False
    progress: Callable[[str], None] = _silent

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"profile {self.profile!r} must be one of {', '.join(PROFILES)}.")

    @property
    def photo_size(self) -> int:
        """Height and width of the photographs."""
        return 64 if self.profile == "smoke" else 256

    @property
    def decides(self) -> bool:
        """Whether it trains enough for verdicts: a smoke run does not."""
        return self.profile != "smoke"

    def seeds(self, count: int) -> tuple[int, ...]:
        """As many seeds, from `seed` on."""
        return tuple(range(self.seed, self.seed + count))

    def track(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Iterate over the parts of an experiment, reporting each one when it is done."""
        for part in parts:
            yield part
            self.progress(getattr(part, "__name__", str(part)))
