"""What `algorithm` forces: one lowering, or one for each derivative; and what cannot be forced."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from programs import lowered

import convjax


def test_triples_force_each_role():
    x, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 6, 4))

    def text(algorithm):
        function = partial(convjax.conv, algorithm=algorithm)
        return lowered(jax.grad(lambda x, k: function(x, k).sum(), (0, 1)), x, kernel)

    assert "convolution" not in text(("matmul", "matmul", "matmul"))
    assert text(("direct", "direct", "matmul")).count_of("convolution") == 1
    assert text((None, None, None)) == text(None)


REFUSED = {
    "matmul": ((1, 80, 80, 2), (9, 9, 2, 3), {}, r"its window \(9, 9\) has more than 64"),
    "taps": ((1, 8, 8, 17), (3, 3, 17, 3), {}, r"more than 16 channels per group \(17 and 3\)"),
    "per_group": ((1, 8, 8, 2), (3, 3, 2, 3), {}, "it has one group"),
    "block_diagonal": ((1, 8, 8, 2), (3, 3, 2, 3), {}, "it has one group"),
    "polyphase": ((1, 8, 8, 2), (3, 3, 2, 3), {}, "its input is not dilated"),
    "depth_fold": ((1, 8, 2), (3, 2, 3), {}, "it has fewer than two spatial axes"),
    "depth_sum": ((1, 8, 8, 2), (17, 3, 2, 3), {}, r"its window is more than 16 deep \(17\)"),
    "batch_as_space": ((1, 4, 3, 3, 2), (2, 2, 1, 2, 3), {}, r"more than 2 spatial axes \(3\)"),
    "spread_rows": ((1, 4, 3, 3, 2), (2, 2, 1, 2, 3), {}, "it has 3 spatial axes, not one or two"),
    "stacked_sum": ((1, 8, 8, 2), (3, 3, 2, 3), {}, "more than 64 elements for every group"),
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
