"""How the filters of two layers depend on each other, and how much of that lies in blocks."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core import checks
from convjax._core.public import public_with

_EXACT = lax.Precision.HIGHEST


class BlockScores(NamedTuple):
    """How a matrix's absolute values concentrate in diagonal blocks; see `block_scores`."""

    R: jax.Array
    E: jax.Array
    N: jax.Array


@public_with(a=checks.numbers, b=checks.numbers, matrix=checks.numbers, whiten=checks.flag)
def interlayer_covariance(a: jax.Array, b: jax.Array, *, whiten: bool = True) -> jax.Array:
    """Covariance of the responses of two layers, each whitened first: Deep Roots' figure.

    ``C = a'^T b' / (N - 1)`` of the centred responses. With ``whiten`` it is ``Wa C Wb``, where
    ``W = P D^(-1/2) P^T`` of each layer's own covariance ``P D P^T``, also over N - 1 (ZCA): what
    is left relates the layers and not the channels within one. The singular values of that matrix
    are the canonical correlations, at most 1. Directions without variance (dead channels, more
    channels than samples) count as 0.

    Args:
        a: (N, A) responses of the first layer: a row for every sample (every pixel of every
            image), a column for every channel.
        b: (N, B) responses of the second layer at the same places.
        whiten: whether to whiten; without it the plain cross-covariance is returned.

    Returns:
        (A, B), signed; the figure shows absolute values.

    Raises:
        ValueError: not two matrices with equally many rows; fewer than two rows.
        TypeError: not arrays, or complex.

    Example:
        >>> import jax
        >>> from convjax.analysis import interlayer_covariance
        >>> a = jax.random.normal(jax.random.key(0), (100, 6))
        >>> interlayer_covariance(a, a[:, :4]).shape
        (6, 4)

    Source: Ioannou, Robertson, Cipolla & Criminisi, Deep Roots, 2016, section "Inter-layer
        covariance", https://arxiv.org/abs/1605.06489; Kessy, Lewin & Strimmer, Optimal whitening
        and decorrelation, 2018, https://arxiv.org/abs/1512.00809
    """
    function = "interlayer_covariance"
    a, b = _responses(function, "a", a), _responses(function, "b", b)
    if len(a) != len(b):
        checks.fail(function, "b", b.shape, f"must have the {len(a)} rows (samples) of `a`")
    if len(a) < 2:
        checks.fail(function, "a", a.shape, "must have at least two rows (samples)")
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    matrix = _covariance(a, b)
    if not whiten:
        return matrix
    left, right = _whitening(_covariance(a, a)), _whitening(_covariance(b, b))
    return jnp.linalg.multi_dot([left, matrix, right], precision=_EXACT)


@public_with(a=checks.numbers, b=checks.numbers, matrix=checks.numbers, whiten=checks.flag)
def block_scores(matrix: jax.Array, groups: int) -> BlockScores:
    """How much of a matrix lies in `groups` equal diagonal blocks.

    On absolute values: ``R = mean(inside) / mean(outside)``, ``E = sum(inside^2) / sum(all^2)``,
    and ``N = (E - 1/groups) / (1 - 1/groups)``, which is 0 by chance and 1 if all is inside.

    Args:
        matrix: (A, B), rows and columns in the order of their groups.
        groups: number of blocks, at least 2; divides A and B.

    Returns:
        ``(R, E, N)``, scalars. R is inf where nothing is outside; all are NaN for zeros.

    Raises:
        ValueError: not a matrix; 1 group, which has no outside; indivisible rows or columns.
        TypeError: not an array; `groups` not an integer.

    Example:
        >>> import jax.numpy as jnp
        >>> from convjax.analysis import block_scores
        >>> block_scores(jnp.kron(jnp.eye(4), jnp.ones((3, 2))), 4).N.item()
        1.0

    Source: a summary of the figure in Ioannou, Robertson, Cipolla & Criminisi, Deep Roots, 2016,
        https://arxiv.org/abs/1605.06489
    """
    function = "block_scores"
    matrix = jnp.asarray(checks.array(function, "matrix", matrix))
    groups = checks.integer(function, "groups", groups, minimum=1)
    if matrix.ndim != 2:
        checks.fail(function, "matrix", matrix.shape, "must have two axes")
    if groups == 1:
        hint = "Score an ungrouped layer with the number of blocks it is compared with."
        checks.fail(function, "groups", groups, "must be at least 2: one block is all", hint)
    rows, columns = matrix.shape
    if rows % groups or columns % groups or not matrix.size:
        rule = f"must divide the rows and columns of `matrix` (={matrix.shape})"
        checks.fail(function, "groups", groups, rule)
    size = jnp.abs(matrix).astype(jnp.promote_types(jnp.abs(matrix).dtype, jnp.float32))
    inside = jnp.arange(rows)[:, None] * groups // rows == jnp.arange(columns) * groups // columns
    ratio = jnp.mean(size, where=inside) / jnp.mean(size, where=~inside)
    # Relative to the largest, squares neither overflow nor vanish.
    squares = (size / size.max()) ** 2
    energy = jnp.sum(squares, where=inside) / jnp.sum(squares)
    return BlockScores(ratio, energy, (energy - 1 / groups) / (1 - 1 / groups))


def _responses(function: str, argument: str, value: Any) -> jax.Array:
    """`value` as a matrix in float32 or wider."""
    value = jnp.asarray(checks.array(function, argument, value))
    if value.ndim != 2:
        hint = "Every pixel is a sample: `x.reshape(-1, x.shape[-1])`."
        checks.fail(function, argument, value.shape, "must be (samples, channels)", hint)
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        checks.fail_type(function, argument, str(value.dtype), "must be real")
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))


def _covariance(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a.T, b, precision=_EXACT) / (len(a) - 1)


def _whitening(covariance: jax.Array) -> jax.Array:
    """The inverse square root of a covariance, 0 in the directions that have no variance."""
    values, vectors = jnp.linalg.eigh(covariance)
    floor = len(values) * jnp.finfo(values.dtype).eps * values[-1]
    alive = values > floor
    roots = jnp.where(alive, lax.rsqrt(jnp.where(alive, values, 1)), 0)
    return jnp.matmul(vectors * roots, vectors.T, precision=_EXACT)
