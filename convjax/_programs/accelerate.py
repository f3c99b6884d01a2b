"""`accelerate`: a whole function's convolutions executed by this library, with no line changed."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from convjax._core import checks
from convjax._core.public import public
from convjax._programs.changes import carry
from convjax._programs.rebind import evaluate
from convjax._programs.walk import trace

P = ParamSpec("P")
R = TypeVar("R")


@public
def accelerate(fn: Callable[P, R]) -> Callable[P, R]:
    """The same function, with every ``lax.conv_general_dilated`` in it executed by this library.

    ``accelerate(fn)(*args, **kwargs)`` traces `fn` to a jaxpr, replaces its convolutions by this
    library's operation, and evaluates the jaxpr. Values, types and derivatives stay the same. So do
    effects, name scopes, shardings, donation and checkpointing policies: a policy treats our
    convolution as lax's.


    It reaches into ``jit``, ``scan``, ``while_loop``, ``cond``, ``checkpoint``, ``shard_map``,
    ``custom_linear_solve``, ``custom_jvp`` and ``custom_vjp`` with their rules, and into everything
    else that holds jaxprs. It composes with every transform, before it or after it.

    What `fn` changes in place changes as without `accelerate`: NNX modules, optimizers, metrics and
    random streams among its arguments (so that ``nnx.jit(accelerate(step))(model, optimizer, x)``,
    ``accelerate(nnx.jit(step))`` and ``accelerate(step)`` train), Keras' variables, lists and
    dictionaries. For Keras' own loop write ``model.train_step = accelerate(model.train_step)``.

    It cannot reach the rule of a ``jax.custom_batching.custom_vmap``, the transpose of a
    ``linear_call``, Pallas kernels, and what is compiled already (an exported function, a callback
    on the host). It also replaces calls of this library with ``algorithm="direct"``, since these
    are lax's convolution.

    Args:
        fn: any function that JAX can trace. Arrays among its arguments, numpy's too, are traced,
            as by ``jax.jit``; everything else (Python numbers, strings, None, functions) reaches
            it as it is, and so do results that are not arrays. Each call traces it anew; wrap the
            result in ``jax.jit`` to trace it once.

    Returns:
        A function of `fn`'s signature.

    Raises:
        TypeError: if `fn` cannot be called, or is a loop of Keras such as ``model.fit``.
        ValueError: on a call, for a convolution at which lax fails with an MLIR verification error,
            or where `fn` changes another object among its arguments in place, whose change would be
            lost.

    Example:
        >>> import jax, jax.numpy as jnp, convjax
        >>> def model(kernel, x):
        ...     numbers = ("NHWC", "HWIO", "NHWC")
        ...     return jax.lax.conv_general_dilated(
        ...         x, kernel, (1, 1), "SAME", feature_group_count=8, dimension_numbers=numbers)
        >>> fast = jax.jit(convjax.accelerate(model))
        >>> fast(jnp.ones((3, 3, 1, 16)), jnp.ones((2, 32, 32, 8))).shape
        (2, 32, 32, 16)

    Source: Frostig, Johnson & Leary, Compiling machine learning programs via high-level tracing,
        2018, https://mlsys.org/Conferences/doc/2018/146.pdf (the jaxprs that are rewritten)
    """
    if not callable(fn):
        checks.fail_type(
            "accelerate", "fn", type(fn), "must be a function", "Give it, not its result."
        )

    # `updated`: the attributes of a callable object, such as a module, are its own
    @functools.wraps(fn, updated=())
    def accelerated(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = carry("accelerate", _run, fn, args, kwargs)
        return result

    return accelerated


def _run(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    traced = trace(fn, args, {})
    return traced.restore(evaluate(traced.jaxpr, traced.operands))
