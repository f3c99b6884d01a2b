"""Causal convolution: the definition; a sequence equals its chunks, its steps, and its pack."""

import dataclasses
import os
import pathlib
import subprocess
import sys
from functools import partial

import compilation
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from causal import Case, expected, random_case, random_cuts

import convjax

SEEDS = range(24)


def equal(ours, wanted):
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(wanted))


def in_chunks(case, cuts, x=None, kernel=None, state=None, **more):
    """The results of the chunks, joined, and the last state."""
    found = []
    for a, b in zip(cuts, cuts[1:], strict=False):
        part = case.part(a, b, x)
        if state is None and b == a:  # nothing has come, nothing is known of the edge
            continue
        y, state = case(part, kernel, state=state, return_state=True, **more)
        found.append(y)
    return jnp.concatenate(found, case.axis), state


@pytest.mark.parametrize("seed", SEEDS)
def test_the_definition_and_its_chunks(seed):
    case = random_case(seed)
    wanted = expected(case)
    equal(case(), wanted)
    y, state = jax.jit(partial(case, return_state=True))()
    equal(y, wanted)
    chunked, last = in_chunks(case, random_cuts(seed, case.steps, case.stride))
    equal(chunked, wanted)
    equal(last, state)
    held = max(case.held, 0)
    assert state.shape[case.axis] == held
    if case.steps >= held:
        equal(state, case.part(case.steps - held, case.steps))


def test_the_cases_are_of_every_sort():
    cases = [random_case(seed) for seed in SEEDS]
    assert {case.x.ndim for case in cases} == {3, 4, 5}
    assert {case.axis for case in cases} == {1, 2, 3}
    assert {case.options["feature_group_count"] for case in cases} == {1, 2, 3, 6}
    assert min(case.held for case in cases) < 0
    assert any(case.steps < case.held for case in cases)
    for name in ("output_at", "padding_mode"):
        assert len({str(case.options[name]) for case in cases}) > 1


@pytest.mark.parametrize("seed", (0, 3, 5, 8, 13, 21))
def test_gradients(seed):
    """They are the adjoints of the map, exactly, through the states of chunks as well."""
    case = random_case(seed)
    x, kernel = jnp.asarray(case.x), jnp.asarray(case.kernel)
    cuts = random_cuts(seed, case.steps, case.stride)
    whole = lambda x, kernel: case(x, kernel)  # noqa: E731
    parts = lambda x, kernel: in_chunks(case, cuts, x, kernel)[0]  # noqa: E731
    y, pull = jax.jit(partial(jax.vjp, whole))(x, kernel)
    weights = oracle.integers(seed + 7, y.shape)
    dx, dk = pull(weights)
    for got, want in zip(jax.vjp(parts, x, kernel)[1](weights), (dx, dk), strict=True):
        equal(got, want)
    u, v = oracle.integers(seed + 8, x.shape), oracle.integers(seed + 9, kernel.shape)
    assert (weights * case(u)).sum() == (dx * u).sum()
    assert (weights * case(x, v)).sum() == (dk * v).sum()
    for function in (whole, parts):
        _, tangent = jax.jvp(function, (x, kernel), (u, v))
        equal(tangent, case(u) + case(x, v))


def test_it_is_the_causal_padding_of_conv():
    x, kernel = oracle.integers(0, (2, 13, 6)), oracle.integers(1, (4, 3, 8))
    for strides in (1, 2, 3):
        options = dict(strides=strides, kernel_dilation=2, feature_group_count=2)
        equal(
            convjax.causal_conv(x, kernel, **options),
            convjax.conv(x, kernel, padding="CAUSAL", **options),
        )


def test_truncated_gradients_stop_at_the_state():
    x, kernel = oracle.integers(0, (1, 8, 3)), oracle.integers(1, (4, 3, 2))
    case = Case(x, kernel, 1, {"feature_group_count": 1})

    def loss(x, cut):
        _, state = case(x[:, :4], return_state=True)
        return case(x[:, 4:], state=cut(state)).sum()

    full, truncated = (jax.grad(loss)(x, cut) for cut in (lambda s: s, jax.lax.stop_gradient))
    assert (full[:, 1:4] != 0).any() and not truncated[:, :4].any()
    equal(full[:, 4:], truncated[:, 4:])


