"""Small networks in PyTorch, written from their papers: what people bring to port.

Import it only where PyTorch is (``pytest.importorskip("torch")``).
"""

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """HiFi-GAN's residual block: dilated convolutions, each under weight norm."""

    def __init__(self, norm, channels, kernel_size, dilations):
        super().__init__()
        self.convs = nn.ModuleList(
            norm(
                nn.Conv1d(
                    channels,
                    channels,
                    kernel_size,
                    dilation=d,
                    padding=(kernel_size - 1) * d // 2,
                )
            )
            for d in dilations
        )

    def forward(self, x):
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, 0.1))
        return x


class HiFiGAN(nn.Module):
    """The generator of HiFi-GAN V3, narrow: Kong, Kim & Bae 2020, https://arxiv.org/abs/2010.05646."""

    def __init__(self, norm):
        super().__init__()
        self.conv_pre = norm(nn.Conv1d(5, 16, 7, padding=3))
        self.ups = nn.ModuleList(
            [
                norm(nn.ConvTranspose1d(16, 8, 16, stride=8, padding=4)),
                norm(nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1)),
            ]
        )
        self.resblocks = nn.ModuleList([Residual(norm, 8, 3, (1, 3)), Residual(norm, 4, 5, (2, 6))])
        self.conv_post = norm(nn.Conv1d(4, 1, 7, padding=3))

    def forward(self, x):
        x = self.conv_pre(x)
        for up, block in zip(self.ups, self.resblocks, strict=True):
            x = block(up(F.leaky_relu(x, 0.1)))
        return torch.tanh(self.conv_post(F.leaky_relu(x)))


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(2, inputs), nn.GroupNorm(2, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding="same")
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        y = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class Downsample(nn.Module):
    """Stride 2 with the padding on one side, by a function."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class DiffusionUNet(nn.Module):
    """Two levels of the U-Net of Ho, Jain & Abbeel 2020, https://arxiv.org/abs/2006.11239."""

    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(3, 4, 3, padding=1)
        self.down1, self.down2 = Block(4, 6), Block(6, 8)
        self.downsample = Downsample(6)
        self.also_down = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(8, 8, 3, stride=2))
        self.upsample = Upsample(8)
        self.up = Block(8 + 6, 6)
        self.conv_out = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x):
        skip = self.down1(self.conv_in(x))
        x = self.down2(self.downsample(skip))
        x = self.upsample(self.upsample(self.also_down(x)))
        return self.conv_out(self.up(torch.cat([x, skip], 1)))


class NNUNet(nn.Module):
    """Isensee et al. 2021, https://arxiv.org/abs/1809.10486: strided 3-D, flat kernels at first."""

    def __init__(self):
        super().__init__()

        def unit(inputs, outputs, kernel, stride):
            pad = tuple(k // 2 for k in kernel)
            conv = nn.Conv3d(inputs, outputs, kernel, stride, pad)
            return nn.Sequential(conv, nn.InstanceNorm3d(outputs, affine=True), nn.LeakyReLU(0.01))

        self.encoder = nn.ModuleList(
            [
                nn.Sequential(unit(1, 4, (1, 3, 3), 1), unit(4, 4, (1, 3, 3), 1)),
                nn.Sequential(unit(4, 8, (3, 3, 3), (1, 2, 2)), unit(8, 8, (3, 3, 3), 1)),
            ]
        )
        self.transpconv = nn.ConvTranspose3d(8, 4, (1, 2, 2), (1, 2, 2), bias=False)
        self.decoder = unit(8, 4, (3, 3, 3), 1)
        self.seg = nn.Conv3d(4, 3, 1)

    def forward(self, x):
        skip = self.encoder[0](x)
        x = self.transpconv(self.encoder[1](skip))
        return self.seg(self.decoder(torch.cat([x, skip], 1)))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expand):
        super().__init__()
        hidden = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Sandler et al. 2018, https://arxiv.org/abs/1801.04381."""

    def __init__(self):
        super().__init__()
        stem = [nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6()]
        blocks = [InvertedResidual(4, 4, 1, 2), InvertedResidual(4, 6, 2, 3)]
        self.features = nn.Sequential(*stem, *blocks)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(6, 5))

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.pwconv1, self.pwconv2 = (
            nn.Linear(channels, 4 * channels),
            nn.Linear(4 * channels, channels),
        )

    def forward(self, x):
        y = self.norm(self.dwconv(x).movedim(1, -1))
        return x + self.pwconv2(F.gelu(self.pwconv1(y))).movedim(-1, 1)


class ConvNeXt(nn.Module):
    """Liu et al. 2022, https://arxiv.org/abs/2201.03545: patches, and depthwise 7 x 7."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, stride=4)
        self.blocks = nn.Sequential(ConvNeXtBlock(4), ConvNeXtBlock(4))
        self.down = nn.Conv2d(4, 8, 2, stride=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.down(self.blocks(self.stem(x))).mean([2, 3]))


def networks():
    """Name to (model, an input); the model in evaluation, its weights not those of the start."""
    torch.manual_seed(0)
    old, new = nn.utils.weight_norm, nn.utils.parametrizations.weight_norm
    spectral = nn.utils.parametrizations.spectral_norm
    found = {
        "HiFi-GAN, weight norm": (HiFiGAN(new), torch.randn(2, 5, 6)),
        "HiFi-GAN, old weight norm": (HiFiGAN(old), torch.randn(2, 5, 6)),
        "HiFi-GAN, spectral norm": (HiFiGAN(spectral), torch.randn(2, 5, 6)),
        "diffusion U-Net": (DiffusionUNet(), torch.randn(2, 3, 16, 8)),
        "nnU-Net": (NNUNet(), torch.randn(1, 1, 3, 8, 6)),
        "MobileNetV2": (MobileNetV2(), torch.randn(2, 3, 17, 16)),
        "ConvNeXt": (ConvNeXt(), torch.randn(2, 3, 16, 24)),
    }
    with torch.no_grad():
        for model, _ in found.values():
            for parameter in model.parameters():
                parameter.mul_(1.25).add_(0.02)
            model.eval()
    return found


def recorded(model, x):
    """By name: what went into each module of `model`, and what came out."""
    seen = {}

    def hook(name):
        def note(module, inputs, output):
            seen.setdefault(name, []).append((inputs[0], output))

        return note

    modules = [(name, m) for name, m in model.named_modules() if "parametrizations" not in name]
    handles = [module.register_forward_hook(hook(name)) for name, module in modules]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen
