"""``python -m convjax.selftest``: it passes, and it can fail."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
from compilation import AS_USERS, flags

from convjax import selftest
from convjax._lowerings import LOWERINGS, matmul

LAST = r"selftest: (\d+) checks passed on cpu in \d+ s"


def command(*arguments):
    """Status, output and errors of Python on `arguments`: XLA compiles as it does for users."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"XLA_FLAGS": flags(AS_USERS)},
        capture_output=True,
        text=True,
    )


def test_the_command():
    done = command("-m", "convjax.selftest", "dense 1d")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for word, line in zip(["python", "jax", "convjax", "platform", "flags"], lines, strict=False):
        assert line.startswith(word)
    (count,) = re.fullmatch(LAST, lines[-1]).groups()
    refused = done.stdout.count("not accepted")
    assert refused and int(count) + refused == 3 + len(LOWERINGS)
    # definition, twice adjoint, lowerings: chosen, and all but direct


ALL_CHECKS = """
import sys
from convjax import selftest

sys.exit(any(selftest.main([word]) for word in ("definition", "adjoint", "chosen", "bfloat16")))
"""


@pytest.mark.slow
def test_all_checks_pass():
    # test_lowerings_equal.py has each lowering; here that would take a minute
    done = command("-c", ALL_CHECKS)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(LAST, lines[-1])
    groups = {check.group for check in selftest.checks()}
    assert {f"lowerings, {name}" for name in LOWERINGS if name != "direct"} < groups
    ran = {g for g in groups if not g.startswith(("lowerings", "causal")) or "chosen" in g}
    assert all(any(line.startswith(group) for line in lines) for group in ran)


def broken(run, **attributes):
    return dataclasses.replace(LOWERINGS["matmul"], name="broken", run=run, **attributes)


def flipped(x, kernel, call):
    return matmul.run(x, kernel[::-1], call)


def slightly_off(x, kernel, call):
    return matmul.run(x, kernel, call) * np.float32(1 + 1e-6)


def refusing(x, kernel, call):
    raise RuntimeError("no such thing\nand more lines")


@pytest.mark.parametrize(
    "run, message",
    [
        (flipped, r"the value: \d+ of \d+ numbers are wrong, by up to [1-9]\d*"),
        (slightly_off, r"the value: \d+ of \d+ numbers are wrong, by up to [1-9].*e-0\d"),
        (refusing, r"RuntimeError: no such thing"),
    ],
)
def test_a_broken_lowering_is_reported(run, message, monkeypatch, capsys):
    monkeypatch.setitem(LOWERINGS, "broken", broken(run))
    assert selftest.main(["lowerings, broken", "dense"]) == 1
    lines = capsys.readouterr().out.splitlines()
    failures = [line for line in lines if line.startswith("FAILED")]
    assert len(failures) == 3
    assert re.fullmatch(f"FAILED lowerings, broken, dense 1d: {message}", failures[0])
    assert lines[-1] == "selftest: 3 of 3 checks FAILED"
    assert selftest.main(["lowerings, matmul", "dense 1d"]) == 0


def test_an_inexact_lowering_has_a_bound(monkeypatch, capsys):
    for run, status in ((slightly_off, 0), (flipped, 1)):
        monkeypatch.setitem(LOWERINGS, "broken", broken(run, exact=False))
        assert selftest.main(["lowerings, broken", "dense 1d"]) == status


def test_what_a_lowering_refuses_is_skipped(monkeypatch, capsys):
    grouped = lambda problem: "only grouped" if problem.groups == 1 else None  # noqa: E731
    narrow = broken(matmul.run, accepts=grouped)
    monkeypatch.setitem(LOWERINGS, "narrow", narrow)
    assert selftest.main(["lowerings, narrow", "e"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"lowerings, narrow +\d+ passed, \d+ not accepted", out)


def test_a_wrong_choice_fails_every_law(monkeypatch, capsys):
    """What `select` chooses is wrong: values and gradients are, whatever `direct` says."""
    from convjax._lowerings import direct

    original = direct.convolution

    def wrong(x, kernel, **options):
        return original(x, kernel, **options) + 1

    monkeypatch.setattr(direct, "convolution", wrong)
    assert selftest.main(["dilated and strided 1d"]) == 1
    out = capsys.readouterr().out
    adjoint = ("adjoint, transposed", "adjoint, gradients")
    for group in ("definition, values", *adjoint, "lowerings, matmul"):
        assert f"FAILED {group}, dilated and strided 1d: " in out


def test_unknown_words(capsys):
    with pytest.raises(SystemExit):
        selftest.main(["nonsense"])
    assert "no check is named nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("case", selftest.CASES, ids=lambda case: case.name)
def test_its_oracle_is_the_oracle(case):
    """The two oracles, written apart, agree on every case."""
    known = selftest.known(case)
    rank = len(case.kernel) - 2
    options = case.options | {"input_dilation": case.input_dilation[:rank]}
    np.testing.assert_array_equal(known.y, oracle.conv(known.x, known.kernel, **options))
    found = oracle.input_gradient(case.x, known.cotangent, known.kernel, **options)
    np.testing.assert_array_equal(known.dx, found)
    found = oracle.kernel_gradient(known.x, known.cotangent, case.kernel, **options)
    np.testing.assert_array_equal(known.dkernel, found)
