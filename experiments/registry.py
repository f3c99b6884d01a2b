"""The experiments, in the order of the page. A new one is one module and one entry here.

Such a module has `run(settings) -> Section` and `PARTS`, what it goes through with
`settings.track`: the progress bar counts them.
"""

from collections.abc import Iterable
from types import ModuleType

from experiments.article import (
    dilated,
    groups,
    photo,
    shapes,
    transposed,
    true_convolution,
    worked_numbers,
)
from experiments.findings import (
    causal,
    checkerboard,
    colour_groups,
    context,
    depthwise_separable,
    filter_groups,
    flattened,
    kernel_rank,
    motion,
    reductions,
    regulariser,
    shuffle,
)

EXPERIMENTS: dict[str, ModuleType] = {
    "photo": photo,
    "true_convolution": true_convolution,
    "shapes": shapes,
    "motion": motion,
    "causal": causal,
    "reductions": reductions,
    "transposed": transposed,
    "checkerboard": checkerboard,
    "dilated": dilated,
    "context": context,
    "worked_numbers": worked_numbers,
    "kernel_rank": kernel_rank,
    "depthwise_separable": depthwise_separable,
    "flattened": flattened,
    "groups": groups,
    "filter_groups": filter_groups,
    "colour_groups": colour_groups,
    "shuffle": shuffle,
    "regulariser": regulariser,
}

# Seconds that each takes on one idle core in the profile quick: the page says it of sections to
# come, and several processes begin with the longest. About 18 minutes together, measured; their
# division among the longer ones is an estimate by the networks that they train.
SECONDS: dict[str, int] = {
    "photo": 10,
    "true_convolution": 7,
    "shapes": 4,
    "motion": 20,
    "reductions": 60,
    "transposed": 10,
    "checkerboard": 220,
    "dilated": 4,
    "context": 60,
    "worked_numbers": 10,
    "kernel_rank": 60,
    "depthwise_separable": 90,
    "flattened": 80,
    "groups": 20,
    "filter_groups": 120,
    "colour_groups": 60,
    "shuffle": 120,
    "regulariser": 150,
    "causal": 60,
}


def about(name: str, module: ModuleType) -> str:
    """What an experiment is about: the first sentence of its module."""
    first = (module.__doc__ or name).strip().split("\n\n")[0]
    return " ".join(first.split())


def by_length(names: Iterable[str]) -> list[str]:
    """`names`, the longest first but for the one that the page begins with: it shows soon."""
    first, *others = names
    return [first, *sorted(others, key=lambda name: -SECONDS.get(name, 0))]


def select(names: list[str]) -> dict[str, ModuleType]:
    """The experiments of these names in the order of the page; all of them if none is given."""
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        choices = ", ".join(EXPERIMENTS)
        raise ValueError(f"no experiment is called {unknown[0]!r}; choose from: {choices}.")
    return {name: module for name, module in EXPERIMENTS.items() if not names or name in names}
