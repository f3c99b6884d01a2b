"""How a convolution is computed: precision, types, sharding and lowering, resolved at the call."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convjax._core import checks
from convjax._core.recipe import Recipe
from convjax._lowerings import LOWERINGS, direct
from convjax._lowerings.problem import problem_of
from convjax._sharding.sharding import named_sharding


def numerics(function: str, dtype: Any, given: Mapping[str, Any], ndim: int) -> dict[str, Any]:
    """Precision, result type, sharding and algorithm, resolved for this call."""
    precision = given["precision"]
    try:
        resolved = direct.resolve_precision(precision)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{function}: `precision` (={precision!r}) must be None, a jax.lax.Precision, its name "
            "such as 'highest', or a pair of these."
        ) from error
    result_type = given["preferred_element_type"]
    if result_type is not None:
        result_type = _result_type(function, dtype, result_type)
    return {
        "precision": resolved,
        "result_type": result_type,
        "algorithm": _algorithm(function, given["algorithm"]),
        "out_sharding": named_sharding(function, given["out_sharding"], ndim),
    }


def _result_type(function: str, dtype: Any, wanted: Any) -> np.dtype:
    """`preferred_element_type` as a dtype that holds what operands of `dtype` give."""
    try:
        result = np.dtype(jax.dtypes.canonicalize_dtype(wanted))
    except TypeError as error:
        raise TypeError(
            f"{function}: `preferred_element_type` (={wanted!r}) must be a dtype."
        ) from error
    kinds = (jnp.integer, jnp.floating, jnp.complexfloating)
    same_kind = any(jnp.issubdtype(dtype, kind) and jnp.issubdtype(result, kind) for kind in kinds)
    signs = {jnp.issubdtype(d, jnp.unsignedinteger) for d in (dtype, result)}
    if not same_kind or result.itemsize < dtype.itemsize or len(signs) > 1:
        checks.fail(
            function,
            "preferred_element_type",
            str(result),
            f"must be of the operands' kind and at least as wide as their dtype {dtype}",
            "Cast the result instead.",
        )
    return result


def _algorithm(function: str, algorithm: Any) -> Any:
    """`algorithm`: None, a lowering's name, or a triple of these."""
    if algorithm is None:
        return None
    entries: Sequence[Any]
    if isinstance(algorithm, str):
        entries = (algorithm,)
    elif isinstance(algorithm, (tuple, list)) and len(algorithm) == 3:
        algorithm = entries = tuple(algorithm)
    else:
        checks.fail_type(
            function,
            "algorithm",
            algorithm,
            "must be None, a lowering's name, or a triple (forward, input_gradient, "
            "kernel_gradient) of these",
        )
    for entry in entries:
        if entry is not None:
            checks.choice(function, "algorithm", entry, tuple(LOWERINGS))
    return algorithm


def accepted(recipe: Recipe, dtype: Any) -> Recipe:
    """`recipe`; an error if a lowering is forced on its forward operation that cannot run it."""
    algorithm = recipe.algorithm
    name = algorithm if algorithm is None or isinstance(algorithm, str) else algorithm[0]
    if name is None or name == "direct":
        return recipe
    x, kernel = recipe.split_shapes
    problem = problem_of(
        jax.ShapeDtypeStruct(x, dtype),
        jax.ShapeDtypeStruct(kernel, dtype),
        recipe.split_layout,
        recipe.geometry,
        "forward",
    )
    refusal = LOWERINGS[name].accepts(problem)
    if refusal is not None:
        checks.fail(
            recipe.function,
            "algorithm",
            algorithm,
            f"cannot execute this convolution: {refusal}",
            "Leave the choice to `algorithm=None`.",
        )
    return recipe
