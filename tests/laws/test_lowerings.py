"""Law "lowerings": each one, forced, equals `direct`."""

import dataclasses
from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import strategies
from compilation import AS_USERS

import convjax
import convjax.lax
from convjax._lowerings import LOWERINGS, problem, select
from convjax._lowerings.target import Target
from convjax._lowerings.tools import row_sums
from convjax._operation import grouping, primitive

# test_pallas.py has the kernels, which are interpreted here.
OTHERS = [name for name in LOWERINGS if name not in ("direct", "pallas")]


@pytest.fixture(params=OTHERS)
def forced(request, monkeypatch):
    """A lowering's name, chosen wherever it accepts; and the calls of its `run`, one entry each."""
    name, calls = request.param, []
    lowering, chosen = LOWERINGS[name], select.select

    def counted(x, kernel, call):
        calls.append(call.geometry)
        return lowering.run(x, kernel, call)

    def choose(problem, target):
        if lowering.accepts(problem) is None:
            return select.Choice(name, "forced by a test")
        return chosen(problem, target)

    monkeypatch.setitem(LOWERINGS, name, dataclasses.replace(lowering, run=counted))
    monkeypatch.setattr(select, "select", choose)
    for kept in (primitive._compiled, grouping._once):  # outside jit, what was compiled is kept
        kept.cache_clear()
    yield name, calls
    for kept in (primitive._compiled, grouping._once):
        kept.cache_clear()


def assert_same(found, wanted, name):
    """Exactly, except where the lowering rounds."""
    exact = LOWERINGS[name].exact

    def compare(a, b):
        if exact:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max(initial=0)))

    jax.tree.map(compare, found, wanted)


def derivatives(function, x, kernel, y):
    """Values, both gradients, the tangent, a second-order mix, and `vmap` over each operand."""
    value, pull = jax.vjp(function, x, kernel)
    _, tangent = jax.jvp(function, (x, kernel), (x + 1, kernel - 2))
    energy = lambda x, kernel: jnp.vdot(function(x, kernel), y)  # noqa: E731
    mixed = jax.jvp(lambda kernel: jax.grad(energy)(x, kernel), (kernel,), (kernel + 1,))[1]
    both = jnp.stack([x, x - 1]), jnp.stack([kernel, 2 - kernel])
    mapped = [
        jax.vmap(function, axes)(
            *(m if a == 0 else p for m, p, a in zip(both, (x, kernel), axes, strict=True))
        )
        for axes in ((0, None), (None, 0), (0, 0))
    ]
    mapped.append(jax.vmap(function)(x[None], kernel[None]))
    per_example = jax.vmap(jax.grad(energy, 1))(*both)
    return value, pull(y), tangent, mixed, mapped, per_example


def of_transposed(function, y, kernel, u):
    """Values and both gradients."""
    return function(y, kernel), jax.vjp(function, y, kernel)[1](u)


_WANTED = {}


def by_lax(law, function, configuration, *operands):
    """`law` of `function`, executed by lax; the lowerings are all shown the same few draws."""
    key = law, repr(configuration)
    if key not in _WANTED:
        lax = partial(function, **configuration.options, algorithm="direct")
        _WANTED[key] = jax.jit(partial(law, lax))(*operands)
    return _WANTED[key]


def test_forced_equals_direct(forced):
    """Exactly, on integers, over the whole space of configurations."""
    name, calls = forced

    @hypothesis.settings(max_examples=8)
    @hypothesis.given(strategies.convolutions())
    def law(configuration):
        x, kernel, y = map(jnp.asarray, configuration.numbers())
        ours = partial(convjax.conv, **configuration.options)
        with jax.default_matmul_precision("highest"):
            found = jax.jit(partial(derivatives, ours))(x, kernel, y)
            wanted = by_lax(derivatives, convjax.conv, configuration, x, kernel, y)
        assert_same(found, wanted, name)

    law()
    # test_tiles and test_reshaped.py have what these accept.
    assert len(calls) > {"patchify": 0}.get(name, 5) or name == "reshaped"


