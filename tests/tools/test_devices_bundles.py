"""What the compiler's schedule says of the kernels for TPU: the committed table, and its reader."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "results" / "pallas" / "bundles.csv"


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "devices_bundles.py"
    spec = importlib.util.spec_from_file_location("devices_bundles", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


LISTING = """
   0x0   :  { %1 = vst } /* Start region 1 */
   0x1 LB: > { %s1 = sphi /* iteration index, stage = 1 */ } /* Start region 7 :: Start region 8 */
   0x2 LB: >> { %s2 = sphi  ;;  %p3_p4 = scmp.ge.s32.totalorder %s2, 5 /* loop exit test */ } /* Start region 9 */
   0x3   : >> { %9 = sbr.rel (!%p3_p4) target = $region9 }
   0x4   : >> { %v1 = vadd }
   0x5   : >> { }
   0x6   : >> { }
   0x7   : >> { } /* End region 9 */
   0x8   : > { %p5_p6 = scmp.ge.s32.totalorder (%p3_p4), %s1, 6 /* loop exit test */ }
   0x9   : > { %9 = sbr.rel (!%p5_p6) target = $region8 }
   0xa   : > { }
   0xb   : > { }
   0xc   : > { }
   0xd   : > { } /* End region 8 */
   0xe   :  { %9 = sbr.rel (%p5_p6) target = $region1 }
"""  # noqa: E501


def test_loops_count_as_often_as_they_run(script):
    """The grid's loop has two turns that only fetch and write."""
    assert script.trips_of(LISTING) == [1, 4, *[20] * 6, *[4] * 6, 1]


def test_slots_are_weighted_with_the_turns(script):
    used = ["1 0 0 0 0 0 0 0 0 0"] * 2 + ["0 0 4 0 0 3 0 1 1 0"] * 6 + ["0 0 0 0 0 0 0 0 0 0"] * 7
    text = "\n".join([
        "== CAPACTIY:",
        "MXU, XLU, VALU, VPOP, EUP, VLOAD, VLOAD:FILL, VSTORE, VSTORE:SPILL, SALU",
        "    4     3     4     2     1     3     3     1     1     2",
        "== UTILIZATION:",
        *used,
    ])  # fmt: skip
    found = script.count(LISTING, text)
    assert found.bundles == 1 + 4 + 120 + 24 + 1 and found.spills == 6
    shares = (found.vector_slots, found.load_slots, found.store_slots)
    assert shares == pytest.approx((120 / 150,) * 3)


def test_rows_that_do_not_compile_are_named(script, monkeypatch, tmp_path, capsys):
    """The table has the others, and the exit status is 1."""

    def measure(chip, row, role, dtype, dump):
        if (chip, row.name, dtype, role) == ("v6e", "3x3", "float32", "forward"):
            raise RuntimeError("no such chip")
        return {"chip": chip, "layer": row.name, "dtype": dtype, "role": role}

    monkeypatch.setattr(script, "set_up", lambda dump: None)
    monkeypatch.setattr(script, "measure", measure)
    out = tmp_path / "bundles.csv"
    monkeypatch.setattr(sys, "argv", ["devices_bundles.py", "float32", "--out", str(out)])
    assert script.main() == 1
    printed = capsys.readouterr()
    assert "RuntimeError: no such chip" in printed.out
    assert printed.err == "These rows failed (1): v6e 3x3 float32 forward.\n"
    with out.open() as file:
        written = list(csv.DictReader(file))
    assert len(written) == len([row for row in rows() if row["dtype"] == "float32"]) - 1
    monkeypatch.setattr(sys, "argv", ["devices_bundles.py", "v5e", "float32", "--out", str(out)])
    assert script.main() == 0


def rows():
    with TABLE.open() as file:
        return list(csv.DictReader(file))


def test_the_table_is_complete(script):
    wanted = {
        (chip, row.name, dtype, role)
        for chip in script.CHIPS
        for row in script.TABLE
        for dtype in ("bfloat16", "float32")
        for role in (script.ROLES if not row.surrounds else ("forward",))
    }
    assert {(r["chip"], r["layer"], r["dtype"], r["role"]) for r in rows()} == wanted


# Where the target is missed: more than 1.5 times the floor, and vector slots are free.
MISSED = {
    ("v5e", "7x7 small image", "float32", "forward"),
    ("v5e", "7x7 small image", "float32", "input_gradient"),
    ("v5e", "causal k4, packed", "bfloat16", "forward"),
    ("v6e", "causal k4, packed", "bfloat16", "forward"),
}


def test_kernels_are_near_the_floor_or_fill_the_vector_unit():
    """At most 1.5 times what memory allows, or four of five vector slots filled, but for a few."""
    far = {
        (row["chip"], row["layer"], row["dtype"], row["role"])
        for row in rows()
        if float(row["ratio"]) > 1.5 and float(row["vector_slots"]) < 0.8
    }
    assert far == MISSED
