"""Parameters and multiply-accumulates of a network, by the conventions in which they are printed.

They are counted from shapes: ``flax.nnx.eval_shape`` builds the network without its weights, and
`convjax.cost_of` counts the multiply-accumulates of its forward pass.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from convjax._core import checks
from convjax._core.public import public_with
from convjax._programs.explain import CostTable, cost_of


def _module(function: str, argument: str, value: Any) -> None:
    if not isinstance(value, nnx.Module):
        hint = "Make it by `nnx.eval_shape`, or as it is."
        checks.fail_type(function, argument, type(value).__name__, "must be an NNX module", hint)


@dataclasses.dataclass(frozen=True)
class Convention:
    """Which of the fields of `Counts` are added up as parameters, and which as MACs."""

    parameters: tuple[str, ...]
    macs: tuple[str, ...]
    summary: str


_TRAINABLE = ("weights", "biases", "norms")
_ALL = ("conv_macs", "dense_macs")

#: What a source counts as a parameter and as a multiply-accumulate, by the name of the source.
CONVENTIONS = {
    "convjax": Convention(_TRAINABLE, _ALL, "all that is trained; convolutions and dense layers"),
    "torchvision": Convention(_TRAINABLE, _ALL, "the same"),
    "mobilenet": Convention(_TRAINABLE, _ALL, "the same"),
    "deep_roots": Convention(
        ("weights", "biases"),
        (*_ALL, "biases"),
        "no batch normalisation; MACs and each bias once",
    ),
    "shufflenet": Convention(
        _TRAINABLE, ("conv_macs",), "all that is trained; convolutions without dense layers"
    ),
    "keras": Convention(
        (*_TRAINABLE, "statistics"), _ALL, "moving statistics too; convolutions and dense layers"
    ),
    "weights": Convention(("weights",), _ALL, "kernels only; convolutions and dense layers"),
}


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a network has and does, for one input.

    Attributes:
        weights: elements of kernels, of convolutions and dense layers.
        biases: elements of their biases.
        norms: scales and biases of batch normalisation.
        statistics: its moving means and variances, which are not trained.
        conv_macs, dense_macs: multiply-accumulates, those on padding included, biases not.
    """

    weights: int
    biases: int
    norms: int
    statistics: int
    conv_macs: int
    dense_macs: int

    def parameters(self, convention: str = "convjax") -> int:
        """The parameters that a convention counts."""
        return self._total(_convention("parameters", convention).parameters)

    def macs(self, convention: str = "convjax") -> int:
        """The multiply-accumulates that a convention counts."""
        return self._total(_convention("macs", convention).macs)

    def _total(self, fields: Sequence[str]) -> int:
        return sum(getattr(self, field) for field in fields)


def _convention(function: str, name: str) -> Convention:
    return CONVENTIONS[checks.choice(function, "convention", name, tuple(CONVENTIONS))]


@public_with(model=_module, shape=checks.size)
def counts_of(model: nnx.Module, shape: Sequence[int]) -> Counts:
    """The parameters of `model`, and the multiply-accumulates of its forward pass on this shape.

    Args:
        model: a network. It needs no weights: ``nnx.eval_shape(lambda: ...)`` makes one without.
        shape: of the input, (N, *space, C).

    Returns:
        `Counts`, whose ``parameters(convention)`` and ``macs(convention)`` add them up.

    Example:
        >>> from flax import nnx
        >>> from convjax.models import NetworkInNetwork, counts_of
        >>> model = nnx.eval_shape(lambda: NetworkInNetwork(rngs=nnx.Rngs(0)))
        >>> counts = counts_of(model, (1, 32, 32, 3))
        >>> counts.parameters(), counts.macs(), counts.macs("deep_roots")
        (966986, 222486528, 222487946)
    """
    sizes = dict.fromkeys(("weights", "biases", "norms", "statistics"), 0)
    for layer in parameters_of(model).values():
        for field, size in layer.items():
            sizes[field] += size
    rows = macs_of(model, shape).rows
    dense = sum(row.macs for row in rows if row.name == "dot_general")
    return Counts(**sizes, conv_macs=sum(row.macs for row in rows) - dense, dense_macs=dense)


@public_with(model=_module, shape=checks.size)
def macs_of(model: nnx.Module, shape: Sequence[int]) -> CostTable:
    """The multiply-accumulates of every convolution and dense layer, counted by `convjax.cost_of`.

    Args:
        model: a network, with or without weights.
        shape: of the input, (N, *space, C).

    Example:
        >>> from flax import nnx
        >>> from convjax.models import AlexNet, macs_of
        >>> model = nnx.eval_shape(lambda: AlexNet(groups=2, rngs=nnx.Rngs(0)))
        >>> [row.macs for row in macs_of(model, (1, 227, 227, 3)).rows][:2]
        [105415200, 223948800]
    """
    graph, state = nnx.split(model)

    def forward(state: nnx.State, x: jax.Array) -> jax.Array:
        network: Any = nnx.merge(graph, state)
        network.eval()
        return network(x)

    return cost_of(forward, state, jax.ShapeDtypeStruct(tuple(shape), jnp.float32))


@public_with(model=_module, shape=checks.size)
def parameters_of(model: nnx.Module) -> dict[str, dict[str, int]]:
    """How many weights, biases, norms and statistics each layer of `model` has, by its path.

    Args:
        model: a network, with or without weights.

    Example:
        >>> from flax import nnx
        >>> from convjax.models import NetworkInNetwork, parameters_of
        >>> model = nnx.eval_shape(lambda: NetworkInNetwork(rngs=nnx.Rngs(0)))
        >>> parameters_of(model)["layers/0"]
        {'biases': 192, 'weights': 14400}
    """
    norms = {path for path, module in nnx.iter_modules(model) if isinstance(module, nnx.BatchNorm)}
    layers: dict[str, dict[str, int]] = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))):
        shape = variable.get_value().shape
        if isinstance(variable, nnx.BatchStat):
            field = "statistics"
        elif path[:-1] in norms:
            field = "norms"
        else:  # a kernel has an axis for what it reads and one for what it makes
            field = "weights" if len(shape) > 1 else "biases"
        layer = layers.setdefault("/".join(map(str, path[:-1])), {})
        layer[field] = layer.get(field, 0) + math.prod(shape)
    return layers
