"""What the command line decided, as every experiment receives it."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Part = TypeVar("Part")

PROFILES = ("smoke", "quick")


def _silent(label: str) -> None:
    """Report no progress."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The same settings give the same numbers.

    Attributes:
        profile: "smoke" (small pictures, for tests) or "quick".
        seed: of every random number drawn.
        progress: called once for each finished part of an experiment, with its name.
    """

    profile: str = "quick"
    seed: int = 0
    progress: Callable[[str], None] = _silent

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"profile {self.profile!r} must be one of {', '.join(PROFILES)}.")

    @property
    def photo_size(self) -> int:
        """Height and width of the photographs."""
        return {"smoke": 64, "quick": 256}[self.profile]

    def track(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Iterate over the parts of an experiment, reporting each one when it is done."""
        for part in parts:
            yield part
            self.progress(getattr(part, "__name__", str(part)))
