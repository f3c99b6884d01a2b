"""A causal depthwise convolution by one kernel for TPU, with what surrounds it, where asked for."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from convjax._functional import sequences
from convjax._functional.causal_plan import Plan, activated, biased
from convjax._functional.dense import conv
from convjax._sharding.sharding import same_varying, varying

_TAPS = 8  # at most


def fits(made: Plan, x: Any, kernel: Any, state: Any, ids: Any, mask: Any) -> bool:
    """Whether ``algorithm="pallas"`` asks for the kernel, and it can compute this convolution."""
    if made.algorithm != "pallas" or len(made.window) != 1 or mask is not None:
        return False
    (per_group,) = made.layout.kernel.sizes(kernel.shape, "contract")
    (out,) = made.layout.kernel.sizes(kernel.shape, "out")
    (channels,) = made.layout.x.sizes(x.shape, "contract")
    sizes = (*x.shape, *kernel.shape)
    # Every check of the options, in the words of `causal_conv`.
    recipe = made.recipe(x, kernel, made.low, made.mode, None)
    return (
        all(isinstance(size, int) and size > 0 for size in sizes)
        and made.window[0] <= _TAPS
        and made.strides == (1,)
        and per_group == 1
        and out == recipe.groups == channels
        and x.dtype == kernel.dtype
        and x.dtype in (jnp.bfloat16, jnp.float32)
        and recipe.result_type in (None, x.dtype)
        and (made.mode == "constant" or (state is not None and ids is None))
        and recipe.out_sharding is None
    )


def run(
    made: Plan,
    x: Any,
    kernel: Any,
    bias: Any,
    state: Any,
    segment_ids: Any,
    mesh_axis: Any,
    activation: Any,
    return_state: bool,
) -> tuple[jax.Array, Any]:
    """The result, bias and activation included, and the next state (None without `return_state`).

    An `activation` that is a function is applied to the kernel's result.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    state, segment_ids, _ = made.check(x, state, segment_ids, None, mesh_axis, return_state)
    left_ids = None
    if mesh_axis is not None:
        state, left_ids = sequences.neighbours(made, x, state, segment_ids, mesh_axis)
    axes = made.layout
    order = (*axes.x.batch, made.axis, *axes.x.contract)
    taps = jnp.transpose(kernel, (*axes.kernel.space, *axes.kernel.contract, *axes.kernel.out))
    taps = taps[:, 0]
    places, runs = None, None
    if segment_ids is not None:
        before = segment_ids[:, :1] if left_ids is None else left_ids
        shape = (x.shape[order[0]], made.held)
        runs = jnp.concatenate([jnp.broadcast_to(before, shape), segment_ids], 1)
        places = _places(runs)[:, made.held :]
    named = activation if isinstance(activation, str) else None
    out = jax.ShapeDtypeStruct(_out_shape(made, x), x.dtype)
    jax.eval_shape(lambda y: activated(made.function, biased(made, y, bias), named), out)
    parties = [
        jnp.transpose(x, order),
        taps,
        None if bias is None else jnp.asarray(bias),
        None if state is None else jnp.transpose(state, order),
        places,
    ]
    varying = iter(same_varying(*(party for party in parties if party is not None)))
    y = _fused(
        *(None if party is None else next(varying) for party in parties),
        made.dilation[0],
        named,
        made.recipe(x, kernel, made.low, made.mode, None).precision,
    )
    y = jnp.moveaxis(y, (0, 1, 2), (*axes.out.batch, made.out_axis, *axes.out.out))
    if not isinstance(activation, str):
        y = activated(made.function, y, activation)
    if not return_state:
        return y, None
    new = made.tail(x, state)
    if runs is not None:
        held = made.held
        same = _places(runs)[:, -1:] >= jnp.arange(held)[None, ::-1]
        new = jnp.where(made.of_x(same), new, jnp.zeros((), x.dtype))
    return y, new if mesh_axis is None else sequences.of_the_last(new, mesh_axis)


def _out_shape(made: Plan, x: jax.Array) -> tuple[int, ...]:
    axes = made.layout
    shape = [0, 0, 0]
    for to, of in zip(
        (*axes.out.batch, made.out_axis, *axes.out.out),
        (*axes.x.batch, made.axis, *axes.x.contract),
        strict=True,
    ):
        shape[to] = x.shape[of]
    return tuple(shape)


