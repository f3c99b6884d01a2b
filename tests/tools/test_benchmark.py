"""The benchmark's own parts, on tiny rows and made-up numbers; nothing here depends on a time."""

import collections
import dataclasses
import math
import random
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import layers as benchmark
from benchmarks.harness import machine, ops, readme, results, session, summary, timing
from benchmarks.harness.drawn_rows import ROWS, drawn_rows
from benchmarks.harness.networks import mobilenet, per_example
from benchmarks.harness.prepare import CELLS, lowerings, prepare, prepare_jax
from benchmarks.harness.results import Conflict, Record, Store, Table
from benchmarks.harness.rows import Operand, Row, forward, same, transposed
from benchmarks.harness.table import NARROW, choose, table
from benchmarks.harness.timing import Timed
from convjax._core.declared import now

TINY = [
    forward("dense", "dense", 2, (6, 5), 3, 4, (3, 3)),
    forward("strided", "dense", 2, (8, 6), 3, 4, (3, 3), strides=2),
    forward("depthwise", "depthwise", 2, (7, 6), 4, 8, (3, 3), dilation=2, groups=4),
    forward("causal", "depthwise", 2, (9,), 4, 4, (4,), groups=4, padding=((3, 0),)),
    forward("grouped", "grouped", 2, (6, 5), 6, 4, (3, 3), groups=2),
    transposed("transposed k4", "transposed", 2, (4, 3), 4, 6, (4, 4)),
    transposed("transposed k3", "transposed", 2, (4, 3), 4, 6, (3, 3)),
    transposed("transposed groups", "transposed", 2, (4, 3), 4, 6, (4, 4), groups=2),
    transposed("transposed 3D", "3d", 1, (2, 3, 4), 4, 2, (3, 3, 3)),
    forward("first", "grouped", 2, (6, 5), 6, 4, (3, 3), groups=2, layout="first"),
    Row(
        "per-example",
        "dense",
        "",
        (Operand((3, 1, 5, 6, 2), "x", lead=1), Operand((3, 3, 3, 2, 4), lead=1)),
        per_example,
        out_lead=1,
    ),
]


def here():
    return [peer for peer, why in ops.available().items() if not why]


def record(row="a", cell="forward", **fields):
    ratio = fields.pop("ratio", {"lax": 0.5, "torch": 2.0})
    ms = fields.pop("ms", {"lax": 10.0, "convjax": 5.0, "torch": 2.5})
    return Record(row, cell, fields.pop("family", "dense"), ratio=ratio, ms=ms, **fields)


# ---- rows and contenders -------------------------------------------------------------------------


def test_the_table():
    rows = table()
    assert len({row.name for row in rows}) == len(rows)
    slow = {row.family for row in rows if row.slow}
    assert slow == {"depthwise", "grouped", "transposed", "3d"}
    quick = choose(rows, quick=True)
    assert slow <= {row.family for row in quick} and len(quick) < 10
    assert [row.name for row in choose(rows, "1D k9")] == ["dense 1D k9"]
    assert {row.family for row in choose(rows, families=("grouped",))} == {"grouped"}
    assert all(row.section == "bfloat16" for row in choose(rows, families=("bfloat16",)))


def test_scaled_rows():
    assert TINY[0].scaled(8).operands[0].shape == (16, 6, 5, 3)
    assert TINY[-1].scaled(8).operands[0].shape == (3, 8, 5, 6, 2)


def test_same_padding_is_laxs():
    from jax import lax

    for n, k, s, d in ((8, 3, 2, 1), (9, 3, 2, 1), (7, 4, 3, 2), (5, 1, 2, 1)):
        expected = lax.padtype_to_pads((n,), ((k - 1) * d + 1,), (s,), "SAME")
        assert list(same((n,), (k,), s, d)) == expected


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("row", TINY, ids=lambda row: row.name)
def test_contenders_agree(row, cell):
    """All that are installed, in values and gradients, brought back to one layout."""
    plan, arrays = session.Plan(peers=here()), row.draw()
    ready, out = session.contenders_of(row, cell, plan, "float32", arrays)
    out |= session.check_equal(ready, row, cell, "float32", arrays, None)
    assert {"lax", "convjax"} <= ready.keys()
    assert not any("Error" in why for why in out.values()), out


