"""Measurements on kernels, responses, images and functions; pure functions, usable under `jit`."""

from convjax.analysis.checkerboard import (
    overlap_counts,
    phase_gains,
    phase_variance_fraction,
    spectral_fraction,
)
from convjax.analysis.correlation import BlockScores, block_scores, interlayer_covariance
from convjax.analysis.reach import (
    EmpiricalField,
    channel_reachability,
    empirical_receptive_field,
)
from convjax.equivalents import rank_energy

__all__ = [
    "BlockScores",
    "EmpiricalField",
    "block_scores",
    "channel_reachability",
    "empirical_receptive_field",
    "interlayer_covariance",
    "overlap_counts",
    "phase_gains",
    "phase_variance_fraction",
    "rank_energy",
    "spectral_fraction",
]
