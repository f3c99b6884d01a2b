"""A jaxpr's equations, one after the other, each with the steps that lead to it.

A site that runs many times (in a ``scan``, on several devices) appears once, with its multiplicity.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.dtypes import float0


class Body(NamedTuple):
    """A jaxpr that an equation runs `times` times, if that is known: `exact`."""

    label: str
    times: int
    jaxpr: Any
    exact: bool = True


class Step(NamedTuple):
    """An equation on the way to others, and the body of it that holds them."""

    eqn: Any
    body: Body


class Site(NamedTuple):
    """An equation, and the equations around it from the outside in."""

    eqn: Any
    path: tuple[Step, ...]

    @property
    def times(self) -> int:
        """How often the equation runs when the program runs once, over all devices together."""
        return math.prod(step.body.times for step in self.path)

    @property
    def exact(self) -> bool:
        """Whether `times` is known; a ``while`` counts as one iteration."""
        return all(step.body.exact for step in self.path)

    @property
    def automatic_axes(self) -> int | None:
        """Inside ``shard_map``: how many axes of the mesh are left to XLA. Elsewhere None."""
        regions = [s.eqn.params for s in self.path if s.eqn.primitive.name == "shard_map"]
        if not regions:
            return None
        manual = {axis for region in regions for axis in region["newly_manual_axes"]}
        sizes = regions[-1]["mesh"].shape
        return sum(size > 1 and axis not in manual for axis, size in sizes.items())

    @property
    def where(self) -> str:
        """Labels and name scopes on the way, from the outside in."""
        labels = [label for step in self.path for label in (_scopes(step.eqn), step.body.label)]
        return "/".join(filter(None, [*labels, _scopes(self.eqn)]))


def _scopes(eqn: Any) -> str:
    return str(eqn.source_info.name_stack)


def _scan(eqn: Any) -> Iterator[Body]:
    length = eqn.params["length"]
    yield Body(f"scan x{length}", length, eqn.params["jaxpr"])


def _while(eqn: Any) -> Iterator[Body]:
    yield Body("while", 1, eqn.params["cond_jaxpr"], exact=False)
    yield Body("while", 1, eqn.params["body_jaxpr"], exact=False)


def _shard_map(eqn: Any) -> Iterator[Body]:
    mesh = eqn.params["mesh"]
    devices = math.prod(mesh.shape[axis] for axis in eqn.params["newly_manual_axes"])
    yield Body(f"shard_map x{devices}", devices, eqn.params["jaxpr"])


def _linear_solve(eqn: Any) -> Iterator[Body]:
    # The other jaxprs that it holds are for its derivatives.
    yield Body("custom_linear_solve", 1, eqn.params["jaxprs"].solve)


def _pallas_call(eqn: Any) -> Iterator[Body]:
    grid = eqn.params["grid_mapping"].grid
    known = [extent for extent in grid if isinstance(extent, int)]
    steps = math.prod(known)
    yield Body(f"pallas_call x{steps}", steps, eqn.params["jaxpr"], len(known) == len(grid))


def _generic(eqn: Any) -> Iterator[Body]:
    """`jit`, `checkpoint`, `custom_jvp`, `custom_vjp` and the like: every jaxpr they hold, once."""
    name = eqn.params.get("name")
    label = f"{eqn.primitive.name}({name})" if isinstance(name, str) else eqn.primitive.name
    for jaxpr in jex.jaxprs_in_params(eqn.params):
        yield Body(label, 1, jaxpr)


_BODIES: dict[str, Callable[[Any], Iterator[Body]]] = {
    "scan": _scan,
    "while": _while,
    "shard_map": _shard_map,
    "custom_linear_solve": _linear_solve,
    "pallas_call": _pallas_call,
}


def walk(
    jaxpr: Any,
    branches: Callable[[Sequence[Any]], Sequence[int]] = lambda jaxprs: range(len(jaxprs)),
    path: tuple[Step, ...] = (),
) -> Iterator[Site]:
    """Every equation of `jaxpr`, and of the jaxprs that its equations run.

    Args:
        jaxpr: a jaxpr, closed or not.
        branches: which of the branches of a ``cond`` to enter; all of them by default.
        path: the steps that lead to `jaxpr`.
    """
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield Site(eqn, path)
        if eqn.primitive.name == "cond":
            choices = eqn.params["branches"]
            bodies = iter([Body(f"cond[{i}]", 1, choices[i]) for i in branches(choices)])
        else:
            bodies = _BODIES.get(eqn.primitive.name, _generic)(eqn)
        for body in bodies:
            yield from walk(body.jaxpr, branches, (*path, Step(eqn, body)))


class Traced(NamedTuple):
    """A traced call: its jaxpr, the jaxpr's operands, and what makes the result of its outputs."""

    jaxpr: Any
    operands: list[Any]
    restore: Callable[[Sequence[Any]], Any]


def trace(fn: Callable[..., Any], args: Any, kwargs: Any) -> Traced:
    """``fn(*args, **kwargs)`` traced; arguments and results that are not arrays stay as is."""
    leaves, tree = jax.tree.flatten((args, kwargs))
    traced = [number for number, leaf in enumerate(leaves) if is_array(leaf)]
    found: list[Any] = []

    def call(*arrays: Any) -> Any:
        filled = list(leaves)
        for number, array in zip(traced, arrays, strict=True):
            filled[number] = array
        found_args, found_kwargs = jax.tree.unflatten(tree, filled)
        results, result_tree = jax.tree.flatten(fn(*found_args, **found_kwargs))
        outputs = [leaf for leaf in results if is_array(leaf)]
        # no tracer may outlive the trace: only the leaves that are not arrays are kept
        found[:] = result_tree, [None if is_array(leaf) else (leaf,) for leaf in results]
        return outputs

    operands = [leaves[number] for number in traced]
    jaxpr = jax.make_jaxpr(call)(*operands)
    result_tree, kept = found

    def restore(outputs: Sequence[Any]) -> Any:
        arrays = iter(outputs)
        results = [next(arrays) if held is None else held[0] for held in kept]
        return jax.tree.unflatten(result_tree, results)

    return Traced(jaxpr, operands, restore)


def is_array(leaf: Any) -> bool:
    """Whether `leaf` is an array or stands for one; numpy's scalars are static, as ints are.

    So are the zeros that JAX hands to rules of derivatives: symbolic ones, and those of integers.
    """
    if isinstance(leaf, (np.generic, SymbolicZero)):
        return False
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and leaf.dtype != float0
