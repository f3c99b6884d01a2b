"""Pictures of convolutions, computed from the library's functions.

`arithmetic` draws any configuration of any kind, cell by cell. Each function returns a `Drawing`.
Notebooks display it, and its ``save`` writes it as .svg, .html (a player), .png or .gif; the last
two need the extra ``draw``. ``python -m convjax.draw --help`` explains the command line.
"""

from convjax.draw.arithmetic import arithmetic
from convjax.draw.boxes import layer, network
from convjax.draw.drawing import Drawing
from convjax.draw.flow import connectivity, overlap, receptive_field
from convjax.draw.heat import filters, matrix

__all__ = [
    "Drawing",
    "arithmetic",
    "connectivity",
    "filters",
    "layer",
    "matrix",
    "network",
    "overlap",
    "receptive_field",
]
