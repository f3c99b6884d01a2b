"""lax's convolutions inside a jaxpr, replaced by this library's operation.

Only the equations that convolve are rewritten, in place (and, for `jit`, products of matrices in
float16). The jaxpr keeps its type, and all other equations keep their parameters, source lines,
name scopes and effects.
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import linear_util

from convjax._core import declared
from convjax._core.geometry import Geometry
from convjax._core.layout import Layout
from convjax._core.recipe import Recipe
from convjax._operation.grouping import apply
from convjax._operation.primitive import conv_p
from convjax._operation.registries import NAME, results_are_named
from convjax._programs.walk import trace
from convjax._sharding.sharding import named_sharding


def as_written(params: Mapping[str, Any]) -> tuple[Layout, Geometry]:
    """What the parameters of one ``lax.conv_general_dilated_p`` equation say."""
    layout = Layout.merged(params["dimension_numbers"])
    ks = layout.kernel.space
    for name in ("window_strides", "lhs_dilation", "rhs_dilation"):
        if len(params[name]) != len(ks) or any(step < 1 for step in params[name]):
            raise ValueError(  # where lax's lowering dies in a verifier
                f"conv_general_dilated: `{name}` (={params[name]}) must have one integer of at "
                f"least 1 per spatial axis ({len(ks)})."
            )
    return layout, Geometry(
        tuple(params["window_strides"]),
        tuple(tuple(pair) for pair in params["padding"]),
        tuple(params["lhs_dilation"]),
        tuple(params["rhs_dilation"]),
    )


def rebind(x: jax.Array, kernel: jax.Array, **params: Any) -> jax.Array:
    """The operation for the parameters of one ``lax.conv_general_dilated_p`` equation."""
    layout, geometry = as_written(params)
    if 0 in (window := layout.kernel.sizes(kernel.shape, "space")):
        raise ValueError(f"conv_general_dilated: the extents of `rhs` (={window}) must not be 0.")
    in_batch = params["batch_group_count"] > 1
    recipe = Recipe(
        "convolution",
        x.shape,
        kernel.shape,
        layout,
        params["batch_group_count"] if in_batch else params["feature_group_count"],
        geometry,
        x_groups="batch" if in_batch else "contract",
        precision=params["precision"],
        result_type=params["preferred_element_type"],
        out_sharding=named_sharding("convolution", params["out_sharding"], x.ndim),
    )
    return apply(recipe, x, kernel)


def multiply_in_float32(a: jax.Array, b: jax.Array, **params: Any) -> jax.Array:
    """A product of matrices of float16, multiplied and summed in float32, then rounded."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    params |= {"preferred_element_type": np.dtype(np.float32)}
    return lax.dot_general_p.bind(a, b, **params).astype(jnp.float16)


# What takes the place of an equation of these, where it is asked for.
_INSTEAD: dict[Any, Callable[..., jax.Array]] = {
    lax.conv_general_dilated_p: rebind,
    lax.dot_general_p: multiply_in_float32,
}

# Which equations: a function of one of these.
Which = Callable[[Any], bool]


def every(eqn: Any) -> bool:
    """Every convolution."""
    return eqn.primitive is lax.conv_general_dilated_p


# By the jaxpr's identity, so that what JAX compiled for the rewritten jaxpr of a `jit` is found
# again. For each declaration of options and each `Which`; None where nothing is rebound: a value
# that held its key would keep it for ever.
_REBOUND: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def rebound(jaxpr: Any, which: Which = every) -> Any:
    """`jaxpr`, closed or not, with such equations in it, however deep, replaced.

    It is the same object where nothing is.
    """
    key = declared.now(), which
    known = _REBOUND.setdefault(jaxpr, {})
    if key not in known:
        body = getattr(jaxpr, "jaxpr", jaxpr)
        eqns = [new for eqn in body.eqns for new in _equations(eqn, which)]
        if len(eqns) == len(body.eqns) and all(map(_is, eqns, body.eqns)):
            known[key] = None
        else:
            new = body.replace(eqns=eqns)
            known[key] = new if body is jaxpr else jaxpr.replace(jaxpr=new)
    found = known[key]
    return jaxpr if found is None else found


def _is(a: Any, b: Any) -> bool:
    return a is b


def _equations(eqn: Any, which: Which) -> Iterator[Any]:
    """What takes the place of one equation."""
    if eqn.primitive in _INSTEAD:
        yield from _replaced(eqn) if which(eqn) else (eqn,)
    elif eqn.primitive.name == "pallas_call":
        yield eqn  # a kernel, compiled by rules that know only lax's primitives
    else:
        params = {n: _parameter(n, value, which) for n, value in eqn.params.items()}
        same = all(params[name] is value for name, value in eqn.params.items())
        yield eqn if same else eqn.replace(params=params)


