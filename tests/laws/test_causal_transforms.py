"""Causal convolutions under the transforms: vmap, scan, donation, checkpoint, export, dtypes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from causal import Case, expected

import convjax

X, KERNEL = oracle.integers(0, (2, 9, 6)), oracle.integers(1, (4, 1, 6))
DEPTHWISE = {"feature_group_count": 6}
CASES = {
    "depthwise": Case(X, KERNEL, 1, DEPTHWISE),
    "grouped": Case(X, oracle.integers(2, (3, 3, 4)), 1, {"feature_group_count": 2}),
    "video": Case(
        oracle.integers(3, (2, 4, 5, 3, 2)),
        oracle.integers(4, (3, 3, 2, 2, 3)),
        1,
        {"feature_group_count": 1, "padding_mode": ("edge", "constant", "reflect")},
    ),
}


def equal(ours, wanted):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("name", CASES)
def test_vmap(name):
    """Over inputs, kernels, states and ids together, it is the loop."""
    case = CASES[name]
    _, state = case(return_state=True)
    x = np.stack([case.x, 2 * case.x[::-1]])
    kernel = np.stack([case.kernel, case.kernel[::-1]])
    states = jnp.stack([state, -state])
    call = lambda x, k, s: case(x, k, state=s, return_state=True)  # noqa: E731
    wanted = [call(*operands) for operands in zip(x, kernel, states, strict=True)]
    equal(jax.vmap(call)(x, kernel, states), jax.tree.map(lambda *a: jnp.stack(a), *wanted))
    steps = case.steps
    ids = np.stack([np.arange(steps) // 2, np.arange(steps) // 3])
    ids = np.broadcast_to(ids[:, None], (2, 2, steps))
    packed = jax.vmap(lambda x, ids: case(x, segment_ids=ids))(x, ids)
    equal(packed, jnp.stack([case(a, segment_ids=b) for a, b in zip(x, ids, strict=True)]))


def test_second_order_and_mixed_mode():
    case = CASES["depthwise"]

    def loss(x, kernel):
        y, state = case(x[:, :5], kernel, return_state=True)
        rest = case(x[:, 5:], kernel, state=state)
        return (jnp.concatenate([y, rest], 1) ** 2).sum() / 2

    def whole(x, kernel):
        return (case(x, kernel) ** 2).sum() / 2

    u, v = oracle.integers(5, X.shape), oracle.integers(6, KERNEL.shape)
    for function in (
        lambda f: jax.jvp(jax.grad(f, (0, 1)), (X, KERNEL), (u, v))[1],
        lambda f: jax.grad(lambda x, k: jax.jvp(f, (x, k), (u, v))[1], (0, 1))(X, KERNEL),
        lambda f: jax.grad(jax.checkpoint(f), (0, 1))(X, KERNEL),
        lambda f: jax.vjp(jax.grad(f, 1), X, KERNEL)[1](v),
    ):
        equal(function(loss), function(whole))


def test_scan_over_a_thousand_steps():
    """The results are those of the whole; the memory does not grow, and the state is updated in
    place."""
    kernel = jnp.asarray(KERNEL)
    x = jnp.asarray(oracle.integers(7, (1000, 2, 6)))

    def step(state, x_t):
        y_t, state = convjax.causal_step(x_t, kernel, state, activation="relu", **DEPTHWISE)
        return state, y_t

    state = convjax.init_state(x[0][:, None], kernel)
    end, ys = jax.jit(partial(jax.lax.scan, step))(state, x)
    y, wanted = convjax.causal_conv(
        x.swapaxes(0, 1), kernel, activation="relu", return_state=True, **DEPTHWISE
    )
    equal((ys.swapaxes(0, 1), end), (y, wanted))

    def generate(state, steps):
        """The results are fed back, so nothing but the state is kept."""

        def body(carry, _):
            state, x_t = carry
            y_t, state = convjax.causal_step(x_t, kernel / 8, state, **DEPTHWISE)
            return (state, jnp.sin(y_t)), None

        return jax.lax.scan(body, (state, x[0]), None, steps)[0]

    used = [
        jax.jit(generate, static_argnums=1).lower(state, n).compile().memory_analysis()
        for n in (10, 1000)
    ]
    if used[0] is not None:
        assert used[0].temp_size_in_bytes == used[1].temp_size_in_bytes < 10_000


def test_a_donated_state_is_reused():
    step = jax.jit(
        lambda x_t, state: convjax.causal_step(x_t, KERNEL, state, **DEPTHWISE), donate_argnums=1
    )
    state = convjax.init_state(X, KERNEL) + 1
    y, new = step(X[:, 0], state)
    assert state.is_deleted() and new.shape == (2, 3, 6)
    equal(y, expected(CASES["depthwise"], X[:, :1], np.ones((2, 3, 6))).squeeze(1))


def test_export_with_symbolic_extents():
    case = CASES["depthwise"]
    n, t = jax.export.symbolic_shape("n, t")
    x = jax.ShapeDtypeStruct((n, t, 6), jnp.float32)
    state = jax.ShapeDtypeStruct((n, 3, 6), jnp.float32)
    ids = jax.ShapeDtypeStruct((n, t), jnp.int32)
    functions = {
        "plain": (lambda x, state, ids: case(x, return_state=True)),
        "state": (lambda x, state, ids: case(x, state=state, return_state=True)),
        "ids": (lambda x, state, ids: case(x, state=state, segment_ids=ids, return_state=True)),
        "mask": (lambda x, state, ids: case(x, mask=ids == 0, return_state=True)),
    }
    for name, function in functions.items():
        exported = jax.export.export(jax.jit(function))(x, state, ids)
        for length in (1, 2, 9):
            rng = np.random.default_rng(length)
            operands = (
                X[:, :length],
                oracle.integers(8, (2, 3, 6)),
                np.sort(rng.integers(0, 2, (2, length)), 1).astype(np.int32),
            )
            equal(exported.call(*operands), function(*operands)), name


@pytest.mark.parametrize("dtype", ["int8", "int32", "float16", "bfloat16", "complex64"])
def test_dtypes(dtype):
    dtype = jnp.dtype(dtype)
    options = {"preferred_element_type": jnp.int32} if dtype == jnp.int8 else {}
    for case in (CASES["depthwise"], CASES["grouped"]):
        x, kernel = case.x.astype(dtype), case.kernel.astype(dtype)
        wanted = expected(case)
        y, state = case(x[:, :5], kernel, return_state=True, **options)
        rest, state = case(x[:, 5:], kernel, state=state, return_state=True, **options)
        assert y.dtype == options.get("preferred_element_type", dtype)
        assert state.dtype == dtype
        wanted = wanted.real
        equal(np.concatenate([y, rest], 1).real.astype(float), wanted)
        ids = np.zeros((2, 9), np.int32)
        packed = case(x, kernel, segment_ids=ids, **options)
        assert packed.dtype == y.dtype
        equal(np.asarray(packed).real.astype(float), wanted)


def test_sixteen_bits_are_summed_in_float32():
    """A long sum of small terms keeps its accuracy, in packs as in the plain convolution."""
    x = jnp.ones((1, 64, 2), jnp.bfloat16).at[:, 0].set(256)
    kernel = jnp.ones((64, 1, 2), jnp.bfloat16)
    options = {"feature_group_count": 2, "preferred_element_type": jnp.float32}
    plain = convjax.causal_conv(x, kernel, **options)
    packed = convjax.causal_conv(x, kernel, segment_ids=jnp.zeros((1, 64), jnp.int32), **options)
    assert plain[0, -1, 0] == packed[0, -1, 0] == 256 + 63


@pytest.mark.parametrize("numbers", [("NCW", "OIW", "NCW"), ("WNC", "WIO", "CWN")])
def test_layouts(numbers):
    """States lie as the inputs do."""
    case = CASES["grouped"]
    x_order = ["NWC".index(letter) for letter in numbers[0]]
    k_order = ["WIO".index(letter) for letter in numbers[1]]
    y_order = ["NWC".index(letter) for letter in numbers[2]]
    x, kernel = case.x.transpose(x_order), case.kernel.transpose(k_order)
    options = {**case.options, "dimension_numbers": numbers, "return_state": True}
    time = numbers[0].index("W")
    first, rest = np.split(x, [4], time)
    wanted, end = case(return_state=True, bias=jnp.arange(4.0))
    y, state = convjax.causal_conv(first, kernel, bias=jnp.arange(4.0), **options)
    z, state = convjax.causal_conv(rest, kernel, bias=jnp.arange(4.0), state=state, **options)
    equal(jnp.concatenate([y, z], numbers[2].index("W")), wanted.transpose(y_order))
    equal(state, end.transpose(x_order))
    ids = np.broadcast_to(np.arange(9) // 4, (2, 9))
    packed = convjax.causal_conv(x, kernel, segment_ids=ids, **options)
    equal(packed[0], case(segment_ids=ids).transpose(y_order))
    mask = np.arange(9) > np.array([[2], [4]])
    ragged, end = convjax.causal_conv(x, kernel, mask=mask, state=state, **options)
    wanted, state = case(mask=mask, state=state.transpose(np.argsort(x_order)), return_state=True)
    equal((ragged, end), (wanted.transpose(y_order), state.transpose(x_order)))
    x_t = x.take(0, time)
    made = convjax.init_state(x, kernel, dimension_numbers=numbers)
    y_t, _ = convjax.causal_step(x_t, kernel, made, dimension_numbers=numbers, **case.options)
    equal(y_t, case().transpose(y_order).take(0, numbers[2].index("W")))


def test_activations():
    case = CASES["depthwise"]
    y = case()
    for name in ("silu", "swish", "gelu", "relu"):
        equal(case(activation=name), getattr(jax.nn, name)(y))
    equal(case(activation="tanh"), jnp.tanh(y))
    equal(case(activation=lambda y: 2 * y), 2 * y)
