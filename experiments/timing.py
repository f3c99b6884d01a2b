"""Times of several programs, measured in turns: whatever slows the machine slows all of them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

CALLS = 5  # of which a round takes the fastest: no chance makes a program faster


def interleaved(programs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of every program in every round, the first call (compilation) left out."""
    for program in programs.values():
        jax.block_until_ready(program())
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        each: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(CALLS):
            for name, program in programs.items():
                start = time.perf_counter()
                jax.block_until_ready(program())
                each[name].append(1e3 * (time.perf_counter() - start))
        for name, times in each.items():
            found[name].append(min(times))
    return {name: np.array(times) for name, times in found.items()}
