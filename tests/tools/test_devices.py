"""Programs compiled for TPUs and GPUs: the committed results, and how a program's text is read."""

import math

import pytest
from compiled import geometries, reading, scale, summary, table, targets

FILES = sorted(table.FOLDER.glob("*.csv"))
LINES = {path.stem: table.read(path) for path in FILES}
PAIRS = [pair for lines in LINES.values() for pair in summary.pairs(lines)]


def of(name):
    return [pair for pair in summary.pairs(LINES[name]) if summary.is_grouped(pair[0])]


def test_what_is_committed():
    assert {"v5e", "v6e"} <= set(LINES)
    rows = {row.name for row in geometries.ROWS}
    for lines in LINES.values():
        by_lax = [line for line in lines if line["library"] == "lax"]
        assert len(by_lax) == len(summary.pairs(lines))
        assert {line["row"] for line in lines} <= rows
        assert all(line["jax"] and line["compiler"] and float(line["floor"]) for line in lines)


@pytest.mark.parametrize("name", ["v5e", "v6e"])
def test_groups_take_fewer_cycles_on_a_tpu(name):
    """Forward and both gradients; where `direct` was chosen the ratio is 1."""
    ratios = [summary.ratio(lax, ours) for lax, ours in of(name)]
    assert {lax["program"] for lax, _ in of(name)} >= {
        "forward",
        "input gradient",
        "kernel gradient",
    }
    assert summary.mean(ratios) > 2 and min(ratios) >= 1


@pytest.mark.parametrize("lax, ours", PAIRS, ids=lambda line: f"{line['target']} {line['row']}")
def test_no_program_is_worse_than_laxs(lax, ours):
    """By the TPU compiler's cycles; on a GPU by bytes and passes."""
    if targets.TARGETS[lax["target"]].platform == "tpu":
        assert int(ours["cycles"]) <= 1.01 * int(lax["cycles"])
    else:
        assert int(ours["bytes"]) <= 1.01 * int(lax["bytes"])
        assert int(ours["passes"]) <= int(lax["passes"])


# The branch of a block holds lax's grouped convolution as well: both are compiled.
SLOW_TO_COMPILE = {
    ("v5e", "forward", "grouped 3x3, 2 groups, 32x56x56x64"),
    ("v5e", "training", "grouped 3x3, 32 groups, 16x28x28x512"),
}


@pytest.mark.parametrize("lax, ours", PAIRS, ids=lambda line: f"{line['target']} {line['row']}")
def test_compilation_is_bounded(request, lax, ours):
    """Twice lax's time, or 10 seconds; the seconds are those of a machine that did other work."""
    if (lax["target"], lax["program"], lax["row"]) in SLOW_TO_COMPILE:
        request.applymarker(pytest.mark.xfail(strict=True, reason="takes longer to compile"))
    assert float(ours["compile_seconds"]) <= max(2 * float(lax["compile_seconds"]), 10)


def test_the_page_has_the_table():
    page = summary.PAGE.read_text(encoding="utf-8")
    assert summary.written(page, summary.markdown()) == page


def test_a_step_exchanges_what_the_formula_says():
    """Gradients and slices; beside them the statistics of batch normalisation, and the loss."""
    lines = table.read(scale.FILE)
    assert lines
    for line in lines:
        said = int(line["formula_gradients"]) + int(line["formula_slices"])
        assert said <= int(line["collective_bytes"]) <= 1.01 * said + 1000
        assert line["collectives"] or line["devices"] == "1"


def test_a_part_is_as_large_on_any_number_of_devices():
    for case in scale.CASES:
        for devices in (8, 64, 256):
            shape, mesh = scale.whole(case, devices)
            elements = [size // part for size, part in zip(shape, mesh, strict=False)]
            assert (*elements, *shape[2:]) == case.part and math.prod(mesh) == devices


# ---- reading -------------------------------------------------------------------------------------

PROGRAM = """\
HloModule jit_f, is_scheduled=true

%fused (p: bf16[4,8]) -> bf16[8,4] {
  %p = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %t = bf16[8,4]{1,0:T(8,128)(2,1)} transpose(%p), dimensions={1,0}
}

%body (s: (s32[], f32[16])) -> (s32[], f32[16]) {
  %s = (s32[], f32[16]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %v = f32[16]{0} get-tuple-element(%s), index=1
  %w = f32[16]{0} fusion(%v), kind=kLoop, calls=%other, backend_config={"estimated_cycles":"10"}
  ROOT %r = (s32[], f32[16]{0}) tuple(%i, %w)
}

%wrong (x: f32[16]) -> f32[16] {
  %x = f32[16]{0} parameter(0)
  ROOT %slow = f32[16]{0} fusion(%x), kind=kLoop, calls=%other, backend_config={"estimated_cycles":"999"}
}

%right (x.1: f32[16]) -> f32[16] {
  %x.1 = f32[16]{0} parameter(0)
  ROOT %fast = f32[16]{0} fusion(%x.1), kind=kLoop, calls=%other, backend_config={"estimated_cycles":"5"}
}

ENTRY %main (a: bf16[4,8], b: f32[16]) -> bf16[8,4] {
  %a = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %b = f32[16]{0} parameter(1)
  %near = bf16[4,8]{1,0:T(8,128)(2,1)S(1)} copy(%a), backend_config={"estimated_cycles":"3"}
  %turned = bf16[8,4]{1,0:T(8,128)(2,1)} fusion(%near), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"40"}
  %c = s32[] constant(0)
  %start = (s32[], f32[16]{0}) tuple(%c, %b)
  %loop = (s32[], f32[16]{0}) while(%start), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"7"}}
  %sum = f32[16]{0} all-reduce(%b), to_apply=%add
  %chosen = f32[16]{0} conditional(%c, %b, %b), branch_computations={%wrong, %right}
  %called = (f32[16]{0}, u8[8]{0}) custom-call(%b), custom_call_target="__cudnn$convForward"
  ROOT %out = bf16[8,4]{1,0:T(8,128)(2,1)} add(%turned, %turned)
}
"""  # noqa: E501


def test_a_program_is_read():
    found = reading.read_text(PROGRAM)
    assert found.cycles == 3 + 40 + 7 * 10 + 5
    assert (found.collectives, found.functions) == ("1 all-reduce", "1 convForward")
    assert reading.collective_bytes(PROGRAM) == 64
    assert (found.copies, found.transposes, found.calls) == (1, 1, 1)
    assert found.passes == 2 + 7 + 1 + 1 + 1 + 1
    near = 64 + 64  # the copy reads main memory, the transposition writes it
    assert found.bytes == near + 7 * 128 + 128 + 128 + (64 + 64 + 8) + 3 * 64


def test_a_type_is_measured():
    assert reading.size("(bf16[2,3]{1,0:T(8,128)(2,1)}, pred[5], f32[])") == 12 + 5 + 4
    assert reading.size("f32[8]{0:T(128)S(1)}") == 0
    assert reading.size("token[]") == 0
