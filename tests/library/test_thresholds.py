"""Law "choice": what thresholds lose against the best lowering, by the committed measurements.

Nothing is timed here: `scripts/tune_select.py` measures, and this is arithmetic on its files.
"""

import csv
import dataclasses
import json
import math
from collections import defaultdict
from pathlib import Path

import jax
import pytest
import select_cases
import tune_select

import convjax
from convjax._lowerings import thresholds

ROOT = Path(__file__).resolve().parents[2]
# Geometric mean of chosen over best, over all files of a target: at most. The rows of 256 bits are
# the lower times of two runs on two cores that were idle for most of the time. Those of 512 bits
# are of one core, while other programs ran on the machine's other core. On two idle cores YNNPACK
# of jaxlib 0.10 takes 1.7 times as long as Eigen (dense rows of cpu2-avx512-float32-jax-0.10.2.csv
# in benchmarks/results), and the rules evade it. On one busy core it does not: hence 1.24.
REGRET = {
    ("0.10.2", "256", False): 1.06,
    ("0.10.2", "512", False): 1.24,
    ("0.12.0.1", "256", False): 1.05,
    ("0.12.0.1", "256", True): 1.01,
    ("0.12.0.1", "512", False): 1.05,
    ("0.12.0.1", "512 amx", True): 1.04,
}


def rows(name):
    file = thresholds.THRESHOLDS[name].measured
    return [row | {"file": file} for row in csv.DictReader((ROOT / file).read_text().splitlines())]


def milliseconds(row):
    return {key[: -len(" ms")]: float(ms) for key, ms in row.items() if key.endswith(" ms") and ms}


def where(row):
    """The target of a row, by its version, the width of its vectors, and whether it has oneDNN."""
    with_onednn = Path(row["file"]).stem.upper() in select_cases.WITH_ONEDNN
    return row["jaxlib"], row["vector_bits"], with_onednn


def chosen(row):
    """The lowering that the committed rules choose for a measured row."""
    shape = {key: tuple(map(int, row[key].split("x"))) for key in ("x", "kernel")}
    case = select_cases.Case(
        *(float(row["size"]), shape["x"], shape["kernel"], json.loads(row["options"])),
        *(row["role"], row.get("dtype", "float32")),
    )
    operands = [jax.ShapeDtypeStruct(s, case.dtype) for s in tune_select.operand_shapes(case)]
    there = tune_select.target_of(row, onednn=where(row)[-1])
    function = tune_select.function(case, None)
    (found,) = convjax.explain(function, *operands, target=there).rows
    assert found.role == case.role
    return found.lowering


def losses(names):
    """Chosen over best time of every measured row, by target."""
    found = defaultdict(list)
    for name in names:
        for row in rows(name):
            ms = milliseconds(row)
            lowering = chosen(row)
            if lowering == "channels_last" and lowering not in ms:
                lowering = "direct"  # the same call of lax, outside of loops
            assert lowering in ms, f"{name}: {lowering} was not measured"
            found[where(row)].append(ms[lowering] / min(ms.values()))
    return found


def mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


MEASURED = list(select_cases.MEASURED)  # on CPUs, by the script


def test_every_threshold_is_measured():
    for threshold in thresholds.THRESHOLDS.values():
        assert threshold.unit and threshold.meaning and (ROOT / threshold.measured).is_file()
    here = {n for n, t in thresholds.THRESHOLDS.items() if t.measured.startswith("benchmarks/sel")}
    assert here == set(MEASURED)
    for name in MEASURED:
        assert thresholds.THRESHOLDS[name].measured == f"benchmarks/select/{name.lower()}.csv"


@pytest.mark.parametrize("name", MEASURED)
def test_there_are_measurements_on_either_side(name):
    value = thresholds.THRESHOLDS[name].value
    by_target = defaultdict(list)
    for row in rows(name):
        by_target[where(row)].append(float(row["size"]))
        assert row["machine"] and row["date"]
    assert by_target
    for sizes in by_target.values():
        assert min(sizes) < value < max(sizes)


def test_what_the_choice_loses():
    for there, ratios in losses(MEASURED).items():
        assert mean(ratios) < REGRET[there], there


@pytest.mark.parametrize("name", ["FEW_PAIRS", "GROUPS_WRITTEN_OUT"])
def test_a_moved_threshold_loses_more(monkeypatch, name):
    """A quarter of it, where that chooses otherwise."""
    kept = losses([name])
    threshold = thresholds.THRESHOLDS[name]
    moved = dataclasses.replace(threshold, value=threshold.value / 4)
    monkeypatch.setattr(thresholds, name, moved)
    changed = {there: r for there, r in losses([name]).items() if r != kept[there]}
    assert changed
    for there, ratios in changed.items():
        assert mean(ratios) > mean(kept[there])
