"""A row of the table for one module: its sizes, its parameters, and its convolution."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convjax import _functional
from convjax._core import checks
from convjax._core.public import refuse
from convjax._functional.stages import per_axis
from convjax._modules.conventions import CONVENTIONS
from convjax._modules.table import NUMERICS, ROWS, LayerSizes, Row
from convjax.initializers import KernelShape


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one module computes.

    Attributes:
        name: its name in the table and in errors.
        module: the module, whose attributes are its options.
        sizes: its sizes, checked.
        kernels: names and shapes of its kernels.
        biases: names and shapes of its biases.
    """

    name: str
    module: Any
    sizes: LayerSizes
    kernels: Mapping[str, KernelShape]
    biases: Mapping[str, tuple[int, ...]]

    @property
    def row(self) -> Row:
        return ROWS[self.name]

    def check(self, inputs: Any) -> None:
        """Refuse inputs of too few axes or of other channels, and images for an integer window."""
        name, rank, channels = self.name, self.sizes.rank, self.sizes.in_features
        given = getattr(self.module, "given_kernel_size", getattr(self.module, "kernel_size", ()))
        if checks.is_int(given) and inputs.ndim > 3:
            checks.fail(
                name,
                "kernel_size",
                given,
                f"means one spatial axis, and `inputs` has {inputs.ndim} axes",
                "Give one extent per spatial axis, such as `kernel_size="
                f"{(given,) * (inputs.ndim - 2)}`; `({given},)` convolves along the last of them "
                "only, and takes the others for batch axes.",
            )
        shape = tuple(inputs.shape)
        if inputs.ndim < rank + 1:
            rule = f"must have at least {rank + 1} axes: {rank} spatial ones and channels"
            checks.fail(name, "inputs", shape, rule)
        if shape[-1] != channels:
            first = inputs.ndim > rank + 1 and shape[-1 - rank] == channels
            checks.fail(
                name,
                "inputs",
                shape,
                f"must have `in_features` (={channels}) channels on its last axis",
                "It looks channels-first: move its channels last." if first else "",
            )

    def masked(self, values: Mapping[str, Any], mask: Any) -> dict[str, Any]:
        """The parameters `values` by name: kernels times `mask`, or each kernel times its mask."""
        if mask is None:
            return dict(values)
        names = tuple(self.kernels)
        if not isinstance(mask, Mapping):
            if len(names) > 1:
                rule = f"must map the names of kernels to masks: {', '.join(names)}"
                checks.fail(self.name, "mask", np.shape(mask), rule)
            mask = {names[0]: mask}
        if unknown := sorted(mask.keys() - self.kernels.keys()):
            rule = f"must have no other names than those of the kernels: {', '.join(names)}"
            checks.fail(self.name, "mask", unknown, rule)
        found = dict(values)
        for name, factor in mask.items():
            if factor is None:
                continue
            argument = "mask" if len(names) == 1 else f"mask[{name!r}]"
            checks.array(self.name, argument, factor)
            if np.shape(factor) != tuple(found[name].shape):
                rule = f"must have the kernel's shape {tuple(found[name].shape)}"
                checks.fail(self.name, argument, np.shape(factor), rule)
            found[name] = found[name] * jnp.asarray(factor)
        return found

    def apply(self, x: jax.Array, values: Mapping[str, Any], **given: Any) -> jax.Array:
        """The convolution of `x`, whose leading axes are batch axes.

        Args:
            x: inputs.
            values: the parameters by name, of x's dtype.
            given: options of the row's function that are not attributes of the module.
        """
        lead = x.shape[: x.ndim - self.sizes.rank - 1]
        if len(lead) != 1:
            x = x.reshape(prod(lead), *x.shape[len(lead) :])
        options = {
            name: given.pop(name)
            if name in given
            else frozen(_steps(name, getattr(self.module, name)))
            for name in (*self.row.options, *NUMERICS)
        }
        kernels = [values[name] for name in self.kernels]
        stage_biases = [values[name] for name in self.biases if name != "bias"]
        if stage_biases:
            y = _flattened(x, kernels, stage_biases, **options, **given)
        else:
            kind = self.row.kind
            y = kind.function(x, *kind.arguments(kernels, self.sizes), **options, **given)
        if "bias" in self.biases:
            y = y + values["bias"]
        return y if len(lead) == 1 else y.reshape(*lead, *y.shape[1:])

    def causal(self, x: jax.Array, values: Mapping[str, Any], **given: Any) -> Any:
        """A causal convolution of `x` (N, T, *space, channels), with the arguments of one call."""
        if x.ndim != self.sizes.rank + 2:
            rule = f"must have {self.sizes.rank + 2} axes: batch, {self.sizes.rank} spatial ones"
            checks.fail(self.name, "inputs", tuple(x.shape), f"{rule} and channels")
        options = {
            name: _steps(name, getattr(self.module, name))
            for name in (*self.row.options, *NUMERICS)
        }
        function = self.row.kind.function
        return function(x, values["kernel"], bias=values.get("bias"), **options, **given)

    def first_state(self, x: jax.Array, values: Mapping[str, Any]) -> jax.Array:
        """The state before the first input of `x`, whose causal axis may have any extent but 0."""
        module, options = self.module, {}
        if self.name == "CausalConvTranspose":
            call = functools.partial(self.causal, values=values, return_state=True)
            _, state = jax.eval_shape(call, jax.ShapeDtypeStruct(x.shape, x.dtype))
            return jax.numpy.zeros(state.shape, state.dtype)
        for name in ("axis", "strides", "output_at", "padding_mode", "kernel_dilation"):
            options[name] = _steps(name, getattr(module, name))
        return _functional.init_state(x, values["kernel"], **options)


