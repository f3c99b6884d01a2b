"""products.einsum: jnp.einsum's numbers, as one product of matrices where nothing need move."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from programs import compiled, lowered, temporaries

import convjax
from convjax._lowerings.tools import products

SIZES = {"n": 3, "a": 2, "b": 4, "i": 5, "o": 6, "g": 2}

MATRICES = [
    "nabi,io->nabo",
    "nabi,oi->nabo",
    "iabn,iabo->no",
    "ni,io->no",
    "iabn,iab->n",
    "i,io->o",
]
MOVED = [
    "nabgi,gio->nabgo",  # a batch axis
    "iabn,aibo->no",  # contracted in another order
    "naibb,io->nabo",  # a diagonal
    "nia,io->nao",  # contracted in the middle
    "nabi,io->onab",  # the result in another order
]


def operands(spec):
    left, right = spec.split("->")[0].split(",")
    shapes = ([SIZES[letter] for letter in letters] for letters in (left, right))
    return [
        jnp.asarray(oracle.integers(seed, shape), jnp.float32) for seed, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize("spec", [*MATRICES, *MOVED])
def test_it_is_einsum(spec):
    a, b = operands(spec)
    found = products.einsum(spec, a, b, preferred_element_type=jnp.float32)
    wanted = np.einsum(spec, np.asarray(a), np.asarray(b))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("spec", [*MATRICES, *MOVED])
def test_matrices_stay_where_they_are(spec):
    text = lowered(functools.partial(products.einsum, spec), *operands(spec))
    (line,) = (line for line in text.splitlines() if re.search(r"dot_general|convolution", line))
    of_matrices = re.search(r"\(tensor<(1x)?\d+x\d+xf32>, tensor<(1x)?\d+x\d+xf32>\)", line)
    assert (spec in MATRICES) == bool(of_matrices and "transpose" not in text)


def test_ynnpack_leaves_a_pointwise_convolution_to_eigen():
    x, kernel = jnp.ones((2, 16, 16, 32)), jnp.ones((1, 1, 32, 64))
    text = compiled(convjax.conv, x, kernel)
    assert " dot(" in text and "ynn_fusion" not in text and "copy" not in text


def test_a_pointwise_step_copies_no_operand():
    """For both gradients XLA asks no memory but for the result and its cotangent."""
    x, kernel = jnp.ones((2, 16, 16, 32)), jnp.ones((1, 1, 32, 64))
    loss = lambda x, k: (convjax.conv(x, k) ** 2).sum()  # noqa: E731
    result = 2 * 16 * 16 * 64 * 4
    assert temporaries(jax.grad(loss, (0, 1)), x, kernel) <= 2.1 * result
