"""Published counts, with the convention of each. What computes the counts does not read them."""

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A published number: its value, and the unit of its last digit."""

    value: int
    unit: int

    @classmethod
    def read(cls, text: str) -> "Figure":
        """From text such as "966,986", "569 M" or "4.09 G".

        Example:
            >>> Figure.read("4.09 G")
            Figure(value=4090000000, unit=10000000)
        """
        number, _, unit = text.replace(",", "").partition(" ")
        decimals = len(number.partition(".")[2])
        scale = _UNITS[unit]
        return cls(int(Decimal(number) * scale), scale // 10**decimals)

    def difference(self, value: int) -> int:
        """`value`, rounded as the published number is, minus the published number.

        Example:
            >>> Figure.read("569 M").difference(568_740_352)
            0
        """
        return (2 * value + self.unit) // (2 * self.unit) * self.unit - self.value


@dataclasses.dataclass(frozen=True)
class Published:
    """One published configuration: its counts, as text, "" where none is printed.

    `verified` is False where the number was not read in its source for this library.
    """

    name: str
    options: Mapping[str, Any]
    parameters: str
    macs: str
    convention: str
    source: str
    verified: bool = True


def _row(
    name: str,
    parameters: str,
    macs: str,
    convention: str,
    source: str,
    *,
    verified: bool = True,
    **options: Any,
) -> Published:
    return Published(name, options, parameters, macs, convention, source, verified)


_ROOTS = "Deep Roots, tables and CSV files"
_IMGCLSMOB = "imgclsmob"
_TORCHVISION = "torchvision"
_CAFFE_RESNET: dict[str, Any] = {"stride_in_3x3": False, "stem_bias": True}
_TOWER: dict[str, Any] = {
    "groups": 1,
    "features": (64, 192, 384, 256, 256),
    "padding": 2,
    "resolution": 224,
    "response_norm": False,
}

#: The counts that papers and other programs state, with the configuration that has them.
PUBLISHED = (
    _row("nin", "966,986", "222,487,946", "deep_roots", _ROOTS),
    _row("nin", "736,586", "163,505,546", "deep_roots", _ROOTS, groups2a=2, groups3a=1),
    _row("nin", "455,498", "123,397,514", "deep_roots", _ROOTS, groups2a=4, groups3a=2),
    _row("nin", "314,954", "103,343,498", "deep_roots", _ROOTS, groups2a=8, groups3a=4),
    _row("nin", "244,682", "93,316,490", "deep_roots", _ROOTS, groups2a=16, groups3a=8),
    _row("nin", "984,356", "", "convjax", _IMGCLSMOB, classes=100),
    _row("alexnet", "62,378,344", "1,135,266,664", "deep_roots", _ROOTS, groups=1),
    _row("alexnet", "60,965,224", "724,417,384", "deep_roots", _ROOTS, groups=2),
    _row("alexnet", "61,100,840", "0.714 G", "torchvision", _TORCHVISION, **_TOWER),
    _row("googlenet", "", "", "convjax", ""),
    _row("googlenet", "", "", "convjax", "", reductions=False),
    _row(
        "googlenet",
        "6,624,904",
        "1.498 G",
        "torchvision",
        _TORCHVISION,
        batch_norm=True,
        large=3,
    ),
    _row("resnet50", "25,557,032", "4.09 G", "torchvision", _TORCHVISION),
    _row("resnet50", "25,503,976", "3,857,974,312", "deep_roots", _ROOTS, **_CAFFE_RESNET),
    *(
        _row("resnet50", parameters, "", "deep_roots", _ROOTS, groups=groups, **_CAFFE_RESNET)
        for groups, parameters in (
            ((2, 1, 1, 1), "25,448,680"),
            ((4, 2, 1, 1), "25,126,120"),
            ((8, 4, 2, 1), "23,195,368"),
            ((16, 8, 4, 2), "18,691,048"),
            ((32, 16, 8, 4), "16,438,888"),
            ((64, 32, 16, 8), "15,312,808"),
        )
    ),
    _row("resnext50", "25,028,904", "4.23 G", "torchvision", _TORCHVISION),
    _row("mobilenet_v1", "4,231,976", "569 M", "mobilenet", "imgclsmob; slim"),
    _row("mobilenet_v1", "1,331,592", "149 M", "mobilenet", "imgclsmob; slim", width=0.5),
    _row(
        "mobilenet_v1",
        "29.3 M",
        "4866 M",
        "shufflenet",
        "MobileNets, table 4",
        verified=False,
        full_conv=True,
    ),
    _row("mobilenet_v1", "4,253,864", "", "keras", "Keras"),
    _row("xception", "22,855,952", "", "convjax", "imgclsmob; Keras, trainable"),
    _row("xception", "22,910,480", "", "keras", "Keras"),
    _row("shufflenet_v1", "1,531,936", "143 M", "shufflenet", "imgclsmob; table 1", groups=1),
    _row("shufflenet_v1", "", "140 M", "shufflenet", "ShuffleNet, table 1", groups=2),
    _row("shufflenet_v1", "1,865,728", "137 M", "shufflenet", "imgclsmob; table 1", groups=3),
    _row("shufflenet_v1", "", "133 M", "shufflenet", "ShuffleNet, table 1", groups=4),
    _row("shufflenet_v1", "", "137 M", "shufflenet", "ShuffleNet, table 1", groups=8),
    _row("shufflenet_v1", "718,324", "", "convjax", _IMGCLSMOB, groups=3, width=0.5),
    _row("context", "28,224", "", "weights", "Yu & Koltun: 64 C^2"),
    _row("context", "", "", "weights", "", large=True),
    _row("atrous_head", "", "", "convjax", ""),
    _row("flattened", "", "", "convjax", ""),
    _row("flattened", "", "", "convjax", "", full_conv=True),
    _row("unet3d", "19,069,955", "", "deep_roots", "3D U-Net, section 2", verified=False),
    _row("autoencoder", "", "", "convjax", ""),
)
