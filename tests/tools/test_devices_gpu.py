"""What programs compiled for a GPU lost under the rules for GPUs, by the committed results."""

import pytest
from compiled import summary, table

from convjax._lowerings import LOWERINGS, rules
from convjax._lowerings.target import Target

ALL = ("forward", "input gradient", "kernel gradient")
PAIRS = {
    (lax["row"], lax["program"]): (lax, ours)
    for lax, ours in summary.pairs(table.read(table.FOLDER / "h200.csv"))
    if lax["dtype"] == "bfloat16"
}
# (row, programs, lowering, what cuDNN is asked for): both operands are read as they are.
AT_THE_FLOOR = [
    ("transposed 4x4, stride 2", ALL[2:], "commuted", "1 convBackwardFilter"),
    ("transposed 16 taps, stride 8", ALL[2:], "commuted", "1 convBackwardFilter"),
    ("patchify 16x16", ALL[1:2], "reshaped", "1 convBackwardInput"),
    ("patchify 16x16", ALL[2:], "reshaped", "1 convBackwardFilter"),
    ("3 taps, dilated 4", ALL[2:], "reshaped", "1 convBackwardFilter"),
    ("5 taps, dilated 8", ALL[2:], "reshaped", "1 convBackwardFilter"),
    ("depthwise 3 taps, dilated 4", ALL[2:], "stacked_sum", ""),
    ("causal depthwise, 4 taps", ALL[2:], "stacked_sum", ""),
    ("3-D 1x3x3", ALL, "reshaped", None),
    ("3-D 3x1x1", ALL, "reshaped", None),
    ("3-D 1x1x1", ALL, "reshaped", None),
    ("dense 3x3, stride 2, SAME_LOWER", ALL[:1], "symmetric", "1 convForward"),
    ("causal depthwise, 4 taps", ALL[:2], "taps", ""),
    ("depthwise 3x3, stride 2", ALL[:2], "taps", ""),
    ("depthwise 5x5, stride 2", ALL[:2], "taps", ""),
    ("3-D depthwise 3x3x3", ALL[:2], "taps", ""),
]
CELLS = [
    (row, program, lowering, function)
    for row, programs, lowering, function in AT_THE_FLOOR
    for program in programs
]


@pytest.mark.parametrize("row, program, lowering, function", CELLS)
def test_what_a_rule_loses(row, program, lowering, function):
    """Only what must move moves, and less of it, in fewer passes, than in lax's program."""
    lax, ours = PAIRS[row, program]
    assert lowering in ours["lowerings"].split()
    assert int(ours["bytes"]) <= 1.13 * int(ours["floor"])
    assert int(lax["bytes"]) >= 1.5 * int(ours["bytes"])
    assert int(ours["passes"]) < int(lax["passes"]) and int(ours["copies"]) == 0
    # What is left is the kernel's order, which is not the one of cuDNN.
    assert int(ours["transposes"]) <= 1
    if function is not None:
        assert ours["functions"] == function


def test_every_rule_for_gpus_has_its_rows():
    of_rules = {
        rule.lowering
        for rule in rules.FAST
        if rule.where(Target.of("cuda")) and not rule.where(Target.of("cpu"))
    }
    assert of_rules == {lowering for _, _, lowering, _ in AT_THE_FLOOR} and of_rules <= set(
        LOWERINGS
    )


@pytest.mark.parametrize("row", ["transposed 2x2x2, stride 2", "transposed 4x4x4, stride 2"])
def test_a_volume_keeps_its_transposes_only(row):
    lax, ours = PAIRS[row, "kernel gradient"]
    assert "commuted" in ours["lowerings"] and ours["functions"] == "1 convBackwardFilter"
    assert lax["functions"] == "1 convForward" and int(ours["bytes"]) < int(lax["bytes"])


def test_where_lax_was_kept():
    """Each cost is lost by another form only for some other cost: docs/devices.md says which."""
    kept = [
        ("dense 3x3, stride 2", "forward"),
        ("7x7, stride 2, of colours", "kernel gradient"),
        ("causal, 3 taps", "forward"),
        ("dense 3x3, dilated 2", "kernel gradient"),
        ("grouped 3x3, 4 groups, stride 2", "input gradient"),
        ("3-D 3x3x1", "forward"),
        ("depthwise 7x7, stride 2", "forward"),
    ]
    for cell in kept:
        lax, ours = PAIRS[cell]
        assert set(ours["lowerings"].split()) == {"direct"}
        assert int(ours["bytes"]) <= int(lax["bytes"]) and int(lax["bytes"]) > 1.3 * int(
            lax["floor"]
        )


def test_a_program_for_a_b200_moves_as_much():
    """XLA joins the passes of a bias and SiLU in another way there: a seventh more, or less."""

    def cells(name):
        lines = table.read(table.FOLDER / f"{name}.csv")
        columns = ("dtype", "program", "row", "library")
        return {tuple(line[column] for column in columns): line for line in lines}

    here, there = cells("h200"), cells("b200")
    assert len(there) >= 600
    for cell, line in there.items():
        other = here[cell]
        assert all(line[column] == other[column] for column in ("functions", "lowerings"))
        within = 0.16 if "bias and SiLU" in line["row"] and line["program"] == "training" else 0.001
        assert int(line["bytes"]) == pytest.approx(int(other["bytes"]), rel=within)
