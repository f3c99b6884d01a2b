"""The explainer's arithmetic, run by node, against the library: on thousands of settings."""

import inspect
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import convjax
from convjax import cost
from convjax.draw.worked import work_out
from convjax.kinds import KINDS
from convjax.kinds._sizes import Sizes

FOLDER = Path(__file__).parents[2] / "docs" / "explainer"
MODES = ("constant", "reflect", "symmetric", "edge", "wrap")
POLICIES = ("SAME", "SAME_LOWER", "VALID", "FULL", "CAUSAL")
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def node(script, data):
    """What a script of node, that has read `data`, prints as JSON."""
    head = (
        f"const Conv = require({json.dumps(str(FOLDER / 'arithmetic.js'))});"
        f"global.Conv = Conv; const Code = require({json.dumps(str(FOLDER / 'code.js'))});"
        "const data = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
    )
    done = subprocess.run(
        ["node", "-e", head + script],
        input=json.dumps(data),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def solve(settings):
    """Conv.solve of each of the settings; an error's message in its place."""
    script = (
        "console.log(JSON.stringify(data.map(s => { try { const r = Conv.solve(s);"
        "return { ...r, stages: undefined }; }"
        "catch (e) { if (!(e instanceof RangeError)) throw e; return { error: e.message }; } })))"
    )
    return node(script, settings)


def random_settings(rng, kind=None, rank=None):
    """Settings as the page has them, different along each axis."""
    rank = rank or int(rng.integers(1, 4))
    most = {1: 9, 2: 6, 3: 4}[rank]

    def each(low, high):
        return [int(n) for n in rng.integers(low, high, rank)]

    groups = int(rng.integers(1, 4))
    padding = [*POLICIES, "numbers"][rng.integers(6)]
    if padding == "numbers":
        padding = [[int(n) for n in rng.integers(-1, 3, 2)] for _ in range(rank)]
    return {
        "rank": rank,
        "kind": kind or str(rng.choice(list(KINDS))),
        "input": each(1, most),
        "kernel": each(1, 4),
        "strides": each(1, 4),
        "dilation": each(1, 3),
        "padding": padding,
        "mode": [MODES[int(rng.integers(5)) if rng.integers(2) else 0] for _ in range(rank)],
        "output_padding": each(0, 2) if rng.integers(3) == 0 else [0] * rank,
        "groups": groups,
        "in": groups * int(rng.integers(1, 3)) if rng.integers(5) else 5,
        "out": groups * int(rng.integers(1, 3)),
        "multiplier": int(rng.integers(1, 3)),
        "scale": each(1, 4),
        "method": ["nearest", "bilinear"][rng.integers(2)],
        "order": int(rng.integers(0, 2)),
    }


def options(s):
    """The options of the kind's function for these settings."""
    row = KINDS[s["kind"]]
    padding = s["padding"]
    found = {
        "strides": tuple(s["strides"]),
        "padding": padding if isinstance(padding, str) else tuple(map(tuple, padding)),
        "padding_mode": tuple(s["mode"]),
        "kernel_dilation": tuple(s["dilation"]),
        "output_padding": tuple(s["output_padding"]),
        "method": s["method"],
        "order": s["order"],
        "feature_group_count": s["groups"],
    }
    return {name: value for name, value in found.items() if name in row.options}


def sizes(s):
    in_features = s["in"]
    return Sizes(
        tuple(s["input"]),
        tuple(s["kernel"]),
        batch=1,
        in_features=in_features,
        out_features=s["out"],
        groups=s["groups"],
        channel_multiplier=s["multiplier"],
        mid_features=(s["out"],) * (s["rank"] - 1),
        scale=tuple(s["scale"]),
        kernel_dilation=tuple(s["dilation"]),
    )


def priced(s):
    """What the library says that the settings cost, or the error that it raises."""
    row, found = KINDS[s["kind"]], sizes(s)
    shapes = [tuple(shape) for shape in row.shapes(found)]
    given = options(s)
    if s["kind"] in ("dense", "transposed"):
        *window, per, features = shapes[0]
        if s["in"] % s["groups"] or s["out"] % s["groups"]:
            raise ValueError("groups")
        shapes = [(*window, per // s["groups"], features)]
    parameters = inspect.signature(row.function).parameters
    if "groups" in parameters and s["in"] % s["groups"]:
        raise ValueError("groups")
    x = (1, *found.space, row.in_features(found))
    arrays = [np.zeros(shape, np.float32) for shape in shapes]
    import jax

    result = jax.eval_shape(
        lambda x, ks: row.function(x, *row.arguments(ks, found), **given),
        jax.ShapeDtypeStruct(x, np.float32),
        arrays,
    )
    price = getattr(cost, row.function.__name__)
    return result.shape, price(x, *row.arguments(arrays, found), **given)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("number", [400, pytest.param(2000, marks=SLOW)])
def test_sizes_and_costs(number):
    """Extents, parameters, MACs and which settings are refused."""
    rng = np.random.default_rng(number)
    settings = [random_settings(rng) for _ in range(number)]
    counts = {kind: 0 for kind in KINDS}
    refused = 0
    for s, found in zip(settings, solve(settings), strict=True):
        try:
            shape, price = priced(s)
        except ValueError as error:
            assert "error" in found, (s, error)
            refused += 1
            continue
        assert "error" not in found, (s, found)
        assert (1, *found["space"], found["channels"]) == shape, s
        assert found["params"] == price.params, s
        assert (found["macs"], found["useful"]) == (price.macs, price.useful_macs), s
        counts[s["kind"]] += 1
    assert min(counts.values()) > number / 60 and refused > number / 10, (counts, refused)


@pytest.mark.parametrize("number", [4, pytest.param(16, marks=SLOW)])
def test_what_each_output_reads(number):
    """The dependency sets of so many settings of each kind, against the differentiated function."""
    rng = np.random.default_rng(number)
    settings = []
    for kind in KINDS:
        ranks = [1, 2, 2, 1, 2, 1, 2, 3, 1, 2, 1, 2, 1, 2, 1, 2][:number]
        settings += [random_settings(rng, kind, rank) for rank in ranks]
    compared = {kind: 0 for kind in KINDS}
    for s, found in zip(settings, solve(settings), strict=True):
        if "error" in found or np.prod(found["space"]) * found["channels"] > 300:
            continue
        given = options(s)
        if "groups" in inspect.signature(KINDS[s["kind"]].function).parameters:
            given["feature_group_count"] = s["groups"]
        if s["kind"] == "dilated":
            given["kernel_dilation"] = tuple(s["dilation"])
        worked = work_out(
            s["kind"],
            tuple(s["input"]),
            tuple(s["kernel"]),
            in_features=s["in"],
            out_features=s["out"],
            channel_multiplier=s["multiplier"],
            scale=tuple(s["scale"]),
            **given,
        )
        reads = [np.flatnonzero(row).tolist() for row in worked.depends[0]]
        assert found["reads"] == reads, s
        compared[s["kind"]] += 1
    assert sum(compared.values()) >= 8 * number, compared
    assert number < 16 or min(compared.values()) >= 4, compared


def test_the_kinds_and_their_words_are_the_library_s():
    found = node("console.log(JSON.stringify([Conv.KINDS, Conv.KNOBS]))", None)
    assert list(found[0]) == list(found[1]) == list(KINDS)


def test_receptive_fields():
    rng = np.random.default_rng(2)
    stacks = [rng.integers(1, 4, (int(rng.integers(1, 5)), 3)).tolist() for _ in range(200)]
    fields = node("console.log(JSON.stringify(data.map(Conv.field)))", stacks)
    for stack, found in zip(stacks, fields, strict=True):
        expected = convjax.arithmetic.receptive_field([tuple(layer) for layer in stack])
        assert (found["size"], found["jump"]) == (expected.size, expected.jump)
