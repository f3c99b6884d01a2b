"""The article's networks, as Flax NNX modules made of the modules of `convjax.nn`.

``python -m convjax.models`` prints their parameters and multiply-accumulates next to the published
counts. ``python -m convjax.models NAME key=value ...`` prints the counts of any configuration.
"""

import convjax.nn  # noqa: F401  says so where Flax is missing
from convjax._core.public import public_class
from convjax.models.alexnet import AlexNet
from convjax.models.autoencoder import AutoEncoder
from convjax.models.context import ContextModule, identity_init
from convjax.models.counts import CONVENTIONS, Counts, counts_of, macs_of, parameters_of
from convjax.models.flattened import FlattenedLayer, FlattenedNetwork
from convjax.models.googlenet import GoogLeNet, Inception
from convjax.models.mobilenet import MobileNetV1
from convjax.models.nin import NetworkInNetwork
from convjax.models.published import PUBLISHED
from convjax.models.registry import NETWORKS, Network
from convjax.models.resnet import Bottleneck, ResNet
from convjax.models.resnext import PathsBottleneck, ResNeXt, tie
from convjax.models.segmentation import AtrousHead
from convjax.models.shufflenet import ShuffleNetV1, ShuffleUnit
from convjax.models.volume import UNet3D
from convjax.models.xception import Xception, XceptionBlock

__all__ = [
    "CONVENTIONS",
    "NETWORKS",
    "PUBLISHED",
    "AlexNet",
    "AtrousHead",
    "AutoEncoder",
    "Bottleneck",
    "ContextModule",
    "Counts",
    "FlattenedLayer",
    "FlattenedNetwork",
    "GoogLeNet",
    "Inception",
    "MobileNetV1",
    "Network",
    "NetworkInNetwork",
    "PathsBottleneck",
    "ResNeXt",
    "ResNet",
    "ShuffleNetV1",
    "ShuffleUnit",
    "UNet3D",
    "Xception",
    "XceptionBlock",
    "counts_of",
    "identity_init",
    "macs_of",
    "parameters_of",
    "tie",
]

for _name in __all__:
    if isinstance(_found := globals()[_name], type):
        public_class(_found)
