"""Whole models of other people, as functions of their parameters, and the same in PyTorch."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

CLASSES = 100


@dataclasses.dataclass(frozen=True)
class Model:
    """`apply(params, x, training)` gives the logits (N, CLASSES)."""

    params: Any
    apply: Callable[[Any, jax.Array, bool], jax.Array]


def _keras(name: str) -> Callable[[jax.Array], Model]:
    """An application of Keras, with new weights."""

    def build(x: jax.Array) -> Model:
        import keras

        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(
            weights=None, input_shape=x.shape[1:], classes=CLASSES, classifier_activation=None
        )
        rest = [variable.value for variable in model.non_trainable_variables]

        def apply(params: Any, x: jax.Array, training: bool) -> jax.Array:
            return model.stateless_call(params, rest, x, training=training)[0]

        return Model([variable.value for variable in model.trainable_variables], apply)

    return build


def _resnext(x: jax.Array) -> Model:
    """ResNeXt-50 (32 groups of 4 channels; Xie et al. 2017), written in Flax linen."""
    from flax import linen as nn

    class Block(nn.Module):
        width: int
        strides: int

        @nn.compact
        def __call__(self, x: jax.Array, training: bool) -> jax.Array:
            def norm(y: jax.Array) -> jax.Array:
                return nn.BatchNorm(use_running_average=not training)(y)

            strides = (self.strides, self.strides)
            y = nn.relu(norm(nn.Conv(self.width, (1, 1), use_bias=False)(x)))
            grouped: Any = nn.Conv(
                self.width, (3, 3), strides, padding=1, feature_group_count=32, use_bias=False
            )
            y = nn.relu(norm(grouped(y)))
            y = norm(nn.Conv(2 * self.width, (1, 1), use_bias=False)(y))
            if x.shape != y.shape:
                x = norm(nn.Conv(2 * self.width, (1, 1), strides, use_bias=False)(x))
            return nn.relu(x + y)

    class ResNeXt(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, training: bool) -> jax.Array:
            x = nn.Conv(64, (7, 7), (2, 2), padding=3, use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not training)(x))
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
            for stage, blocks in enumerate((3, 4, 6, 3)):
                for block in range(blocks):
                    x = Block(128 << stage, 2 if stage and not block else 1)(x, training)
            return nn.Dense(CLASSES)(x.mean((1, 2)))

    model: Any = ResNeXt()
    variables = model.init(jax.random.key(0), x, False)

    def apply(params: Any, x: jax.Array, training: bool) -> jax.Array:
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        if not training:
            return model.apply(state, x, False)
        return model.apply(state, x, True, mutable=["batch_stats"])[0]

    return Model(variables["params"], apply)


WIDTH, DEPTH, PATCH, WINDOW = 256, 8, 7, 9  # ConvMixer-256/8, kernel 9, patches of 7


def _convmixer(x: jax.Array) -> Model:
    """ConvMixer-256/8 (Trockman and Kolter 2022) in Equinox, with layer norms for batch norms."""
    import equinox as eqx

    keys = iter(jax.random.split(jax.random.key(0), 2 * DEPTH + 2))
    stem = eqx.nn.Conv2d(3, WIDTH, PATCH, PATCH, key=next(keys))
    mixers = [
        (
            eqx.nn.Conv2d(WIDTH, WIDTH, WINDOW, groups=WIDTH, padding="SAME", key=next(keys)),
            eqx.nn.Conv2d(WIDTH, WIDTH, 1, key=next(keys)),
        )
        for _ in range(DEPTH)
    ]
    head = eqx.nn.Linear(WIDTH, CLASSES, key=next(keys))
    norm = eqx.nn.GroupNorm(1, WIDTH, channelwise_affine=False)
    params, static = eqx.partition((stem, mixers, head), eqx.is_array)

    def one(params: Any, x: jax.Array) -> jax.Array:
        stem, mixers, head = eqx.combine(params, static)
        x = norm(jax.nn.gelu(stem(x)))
        for depthwise, pointwise in mixers:
            x = x + norm(jax.nn.gelu(depthwise(x)))
            x = norm(jax.nn.gelu(pointwise(x)))
        return head(x.mean((1, 2)))

    def apply(params: Any, x: jax.Array, training: bool) -> jax.Array:
        return jax.vmap(lambda image: one(params, image))(jnp.moveaxis(x, -1, 1))

    return Model(params, apply)


MODELS: dict[str, Callable[[jax.Array], Model]] = {
    "MobileNetV2": _keras("MobileNetV2"),
    "EfficientNetV2B0": _keras("EfficientNetV2B0"),
    "ConvNeXtTiny": _keras("ConvNeXtTiny"),
    "Xception": _keras("Xception"),
    "MobileNetV3Small": _keras("MobileNetV3Small"),
    "ResNeXt50": _resnext,
    "ConvMixer": _convmixer,
}
_TORCHVISION = {
    "MobileNetV2": "mobilenet_v2",
    "ConvNeXtTiny": "convnext_tiny",
    "MobileNetV3Small": "mobilenet_v3_small",
    "ResNeXt50": "resnext50_32x4d",
}


def _torch_convmixer() -> Any:
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, inner: Any):
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> Any:
            return x + self.inner(x)

    def after() -> list[Any]:
        return [nn.GELU("tanh"), nn.GroupNorm(1, WIDTH, affine=False)]

    layers = [nn.Conv2d(3, WIDTH, PATCH, PATCH), *after()]
    for _ in range(DEPTH):
        depthwise = nn.Conv2d(WIDTH, WIDTH, WINDOW, groups=WIDTH, padding="same")
        layers.append(Residual(nn.Sequential(depthwise, *after())))
        layers += [nn.Conv2d(WIDTH, WIDTH, 1), *after()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES)]
    return nn.Sequential(*layers, *head)


def torch_calls(name: str, shape: tuple[int, ...], role: str) -> dict[str, Callable[[], Any]]:
    """The same architecture in PyTorch, in each memory format; empty where there is none."""
    try:
        import torch
        import torchvision
    except ImportError:
        return {}
    if name not in _TORCHVISION and name != "ConvMixer":
        return {}
    calls: dict[str, Callable[[], Any]] = {}
    labels = torch.arange(shape[0]) % CLASSES
    for layout in ("contiguous_format", "channels_last"):
        order = getattr(torch, layout)
        if name == "ConvMixer":
            model = _torch_convmixer()
        else:
            model = getattr(torchvision.models, _TORCHVISION[name])(num_classes=CLASSES)
        model = model.to(memory_format=order).train(role == "training")
        n, height, width, channels = shape
        x = torch.randn(n, channels, height, width).to(memory_format=order)

        def forward(model: Any = model, x: Any = x) -> Any:
            with torch.inference_mode():
                return model(x)

        def training(model: Any = model, x: Any = x) -> Any:
            model.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(model(x), labels).backward()

        calls[layout] = forward if role == "forward" else training
    return calls
