"""Drop-ins for the convolutions of ``jax.lax``: the same names, signatures and behaviour.

Each traces lax's own function, so that lax itself checks the arguments and spells out defaults, and
rebinds the ``conv_general_dilated`` inside to this library's operation.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend.core import Literal

from convjax.boundary import Operands, convolve
from convjax.geometry import Geometry
from convjax.layout import Axes

__all__ = [
    "conv",
    "conv_general_dilated",
    "conv_general_dilated_patches",
    "conv_transpose",
    "conv_with_general_padding",
]


def rebind(x: jax.Array, kernel: jax.Array, **params: Any) -> jax.Array:
    """The operation for the parameters of one ``lax.conv_general_dilated_p`` equation."""
    (xn, xc, *xs), (ko, ki, *ks), (yn, yc, *ys) = params["dimension_numbers"]
    for name in ("window_strides", "lhs_dilation", "rhs_dilation"):
        if len(params[name]) != len(ks) or any(step < 1 for step in params[name]):
            raise ValueError(  # where lax's lowering dies in a verifier
                f"conv_general_dilated: `{name}` (={params[name]}) must have one integer of at "
                f"least 1 per spatial axis ({len(ks)})."
            )
    if 0 in (window := tuple(kernel.shape[axis] for axis in ks)):
        raise ValueError(f"conv_general_dilated: the extents of `rhs` (={window}) must not be 0.")
    in_batch = params["batch_group_count"] > 1
    return convolve(
        x,
        kernel,
        Operands(
            x=Axes(batch=(xn,), contract=(xc,), space=tuple(xs)),
            kernel=Axes(contract=(ki,), out=(ko,), space=tuple(ks)),
            out=Axes(batch=(yn,), out=(yc,), space=tuple(ys)),
        ),
        params["batch_group_count"] if in_batch else params["feature_group_count"],
        x_groups="batch" if in_batch else "contract",
        geometry=Geometry(
            tuple(params["window_strides"]),
            tuple(tuple(pair) for pair in params["padding"]),
            tuple(params["lhs_dilation"]),
            tuple(params["rhs_dilation"]),
        ),
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
        out_sharding=params["out_sharding"],
    )


def _evaluate(closed: Any, *operands: Any) -> list[Any]:
    """The outputs of a closed jaxpr, its convolutions rebound."""
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, operands, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        arguments = [read(atom) for atom in equation.invars]
        if equation.primitive is lax.conv_general_dilated_p:
            result = rebind(*arguments, **equation.params)
        else:
            params = equation.primitive.get_bind_params(equation.params)
            result = equation.primitive.bind(*arguments, **params)
        if equation.primitive.multiple_results:
            values.update(zip(equation.outvars, result, strict=True))
        else:
            values[equation.outvars[0]] = result
    return [read(atom) for atom in jaxpr.outvars]


def _drop_in(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function` of lax, executed by this library."""
    signature = inspect.signature(function)
    array_names = [name for name in signature.parameters if name in ("lhs", "rhs")]

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> jax.Array:
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # lax's own words
        arrays = {name: arguments.pop(name) for name in array_names}
        if not all(hasattr(array, "shape") for array in arrays.values()):
            return function(*args, **kwargs)  # as above
        closed = jax.make_jaxpr(lambda arrays: function(**arrays, **arguments))(arrays)
        (result,) = _evaluate(closed, *(arrays[name] for name in sorted(arrays)))
        return result

    return wrapper


conv_general_dilated = _drop_in(lax.conv_general_dilated)
conv = _drop_in(lax.conv)
conv_with_general_padding = _drop_in(lax.conv_with_general_padding)
conv_transpose = _drop_in(lax.conv_transpose)
conv_general_dilated_patches = _drop_in(lax.conv_general_dilated_patches)
