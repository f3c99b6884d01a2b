"""The table of `python -m benchmarks sharding`: a split training step is the whole one."""

import numpy as np
import pytest
import sharded

for package in ("optax", "orbax.checkpoint"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

from benchmarks import sharding as benchmark_sharding  # noqa: E402
from examples import volume  # noqa: E402


@sharded.needs_devices
@pytest.mark.slow
def test_a_split_training_step_is_that_of_one_device():
    settings = volume.Settings(size=16, batch=1, features=2, levels=1)
    one, four = (benchmark_sharding.measured(settings, devices) for devices in (1, 4))
    assert four["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert benchmark_sharding.distance(four["gradients"], one["gradients"]) < 1e-4
    assert four["temporaries"] < one["temporaries"]
    assert four["collective-permute"] > 0
    assert four["all-gather"] == four["all-to-all"] == one["collective-permute"] == 0
    head, rule, line = benchmark_sharding.table(settings, [1])
    assert head.count("|") == rule.count("|") == line.count("|")
    assert line.endswith("| 0 | 0 | 0 | 0e+00 | 0e+00 |")


@sharded.needs_devices
@pytest.mark.slow
def test_a_device_takes_its_part_of_the_memory_and_the_rows_of_two_neighbours():
    settings = volume.Settings(size=32, batch=1, features=8, levels=2)
    one, *several = (
        benchmark_sharding.compiled(settings, n)[0].memory_analysis().temp_size_in_bytes
        for n in (1, 2, 4)
    )
    for n, found in zip((2, 4), several, strict=True):
        assert found <= one * (1 / n + 2 / settings.size), n


def test_the_distance_is_of_all_arrays_together():
    ours, theirs = [np.array([3.0]), np.zeros(2)], [np.zeros(1), np.array([0, 4.0])]
    assert benchmark_sharding.distance(ours, theirs) == 1.25  # 5 over 4