def test_lax_rows_are_the_convolutions_meant():
    """By numpy, at one output pixel of a plain and of a transposed row."""
    x, k = TINY[0].draw()
    y = prepare_jax(ops.LaxOps(), TINY[0], "forward", [x, k], "float32").call()
    expected = np.einsum("nhwi,hwio->no", x[:, 1:4, 2:5], k)
    np.testing.assert_allclose(y[:, 2, 3], expected, rtol=1e-4, atol=1e-5)

    row = transposed("k2", "transposed", 2, (4, 3), 4, 6, (2, 2))
    x, k = row.draw()
    y = prepare_jax(ops.LaxOps(), row, "forward", [x, k], "float32").call()
    np.testing.assert_allclose(y[:, 3, 4], x[:, 1, 2] @ k[1, 0].T, rtol=1e-4, atol=1e-5)


def test_lowerings_have_all_roles():
    assert len(lowerings(TINY[0], "training", "float32").split("/")) == 3
    assert len(lowerings(TINY[0], "forward", "float32").split("/")) == 1
    x = Operand((1, 8, 8, 3), "x")
    net = dataclasses.replace(mobilenet(), operands=(x, *mobilenet().operands[1:]))
    assert len(lowerings(net, "training", "float32").split("/")) == 3


# ---- equality ------------------------------------------------------------------------------------


def spoiled(self, x, kernel, spec, right=ops.ConvjaxOps.conv):
    return right(self, x, kernel, spec).at[0, 0, 0, 0].add(1.0)


def test_worst_error():
    one = [np.array([1.0, -4.0])]
    assert session.worst_error([np.array([1.0, -4.2])], one) == pytest.approx(0.05)
    assert session.worst_error([np.array([1.0, np.nan])], one) == math.inf
    assert session.worst_error([np.array([[1.0, -4.0]])], one) == math.inf
    assert session.worst_error([], one) == math.inf


@pytest.mark.parametrize("cell", CELLS)
def test_unequal_results_are_not_timed(cell, monkeypatch):
    monkeypatch.setattr(ops.ConvjaxOps, "conv", spoiled)
    monkeypatch.setattr(session, "time_cell", lambda *_: pytest.fail("it was timed"))
    said, saved = [], []
    plan = session.Plan(peers=("lax", "convjax"), say=said.append)
    unequal = session.run([TINY[0]], [cell], plan, saved.append)
    assert not saved and len(unequal) == 1
    assert "convjax differs from lax" in unequal[0] and "UNEQUAL" in said[0]


def run_main(monkeypatch, tmp_path, *arguments):
    monkeypatch.setattr(benchmark, "table", lambda: TINY[:2])
    fixed = ["--peers", "lax,convjax", "--rounds", "3", "--limit", "0.1", "--out", str(tmp_path)]
    return benchmark.main([*fixed, *arguments])


def test_main(monkeypatch, tmp_path, capsys):
    assert run_main(monkeypatch, tmp_path) == 0
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(f"-float32-jax-{benchmark.jax.__version__}.csv")
    found = results.load(path)
    assert [r.key for r in found.records] == [
        (row.name, cell) for row in TINY[:2] for cell in CELLS
    ]
    assert {"machine", "versions", "date", "command"} <= found.header.keys()
    assert "Geometric means" in capsys.readouterr().out

    assert benchmark.main(["--summary", str(path)]) == 0
    assert "strided" in capsys.readouterr().out


