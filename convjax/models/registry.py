"""The table of networks: names, constructors, and the inputs that they take."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from convjax.models.alexnet import AlexNet
from convjax.models.autoencoder import AutoEncoder
from convjax.models.context import ContextModule
from convjax.models.counts import Counts, counts_of
from convjax.models.flattened import FlattenedNetwork
from convjax.models.googlenet import GoogLeNet
from convjax.models.mobilenet import MobileNetV1
from convjax.models.nin import NetworkInNetwork
from convjax.models.resnet import ResNet
from convjax.models.resnext import ResNeXt
from convjax.models.segmentation import AtrousHead
from convjax.models.shufflenet import ShuffleNetV1
from convjax.models.volume import UNet3D
from convjax.models.words import check_key, is_readable, options_of
from convjax.models.xception import Xception

_COUNTS_DO_NOT_CHANGE_WITH = {"dropout"}


@dataclasses.dataclass(frozen=True)
class Network:
    """One row of the table.

    Attributes:
        name: the name on command lines.
        constructor: a class of this package.
        resolution: extent of the input's spatial axes, unless another is asked for.
        channels: of the input: a number, or the name of the constructor's argument that says it.
        rank: number of spatial axes.
    """

    name: str
    constructor: Callable[..., nnx.Module]
    resolution: int
    channels: int | str = 3
    rank: int = 2

    @property
    def arguments(self) -> dict[str, inspect.Parameter]:
        """Those of the constructor that a command line can give."""
        parameters = inspect.signature(vars(self.constructor)["__init__"]).parameters
        return {
            name: parameter
            for name, parameter in parameters.items()
            if is_readable(parameter) and name not in _COUNTS_DO_NOT_CHANGE_WITH
        }

    @property
    def keys(self) -> tuple[str, ...]:
        """What can be asked for: arguments of the constructor, and the resolution."""
        return tuple(dict.fromkeys((*self.arguments, "resolution")))

    def read(self, words: Sequence[str]) -> dict[str, Any]:
        """Options from words such as ``groups=3``.

        Raises:
            ValueError: a word that is not ``key=value``, an unknown key, an unreadable value.
        """
        return options_of(self.name, self.arguments, self.keys, words)

    def shape(self, options: Mapping[str, Any]) -> tuple[int, ...]:
        """The shape of one input, (1, *space, C)."""
        channels = self.channels
        if isinstance(channels, str):
            channels = options.get(channels, self.arguments[channels].default)
        return (1, *(options.get("resolution", self.resolution),) * self.rank, int(channels))

    def abstract(self, **options: Any) -> nnx.Module:
        """The network without weights: shapes in their place."""
        for key in options:
            check_key(self.name, self.keys, key)
        own = {key: value for key, value in options.items() if key in self.arguments}

        def build() -> nnx.Module:
            rngs = nnx.Rngs()
            setattr(rngs, "default", _SameKey(0, tag="default"))  # noqa: B010
            return self.constructor(**own, rngs=rngs)

        return nnx.eval_shape(build)

    def counts(self, **options: Any) -> Counts:
        """Parameters and MACs of the network with these options.

        Example:
            >>> from convjax.models import NETWORKS
            >>> NETWORKS["shufflenet_v1"].counts(groups=3, width=0.5).parameters()
            718324
        """
        return counts_of(self.abstract(**options), self.shape(options))


class _SameKey(nnx.RngStream):
    """A stream that gives one key only: shapes depend on none, and to count up takes long."""

    def __call__(self) -> jax.Array:
        return self.key[...]


_ROWS = (
    Network("nin", NetworkInNetwork, 32, "in_features"),
    Network("alexnet", AlexNet, 227),
    Network("googlenet", GoogLeNet, 224),
    Network("resnet50", ResNet, 224),
    Network("resnext50", ResNeXt, 224),
    Network("mobilenet_v1", MobileNetV1, 224),
    Network("xception", Xception, 299),
    Network("shufflenet_v1", ShuffleNetV1, 224),
    Network("context", ContextModule, 64, "channels"),
    Network("atrous_head", AtrousHead, 41, "in_features"),
    Network("flattened", FlattenedNetwork, 32),
    Network("unet3d", UNet3D, 64, "in_features", rank=3),
    Network("autoencoder", AutoEncoder, 64, "in_features"),
)
#: Every network by its name.
NETWORKS: dict[str, Network] = {network.name: network for network in _ROWS}