# ---- packs and masks -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_packs(seed):
    """A pack equals each of its sequences by itself, gradients and states included."""
    case = random_case(seed, strided=False)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(2):
        cuts = sorted({0, *(int(c) for c in rng.integers(0, case.steps, 3)), case.steps})
        ids = np.cumsum(rng.integers(1, 3, len(cuts))) % 3  # neighbours differ; ids come again
        rows.append((cuts, np.repeat(ids[:-1], np.diff(cuts))))
    ids = np.stack([row for _, row in rows])

    def apart(x):
        """Every sequence by itself, by the definition; and the last inputs of the last."""
        found, states = [], []
        for n, (cuts, _) in enumerate(rows):
            parts = [case.part(a, b, x[n : n + 1]) for a, b in zip(cuts, cuts[1:], strict=False)]
            found.append(np.concatenate([expected(case, part) for part in parts], case.axis))
            states.append(case.end(parts[-1]))
        return np.concatenate(found), np.concatenate(states)

    pack = jax.jit(lambda x, kernel: case(x, kernel, segment_ids=ids, return_state=True))
    (y, state), pull = jax.vjp(pack, case.x, case.kernel)
    wanted, end = apart(case.x)
    equal(y, wanted)
    equal(state, end)
    weights = oracle.integers(seed + 5, y.shape), oracle.integers(seed + 6, state.shape)
    dx, dk = pull(weights)
    u = oracle.integers(seed + 7, case.x.shape)
    results = zip(weights, apart(u), strict=True)
    assert sum((w * part).sum() for w, part in results) == (dx * u).sum()
    v = oracle.integers(seed + 8, case.kernel.shape)
    other = dataclasses.replace(case, kernel=v)
    assert (weights[0] * np.asarray(pack(case.x, v)[0])).sum() == (dk * v).sum()
    equal(pack(case.x, v)[0], np.concatenate([
        np.concatenate([
            expected(other, case.part(a, b, case.x[n : n + 1]))
            for a, b in zip(cuts, cuts[1:], strict=False)
        ], case.axis)
        for n, (cuts, _) in enumerate(rows)
    ]))  # fmt: skip


def test_packs_in_chunks():
    case = Case(
        oracle.integers(0, (2, 12, 3)), oracle.integers(1, (4, 3, 5)), 1, {"feature_group_count": 1}
    )
    ids = np.array([[0] * 5 + [1] * 7, [4] * 8 + [2] * 4])
    for mode in ("constant", "edge"):
        case.options["padding_mode"] = mode
        whole, end = case(segment_ids=ids, return_state=True)
        y, state = case(case.x[:, :6], segment_ids=ids[:, :6], return_state=True)
        rest, state = case(case.x[:, 6:], segment_ids=ids[:, 6:], state=state, return_state=True)
        equal(jnp.concatenate([y, rest], 1), whole)
        equal(state, end)


@pytest.mark.parametrize("seed", range(10))
def test_masks(seed):
    """Rows padded before or after: each from its first real step to its last, state included."""
    case = random_case(seed, strided=False)
    rng = np.random.default_rng(seed)
    mask = np.zeros((2, case.steps), bool)
    bounds = []
    for row in mask:
        a, b = sorted(int(c) for c in rng.integers(0, case.steps + 1, 2))
        row[a:b] = True
        bounds.append((a, b))
    shape = list(case.x.shape)
    shape[case.axis] = max(case.held, 0)
    before = oracle.integers(seed + 3, shape)
    for state in (None, before):
        got, end = jax.jit(partial(case, return_state=True))(mask=mask, state=state)
        for n, (a, b) in enumerate(bounds):
            own = None if state is None else state[n : n + 1]
            outside = np.delete(np.asarray(got[n : n + 1]), range(a, b), case.axis)
            assert not outside.any()
            real = case.part(a, b, case.x[n : n + 1])
            if b > a:
                equal(case.part(a, b, got[n : n + 1]), expected(case, real, own))
                equal(end[n : n + 1], case.end(real, own))
            else:
                equal(end[n : n + 1], 0 * before[:1] if own is None else own)
    (dx,) = jax.vjp(lambda x: case(x, mask=mask), case.x)[1](np.ones_like(got))
    for n, (a, b) in enumerate(bounds):
        assert not np.delete(np.asarray(dx[n : n + 1]), range(a, b), case.axis).any()


