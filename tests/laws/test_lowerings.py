"""What lowerings make of a program: what is handed to XLA, what XLA makes of it, and its memory."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from compilation import AS_USERS
from programs import compiled, lowered, temporaries

import convjax
import convjax.lax
from convjax._lowerings import LOWERINGS
from convjax._lowerings.target import Target
from convjax._lowerings.tools import row_sums


def test_the_default_path_follows_select():
    """On either side of a rule the compiled text is that of the lowering chosen."""
    x, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 3, 4))
    dense = lambda x, k: convjax.conv(x[..., :3], k).sum()  # noqa: E731
    assert "[b, 0, 1, f]" not in lowered(dense, x, kernel[:1, :1])
    assert lowered(dense, x, kernel).count_of("convolution") == 1

    depthwise = lambda x, k: convjax.conv(x, k, feature_group_count=6).sum()  # noqa: E731
    text = lowered(jax.grad(depthwise, (0, 1)), x, jnp.ones((3, 3, 1, 6)))
    assert "convolution" not in text
    # So it is on every device of a mesh.
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    rows = jax.device_put(x, jax.NamedSharding(mesh, jax.P(None, "a")))
    split = compiled(jax.grad(depthwise, (0, 1)), rows, jnp.ones((3, 3, 1, 6)))
    assert "convolution(" not in split


def test_loops_see_channels_last():
    """The gradient of a kernel, and channels first, in the order that is fast in a loop."""
    x, kernel = jnp.ones((2, 3, 8, 8)), jnp.ones((3, 3, 3, 3))

    def layers(x, kernel):
        def step(x, _):
            return convjax.conv_general_dilated(x, kernel, (1, 1), "SAME"), None

        return jax.lax.scan(step, x, length=3)[0].sum()

    text = lowered(jax.grad(layers, (0, 1)), x, kernel)
    assert text.count_of("convolution") == 3
    assert text.count("dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]") == 3


@pytest.mark.parametrize(
    "window, padding, convolutions",
    [(4, 2, 1), (7, 3, 4), (3, 1, 4), ((4, 3), ((2, 2), (1, 1)), 4), (2, 1, 1)],
)
def test_phases_are_apart_where_they_differ(window, padding, convolutions):
    x, kernel = jnp.ones((2, 28, 28, 3)), jnp.ones((*np.broadcast_to(window, 2), 3, 5))
    f = partial(convjax.conv, padding=padding, input_dilation=2, algorithm="polyphase")
    assert lowered(f, x, kernel).sums_of_products == convolutions


def test_several_outputs_are_summed_apart():
    """From what arranges weights before the sum, and outputs after it: a call within the call."""
    x = jnp.ones((2, 9, 9, 4))
    function = partial(convjax.conv, feature_group_count=4)
    programs = [lowered(function, x, jnp.ones((3, 3, 1, 4 * outputs))) for outputs in (1, 2)]
    assert [program.isolated_calls for program in programs] == [1, 2]


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
        return compiled(function, x, kernel, options=AS_USERS).count(" multiply(")

    assert products(plain) >= 9
    assert products(normalised) <= products(plain) + 6  # those of the normalisation


def test_phases_that_are_sums_are_not_computed_again(monkeypatch):
    """A mean, a variance and what they normalise all read them."""
    x, kernel = jnp.ones((2, 12, 12, 8)), jnp.ones((4, 4, 1, 8))

    def products():
        def normalised(x, kernel):
            y = convjax.conv(x, kernel, feature_group_count=8, input_dilation=2, padding=2)
            return (y - y.mean((0, 1, 2))) * jax.lax.rsqrt(y.var((0, 1, 2)))

        return compiled(normalised, x, kernel, options=AS_USERS).count(" multiply(")

    once = products()
    shared = dataclasses.replace(LOWERINGS["polyphase"], isolated=lambda problem, chosen: False)
    monkeypatch.setitem(LOWERINGS, "polyphase", shared)
    assert once < products()


def test_groups_take_their_copies_one_after_another():
    """What one of them copies is gone before the next one copies: beside their results no more."""
    x, kernel = jnp.ones((8, 28, 28, 128)), jnp.ones((3, 3, 32, 128))
    grouped = partial(convjax.conv, feature_group_count=4, algorithm="per_group")
    assert temporaries(grouped, x, kernel, options=AS_USERS) < 1.5 * x.nbytes


def test_a_kernel_gradient_takes_its_copies_when_it_is_due():
    """What it pads is not kept since the forward pass, beside the result and its cotangent."""
    x, kernel = jnp.ones((4, 40, 40, 16)), jnp.ones((3, 3, 1, 16))

    def loss(x, kernel):
        return jnp.sum(convjax.conv(x, kernel, feature_group_count=16) ** 2)

    gradients = jax.grad(loss, (0, 1))
    assert temporaries(gradients, x, kernel, options=AS_USERS) < 2.5 * x.nbytes


def test_turns_of_a_large_window_run_on_all_threads():
    """XLA marks what it makes one kernel of, as later jaxlibs do of any loop of additions."""

    def is_one_kernel(function, *operands):
        return "xla_cpu_small_call" in compiled(function, *operands)

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
    monkeypatch.setattr(Target, "here", lambda platform, split="nobody", options=None: here)
    x = jnp.asarray(oracle.integers(0, (1, 12, 14, 3)))
    kernel = jnp.asarray(oracle.integers(1, (9, 9, 1, 3)))
    forward = partial(convjax.conv, feature_group_count=3)
    taps = lambda x, k: forward(x, k, algorithm="taps")  # noqa: E731
    assert lowered(taps, x, kernel).count_of("sort")
    np.testing.assert_array_equal(taps(x, kernel), forward(x, kernel, algorithm="direct"))


def test_groups_that_come_first_are_moved_for_large_kernels(monkeypatch):
    """In the gradient of a kernel: where it has many elements, moving its operands costs less."""
    arranged, seen = row_sums.arranged, []

    def recorded(x, axes, roles, **options):
        seen.append(roles)
        return arranged(x, axes, roles, **options)

    monkeypatch.setattr(row_sums, "arranged", recorded)
    x, y = (jnp.asarray(oracle.integers(n, (2, 3, 9, 8))) for n in (0, 1))

    def gradient(conv, size):
        axes = ("NCHW", "OIHW", "NCHW")
        call = partial(
            conv, x, window_strides=(1, 1), padding="SAME",
            dimension_numbers=axes, feature_group_count=3,
        )  # fmt: skip
        return jax.jit(lambda y: jax.vjp(call, jnp.zeros((3, 1, size, size)))[1](y)[0])(y)

    for size, last in ((4, False), (5, True)):
        seen.clear()
        found = gradient(convjax.lax.conv_general_dilated, size)
        rest = "space group" if last else "group space"
        assert seen == [f"batch contract {rest}", f"out contract {rest}"]
        np.testing.assert_array_equal(found, gradient(jax.lax.conv_general_dilated, size))
