"""JAX's registries of primitives that are entered when their users ask for them.

A part of JAX that reads programs keeps a table of rules, one for each primitive. `Primitive` here
enters itself in each such table as soon as the module that owns it has been imported: importing
this library imports none of them.

Two tables of lax's convolution have no rule here: jax offers no public way to them.

- ``jax.remat`` under the flag ``jax_remat3`` (jax 0.12) asks no policy about other primitives than
  its own. There `saveable` gives the result a name, which it does ask about.
- A Pallas kernel that is compiled for a TPU cannot convolve with this library.
"""

import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core

from convjax._lowerings import direct
from convjax._lowerings.problem import problem_of
from convjax._operation.counting import count_macs

NAME = "convjax_conv"


Rule = Callable[[Any, Any], None]  # enters a primitive in the table of a module


class Primitive(core.Primitive):
    """A primitive that stands in every registry whose module has been imported.

    `rules` maps modules' names to what enters it there; those of a convolution unless given.
    """

    def __init__(self, name: str, rules: Mapping[str, Rule] | None = None) -> None:
        super().__init__(name)
        self.waiting = dict(_RULES if rules is None else rules)

    def bind(self, *args: Any, **params: Any) -> Any:
        for module in list(self.waiting):
            enter = self.waiting.pop(module, None) if module in sys.modules else None
            if enter is not None:  # None where another thread has taken it
                enter(self, sys.modules[module])
        return super().bind(*args, **params)


# ---- one rule per registry -----------------------------------------------------------------------


def _jet(primitive: Any, module: Any) -> None:
    """Taylor series: ``out_k = sum_j x_j * kernel_{k-j}``, a Cauchy product."""

    def rule(primals: Any, series: Any, **params: Any) -> tuple[jax.Array, list[jax.Array]]:
        x, kernel = ([p, *s] for p, s in zip(primals, series, strict=True))
        first, *rest = (
            sum(primitive.bind(x[j], kernel[order - j], **params) for j in range(order + 1))
            for order in range(len(x))
        )
        return first, rest

    module.jet_rules[primitive] = rule


def _roofline(primitive: Any, module: Any) -> None:
    """Operations on real input elements, two per multiply-accumulate, and the operands' bytes."""

    @module.register_roofline(primitive)
    def rule(ctx: Any, *_: Any, layout: Any, geometry: Any, role: str, **__: Any) -> Any:
        x, kernel = ctx.avals_in
        problem = problem_of(x, kernel, layout, geometry, role)
        macs = count_macs(
            problem.n * problem.groups * problem.i * problem.o,
            problem.space,
            problem.window,
            problem.out_space,
            geometry,
        )[1]
        return module.RooflineResult(
            unfused_flops=2 * macs,
            unfused_hbm_bytes=sum(
                a.dtype.itemsize * math.prod(a.shape) for a in (x, kernel, *ctx.avals_out)
            ),
        )


def _sparse(primitive: Any, module: Any) -> None:
    """What ``sparsify`` makes of lax's convolution, and of the reshapes around it."""

    def rule(env: Any, *values: Any, layout: Any, geometry: Any, **params: Any) -> Any:
        convolution = functools.partial(
            direct.convolution,
            layout=layout,
            geometry=geometry,
            **{key: params[key] for key in ("precision", "preferred_element_type", "out_sharding")},
        )
        arrays = module.spvalues_to_arrays(env, values)
        return module.arrays_to_spvalues(env, [module.sparsify(convolution)(*arrays)])

    module.sparse_rules_bcoo[primitive] = rule


def _checkify(primitive: Any, module: Any) -> None:
    """The check for NaN of lax's convolution: it reads nothing but the primitive's result.

    Its table has no public name. It is read off the public function, and where it is not found
    nothing is entered.
    """
    table = getattr(inspect.unwrap(module.checkify), "__globals__", {}).get("error_checks", {})
    rule = table.get(lax.conv_general_dilated_p)
    if isinstance(rule, functools.partial) and rule.args == (lax.conv_general_dilated_p,):
        table[primitive] = functools.partial(rule.func, primitive)


_RULES: dict[str, Rule] = {
    "jax.experimental.checkify": _checkify,
    "jax.experimental.jet": _jet,
    "jax.experimental.roofline": _roofline,
    "jax.experimental.sparse.transform": _sparse,
}


def linear_rules(whole: Callable[..., jax.Array]) -> dict[str, Rule]:
    """The rules of a linear operation on one array, which `whole` computes on one device."""

    def sparse(primitive: Any, module: Any) -> None:
        def rule(env: Any, *values: Any, out_sharding: Any, **params: Any) -> Any:
            arrays = module.spvalues_to_arrays(env, values)
            function = module.sparsify(functools.partial(whole, **params))
            return module.arrays_to_spvalues(env, [function(*arrays)])

        module.sparse_rules_bcoo[primitive] = rule

    def roofline(primitive: Any, module: Any) -> None:
        @module.register_roofline(primitive)
        def rule(ctx: Any, *_: Any, **__: Any) -> Any:
            moved = sum(
                a.dtype.itemsize * math.prod(a.shape) for a in (*ctx.avals_in, *ctx.avals_out)
            )
            return module.RooflineResult(unfused_hbm_bytes=moved)

    return {
        "jax.experimental.jet": lambda primitive, module: module.deflinear(primitive),
        "jax.experimental.roofline": roofline,
        "jax.experimental.sparse.transform": sparse,
    }


# ---- checkpointing -------------------------------------------------------------------------------


def results_are_named() -> bool:
    """Whether rematerialisation asks policies about names, and not about our primitive."""
    return bool(getattr(jax.config, "jax_remat3", False))


def saveable(result: jax.Array) -> jax.Array:
    """`result` of a convolution, as a policy can save it."""
    return checkpoint_name(result, NAME) if results_are_named() else result
