"""The figures of the article, F1 to F46: each a short function that draws with `convjax.draw`.

``FIGURES`` maps a number to its `Figure`; ``python docs/article/build.py`` writes all of them.
"""

import importlib

from figures.registry import FIGURES, Figure

SECTIONS = (
    "s01_correlation",
    "s02_deep_learning",
    "s05_arithmetic",
    "s06_transposed",
    "s07_dilated",
    "s08_separable",
    "s10_grouped",
    "s11_shuffled",
)
for _section in SECTIONS:
    importlib.import_module(f"figures.{_section}")

__all__ = ["FIGURES", "Figure"]
