"""The calls that the explainer offers to copy: each runs, and gives the library's numbers."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from test_explainer import node, random_settings

from convjax.kinds import KINDS

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
SCRIPT = """
console.log(JSON.stringify(data.map(s => { try {
  const solved = Conv.solve(s);
  return { code: Object.fromEntries(Code.LIBRARIES.map(l => [l, Code.of(l, s, solved)])),
    traps: Code.traps(s, solved), kernel: solved.stages[0].kernel, space: solved.space };
} catch (e) { if (!(e instanceof RangeError)) throw e; return null; } })))
"""
KINDS_WITH_CALLS = ("dense", "dilated", "grouped", "depthwise", "pointwise", "transposed")


def found(number, seed=0, kinds=KINDS_WITH_CALLS):
    """Random settings that the library accepts, with their code."""
    rng = np.random.default_rng(seed)
    kinds = (*kinds, "transposed", "transposed")  # of whose settings fewer can be written
    settings = [random_settings(rng, str(rng.choice(kinds))) for _ in range(3 * number)]
    for s in settings:  # the page has one mode for all axes
        s["mode"] = [s["mode"][0]] * s["rank"]
    both = [(s, code) for s, code in zip(settings, node(SCRIPT, settings), strict=True) if code]
    assert len(both) > number
    return both[:number]


def operands(s, kernel):
    """x (N, *space, I), and a kernel in convjax's layout, of random integers."""
    rng = np.random.default_rng(7)
    groups = {"dense": s["groups"], "grouped": s["groups"], "transposed": s["groups"]}
    groups = s["in"] if s["kind"] == "depthwise" else groups.get(s["kind"], 1)
    out = s["in"] * s["multiplier"] if s["kind"] == "depthwise" else s["out"]
    channels = (out // groups, s["in"]) if s["kind"] == "transposed" else (s["in"] // groups, out)
    shapes = (1, *s["input"], s["in"]), (*kernel, *channels)
    return [rng.integers(-4, 5, shape).astype(np.float32) for shape in shapes]


def run(code, **names):
    """`y`, after the code has run with these names; None where it is a comment only."""
    lines = [line for line in code.splitlines() if line and not line.startswith("#")]
    if not lines:
        return None
    exec(code, names)
    return np.asarray(names["y"])


def filled(code, kernel):
    """The code of a layer, whose weights are set before it is called."""
    return code.replace("y = layer(x)", f"{kernel}\ny = layer(x)")


def test_convjax_and_lax():
    ran = {kind: 0 for kind in KINDS_WITH_CALLS}
    for s, answer in found(70):
        x, kernel = map(jnp.asarray, operands(s, answer["kernel"]))
        ours = run(answer["code"]["convjax"], x=x, kernel=kernel)
        assert list(ours.shape[1:-1]) == answer["space"]
        theirs = run(answer["code"]["lax"], x=x, kernel=kernel)
        if theirs is not None:
            np.testing.assert_array_equal(theirs, ours, err_msg=str(s))
            ran[s["kind"]] += 1
    assert min(ran.values()) > 1, ran


def test_flax():
    pytest.importorskip("flax", reason="needs Flax")
    ran = {kind: 0 for kind in KINDS_WITH_CALLS}
    for s, answer in found(40, seed=1):
        x, kernel = map(jnp.asarray, operands(s, answer["kernel"]))
        ours = run(answer["code"]["convjax"], x=x, kernel=kernel)
        code = filled(answer["code"]["Flax"], "layer.kernel.set_value(kernel)")
        theirs = run(code, x=x, kernel=kernel)
        if theirs is not None:
            np.testing.assert_array_equal(theirs, ours, err_msg=str(s))
            ran[s["kind"]] += 1
    assert min(ran.values()) > 0, ran


def test_pytorch():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    ran = {kind: 0 for kind in KINDS_WITH_CALLS}
    for s, answer in found(70, seed=2):
        x, kernel = operands(s, answer["kernel"])
        ours = run(answer["code"]["convjax"], x=jnp.asarray(x), kernel=jnp.asarray(kernel))
        weight = np.moveaxis(kernel, (-1, -2), (0, 1))
        theirs = run(
            answer["code"]["PyTorch"],
            x=torch.tensor(np.moveaxis(x, -1, 1).copy()),
            weight=torch.tensor(weight.copy()),
        )
        if theirs is not None:
            np.testing.assert_array_equal(np.moveaxis(theirs, 1, -1), ours, err_msg=str(s))
            ran[s["kind"]] += 1
    assert min(ran.values()) > 1, ran


def test_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="needs Keras")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras was imported with another backend")
    ran = {kind: 0 for kind in KINDS_WITH_CALLS}
    for s, answer in found(50, seed=4):
        x, kernel = map(jnp.asarray, operands(s, answer["kernel"]))
        ours = run(answer["code"]["convjax"], x=x, kernel=kernel)
        code = answer["code"]["Keras"]
        if "Transpose" in code and any(
            k < n for k, n in zip(s["kernel"], s["strides"], strict=True)
        ):
            continue  # the comment in the code says so
        weights = "layer.build(x.shape); layer.set_weights([kernel])"
        theirs = run(filled(code, weights), x=x, kernel=kernel)
        if theirs is not None:
            np.testing.assert_array_equal(theirs, ours, err_msg=f"{s} {code}")
            ran[s["kind"]] += 1
    assert sum(ran.values()) > 12, ran


def test_every_kind_has_code_in_every_library():
    for s, answer in found(40, seed=3, kinds=tuple(KINDS)):
        for library, code in answer["code"].items():
            assert code and "undefined" not in code and "NaN" not in code, (library, s)
            compile(code, library, "exec")
        assert all(trap.endswith(".") for trap in answer["traps"])


@pytest.mark.parametrize(
    ("padding", "word"), [("SAME_LOWER", "This is SAME_LOWER, not SAME"), ("SAME", "high end")]
)
def test_traps(padding, word):
    s = random_settings(np.random.default_rng(0), "dense", 2)
    s |= {"padding": padding, "kernel": [2, 2], "strides": [1, 1], "dilation": [1, 1]}
    s |= {"mode": ["constant"] * 2, "input": [5, 5], "groups": 1}
    (answer,) = node(SCRIPT, [s])
    assert any(word in trap for trap in answer["traps"])
