"""Law "lowerings": blocks of a window as channels, which `batch_as_space` makes in bfloat16."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from problems import GRADIENT, LINE, problem

import convjax
from convjax._lowerings import batch_as_space

HALF = {"dtype": np.dtype(jnp.bfloat16)}


def case(seed):
    """Shapes and options of a small convolution of few channels, whatever is padded or cropped."""
    rng = np.random.default_rng(seed)
    rank, i = int(rng.integers(1, 3)), int(rng.integers(1, 12))
    window = (*(int(k) for k in rng.integers(1, 4, rank - 1)), int(rng.choice([4, 6, 8, 12])))
    options = {
        "strides": tuple(map(int, rng.integers(1, 3, rank))),
        "kernel_dilation": tuple(map(int, rng.integers(1, 3, rank))),
        "padding": tuple(tuple(map(int, pair)) for pair in rng.integers(-2, 4, (rank, 2))),
    }
    steps = zip(window, options["kernel_dilation"], strict=True)
    space = [(k - 1) * d + 5 + int(rng.integers(0, 4)) for k, d in steps]
    return (3, *space, i), (*window, i, 4), options


@pytest.mark.parametrize("seed", range(40))
def test_blocks_are_the_convolution(seed):
    x_shape, kernel_shape, options = case(seed)
    x, kernel = oracle.integers(seed, x_shape), oracle.integers(seed + 1, kernel_shape)
    wanted = oracle.conv(x, kernel, **options)
    forced = partial(convjax.conv, algorithm="batch_as_space", preferred_element_type=jnp.float32)
    operands = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
    found = jax.jit(partial(forced, **options))(*operands)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "x_shape, kernel_shape",
    [((5, 4, 6, 3), (4, 6, 3, 7)), ((9, 5, 2), (5, 2, 3)), ((3, 1, 1, 4), (1, 1, 4, 5))],
)
def test_a_window_that_is_the_whole_input(x_shape, kernel_shape, dtype):
    """Also as the gradient of a 1x1 kernel, in another order of axes."""
    x, kernel = oracle.integers(1, x_shape), oracle.integers(2, kernel_shape)
    operands = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)
    forced = jax.jit(partial(convjax.conv, algorithm="batch_as_space", padding="VALID"))
    wanted = oracle.conv(x, kernel, padding="VALID")
    np.testing.assert_array_equal(np.float32(forced(*operands)), wanted)

    numbers = ("NCHW", "OIHW", "NCHW")
    conv = partial(convjax.conv, dimension_numbers=numbers)
    image, point = jnp.ones((3, 4, 5, 6), dtype), jnp.ones((7, 4, 1, 1), dtype)
    y = jnp.asarray(oracle.integers(3, (3, 7, 5, 6)), dtype)
    image = image * jnp.asarray(oracle.integers(4, (3, 4, 5, 6)), dtype)

    def gradient(name):
        call = partial(conv, image, algorithm=(None, None, name))
        return jax.jit(lambda y: jax.linear_transpose(call, point)(y)[0])(y)

    found, plain = gradient("batch_as_space"), gradient("direct")
    np.testing.assert_array_equal(np.float32(found), np.float32(plain))


@pytest.mark.parametrize(
    "changes, wanted",
    [
        ({}, True),
        ({"window": (27, 28)}, False),
        ({"padding": ((0, 0), (0, 1)), "window": (28, 29)}, False),
        ({"groups": 2}, False),
    ],
)
def test_what_is_whole(changes, wanted):
    whole = {"window": (28, 28), "out_space": (1, 1), "padding": ((0, 0), (0, 0))}
    assert batch_as_space.is_whole(problem(**whole | changes)) == wanted


def test_the_cases_have_blocks(monkeypatch):
    """Of several sizes, and none where examples are enough."""
    seen, cut = [], batch_as_space.blocks
    monkeypatch.setattr(batch_as_space, "blocks", lambda p: seen.append(cut(p)) or seen[-1])
    for seed in range(40):
        test_blocks_are_the_convolution(seed)
    assert len(seen) == 40 and len(set(seen)) >= 4 and 1 in seen


@pytest.mark.parametrize(
    "changes, wanted",
    [
        ({"i": 8}, 4),
        ({"i": 1}, 14),  # 28 blocks of one element would copy the input three times
        ({"i": 11}, 4),
        ({"i": 12}, 1),
        ({"i": 8, "window": (28, 29)}, 1),
        ({"i": 8, "window": (29, 28)}, 4),
        ({"i": 8, "dtype": np.dtype("float32")}, 1),
        ({"i": 8, "dtype": np.dtype("float16")}, 1),
        ({"i": 8, "groups": 2}, 1),
        ({"i": 8, "kernel_dilation": (1, 2), "space": (28, 56)}, 4),
    ],
)
def test_how_many_blocks(changes, wanted):
    assert batch_as_space.blocks(problem(**GRADIENT | HALF | changes)) == wanted


def test_a_line_has_blocks():
    gradient = {"role": "kernel_gradient", "window": (28,), "out_space": (3,), "i": 8}
    assert batch_as_space.blocks(problem(**LINE | HALF | gradient)) == 4
