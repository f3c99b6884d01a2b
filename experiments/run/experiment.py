"""What every experiment that trains does: its parts one after the other, then its report."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from experiments.page.report import Section
from experiments.run.settings import Settings

Plan = TypeVar("Plan")
Found = TypeVar("Found")


def run(
    settings: Settings,
    plans: Mapping[str, Plan],
    parts: Sequence[str],
    measure: Callable[[Settings, Plan, str], Found | None],
    report: Callable[[Settings, Plan, dict[str, Found]], Section],
) -> Section:
    """Measure every part by the plan of the profile, and report what was found.

    Args:
        settings: of the command.
        plans: one for each profile.
        parts: what the progress bar counts.
        measure: ``measure(settings, plan, part)``; None for a part that the plan leaves out.
        report: ``report(settings, plan, found)``: claims and figures from what the parts found.
    """
    plan = plans[settings.profile]
    found = {part: measure(settings, plan, part) for part in settings.track(parts)}
    return report(settings, plan, {part: each for part, each in found.items() if each is not None})
