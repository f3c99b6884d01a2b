"""The one primitive: a bilinear convolution with batch, group, contracted and out axes.

``out[n, o, g, c] = sum over taps t and i of x[n, o*s + t*d, g, i] * kernel[t, g, i, c]``

It is closed: both gradients are this operation again, with the roles of `Layout` exchanged and
stride and dilation exchanged (`Geometry`). So is `vmap` over one operand or both. This file is the
only home of derivative rules.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from convjax._core.geometry import Geometry
from convjax._core.layout import Layout
from convjax._lowerings import select
from convjax._lowerings.problem import out_shape, problem_of
from convjax._lowerings.run import run
from convjax._lowerings.target import Target
from convjax._operation import registries
from convjax._sharding import distributed, sharding
from convjax._sharding.splits import ConvSplit

conv_p = registries.Primitive("convjax_conv")


def bind(
    x: jax.Array,
    kernel: jax.Array,
    *,
    geometry: Geometry,
    layout: Layout,
    precision: Any,
    preferred_element_type: Any,
    out_sharding: Any = None,
    algorithm: Any = None,
    compiled_with: Any = None,
    role: str = "forward",
) -> jax.Array:
    """Bind `conv_p`, both operands varying over the same manual mesh axes.

    `compiled_with` are the options that the program was declared to be compiled with: the gradients
    keep them.

    Without the cast the gradient of a kernel that is replicated inside ``shard_map`` would miss
    its sum over devices.
    """
    x, kernel = sharding.same_varying(x, kernel)
    result = conv_p.bind(
        x,
        kernel,
        geometry=geometry,
        layout=layout,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
        algorithm=algorithm,
        compiled_with=compiled_with,
        role=role,
    )
    return registries.saveable(result)


# ---- types -------------------------------------------------------------------------------------


def _abstract_eval(
    x: Any, kernel: Any, *, geometry: Geometry, layout: Layout, **params: Any
) -> Any:
    for role in ("group", "contract"):
        if layout.x.sizes(x.shape, role) != layout.kernel.sizes(kernel.shape, role):
            raise TypeError(f"{conv_p}: {role} sizes of {x} and {kernel} differ under {layout}")
    if x.dtype != kernel.dtype:
        raise TypeError(f"{conv_p}: operands must have one dtype, not {x.dtype} and {kernel.dtype}")
    shape = out_shape(x, kernel, layout, geometry)
    mesh = kernel.sharding.mesh if x.sharding.mesh.empty else x.sharding.mesh
    if params["out_sharding"] is not None:
        out_sharding = params["out_sharding"]
    elif sharding.is_explicit(mesh):
        out_sharding = NamedSharding(mesh, sharding.out_spec(mesh, x, kernel, layout, shape))
    else:
        out_sharding = NamedSharding(mesh, PartitionSpec(*(None,) * len(shape)))
    return x.update(
        shape=shape,
        dtype=np.dtype(params["preferred_element_type"] or x.dtype),
        weak_type=x.weak_type and kernel.weak_type,
        sharding=out_sharding,
    )


conv_p.def_abstract_eval(_abstract_eval)


# ---- evaluation outside jit --------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _compiled(**params: Any) -> Any:
    options = dict(params["compiled_with"] or ()) or None
    return jax.jit(functools.partial(conv_p.bind, **params), compiler_options=options)


@conv_p.def_impl
def _impl(x: Any, kernel: Any, **params: Any) -> jax.Array:
    with jax.disable_jit(False):
        return _compiled(**params)(x, kernel)


# ---- derivatives: both are this operation again --------------------------------------------------

# The three parties are symmetric: each role computes one of them from the other two.
_ROLE_OF_TRANSPOSE = {
    "forward": ("input_gradient", "kernel_gradient"),
    "input_gradient": ("forward", "kernel_gradient"),
    "kernel_gradient": ("input_gradient", "forward"),
}


def _primal_sharding(aval: Any) -> Any:
    return aval.sharding if sharding.is_explicit(aval.sharding.mesh) else None


def _cast(x: jax.Array, dtype: Any) -> jax.Array:
    return x if x.dtype == dtype else lax.convert_element_type(x, dtype)


def _transpose_x(
    ct: Any, x: Any, kernel: Any, *, geometry: Geometry, layout: Layout, role: str, **params: Any
) -> Any:
    """Cotangent of x: the cotangent, dilated by the stride, with the reversed kernel."""
    shape, window = x.aval.shape, layout.kernel.sizes(kernel.shape, "space")
    params["out_sharding"] = _primal_sharding(x.aval)
    result = bind(
        ct,
        _cast(kernel, ct.dtype),
        geometry=geometry.input_gradient(layout.x.sizes(shape, "space"), window),
        layout=layout.input_gradient(),
        role=_ROLE_OF_TRANSPOSE[role][0],
        **params,
    )
    return _cast(result, x.aval.dtype)


def _transpose_kernel(
    ct: Any, x: Any, kernel: Any, *, geometry: Geometry, layout: Layout, role: str, **params: Any
) -> Any:
    """Cotangent of the kernel: x correlated with the cotangent; N is contracted, I is the batch."""
    shape, space = kernel.aval.shape, layout.x.sizes(x.shape, "space")
    params["out_sharding"] = _primal_sharding(kernel.aval)
    result = bind(
        _cast(x, ct.dtype),
        ct,
        geometry=geometry.kernel_gradient(space, layout.kernel.sizes(shape, "space")),
        layout=layout.kernel_gradient(),
        role=_ROLE_OF_TRANSPOSE[role][1],
        **params,
    )
    if geometry.reversal:
        result = lax.rev(result, layout.kernel.space)
    return _cast(result, kernel.aval.dtype)


ad.defbilinear(conv_p, _transpose_x, _transpose_kernel)


# ---- vmap ----------------------------------------------------------------------------------------


def _batch(
    axis_data: Any, operands: Any, axes: Any, *, layout: Layout, out_sharding: Any, **params: Any
) -> tuple[jax.Array, int | None]:
    if axes[0] is None and axes[1] is None:
        return bind(*operands, layout=layout, out_sharding=out_sharding, **params), None
    if out_sharding is not None:
        spec = (axis_data.explicit_mesh_axis, *out_sharding.spec)
        out_sharding = NamedSharding(out_sharding.mesh, PartitionSpec(*spec))
    return bind(*operands, layout=layout.batched(*axes), out_sharding=out_sharding, **params), 0


batching.fancy_primitive_batchers[conv_p] = _batch


# ---- lowering, per platform ----------------------------------------------------------------------


def _lower(ctx: Any, x: Any, kernel: Any, *, platform: str, **params: Any) -> Any:
    layout, geometry, role = params["layout"], params["geometry"], params["role"]
    algorithm = params["algorithm"]
    place = distributed.Place.of(ctx)
    who = distributed.splitter(ctx, place, platform)
    # Whoever calls an exported program compiles it, with options that nobody knows yet.
    exported = ctx.module_context.lowering_parameters.for_export
    options = None if exported else params["compiled_with"]
    target = Target.here(platform, "XLA" if who == "XLA" else "nobody", options)
    one_device = Target.here(platform, options=options)
    execute = functools.partial(
        run,
        layout=layout,
        role=role,
        # resolved when bound: None must not be read as another default in force by now
        precision=params["precision"] or (lax.Precision.DEFAULT,) * 2,
    )
    problem = problem_of(ctx.avals_in[0], ctx.avals_in[1], layout, geometry, role)
    whole = functools.partial(
        execute,
        geometry=geometry,
        preferred_element_type=params["preferred_element_type"],
        target=target,
        choice=select.forced(problem, algorithm, target),
    )

    def run_part(*arrays: jax.Array, made: Any, **options: Any) -> jax.Array:
        parts, operands = arrays[:2], jax.eval_shape(made, *arrays)
        alone = problem_of(parts[0], parts[1], layout, geometry, role)
        actual = problem_of(operands[0], operands[1], layout, options["geometry"], role)
        choice = select.of_part(alone, actual, algorithm, one_device)
        return execute(*arrays, made=made, choice=choice, target=one_device, **options)

    def split() -> ConvSplit:
        # XLA widens 16-bit operands on GPUs to convolve them into float32 (jaxlib 0.12.0).
        widens = platform not in ("cuda", "rocm")
        result = ctx.avals_out[0].dtype
        calls = platform == "cpu"
        return ConvSplit(layout, geometry, role, ctx.avals_in, result, run_part, widens, calls)

    description = repr((layout, geometry, role, execute.keywords["precision"], algorithm, options))
    return distributed.lower(ctx, (x, kernel), place, who, whole, split, description)


for _platform in ("cpu", "cuda", "rocm", "tpu"):
    mlir.register_lowering(
        conv_p, functools.partial(_lower, platform=_platform), platform=_platform
    )
mlir.register_lowering(conv_p, functools.partial(_lower, platform="other"))


# ---- checkpointing -------------------------------------------------------------------------------


def convs_saveable(primitive: Any, *_: Any, **params: Any) -> bool:
    """Policy for ``jax.checkpoint`` that saves the results of convolutions, and nothing else.

    Combine it with others by ``jax.checkpoint_policies.save_from_both_policies``.

    Args:
        primitive: the primitive whose result may be saved.
        params: its parameters.

    Returns:
        Whether it is a convolution, this library's or lax's.

    Example:
        >>> import jax, convjax
        >>> net = jax.checkpoint(lambda x, k: jax.nn.relu(convjax.conv(x, k)),
        ...                      policy=convjax.convs_saveable)
        >>> net(jax.numpy.ones((1, 8, 8, 3)), jax.numpy.ones((3, 3, 3, 4))).shape
        (1, 8, 8, 4)

    Source: Chen et al., Training deep nets with sublinear memory cost, 2016,
        https://arxiv.org/abs/1604.06174
    """
    ours = primitive is conv_p or params.get("name") == registries.NAME
    return ours or primitive is lax.conv_general_dilated_p