# ---- transposed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k, s, d, groups", [
    (16, 8, 1, 1), (10, 5, 1, 2), (4, 2, 1, 4), (3, 1, 1, 1), (5, 2, 1, 1), (7, 3, 2, 2),
    (2, 5, 1, 1), (1, 1, 1, 1), (4, 2, 3, 4),
])  # fmt: skip
def test_transposed(k, s, d, groups):
    y, kernel = oracle.integers(0, (2, 7, 4)), oracle.integers(1, (k, 6 // min(groups, 2), 4))
    options = dict(strides=s, kernel_dilation=d, feature_group_count=groups)
    reach = (k - 1) * d + 1
    up = partial(convjax.causal_conv_transpose, kernel=kernel, **options)
    whole, end = up(y, return_state=True)
    full = oracle.conv_transpose(y, kernel, ((7 - 1) * s + reach,), padding="VALID", **options)
    wanted = np.zeros((2, 7 * s, full.shape[-1]))
    wanted[:, : full.shape[1]] = full[:, : 7 * s]
    equal(whole, wanted)
    if reach >= s:
        equal(convjax.conv_transpose(y, kernel, padding=((0, reach - s),), **options), wanted)
    assert end.shape == (2, -(-reach // s) - 1, 4)
    state, found = None, []
    for a, b in ((0, 1), (1, 2), (2, 2), (2, 7)):
        out, state = up(y[:, a:b], state=state, return_state=True)
        found.append(out)
    equal(jnp.concatenate(found, 1), wanted)
    equal(state, end)
    ids = np.broadcast_to(np.repeat([3, 1], [2, 5]), (2, 7))
    equal(up(y, segment_ids=ids), jnp.concatenate([up(y[:, :2]), up(y[:, 2:])], 1))
    names = ("NCW", "IOW", "NCW")
    got, end = convjax.causal_conv_transpose(
        y.swapaxes(1, 2), kernel.transpose(1, 2, 0), dimension_numbers=names, return_state=True,
        bias=jnp.arange(full.shape[-1], dtype=jnp.float32), activation=jnp.abs, **options,
    )  # fmt: skip
    equal(got.swapaxes(1, 2), np.abs(wanted + np.arange(full.shape[-1])))
    equal(end.swapaxes(1, 2), state)


# ---- as users compile ----------------------------------------------------------------------------

BITS = """
import jax, jax.numpy as jnp, numpy as np, convjax
rng = np.random.default_rng(0)

def in_order(x, kernel, k, d, m):
    x = np.repeat(np.pad(x, ((0, 0), ((k - 1) * d, 0), (0, 0))), m, 2)
    y = x[:, : x.shape[1] - (k - 1) * d] * kernel[0]
    for j in range(1, k):
        y = y + x[:, j * d :][:, : y.shape[1]] * kernel[j]
    return y

# batch, steps, channels, taps, dilation, kernels per channel
sizes = [(2, 33, 3, 2, 1, 1), (3, 400, 3, 7, 2, 1), (2, 129, 5, 4, 1, 1), (1, 40, 99, 3, 3, 2)]
low, high = (1, 1, 2, 2, 1, 1), (4, 60, 40, 9, 4, 3)
sizes += [tuple(int(n) for n in rng.integers(low, high)) for _ in range(4)]
for n, steps, channels, k, d, m in sizes:
    x = jnp.asarray(rng.standard_normal((n, steps, channels)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((k, 1, channels * m)), jnp.float32)
    bias = jnp.asarray(rng.standard_normal(channels * m), jnp.float32)
    options = dict(bias=bias, kernel_dilation=d, feature_group_count=channels)
    call = jax.jit(
        lambda x, k, s=None: convjax.causal_conv(x, k, state=s, return_state=True, **options)
    )
    whole, end = call(x, kernel)
    cut = int(rng.integers(0, steps + 1))
    first, state = call(x[:, :cut], kernel)
    rest, state = call(x[:, cut:], kernel, state)
    step = lambda s, x_t: convjax.causal_step(x_t, kernel, s, **options)[::-1]
    start = convjax.init_state(x, kernel, kernel_dilation=d)
    scanned, ys = jax.jit(lambda s, xs: jax.lax.scan(step, s, xs))(start, x.swapaxes(0, 1))
    causal = jax.jit(lambda x, k: convjax.depthwise_conv(x, k, padding="CAUSAL", kernel_dilation=d))
    loss = lambda k: (lambda y: (y.sum(), y))(convjax.causal_conv(x, k, **options))
    trained = jax.jit(jax.value_and_grad(loss, has_aux=True))
    pairs = {
        "chunks": (jnp.concatenate([first, rest], 1), whole),
        "states": (jnp.stack([state, scanned]), jnp.stack([end, end])),
        "steps": (ys.swapaxes(0, 1), whole),
        "numpy": (in_order(x, kernel, k, d, m) + bias, whole),
        "conv": (causal(x, kernel) + bias, whole),
        "in training": (trained(kernel)[0][1], whole),
        "eager": (convjax.causal_conv(x, kernel, **options), whole),
    }
    pairs |= {
        f"prefix {t}": (call(x[:, :t], kernel)[0], whole[:, :t]) for t in {1, 2, 3, k - 1, k}
    }
    for name, (y, wanted) in pairs.items():
        print(name, (n, steps, channels, k, d, m), bool((y == wanted).all()))
"""


def test_bits_as_users_compile():
    """Depthwise, float32, on CPU: whole = chunks = steps = prefixes = numpy's loop, bit for bit.

    LLVM would make one instruction, which rounds once, of some products and their additions, and of
    which ones depends on the shapes: `lowerings.problem.rounded` keeps it from that."""
    options = compilation.flags(compilation.AS_USERS)
    environment = os.environ | {"XLA_FLAGS": options, "JAX_PLATFORMS": "cpu"}
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", BITS], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 8 * 10
    assert not [line for line in lines if not line.endswith("True")]


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_what_is_summed_in_order(platform, strides):
    """On a TPU no bits are promised, and sums take more cycles: there it is what `conv` gets."""
    x, kernel = jnp.ones((2, 80, 6)), jnp.ones((40, 1, 6))

    def rows(conv, **options):
        call = partial(conv, strides=strides, feature_group_count=6, **options)
        return convjax.explain(lambda x, k: jax.vjp(call, x, k)[1], x, kernel, platform=platform)

    causal, plain = (
        [(row.role, row.lowering, row.rule.split(";")[0]) for row in found.rows]
        for found in (rows(convjax.causal_conv), rows(convjax.conv, padding="CAUSAL"))
    )
    assert causal[0][0] == "forward"
    if platform == "tpu":
        assert causal == plain
    else:
        assert causal[0][1] == "taps" and "in order" in causal[0][2]