def test_forced_transposed_equals_direct(forced):
    name, calls = forced

    @hypothesis.settings(max_examples=10)
    @hypothesis.given(strategies.transposed())
    def law(configuration):
        u, kernel, y = map(jnp.asarray, configuration.numbers())
        ours = partial(convjax.conv_transpose, **configuration.options)
        found = jax.jit(partial(of_transposed, ours))(y, kernel, u)
        wanted = by_lax(of_transposed, convjax.conv_transpose, configuration, y, kernel, u)
        assert_same(found, wanted, name)

    law()


# A convolution that each lowering accepts forward, and its gradients where they are its own.
ACCEPTED = {
    "channels_last": ((2, 7, 6, 3), (3, 2, 3, 5), {"strides": (2, 1)}),
    "commuted": ((2, 7, 6, 4), (3, 2, 2, 6), {"feature_group_count": 2, "strides": (2, 1)}),
    "symmetric": ((2, 7, 6, 3), (3, 2, 3, 5), {"strides": (2, 1)}),
    "reshaped": ((2, 5, 6, 3), (3, 2, 3, 5), {"strides": 2}),
    "taps": ((2, 7, 6, 4), (3, 2, 2, 6), {"feature_group_count": 2}),
    "matmul": ((2, 7, 6, 3), (3, 2, 3, 5), {"kernel_dilation": 2}),
    "patchify": ((2, 6, 8, 3), (3, 2, 3, 5), {"strides": (3, 2)}),
    "per_group": ((2, 7, 6, 6), (3, 2, 2, 6), {"feature_group_count": 3}),
    "block_diagonal": ((2, 7, 6, 4), (3, 2, 2, 6), {"feature_group_count": 2}),
    "polyphase": ((2, 5, 4, 3), (3, 4, 3, 5), {"input_dilation": (2, 3)}),
    "depth_fold": ((2, 5, 7, 6, 3), (2, 3, 2, 3, 5), {"strides": (2, 1, 1)}),
    "depth_sum": ((2, 5, 7, 6, 3), (2, 3, 2, 3, 5), {"strides": (2, 1, 1)}),
    "spread_rows": ((2, 7, 6, 3), (3, 2, 3, 5), {"strides": (2, 1)}),
    "fft": ((2, 7, 6, 4), (3, 2, 2, 6), {"feature_group_count": 2, "kernel_dilation": 2}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_lowering_computes_what_it_accepts(name, monkeypatch):
    shape, kernel_shape, options = ACCEPTED[name]
    x = jnp.asarray(oracle.integers(0, shape))
    kernel = jnp.asarray(oracle.integers(1, kernel_shape))
    lowering, calls = LOWERINGS[name], []

    def counted(x, kernel, call):
        calls.append(call.role)
        return lowering.run(x, kernel, call)

    monkeypatch.setitem(LOWERINGS, name, dataclasses.replace(lowering, run=counted))
    value, pull = jax.vjp(jax.jit(partial(convjax.conv, **options, algorithm=name)), x, kernel)
    wanted = oracle.conv(np.asarray(x), np.asarray(kernel), **options)
    assert_same(np.asarray(value), wanted, name)
    _, pulled = jax.vjp(jax.jit(partial(convjax.conv, **options, algorithm="direct")), x, kernel)
    y = jnp.asarray(oracle.integers(2, value.shape))
    assert_same(pull(y), pulled(y), name)
    assert "forward" in calls


@pytest.mark.parametrize(
    "dtype",
    [jnp.float16, jnp.bfloat16, jnp.complex64, jnp.int32, jnp.int16, jnp.uint16],
)
@jax.numpy_dtype_promotion("strict")
@jax.numpy_rank_promotion("raise")
def test_forced_dtypes(forced, dtype):
    name, calls = forced
    groups = 1 if name in ("depth_fold", "depth_sum", "spread_rows") else 2
    options = {"feature_group_count": groups, "strides": 2}
    if name == "polyphase":
        options["input_dilation"] = 3
    if name == "patchify":
        options["strides"] = (3, 2)
    x = jnp.asarray(abs(oracle.integers(0, (2, 7, 6, 4))), dtype)
    kernel = jnp.asarray(abs(oracle.integers(1, (3, 2, 4 // groups, 6))), dtype)
    y = convjax.conv(x, kernel, **options)
    wanted = oracle.conv(np.asarray(x), np.asarray(kernel), **options)
    if name == "fft" and not jnp.issubdtype(dtype, jnp.inexact):
        assert not calls
        return
    assert y.dtype == dtype and calls
    if name == "fft":
        np.testing.assert_allclose(np.asarray(y, np.complex128), wanted, atol=1e-4)
    else:
        np.testing.assert_array_equal(np.asarray(y, np.complex128), wanted)
    if dtype == jnp.int32 and name != "patchify":
        calls.clear()
        narrow = (jnp.asarray(a, jnp.int8) for a in (x, kernel))
        wide = convjax.conv(*narrow, **options, preferred_element_type=jnp.int32)
        assert wide.dtype == jnp.int32 and calls
        np.testing.assert_array_equal(np.asarray(wide, np.complex128), wanted)


@pytest.mark.parametrize("groups", [1, 2])
def test_forced_logical_values(forced, groups):
    """`lax` convolves truth values, by "and" and "or"."""
    x = oracle.integers(0, (2, 4, 7, 6)) > 1
    kernel = oracle.integers(1, (6, 4 // groups, 3, 2)) > 1
    arguments = {"window_strides": (2, 1), "padding": "SAME", "feature_group_count": groups}
    found = convjax.lax.conv_general_dilated(x, kernel, **arguments)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, jax.lax.conv_general_dilated(x, kernel, **arguments))


def test_a_16_bit_sum_keeps_float32_accuracy(forced):
    name, calls = forced
    long = 4096
    x = jnp.ones((1, 4, long), jnp.bfloat16).at[0, :, 1:].set(2**-9)
    kernel = jnp.ones((1, long, 1), jnp.bfloat16)
    options = {}
    if name == "taps":  # one channel, a long window
        x, kernel = jnp.swapaxes(x, 1, 2)[..., :1], jnp.swapaxes(kernel, 0, 1)
        options = {"padding": "VALID"}
    elif name in ("per_group", "block_diagonal"):
        x, kernel = jnp.concatenate([x, x], -1), jnp.concatenate([kernel, kernel], -1)
        options = {"feature_group_count": 2}
    elif name == "polyphase":
        options = {"input_dilation": 2}
    elif name == "reshaped":
        x, kernel = x.reshape(1, 8, long // 2), kernel.reshape(2, long // 2, 1)
        options = {"strides": 2}
    elif name in ("depth_fold", "depth_sum", "spread_rows"):
        x, kernel = x[:, None], kernel[None]
    y = convjax.conv(x, kernel, **options)
    assert calls and y.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(y.reshape(-1)[0]), 1 + (long - 1) * 2**-9, rtol=2**-8)


def test_many_outputs_are_looped_over():
    """More kernel elements than are unrolled: the gradient is still the same."""
    x = jnp.asarray(oracle.integers(0, (2, 14, 15, 6)))
    kernel = jnp.asarray(oracle.integers(1, (11, 9, 1, 6)))
    y = jnp.asarray(oracle.integers(2, (2, 14, 15, 6)))

    def gradient(algorithm):
        f = partial(convjax.conv, x, feature_group_count=6, algorithm=algorithm)
        return jax.vjp(f, kernel)[1](y)[0]

    found = gradient((None, None, "matmul"))
    np.testing.assert_array_equal(found, gradient("direct"))


def test_turns_of_a_large_window_run_on_all_threads():
    """XLA marks what it makes one kernel of, as later jaxlibs do of any loop of additions."""

    def is_one_kernel(function, *operands):
        return "xla_cpu_small_call" in jax.jit(function).lower(*operands).compile().as_text()

    def added_up(x):
        return jax.lax.fori_loop(0, 9, lambda _, y: y + x, jnp.zeros_like(x))

    x, kernel = jnp.ones((2, 40, 40, 64)), jnp.ones((9, 9, 1, 64))
    assert is_one_kernel(added_up, x) == Target.here("cpu").one_thread_loops
    depthwise = partial(convjax.conv, feature_group_count=64, algorithm="taps")
    assert "while" in lowered(depthwise, x, kernel)
    assert not is_one_kernel(depthwise, x, kernel)


def test_a_turn_of_a_large_window_is_found_by_sorting(monkeypatch):
    """Where XLA would make one kernel of the loop; the place is the same."""
    here = Target.of("cpu", "0.12")
    assert here.one_thread_loops
    monkeypatch.setattr(Target, "here", lambda platform, split="nobody": here)
    x = jnp.asarray(oracle.integers(0, (1, 12, 14, 3)))
    kernel = jnp.asarray(oracle.integers(1, (9, 9, 1, 3)))
    forward = partial(convjax.conv, feature_group_count=3)
    taps = lambda x, k: forward(x, k, algorithm="taps")  # noqa: E731
    assert "stablehlo.sort" in lowered(taps, x, kernel)
    np.testing.assert_array_equal(taps(x, kernel), forward(x, kernel, algorithm="direct"))


def test_several_outputs_are_summed_apart():
    """From what arranges weights before the sum, and outputs after it: a call within the call."""
    x = jnp.ones((2, 9, 9, 4))
    calls = [
        lowered(partial(convjax.conv, feature_group_count=4), x, jnp.ones((3, 3, 1, 4 * outputs)))
        .count("call @isolated_call")
        for outputs in (1, 2)
    ]  # fmt: skip
    assert calls == [1, 2]


def test_rows_that_do_not_fill_a_block(monkeypatch):
    """Rows cut into blocks that do not divide them, positions that fill no turn of the loop."""
    x = jnp.asarray(oracle.integers(0, (3, 5, 13, 4)))
    y = jnp.asarray(oracle.integers(1, (3, 5, 13, 8)))
    kernel = jnp.zeros((3, 2, 1, 8))
    options = {"feature_group_count": 4, "padding": "SAME"}
    wanted = oracle.kernel_gradient(np.asarray(x), np.asarray(y), kernel.shape, **options)
    monkeypatch.setattr(problem, "_LARGE", 0)  # two rows in a turn, where they divide
    for cache in (1, 500, 1000, 5000, 1 << 17):
        monkeypatch.setattr(row_sums, "_CACHE", cache)
        function = jax.jit(partial(convjax.conv, x, **options, algorithm=("taps",) * 3))
        np.testing.assert_array_equal(jax.vjp(function, kernel)[1](y)[0], wanted)


@pytest.mark.parametrize(
    "shape, kernel_shape, options",
    [
        ((2, 7, 9, 3), (3, 4, 3, 6), {"strides": (3, 4), "padding": "VALID"}),
        ((2, 7, 9, 3), (3, 4, 3, 6), {"strides": (3, 4), "padding": ((2, 1), (-1, 3))}),
        ((2, 6, 4, 6), (3, 2, 2, 6), {"strides": (3, 2), "feature_group_count": 3}),
        ((2, 6, 5, 3), (3, 1, 3, 6), {"strides": (3, 1), "padding": "VALID"}),
    ],
)
def test_tiles(shape, kernel_shape, options):
    """Windows that tile the input: forward, and both gradients, whatever is padded or cut off."""
    x = jnp.asarray(oracle.integers(0, shape))
    kernel = jnp.asarray(oracle.integers(1, kernel_shape))
    algorithm = ("patchify", "polyphase", "patchify")
    function = jax.jit(partial(convjax.conv, **options, algorithm=algorithm))
    value, pull = jax.vjp(function, x, kernel)
    np.testing.assert_array_equal(value, oracle.conv(np.asarray(x), np.asarray(kernel), **options))
    y = jnp.asarray(oracle.integers(2, value.shape))
    found_x, found_kernel = pull(y)
    y = np.asarray(y)
    np.testing.assert_array_equal(
        found_x, oracle.input_gradient(x.shape, y, np.asarray(kernel), **options)
    )
    np.testing.assert_array_equal(
        found_kernel, oracle.kernel_gradient(np.asarray(x), y, kernel.shape, **options)
    )


@pytest.mark.parametrize("shape", [(2, 6, 4), (1, 5, 7)])
@pytest.mark.parametrize(
    "window, dilation, padding",
    [
        ((4, 4), (2, 2), ((2, 2), (2, 2))),
        ((4, 4), (2, 2), ((1, 3), (-1, 2))),
        ((6, 7), (3, 1), ((-4, 5), (3, 0))),
        ((2, 8), (2, 4), ((1, 1), (0, -3))),
        ((5, 3), (1, 3), ((9, 2), (1, 7))),
    ],
)
def test_phases_are_channels_of_one_convolution(monkeypatch, window, dilation, padding, shape):
    """Whatever is padded or cut off."""
    from convjax._lowerings import polyphase

    monkeypatch.setattr(polyphase, "_WASTE", float("inf"))
    x = jnp.asarray(oracle.integers(0, (*shape, 3)))
    kernel = jnp.asarray(oracle.integers(1, (*window, 3, 5)))
    options = {"padding": padding, "input_dilation": dilation, "feature_group_count": 1}
    function = jax.jit(partial(convjax.conv, **options, algorithm=("polyphase", None, None)))
    found = function(x, kernel)
    np.testing.assert_array_equal(found, oracle.conv(np.asarray(x), np.asarray(kernel), **options))
    text = function.lower(x, kernel).as_text()
    assert text.count("stablehlo.convolution") + text.count("stablehlo.dot_general") == 1


@pytest.mark.parametrize(
    "window, padding, convolutions",
    [(4, 2, 1), (7, 3, 4), (3, 1, 4), ((4, 3), ((2, 2), (1, 1)), 4), (2, 1, 1)],
)
def test_phases_are_apart_where_they_differ(window, padding, convolutions):
    x, kernel = jnp.ones((2, 28, 28, 3)), jnp.ones((*np.broadcast_to(window, 2), 3, 5))
    f = partial(convjax.conv, padding=padding, input_dilation=2, algorithm="polyphase")
    text = jax.jit(f).lower(x, kernel).as_text()
    count = text.count("stablehlo.convolution") + text.count("stablehlo.dot_general")
    assert count == convolutions


@pytest.mark.parametrize(
    "window, strides, groups, padding",
    [
        ((2, 2), 2, 1, "SAME"),
        ((3, 2), (3, 2), 1, "VALID"),
        ((3, 2), (3, 2), 2, "SAME"),
        ((2, 3, 2), (2, 3, 2), 1, "SAME"),
        ((4,), 4, 2, "VALID"),
    ],
)
def test_transposed_tiles(window, strides, groups, padding):
    """Kernel = stride, transposed: every direction is one product of tiles."""
    u = jnp.asarray(oracle.integers(0, (2, 4, 3, 5)[: len(window) + 1] + (4,)))
    kernel = jnp.asarray(oracle.integers(1, (*window, 6 // groups, 4)))

    def derivatives(algorithm):
        f = jax.jit(
            partial(
                convjax.conv_transpose,
                strides=strides,
                padding=padding,
                feature_group_count=groups,
                algorithm=algorithm,
            )
        )
        value, pull = jax.vjp(f, u, kernel)
        return value, *pull(jnp.asarray(oracle.integers(2, value.shape)))

    found = derivatives(("polyphase", "patchify", "patchify"))  # an error, where not accepted
    for ours, wanted in zip(found, derivatives("direct"), strict=True):
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize(
    "space, window, options",
    [
        ((6, 9), (3, 2), {"padding": ((1, 1), (0, 1))}),
        ((9, 8), (2, 3), {"strides": (2, 1), "kernel_dilation": (1, 2), "padding": "VALID"}),
        ((5, 6, 7), (3, 2, 3), {"padding": ((1, 0), (1, 1), (2, 1)), "strides": (1, 2, 1)}),
    ],
)
def test_a_single_example_has_its_columns_folded(space, window, options):
    x = jnp.asarray(oracle.integers(0, (1, *space, 5)))
    kernel = jnp.zeros((*window, 5, 4))
    forward = partial(convjax.conv, x, **options, algorithm=(None, None, "depth_fold"))
    y, pull = jax.vjp(forward, kernel)
    y = jnp.asarray(oracle.integers(1, y.shape))
    wanted = oracle.kernel_gradient(np.asarray(x), np.asarray(y), kernel.shape, **options)
    np.testing.assert_array_equal(pull(y)[0], wanted)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("window", [(3, 3, 3), (2, 3, 4), (1, 2, 3)])
@pytest.mark.parametrize("strides", [(2, 2, 2), (3, 1, 2), (1, 2, 3), (2, 1, 1)])
def test_a_volumes_planes_come_phase_by_phase(strides, window, groups):
    """The depth stays dilated for the convolutions that the phases are."""
    y = jnp.asarray(oracle.integers(0, (2, 3, 4, 5, 4)))
    kernel = jnp.asarray(oracle.integers(1, (*window, 6 // groups, 4)))
    options = {"strides": strides, "feature_group_count": groups}
    found = [
        convjax.conv_transpose(y, kernel, **options, algorithm=name)
        for name in ("polyphase", "direct")
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("options", [{}, {"input_dilation": 2}])
def test_sums_are_not_computed_again_for_every_reader(options):
    """XLA would write the products out in each fusion that reads them."""
    x, kernel = jnp.ones((2, 12, 12, 8)), jnp.ones((3, 3, 1, 8))

    def plain(x, kernel):
        return convjax.conv(x, kernel, feature_group_count=8, **options)

    def normalised(x, kernel):
        y = plain(x, kernel)
        return (y - y.mean((0, 1, 2))) * jax.lax.rsqrt(y.var((0, 1, 2)))

    def products(function):
        lowered = jax.jit(function).lower(x, kernel)
        return lowered.compile(AS_USERS).as_text().count(" multiply(")

    assert products(plain) >= 9
    assert products(normalised) <= products(plain) + 6  # those of the normalisation


def test_phases_that_are_sums_are_not_computed_again(monkeypatch):
    """A loss and its cotangent both read them."""
    x, kernel = jnp.ones((2, 12, 12, 8)), jnp.ones((4, 4, 1, 8))

    def products():
        def loss(x, kernel):
            y = convjax.conv(x, kernel, feature_group_count=8, input_dilation=2, padding=2)
            return jnp.sum(y**2)

        lowered = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel)
        return lowered.compile(AS_USERS).as_text().count(" multiply(")

    once = products()
    shared = dataclasses.replace(LOWERINGS["polyphase"], isolated=lambda problem, chosen: False)
    monkeypatch.setitem(LOWERINGS, "polyphase", shared)
    assert once < products()


def test_groups_take_their_copies_one_after_another():
    """What one of them copies is gone before the next one copies: beside their results no more."""
    x, kernel = jnp.ones((8, 28, 28, 128)), jnp.ones((3, 3, 32, 128))
    grouped = partial(convjax.conv, feature_group_count=4, algorithm="per_group")
    compiled = jax.jit(grouped).lower(x, kernel).compile(AS_USERS)
    assert compiled.memory_analysis().temp_size_in_bytes < 1.5 * x.nbytes


def test_a_kernel_gradient_takes_its_copies_when_it_is_due():
    """What it pads is not kept since the forward pass, beside the result and its cotangent."""
    x, kernel = jnp.ones((4, 40, 40, 16)), jnp.ones((3, 3, 1, 16))

    def loss(x, kernel):
        return jnp.sum(convjax.conv(x, kernel, feature_group_count=16) ** 2)

    lowered = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel)
    needed = lowered.compile(AS_USERS).memory_analysis().temp_size_in_bytes
    assert needed < 2.5 * x.nbytes


@pytest.mark.parametrize("name", ["taps", "polyphase", "per_group"])
def test_64_bit_operands_and_integers(name):
    """With 64-bit types enabled, Python's integers have 64 bits: loops keep theirs at 32."""
    with jax.enable_x64(True):
        x = jnp.asarray(oracle.integers(0, (2, 20, 15, 24)), jnp.float64)
        kernel = jnp.asarray(oracle.integers(1, (13, 7, 1, 24)), jnp.float64)
        options = {"feature_group_count": 24, "padding": "SAME"}
        if name == "polyphase":
            options["input_dilation"] = 2
        value, pull = jax.vjp(partial(convjax.conv, **options, algorithm=name), x, kernel)
        y = jnp.asarray(oracle.integers(2, value.shape), jnp.float64)
        found = (value, *pull(y))
        value, pull = jax.vjp(partial(convjax.conv, **options, algorithm="direct"), x, kernel)
        assert value.dtype == jnp.float64
        for ours, wanted in zip(found, (value, *pull(y)), strict=True):
            np.testing.assert_array_equal(ours, wanted)


def lowered(function, *operands):
    return jax.jit(function).lower(*operands).as_text()


def test_the_default_path_follows_select():
    """On either side of a rule the compiled text is that of the lowering chosen."""
    x, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 3, 4))
    dense = lambda x, k: convjax.conv(x[..., :3], k).sum()  # noqa: E731
    assert "[b, 0, 1, f]" not in lowered(dense, x, kernel[:1, :1])
    assert lowered(dense, x, kernel).count("stablehlo.convolution") == 1

    depthwise = lambda x, k: convjax.conv(x, k, feature_group_count=6).sum()  # noqa: E731
    text = lowered(jax.grad(depthwise, (0, 1)), x, jnp.ones((3, 3, 1, 6)))
    assert "convolution" not in text
    # So it is on every device of a mesh.
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    rows = jax.device_put(x, jax.NamedSharding(mesh, jax.P(None, "a")))
    split = jax.jit(jax.grad(depthwise, (0, 1))).lower(rows, jnp.ones((3, 3, 1, 6)))
    assert "convolution(" not in split.compile().as_text()


def test_loops_see_channels_last():
    """The gradient of a kernel, and channels first, in the order that is fast in a loop."""
    x, kernel = jnp.ones((2, 3, 8, 8)), jnp.ones((3, 3, 3, 3))

    def layers(x, kernel):
        def step(x, _):
            return convjax.conv_general_dilated(x, kernel, (1, 1), "SAME"), None

        return jax.lax.scan(step, x, length=3)[0].sum()

    text = lowered(jax.grad(layers, (0, 1)), x, kernel)
    assert text.count("stablehlo.convolution") == 3
    assert text.count("dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]") == 3


def test_a_cropped_input_is_not_read_beyond_its_end():
    """Where lax itself, on jaxlib 0.10.2, returns what lies in memory after the input."""
    x = jnp.asarray(oracle.integers(0, (2, 6, 8)))
    kernel = jnp.asarray(oracle.integers(1, (2, 8, 3)))
    for strides in (1, 2):
        options = {"padding": ((-1, 2),), "strides": strides}
        wanted = oracle.conv(np.asarray(x), np.asarray(kernel), **options)
        np.testing.assert_array_equal(jax.jit(partial(convjax.conv, **options))(x, kernel), wanted)
    # as the input's gradient: padding beyond the window
    wide = partial(convjax.conv, padding=((3, 0),))
    y = jnp.asarray(oracle.integers(2, wide(x, kernel).shape))
    found = jax.jit(lambda x: jax.vjp(lambda x: wide(x, kernel), x)[1](y)[0])(x)
    options = {"padding": ((3, 0),)}
    np.testing.assert_array_equal(
        found, oracle.input_gradient(x.shape, np.asarray(y), np.asarray(kernel), **options)
    )


def test_triples_force_each_role():
    x, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 6, 4))

    def text(algorithm):
        function = partial(convjax.conv, algorithm=algorithm)
        return lowered(jax.grad(lambda x, k: function(x, k).sum(), (0, 1)), x, kernel)

    assert "convolution" not in text(("matmul", "matmul", "matmul"))
    assert text(("direct", "direct", "matmul")).count("stablehlo.convolution") == 1
    assert text((None, None, None)) == text(None)


REFUSED = {
    "matmul": ((1, 80, 80, 2), (9, 9, 2, 3), {}, r"its window \(9, 9\) has more than 64"),
    "taps": ((1, 8, 8, 17), (3, 3, 17, 3), {}, r"more than 16 channels per group \(17 and 3\)"),
    "per_group": ((1, 8, 8, 2), (3, 3, 2, 3), {}, "it has one group"),
    "block_diagonal": ((1, 8, 8, 2), (3, 3, 2, 3), {}, "it has one group"),
    "polyphase": ((1, 8, 8, 2), (3, 3, 2, 3), {}, "its input is not dilated"),
    "depth_fold": ((1, 8, 2), (3, 2, 3), {}, "it has fewer than two spatial axes"),
    "depth_sum": ((1, 8, 8, 2), (17, 3, 2, 3), {}, r"its window is more than 16 deep \(17\)"),
    "spread_rows": ((1, 8, 2), (3, 2, 3), {}, "it has 1 spatial axes, not two"),
    "patchify": ((1, 8, 8, 2), (3, 3, 2, 3), {}, "do not tile the input"),
    "fft": ((1, 2, 2, 2, 2, 1), (1, 1, 1, 1, 1, 1), {}, "one to three axes, not 4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_lowering_that_cannot_says_why(name):
    shape, kernel_shape, options, why = REFUSED[name]
    x, kernel = jnp.ones(shape), jnp.ones(kernel_shape)
    forced = partial(convjax.conv, algorithm=name, **options)
    message = rf"^conv: `algorithm` \(='{name}'\) cannot execute this convolution: .*{why}"
    with pytest.raises(ValueError, match=message):
        forced(x, kernel)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(forced, x, kernel)


def test_derived_operations_use_a_forced_lowering_where_they_can():
    x, kernel = jnp.ones((1, 80, 80, 2)), jnp.ones((3, 3, 2, 3))
    y, pull = jax.vjp(partial(convjax.conv, algorithm="matmul"), x, kernel)
    assert [g.shape for g in pull(y)] == [x.shape, kernel.shape]


def test_the_drop_in_may_take_laxs_place(monkeypatch):
    """Whoever puts our function where lax's stood does not send us round in circles."""
    monkeypatch.setattr(jax.lax, "conv_general_dilated", convjax.conv_general_dilated)
    x, kernel = jnp.ones((1, 3, 5, 6)), jnp.ones((2, 3, 3, 2))
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME")
    assert y.shape == (1, 2, 5, 6) and float(y[0, 0, 2, 2]) == 18
