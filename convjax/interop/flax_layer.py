"""The arguments with which Flax's own layers equal a convolution of PyTorch, if there are any."""

from typing import Any

from convjax._core.geometry import Pair


def flaxs_arguments(
    window: tuple[int, ...],
    reach: tuple[int, ...],
    pairs: tuple[Pair, ...],
    extra: tuple[int, ...],
    options: dict[str, Any],
    transposed: bool,
) -> tuple[dict[str, Any] | None, str]:
    """The arguments of Flax's own layer, or None and what to do instead."""
    found = {"kernel_size": window, "strides": options["strides"]}
    others = {k: v for k, v in options.items() if k in ("kernel_dilation", "feature_group_count")}
    if transposed:
        if "feature_group_count" in options:
            hint = "convjax.nn.ConvTranspose with convention='adjoint' takes convjax's options"
            return None, f"has no groups in ConvTranspose; {hint}"
        # Flax pads the dilated input: what a full correlation would pad, less what PyTorch crops.
        found["padding"] = tuple(
            (k - 1 - lo, k - 1 - hi + a) for k, (lo, hi), a in zip(reach, pairs, extra, strict=True)
        )
        return found | others | {"transpose_kernel": True}, ""
    mode = options.get("padding_mode", "constant")
    if mode == "constant" or not any(map(any, pairs)):
        return found | {"padding": pairs} | others, ""
    word = {"wrap": "CIRCULAR", "reflect": "REFLECT"}.get(mode)
    if word and pairs == tuple(((k - 1) // 2, k // 2) for k in reach):
        return found | {"padding": word} | others, ""
    sides = ((0, 0), *pairs, (0, 0))
    return None, f"no such padding; jnp.pad(x, {sides}, mode={mode!r}), then padding='VALID'"