# ---- one equation --------------------------------------------------------------------------------


def _replaced(eqn: Any) -> Iterator[Any]:
    """The equations of what takes its place, between the operands and the result of lax's."""
    a, b = (atom.aval for atom in eqn.invars)
    with eqn.ctx.manager:
        now = eqn.ctx.cur_abstract_mesh, results_are_named(), declared.now()
        found = _traced(eqn.primitive, a, b, now, **eqn.params)
    names = dict(zip(found.invars, eqn.invars, strict=True))
    names |= dict(zip(found.outvars, eqn.outvars, strict=True))
    for inner in found.eqns:
        for var in inner.outvars:
            names.setdefault(var, jex.Var(var.aval))
        yield inner.replace(
            invars=[names.get(atom, atom) if _is_var(atom) else atom for atom in inner.invars],
            outvars=[names[var] for var in inner.outvars],
            source_info=eqn.source_info,
            ctx=eqn.ctx,
        )


def _is_var(atom: Any) -> bool:
    return not isinstance(atom, jex.Literal)  # which has no hash


@functools.lru_cache(maxsize=1024)
def _traced(primitive: Any, a: Any, b: Any, now: Any, **params: Any) -> Any:
    """The jaxpr of what takes its place, on operands of these types."""
    del now  # part of the cache's key: new types name the mesh, and so on
    return jax.make_jaxpr(functools.partial(_INSTEAD[primitive], **params))(a, b).jaxpr


# ---- what an equation holds ----------------------------------------------------------------------


def _parameter(name: str, value: Any, which: Which) -> Any:
    """A parameter of an equation, the jaxprs and rules in it rebound; itself where none is."""
    if isinstance(value, (jex.Jaxpr, jex.ClosedJaxpr)):
        return rebound(value, which)
    if isinstance(value, (tuple, list)):
        entries = [_parameter("", entry, which) for entry in value]
        if all(map(_is, entries, value)):
            return value
        # a namedtuple takes its fields one by one
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    if name in _RULES:
        if not isinstance(value, linear_util.WrappedFun):
            return value if _has_rebound(value, which) else _RULES[name](value, which)
        if _has_rebound(value.f, which):
            return value
        rule = _RULES[name](value.call_wrapped, which)
        return linear_util.wrap_init(rule, debug_info=value.debug_info)
    if name == "policy" and value is not None and not isinstance(value, _Policy):
        return _Policy(value)
    return value


@dataclasses.dataclass(frozen=True)
class _Rule:
    """A rule for derivatives, as an equation holds it: a Python function, traced when needed."""

    function: Callable[..., Any]
    which: Which


def _has_rebound(rule: Any, which: Which) -> bool:
    return isinstance(rule, _Rule) and rule.which in (every, which)


class _TracedRule(_Rule):
    """``jvp`` and ``fwd``: they give a jaxpr, and more."""

    def __call__(self, *args: Any) -> Any:
        jaxpr, *others = self.function(*args)
        return (rebound(jaxpr, self.which), *others)


class _BackwardRule(_Rule):
    """``bwd``: a function of arrays."""

    def __call__(self, *args: Any) -> Any:
        traced = trace(self.function, args, {})
        return traced.restore(evaluate(traced.jaxpr, traced.operands, self.which))


_RULES: dict[str, type[_TracedRule] | type[_BackwardRule]] = {
    "jvp_jaxpr_fun": _TracedRule,  # custom_jvp
    "fwd_jaxpr_thunk": _TracedRule,  # custom_vjp
    "fun_jaxpr_thunk": _TracedRule,  # its function again, under `optimize_remat`
    "bwd": _BackwardRule,
}


@dataclasses.dataclass(frozen=True)
class _Policy:
    """A checkpointing policy that treats our convolutions as it treats lax's."""

    policy: Callable[..., Any]

    def __call__(self, primitive: Any, *args: Any, **params: Any) -> Any:
        if params.get("name") == NAME:
            return self.policy(lax.conv_general_dilated_p, *args, **params)
        found = self.policy(primitive, *args, **params)
        if primitive is conv_p and found is False:
            return self.policy(lax.conv_general_dilated_p, *args, **params)
        return found


def evaluate(jaxpr: Any, operands: Any, which: Which = every) -> Any:
    """The outputs of a closed jaxpr, such equations replaced."""
    return jex.jaxpr_as_fun(rebound(jaxpr, which))(*operands)