def _places(ids: jax.Array) -> jax.Array:
    """(N, T): how many steps of its run lie before each step."""
    steps = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
    begins = jnp.concatenate([ids[:, :1] != ids[:, :1], ids[:, 1:] != ids[:, :-1]], 1)
    return steps - lax.cummax(jnp.where(begins, steps, 0), 1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6, 7))
def _fused(
    x: jax.Array,
    kernel: jax.Array,
    bias: Any,
    state: Any,
    places: Any,
    dilation: int,
    activation: Any,
    precision: Any,
) -> jax.Array:
    """(N, T, C) of x (N, T, C) and kernel (K, C): on TPU by `pallas_kernels.causal`."""
    return _once(x, kernel, bias, state, places, dilation, activation, precision)


@functools.partial(jax.jit, static_argnums=(5, 6, 7))  # one program outside of `jit`, too
def _once(
    x: jax.Array,
    kernel: jax.Array,
    bias: Any,
    state: Any,
    places: Any,
    dilation: int,
    activation: Any,
    precision: Any,
) -> jax.Array:
    from convjax._lowerings.pallas_kernels.causal import causal

    rest = {"dilation": dilation, "activation": activation, "precision": precision}
    as_kernel = functools.partial(
        causal,
        dilation=dilation,
        activation=None
        if activation is None
        else functools.partial(activated, "causal_conv", activation=activation),
        dtype=x.dtype,
    )
    separate = functools.partial(_parts, algorithm=None, **rest)
    y: jax.Array = lax.platform_dependent(
        x,
        kernel,
        bias,
        state,
        places,
        tpu=functools.partial(as_kernel, interpret=False),
        cpu=functools.partial(as_kernel, interpret=True) if _interprets(x) else separate,
        default=separate,
    )
    return y


def _interprets(x: jax.Array) -> bool:
    """Whether JAX can interpret kernels: not where it checks types in ``shard_map``."""
    return not varying(x)


@_fused.defjvp
def _fused_jvp(
    dilation: int, activation: Any, precision: Any, primals: Any, tangents: Any
) -> tuple[jax.Array, jax.Array]:
    """The tangent is that of the separate operations, whose convolutions are kernels, too."""
    y = _fused(*primals, dilation, activation, precision)
    places = primals[4]

    def parts(x: Any, kernel: Any, bias: Any, state: Any) -> jax.Array:
        return _parts(
            x,
            kernel,
            bias,
            state,
            places,
            dilation=dilation,
            activation=activation,
            precision=precision,
            algorithm="pallas",
        )

    return y, jax.jvp(parts, primals[:4], tangents[:4])[1]


def _parts(
    x: jax.Array,
    kernel: jax.Array,
    bias: Any,
    state: Any,
    places: Any,
    *,
    dilation: int,
    activation: Any,
    precision: Any,
    algorithm: Any,
) -> jax.Array:
    """The same by separate operations."""
    held = (kernel.shape[0] - 1) * dilation
    if state is None:
        state = jnp.zeros((x.shape[0], held, x.shape[2]), x.dtype)
    both = jnp.concatenate([state, x], 1)
    if places is None:

        def by(name: Any) -> Callable[..., jax.Array]:
            return functools.partial(
                conv,
                padding="VALID",
                kernel_dilation=dilation,
                feature_group_count=x.shape[2],
                algorithm=name,
                precision=precision,
            )

        if algorithm is None:
            y = by(None)(both, kernel[:, None])
        else:
            cpu = by(algorithm if _interprets(x) else None)
            platforms = {"tpu": by(algorithm), "cpu": cpu, "default": by(None)}
            y = lax.platform_dependent(both, kernel[:, None], **platforms)
    else:
        total = jnp.zeros((), jnp.float32)
        for tap in range(kernel.shape[0]):
            start = tap * dilation
            piece = lax.slice_in_dim(both, start, start + x.shape[1], axis=1)
            met = jnp.where((places >= held - start)[..., None], piece, jnp.zeros((), x.dtype))
            total = total + met.astype(jnp.float32) * kernel[tap].astype(jnp.float32)
        y = total.astype(x.dtype)
    if bias is not None:
        y = y + bias
    return activated("causal_conv", y, activation)
