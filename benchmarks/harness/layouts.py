"""The libraries' layouts of operands, and why a library leaves out a row."""

from typing import Any

import numpy as np

from benchmarks.harness.rows import Operand


class LeftOut(Exception):
    """A contender cannot run this row."""


def to_first(array: Any, operand: Operand) -> Any:
    """(N, *space, C) to (N, C, *space); (*K, a, b) to (b, a, *K)."""
    lead = operand.lead
    if operand.role == "x":
        return np.moveaxis(array, -1, lead + 1)
    return np.moveaxis(array, (-1, -2), (lead, lead + 1))


def to_last(array: Any, operand: Operand) -> Any:
    """The inverse of `to_first`."""
    lead = operand.lead
    if operand.role == "x":
        return np.moveaxis(array, lead + 1, -1)
    return np.moveaxis(array, (lead, lead + 1), (-1, -2))