def test_main_fails_where_results_are_unequal(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ops.ConvjaxOps, "conv", spoiled)
    assert run_main(monkeypatch, tmp_path) == 1
    assert "UNEQUAL" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_resume(monkeypatch, tmp_path):
    real, ran = session.run_cell, []

    def interrupted(row, cell, plan):
        ran.append((row.name, cell))
        if len(ran) == 3:
            raise KeyboardInterrupt
        return real(row, cell, plan)

    monkeypatch.setattr(session, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_main(monkeypatch, tmp_path)
    assert [path.name.endswith(".partial.csv") for path in tmp_path.iterdir()] == [True]
    assert run_main(monkeypatch, tmp_path, "--resume") == 0
    assert ran[3:] == [("strided", "forward"), ("strided", "training")]
    (path,) = tmp_path.iterdir()
    assert len(results.load(path).records) == 4


def test_no_row(monkeypatch, tmp_path):
    assert run_main(monkeypatch, tmp_path, "--rows", "nothing like it") == 2


def test_missing_peers_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(ops.importlib.util, "find_spec", lambda name: name == "convjax" or None)
    arguments = benchmark.parser().parse_args([])
    assert benchmark.peers_of(arguments) == ["lax", "convjax"]
    assert "torch is not installed" in capsys.readouterr().err


def test_compiler_options(monkeypatch):
    parse = benchmark.parser().parse_args
    options = benchmark.compiler_options(
        parse(["--compiler-option", "a=", "--compiler-option=b=1"])
    )
    assert options == {"a": "", "b": "1"}
    asked = {"c": "2"}
    monkeypatch.setattr(
        benchmark.convjax, "compiler_options", lambda platform: asked, raising=False
    )
    assert benchmark.compiler_options(parse(["--options"])) == asked
    with pytest.raises(SystemExit, match="NAME=VALUE"):
        benchmark.compiler_options(parse(["--compiler-option", "a"]))


def test_onednn_is_beside_lax(monkeypatch, tmp_path):
    """convjax runs under the options that it is told of, lax under the same and under none."""
    asked = {"xla_cpu_experimental_onednn_custom_call": True}
    monkeypatch.setattr(benchmark.convjax, "compiler_options", lambda platform, onednn: asked)
    seen, declared = set(), []

    def prepared(peer, row, cell, arrays, dtype, options):
        seen.add((peer, bool(options)))
        return prepare(peer, row, cell, arrays, dtype, options)

    def conv(self, x, kernel, spec, right=ops.ConvjaxOps.conv):
        declared.append(dict(now() or {}))
        return right(self, x, kernel, spec)

    monkeypatch.setattr(session.prepare, "warm_up", lambda: None)
    monkeypatch.setattr(session.prepare, "prepare", prepared)
    monkeypatch.setattr(ops.ConvjaxOps, "conv", conv)
    assert run_main(monkeypatch, tmp_path, "--onednn", "--only", "forward", "--peers", "lax") == 0
    assert seen == {("lax", False), ("lax_onednn", True), ("convjax", True)}
    assert declared and all(options == asked for options in declared)
    (path,) = tmp_path.iterdir()
    assert path.stem.endswith("-onednn")
    (found, *_) = results.load(path).records
    assert {"lax", "lax_onednn", "convjax"} <= found.ms.keys() and found.ratio["lax_onednn"] > 0
    with pytest.raises(SystemExit, match="leave the other two out"):
        benchmark.onednn_options(benchmark.parser().parse_args(["--onednn", "--options"]))


def test_a_cell_that_lax_wins_with_onednn_is_lost():
    lost = record(ratio={"lax": 0.5, "lax_onednn": 1.2}, ms={"lax": 10.0, "lax_onednn": 6.0})
    kept = record(ratio={"lax": 0.5, "lax_onednn": 1.0}, ms={"lax": 10.0, "lax_onednn": 6.0})
    assert summary.losing([lost, kept]) == [lost]


# ---- timing --------------------------------------------------------------------------------------


def test_rounds_are_interleaved(monkeypatch):
    """Each round times each contender once, and not always in one order."""
    clock, order = iter(range(10**6)), []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    calls = {n: Timed(lambda n=n: order.append(n), lambda _: None) for n in "abc"}
    samples = timing.interleaved(calls, 6, rng=random.Random(1))
    assert {name: len(s) for name, s in samples.items()} == dict.fromkeys("abc", 6)
    rounds = ["".join(order[i : i + 3]) for i in range(6, len(order), 3)]
    assert len(rounds) == 6 and {"".join(sorted(r)) for r in rounds} == {"abc"}
    assert len(set(rounds)) > 1


@pytest.mark.parametrize("limit, rounds", [(100, 7), (5, 5), (0, 3)])
def test_rounds_fit_the_limit(limit, rounds, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    samples = timing.interleaved({"a": Timed(int, abs)}, 7, limit_s=limit)
    assert len(samples["a"]) == rounds


@pytest.mark.parametrize("takes, untimed, timed", [(0.004, 8, 5), (0.1, 1, 1), (0.5, 0, 1)])
def test_short_calls_go_untimed_first(takes, untimed, timed, monkeypatch):
    """For as long as threads of another library may wait actively."""
    now, calls = [0.0], []

    def call():
        now[0] += takes
        calls.append(now[0])

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    samples = timing.interleaved({"a": Timed(call, lambda _: None)}, 3, limit_s=1e9)
    assert len(calls) == 2 + 3 * (untimed + timed)
    assert samples["a"] == pytest.approx([takes] * 3)


@pytest.mark.parametrize("each", [True, False])
def test_a_result_is_gone_before_the_next(each):
    """Its memory is free then: held results made calls take twice as long in some processes."""
    alive = []

    class Result:
        pass

    def call():
        assert not [seen for seen in alive if seen() is not None]
        result = Result()
        alive.append(weakref.ref(result))
        return result

    Timed(call, lambda _: None, each).seconds(5)
    assert len(alive) == 5


def test_ratios_are_paired():
    samples = {"a": [1.0, 20.0, 3.0], "b": [1.0, 10.0, 2.0]}
    assert timing.paired_ratio(samples, "a", "b") == 1.5


def test_what_loses():
    assert timing.loses(1.06, 0.006) and not timing.loses(1.04, 0.006)
    assert timing.loses(1.16, 0.004) and not timing.loses(1.14, 0.004)


def test_a_losing_cell_runs_again(monkeypatch):
    rounds = []

    def slower(timed, count, **_):
        rounds.append(count)
        return {"lax": [0.01] * count, "convjax": [0.02] * count}

    monkeypatch.setattr(timing, "interleaved", slower)
    saved = []
    plan = session.Plan(peers=("lax", "convjax"), rounds=5, say=lambda line: None)
    session.run([TINY[0]], ["forward"], plan, saved.append)
    assert rounds == [5, 10]
    assert saved[0].rerun and saved[0].rounds == 10 and saved[0].ratio["lax"] == 2.0
    assert summary.losing(saved) == saved


# ---- results -------------------------------------------------------------------------------------


def test_csv_round_trip(tmp_path):
    full = record(
        slow=True,
        lowerings="direct/direct/matmul",
        same_hlo="no",
        rounds=7,
        rerun=True,
        ratio_low=0.25,
        compile_s={"lax": 0.5, "convjax": 1.5},
        temp_bytes={"lax": 0, "convjax": 2**21},
        left_out='keras: it says "no", and more',
    )
    path = tmp_path / "deep" / "file.csv"
    results.write(path, Table({"machine": "here: there", "versions": "x"}, [full, record("b")]))
    found = results.load(path)
    assert found.header == {"machine": "here: there", "versions": "x"}
    assert found.records == [full, record("b")]
    assert [p.name for p in path.parent.iterdir()] == ["file.csv"]


def test_merging():
    old = [record("a"), record("b"), record("gone")]
    new = [record("b", ms={"lax": 1.0}), record("c")]
    found = results.merged(old, new, ["c", "b", "a"])
    assert [r.row for r in found] == ["c", "b", "a", "gone"]
    assert found[1].ms == {"lax": 1.0}


def store(path, *, whole, **header):
    return Store(path, {"machine": "m", **header}, ("machine",), ["a", "b"], whole=whole)


def test_an_interrupted_run_keeps_what_is_done(tmp_path):
    path = tmp_path / "r.csv"
    store(path, whole=True).save(record("b"))
    assert not path.exists()
    again = store(path, whole=True)
    again.save(record("a"))
    assert [r.row for r in again.finish()] == ["a", "b"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


def test_some_rows_again(tmp_path):
    path = tmp_path / "r.csv"
    first = store(path, whole=True)
    first.save(record("a"))
    first.save(record("b"))
    first.finish()
    part = store(path, whole=False)
    part.save(record("b", date="later"))
    assert [(r.row, r.date) for r in part.finish()] == [("a", ""), ("b", "later")]
    with pytest.raises(Conflict, match="another machine"):
        store(path, whole=False, machine="other")
    assert store(path, whole=True, machine="other").finish() == []


# ---- summary -------------------------------------------------------------------------------------


def some_records():
    return [
        record("a", family="depthwise", slow=True, ratio={"lax": 0.5, "torch": 1.0}),
        record("b", family="grouped", slow=True, ratio={"lax": 0.125, "torch": 4.0}),
        record("c", ratio={"lax": 1.1, "torch": 2.0}),
        record("d", ratio={"lax": 1.1, "torch": 0.5}, ms={"lax": 1.0, "convjax": 1.1}),
        record("e", "training", family="3d", slow=True, ratio={"lax": 0.25}),
    ]


def test_geometric_means():
    forward_means, training = summary.means(some_records())
    assert forward_means.lax_over_us == pytest.approx(4.0)
    assert forward_means.us_over_torch == pytest.approx(2.0)
    assert forward_means.us_over_torch_all == pytest.approx(math.sqrt(2))
    assert (forward_means.lax_rows, forward_means.all_rows) == (2, 4)
    assert training.lax_over_us == pytest.approx(4.0)
    assert training.us_over_torch is None


def test_means_by_dtype():
    """The means are of one dtype; the others have their own."""
    narrow = [
        record("f", dtype="bfloat16", ratio={"lax": 0.25, "torch": 3.0}),
        record("g", dtype="bfloat16", ratio={"lax": 1.0, "torch": 12.0}),
        record("h", "training", dtype="float16", ratio={"lax": 0.1}),
    ]
    records = [*some_records(), *narrow]
    assert summary.means(records) == summary.means(some_records())
    assert summary.means_by_dtype(some_records()) == []
    bfloat16, float16 = summary.means_by_dtype(records)
    assert bfloat16 == ("bfloat16", "forward", 2, pytest.approx(2.0), pytest.approx(6.0))
    assert float16 == ("float16", "training", 1, pytest.approx(10.0), None)
    assert "bfloat16, forward: lax/convjax 2.00, convjax/torch 6.00" in summary.summary(records)


def test_what_stands_out():
    records = some_records()
    assert [r.row for r in summary.losing(records)] == ["c"]
    assert [r.row for r in summary.far_from_torch(records)] == ["b", "c"]
    slow = record(compile_s={"lax": 0.5, "convjax": 1.1}, temp_bytes={"lax": 0, "convjax": 2**21})
    fine = record(compile_s={"lax": 0.1, "convjax": 0.9}, temp_bytes={"lax": 9, "convjax": 99})
    assert summary.long_compiles([slow, fine]) == [slow]
    assert summary.much_memory([slow, fine]) == [slow]
    busy = record(others=0.5)
    assert summary.disturbed([busy, record(others=0.1), fine]) == [busy]
    assert "none" in summary.summary([fine])


def test_texts():
    text = summary.plain_table(some_records()) + summary.summary(some_records())
    for part in ("a *", "lax/us", "c, forward: convjax/lax 1.10", "b, forward: 4.00"):
        assert part in text
    numbers = [summary.number(n) for n in (None, 0.0, 0.01234, 1.234, 12.34, 1234.5)]
    assert numbers == ["-", "0", "0.012", "1.23", "12.3", "1,234"]


def test_readme_table(tmp_path):
    assert readme.markdown(tmp_path) == readme.NOTHING + "\n"
    for name in ("cpu", "cpu-options", "cpu-quick", "cpu.partial"):
        results.write(tmp_path / f"{name}.csv", Table({}, some_records()))
    text = readme.markdown(tmp_path)
    assert "`cpu`, by family" in text and "`cpu-options`, by family" not in text
    row = "| [cpu](../benchmarks/results/cpu.csv) | forward | 4.00 | 2.00 | 1.41 | 1 of 4 |"
    assert row in text
    assert "quick" not in text and "partial" not in text
    assert "16-bit" not in text


def test_readme_table_of_other_dtypes(tmp_path):
    narrow = record("f", dtype="bfloat16", ratio={"lax": 0.25, "torch": 3.0})
    results.write(tmp_path / "cpu.csv", Table({}, [*some_records(), narrow]))
    row = "| [cpu](../benchmarks/results/cpu.csv) | bfloat16 | forward | 1 | 4.00 | 3.00 |"
    assert row in readme.markdown(tmp_path)


def test_tables_go_into_their_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "PAGES", {"page.md": ("table", lambda folder: f"{folder.name}\n")})
    file = tmp_path / "page.md"
    start, end = readme.markers("table")
    file.write_text(f"before\n{start}old\n{end}\nafter\n")
    assert readme.rewrite(tmp_path, tmp_path) == ["page.md"]
    assert readme.rewrite(tmp_path, tmp_path) == []
    assert file.read_text() == f"before\n{start}{tmp_path.name}\n{end}\nafter\n"
    file.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the markers <!-- table -->"):
        readme.rewrite(tmp_path, tmp_path)


def test_others_are_counted(monkeypatch):
    seen = iter([(10.0, 5.0, 100.0), (25.0, 15.0, 110.0), (0.0, 0.0, 0.0), None])
    monkeypatch.setattr(machine.Others, "_now", staticmethod(lambda: next(seen)))
    assert machine.Others().cores() == 0.5
    assert machine.Others().cores() is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_operands_have_the_dtype(dtype):
    array = ops.LaxOps().place(np.ones((1, 2, 3), np.float32), Operand((1, 2, 3), "x"), dtype)
    assert array.dtype == jnp.dtype(dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_contenders_agree_in_16_bits(dtype):
    """In the same dtype, within that dtype's tolerance, which a wrong tap exceeds."""
    row = dataclasses.replace(TINY[2], dtype=dtype)
    arrays, plan = row.draw(), session.Plan(peers=here())
    for cell in CELLS:
        ready, out = session.contenders_of(row, cell, plan, dtype, arrays)
        out |= session.check_equal(ready, row, cell, dtype, arrays, None)
        assert {"lax", "convjax"} <= ready.keys()
        assert not any("Error" in why for why in out.values()), out
    ready["convjax"].call = lambda: [2 * leaf for leaf in jax.tree.leaves(ready["lax"].call())]
    with pytest.raises(session.Unequal, match="convjax differs"):
        session.check_equal(ready, row, cell, dtype, arrays, None)


def test_losses_of_16_bits_are_summed_in_float32():
    """300 squares of 16 make 76,800, which float16 cannot hold; its loss is scaled by 1/64."""
    row = forward("wide", "dense", 1, (300,), 1, 1, (1,))
    arrays = [np.full(operand.shape, 4, np.float32) for operand in row.operands]
    for dtype, scale in (("float32", 1), ("bfloat16", 1), ("float16", 1 / 64)):
        for peer in ("lax", "convjax", *(p for p in here() if p.startswith("torch"))):
            try:
                contender = prepare(peer, row, "training", arrays, dtype)
            except ops.LeftOut:
                continue
            loss, _, of_kernel = contender.read(contender.call())
            assert loss == 300 * 256 * scale
            assert of_kernel == 300 * 2 * 16 * 4 * scale


@pytest.mark.parametrize("seed", [0, 7])
def test_drawn_rows(seed):
    rows = drawn_rows(seed)
    operands = {row.operands for row in rows}
    assert operands == {row.operands for row in drawn_rows(seed)}
    assert not operands & {row.operands for row in drawn_rows(seed + 1)}
    assert len({row.name for row in rows}) == len(rows)
    assert collections.Counter(row.family for row in rows) == dict.fromkeys(
        ("dense", "depthwise", "grouped", "transposed", "3d"), ROWS
    )
    assert not operands & {row.operands for row in table()}


def test_rows_of_16_bits():
    rows = table()
    names = {d: {r.name.removesuffix(f" {d}") for r in rows if r.dtype == d} for d in NARROW}
    assert names["bfloat16"] == names["float16"] and len(names["float16"]) >= 6
