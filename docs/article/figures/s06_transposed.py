"""Section 6: transposed convolution, its matrix, and checkerboards."""

import jax
import jax.numpy as jnp
import numpy as np

import convjax
from convjax import analysis, draw
from figures.registry import beside, figure, pictures

KERNEL = np.arange(1, 10).reshape(3, 3)


@figure("F15", "6", moving=True)
def two_to_four():
    """2×2 to 4×4: the direct convolution of the padded input."""
    return draw.arithmetic("transposed", (2, 2), 3, padding="VALID")


@figure("F16", "6", moving=True)
def two_to_five():
    """2×2 to 5×5: with one zero inserted between the inputs."""
    return draw.arithmetic("transposed", (2, 2), 3, strides=2, padding="VALID")


@figure("F17", "6")
def matrix():
    """C, the matrix of a 3×3 convolution of a 4×4 image: 4×16, 36 entries."""
    return draw.matrix("dense", (4, 4), 3, padding="VALID", kernels=KERNEL)


@figure("F18", "6")
def transposed_matrix():
    """The transpose of C is no inverse: neither product is the unit matrix."""
    c = draw.matrix("dense", (4, 4), 3, padding="VALID", kernels=KERNEL).details
    rank = np.linalg.matrix_rank(c.T @ c)
    return beside(
        f"CᵀC is 16×16 of rank {rank}: it cannot be the unit matrix",
        draw.matrix(c.T, title="Cᵀ", numbers=True),
        draw.matrix(c @ c.T, title="CCᵀ"),
        draw.matrix(c.T @ c, title="CᵀC", numbers=False),
    )


def generated(up, seed=0):
    """A picture by a random generator, 4×4 to 32×32 by three up-samplings, (32, 32, 3) in 0..1."""
    keys = jax.random.split(jax.random.key(seed), 4)
    x = jax.random.normal(keys[0], (1, 4, 4, 24))
    for key, features in zip(keys[1:], (24, 24, 3), strict=True):
        x = up(x, 0.1 * jax.random.normal(key, (3, 3, x.shape[-1], features)))
        x = (x - x.mean((1, 2))) / (x.std((1, 2)) + 1e-5)
        x = jax.nn.relu(x) if features != 3 else jnp.tanh(x)
    return (np.asarray(x)[0] + 1) / 2


def by_transposed(x, kernel):
    return convjax.conv_transpose(x, jnp.swapaxes(kernel, -1, -2), strides=2)


def by_resize(x, kernel):
    return convjax.resize_conv(x, kernel, 2, padding=1, padding_mode="edge")


@figure("F19", "6.1")
def checkerboards():
    """Pictures of untrained generators: the pattern is there before anything is learned."""
    named, found = [], {}
    for name, up in (
        ("transposed, kernel 3, stride 2", by_transposed),
        ("nearest resize, then 3×3", by_resize),
    ):
        for seed in range(2):
            image = generated(up, seed)
            share = analysis.phase_variance_fraction(jnp.asarray(image[None]), 4).mean()
            found[name, seed] = float(share)
            named.append((f"{name}: {share:.3f}", np.round(image * 255).astype(np.uint8)))
    words = "The number is the share of the variance that repeats with period 4; noise has 0."
    return pictures("Checkerboards of random networks", named, words, side=250, columns=2)


@figure("F20", "6.1")
def stride_one():
    """Stride 1: the overlap is even inside, whatever the kernel."""
    drawn = [draw.overlap(k, 1, 6) for k in (2, 3)]
    return beside("Stride 1, kernels 2 and 3", *drawn)


@figure("F21", "6.1")
def stride_two():
    """Stride 2: even for kernels 2 and 4, uneven for 3 and 5."""
    return beside("Stride 2", *(draw.overlap(k, 2, 6) for k in (2, 4, 3, 5)), columns=2)


@figure("F22", "6.1")
def in_the_plane():
    """In the plane the counts multiply; a stack of uneven layers is worse."""
    stack = analysis.overlap_counts([(3, 2), (3, 2), (3, 2)], 6)
    stacked = draw.matrix(
        stack[None, 12:-12], title="three layers of kernel 3, strides 2, on a line", numbers=True
    )
    plane = [draw.overlap(k, 2, (5, 5)) for k in (3, 5)]
    return beside("Uneven overlap, squared and stacked", *plane, stacked, columns=2)
