"""Draw a convolution from the command line: one file, of the kind that its ending names."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from convjax._core.padding import MODES, POLICIES
from convjax.draw.arithmetic import STEPS_BY, arithmetic
from convjax.draw.drawing import ENDINGS
from convjax.kinds import KINDS

EXAMPLES = """
examples:
  python -m convjax.draw transposed --input 2x2 --kernel 3x3 --strides 2 -o transposed.gif
  python -m convjax.draw dense --input 5x5 --padding 1 --padding-mode reflect -o reflect.html
  python -m convjax.draw dilated --input 12 --kernel 3 --kernel-dilation 4 -o dilated.svg
  python -m convjax.draw dense --input 8 --padding CAUSAL --animated -o causal.svg
  python -m convjax.draw grouped --input 3x3 --groups 2 -o grouped.png
  python -m convjax.draw --list
"""


def _extents(words: str) -> Any:
    """ "3x3" as (3, 3), "3" as 3."""
    found = tuple(int(word) for word in words.lower().replace("×", "x").split("x"))
    return found if len(found) > 1 else found[0]


def _padding(words: str) -> Any:
    """A policy's word, "1", "1x2", or pairs such as "1,0x0,2"."""
    if words.upper() in POLICIES:
        return words.upper()
    if "," in words:
        return tuple(tuple(int(n) for n in axis.split(",")) for axis in words.lower().split("x"))
    return _extents(words)


_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "input": (_extents, "extents, such as 5x5; the number of them is the rank"),
    "kernel": (_extents, "taps, such as 3 or 3x2"),
    "strides": (_extents, "such as 2 or 2x1"),
    "padding": (_padding, f"one of {', '.join(POLICIES)}, or such as 1, 1x2 or 1,0x0,2"),
    "kernel_dilation": (_extents, "distance between taps"),
    "input_dilation": (_extents, "distance between inputs"),
    "output_padding": (_extents, "of transposed: extents that strides leave open"),
    "scale": (_extents, "of resize, subpixel, pixel_shuffle and hold (default 2)"),
    "feature_group_count": (int, "groups, also of the grouped and shuffled kinds"),
    "in_features": (int, "channels of the input"),
    "out_features": (int, "channels of the output"),
    "channel_multiplier": (int, "of the depthwise kinds (default 1)"),
    "order": (int, "of hold (default 0)"),
    "seed": (int, "of the numbers (default 0)"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convjax.draw",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", nargs="?", default="dense", help="see --list (default dense)")
    parser.add_argument("--list", action="store_true", help="print the kinds, one a line")
    for name, (_, words) in _READERS.items():
        names = [f"--{name.replace('_', '-')}"]
        names += ["--groups"] if name == "feature_group_count" else []
        parser.add_argument(*names, dest=name, metavar="N", help=words)
    parser.add_argument("--padding-mode", help=f"one of {', '.join(MODES)}")
    parser.add_argument("--method", help="of resize: nearest or bilinear")
    parser.add_argument("--by", default="output", help="a step per output (default) or input")
    parser.add_argument("--step", type=int, help="which step a still picture shows")
    parser.add_argument("--animated", action="store_true", help="let a .svg show all steps")
    parser.add_argument("--seconds", type=float, default=0.8, help="per step (default 0.8)")
    parser.add_argument("--scale-pixels", type=float, default=1.5, help="of .png and .gif")
    parser.add_argument("--theme", default="light", help="of .png and .gif: light or dark")
    file = f"ends in {', '.join(ENDINGS)} (default KIND.svg)"
    parser.add_argument("-o", "--output", help=file)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is asked for, and return the exit status."""
    asked = _parser().parse_args(arguments)
    if asked.list:
        for kind in KINDS.values():
            print(f"{kind.name:20} {kind.summary}")
        return 0
    try:
        if asked.by not in STEPS_BY:
            raise ValueError(f"--by (={asked.by}) must be one of {', '.join(STEPS_BY)}.")
        if asked.kind not in KINDS:
            raise ValueError(f"no kind is named {asked.kind!r}: choose from {', '.join(KINDS)}.")
        found = {name: _read(asked, name) for name in _READERS}
        options = {name: value for name, value in found.items() if value is not None}
        size, kernel = options.pop("input", None), options.pop("kernel", None)
        if size is None:
            rank = len(kernel) if isinstance(kernel, tuple) else 2
            size = (4,) * rank if KINDS[asked.kind].name != "transposed" else (3,) * rank
            size = size[0] if isinstance(kernel, tuple) and rank == 1 else size
        drawing = arithmetic(
            asked.kind,
            size,
            3 if kernel is None else kernel,
            padding_mode=asked.padding_mode,
            method=asked.method,
            by=asked.by,
            **options,
        )
        path = drawing.save(
            asked.output or f"{asked.kind}.svg",
            step=asked.step,
            animated=asked.animated,
            seconds=asked.seconds,
            scale=asked.scale_pixels,
            theme=asked.theme,
        )
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{path}: {drawing.title}")
    return 0


def _read(asked: argparse.Namespace, name: str) -> Any:
    words = getattr(asked, name)
    if words is None:
        return None
    read, form = _READERS[name]
    try:
        return read(words)
    except ValueError:
        option = f"--{name.replace('_', '-')}"
        raise ValueError(f"{option} (={words}) cannot be read. Give {form}.") from None


if __name__ == "__main__":
    sys.exit(main())
