"""`python -m benchmarks causal` on short rows: what it prints, and when it refuses."""

import re

import pytest

from benchmarks import causal as benchmark_causal

SMALL = ["--batch", "1", "--steps", "20", "--channels", "8", "--taps", "3", "--rounds", "3"]


def test_ratios_are_printed(capsys):
    pytest.importorskip("torch")
    assert benchmark_causal.main(SMALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    number = r"\d+\.\d\d"
    for role, line in zip(("forward", "training"), lines, strict=False):
        wanted = rf"3 taps, {role}: whole {number}, packed {number} of PyTorch's {number} ms"
        assert re.fullmatch(wanted, line), line
    assert re.fullmatch(r"one step: -?\d+\.\d us beyond the dispatch of an addition", lines[2])


def test_what_differs_is_not_timed(monkeypatch, capsys):
    pytest.importorskip("torch")
    right = benchmark_causal.convjax.causal_conv
    monkeypatch.setattr(
        benchmark_causal.convjax, "causal_conv", lambda *a, **given: 2 * right(*a, **given)
    )
    assert benchmark_causal.main(SMALL) == 1
    printed = capsys.readouterr()
    assert "3 taps: results differ by 1." in printed.err and not printed.out


def test_without_pytorch(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_causal.importlib.util, "find_spec", lambda name: None)
    assert benchmark_causal.main(SMALL) == 2
    assert "PyTorch is not there" in capsys.readouterr().err
