"""The experiments, in the order of the page. A new one is one module and one entry here.

Such a module has `run(settings) -> Section` and `PARTS`, what it goes through with
`settings.track`: the progress bar counts them.
"""

from types import ModuleType

from experiments import (
    causal,
    checkerboard,
    colour_groups,
    context,
    depthwise_separable,
    dilated,
    filter_groups,
    flattened,
    groups,
    kernel_rank,
    motion,
    photo,
    reductions,
    regulariser,
    shapes,
    shuffle,
    transposed,
    true_convolution,
    worked_numbers,
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


def select(names: list[str]) -> dict[str, ModuleType]:
    """The experiments of these names in the order of the page; all of them if none is given."""
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        choices = ", ".join(EXPERIMENTS)
        raise ValueError(f"no experiment is called {unknown[0]!r}; choose from: {choices}.")
    return {name: module for name, module in EXPERIMENTS.items() if not names or name in names}