def plan(name: str, module: Any, in_features: Any, out_features: Any = None) -> Plan:
    """The plan of a module of this name and with these channels, its options checked."""
    row = ROWS[name]
    sizes = _sizes(name, module, in_features, out_features)
    kernels = row.fans(row.kind.shapes(sizes), sizes)
    for flag in ("use_bias", "stage_bias"):
        checks.flag(name, flag, getattr(module, flag, False))
    biases = list(row.stage_biases(sizes)) if getattr(module, "stage_bias", False) else []
    biases += ["bias"] * module.use_bias
    return Plan(
        name,
        module,
        sizes,
        dict(zip(row.kernels(sizes), kernels, strict=True)),
        {bias: (sizes.out_features,) for bias in biases},
    )


# What every module takes in addition to the options of its function
_SHARED = (
    "use_bias",
    "dtype",
    "param_dtype",
    *NUMERICS,
    "kernel_init",
    "bias_init",
    "promote_dtype",
    "kernel_metadata",
    "bias_metadata",
    "rngs",
)


def options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a module's function: `given`, and the defaults of the others."""
    known = ROWS[name].options
    for word in given:
        if word not in known:
            refuse(name, word, [*known, *_SHARED])
    return known | dict(given)


def attribute(name: str, value: Any) -> Any:
    """An argument as a module holds it: a mask stays an array, and the rest can be hashed."""
    return value if name == "mask" else frozen(value)


def frozen(value: Any) -> Any:
    """`value` with tuples for lists and arrays of numbers, so that it can be hashed."""
    known = isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    if known or isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def per_parameter(value: Any, parameter: str, names: Iterable[str], default: Any) -> Any:
    """``value[parameter]`` if `value` maps parameters' names to values, else `value` itself."""
    if isinstance(value, Mapping) and value and set(value) <= set(names):
        return value.get(parameter, default)
    return value


def _steps(name: str, value: Any) -> Any:
    """An option of a function, None being 1 where Flax says so."""
    return 1 if value is None and name in ("strides", "kernel_dilation") else value


def _sizes(name: str, module: Any, in_features: Any, out_features: Any) -> LayerSizes:
    in_name, out_name = "in_features", "out_features"
    if hasattr(module, "features"):  # linen's words
        in_name, out_name = "channels of inputs", "features"
    fields = [field.name for field in dataclasses.fields(LayerSizes)]
    found = {key: frozen(getattr(module, key)) for key in fields if hasattr(module, key)}
    found["in_features"] = checks.integer(name, in_name, in_features, minimum=1)
    if "kernel_size" in found:
        window = found["kernel_size"]
        window = tuple(window) if isinstance(window, Sequence) else (window,)
        found["kernel_size"] = checks.ints(name, "kernel_size", window, len(window), minimum=1)
        if not window:
            checks.fail(name, "kernel_size", window, "must have at least one spatial axis")
    else:
        found["kernel_size"] = (1,) * checks.integer(name, "rank", module.rank, minimum=1)
    rank = len(found["kernel_size"])
    groups_name = "groups"
    if hasattr(module, "feature_group_count"):
        groups_name, found["groups"] = "feature_group_count", module.feature_group_count
    if "groups" in found:
        checks.integer(name, groups_name, found["groups"], minimum=1)
    if "channel_multiplier" in found:
        checks.integer(name, "channel_multiplier", found["channel_multiplier"], minimum=1)
    if "scale" in found:
        found["scale"] = checks.ints(name, "scale", found["scale"], rank, minimum=1)
    strides = _steps("strides", found["strides"])
    found["strides"] = checks.ints(name, "strides", strides, rank, minimum=1)
    if "convention" in found:
        checks.choice(name, "convention", found["convention"], CONVENTIONS)
    if out_features is None:
        out_features = ROWS[name].out_features(LayerSizes((), **found | {"out_features": 1}))
    found["out_features"] = checks.integer(name, out_name, out_features, minimum=1)
    if "mid_features" in found:
        mid = out_features if found["mid_features"] is None else found["mid_features"]
        found["mid_features"] = checks.ints(name, "mid_features", mid, rank - 1, minimum=1)
    sizes = LayerSizes((), **found)
    for what, channels in ((in_name, sizes.in_features), (out_name, sizes.out_features)):
        if channels % sizes.groups:
            rule = f"must divide `{what}` (={channels})"
            checks.fail(name, groups_name, sizes.groups, rule)
    return sizes


def _flattened(
    x: jax.Array,
    kernels: Sequence[Any],
    biases: Sequence[Any],
    *,
    out_sharding: Any = None,
    precision: Any,
    preferred_element_type: Any,
    algorithm: Any,
    **options: Any,
) -> jax.Array:
    """`flattened_conv` with a bias after every stage but the last."""
    numerics = {
        "precision": precision,
        "preferred_element_type": preferred_element_type,
        "algorithm": algorithm,
    }
    y = _functional.pointwise_conv(x, kernels[0], **numerics)
    rank = len(kernels) - 1
    stages = per_axis("flattened_conv", rank, options)
    shardings = [None] * (rank - 1) + [out_sharding]
    for kernel, bias, stage, sharding in zip(kernels[1:], biases, stages, shardings, strict=True):
        y = y + bias
        y = _functional.depthwise_conv(
            y, kernel.astype(y.dtype), out_sharding=sharding, **stage, **numerics
        )
    return y
