"""`arithmetic`: any configuration of any kind, step by step, from what the library computes."""

from typing import Any

import numpy as np

from convjax._core import checks
from convjax.draw.board import described
from convjax.draw.drawing import Drawing
from convjax.draw.laying import laid_out, legend
from convjax.draw.scene import Text, fitted
from convjax.draw.step import Step
from convjax.draw.worked import Worked, work_out

STEPS_BY = ("output", "input")


def arithmetic(
    kind: str,
    input_size: Any,
    kernel_size: Any = 3,
    *,
    strides: Any = None,
    padding: Any = None,
    padding_mode: Any = None,
    input_dilation: Any = None,
    kernel_dilation: Any = None,
    feature_group_count: int | None = None,
    output_padding: Any = None,
    output_shape: Any = None,
    method: str | None = None,
    order: int | None = None,
    in_features: int | None = None,
    out_features: int | None = None,
    channel_multiplier: int = 1,
    scale: Any = 2,
    x: Any = None,
    kernels: Any = None,
    by: str = "output",
    seed: int = 0,
) -> Drawing:
    """Draw a convolution cell by cell: which inputs feed which output, with what weights.

    Input with its padding and inserted zeros, the window, and the output cell ``y[o] = sum_i
    J[o, i] x[i]``, where J is the Jacobian of the real function, found by linear probes. The
    function computes all other numbers too. Kinds of several steps show what is between them.

    Args:
        kind: a name in ``convjax.kinds.KINDS``, such as "transposed".
        input_size: extents in elements; an int for one spatial axis, else 2 or 3 ints.
        kernel_size: taps; one int, or one per spatial axis.
        strides, padding, padding_mode, input_dilation, kernel_dilation, output_padding,
            output_shape, method, order: as the kind's function takes them; None leaves its default.
        feature_group_count: groups; also of the grouped and shuffled kinds.
        in_features, out_features: channels; by default as few as show what the kind does.
        channel_multiplier: M of the depthwise kinds.
        scale: of resize, subpixel, pixel_shuffle and hold.
        x: (*space, I) to draw instead of small random integers.
        kernels: one kernel or a list of them, in the kind's layouts (axes of extent 1 may be left
            out), instead of small random integers.
        by: whether a step goes to the next "output" cell and shows what it reads, or to the next
            "input" cell and shows what it feeds.
        seed: of the random integers.

    Returns:
        A `Drawing`; its `details` has `values` (every tensor, (*space, C)), `depends` and
        `weights` (per tensor but the last, (result, element)), `windows` and `call`.

    Raises:
        ValueError: an unknown kind, an option that it does not take, more cells than can be read;
            and what the kind's function raises.
        TypeError: as the kind's function.

    Example:
        >>> from convjax import draw
        >>> drawing = draw.arithmetic("transposed", (2, 2), 3, strides=2, padding="VALID")
        >>> drawing.details.values[-1].shape, drawing.steps
        ((5, 5, 1), 25)
        >>> drawing.svg().startswith("<svg")
        True

    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016,
        https://arxiv.org/abs/1603.07285
    """
    checks.choice("arithmetic", "by", by, STEPS_BY)
    worked = work_out(
        kind,
        input_size,
        kernel_size,
        in_features=in_features,
        out_features=out_features,
        channel_multiplier=channel_multiplier,
        scale=scale,
        x=x,
        kernels=kernels,
        seed=seed,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        input_dilation=input_dilation,
        kernel_dilation=kernel_dilation,
        feature_group_count=feature_group_count,
        output_padding=output_padding,
        output_shape=output_shape,
        method=method,
        order=order,
    )
    return drawn(worked, by)


def drawn(worked: Worked, by: str = "output") -> Drawing:
    """The drawing of a configuration that is worked out."""
    boards, extra = laid_out(worked, padded=by == "output")
    items = [*extra, *(item for board in boards.values() for item in board.items())]
    left = min(board.left for board in boards.values())
    bottom = max(board.top + board.height for board in boards.values()) + 30
    count = worked.values[-1 if by == "output" else 0].size
    steps = [Step(worked, boards, number).frame(by, left, bottom) for number in range(count)]
    below = [[i for i in s.items if isinstance(i, Text) and i.y >= bottom] for s in steps]
    lines = max(map(len, below))
    used = {item.role for item in (*items, *(i for step in steps for i in step.items))}
    wide = max(board.left + board.width for board in boards.values()) - left
    items += legend(used, left, bottom + 18 * lines + 4, wide)
    reads = [np.flatnonzero(row).tolist() for row in worked.depends[0]]
    first, last = worked.values[0], worked.values[-1]
    title = (
        f"{worked.kind.name.replace('_', ' ')}: "
        f"{described(first.shape[:-1], first.shape[-1])} → "
        f"{described(last.shape[:-1], last.shape[-1])}"
    )
    words = f"{worked.call}: {worked.kind.summary}."
    still = _typical(worked.depends[0] if by == "output" else worked.depends[0].T)
    scene = fitted(title, words, items, steps, note=worked.call, still=still, reads=reads)
    return Drawing(scene, by, len(worked.stages), worked)


def _typical(depends: np.ndarray) -> int:
    """The step that shows most: of those that depend on most cells, the middle one."""
    counts = depends.sum(axis=1)
    found = np.flatnonzero(counts == counts.max())
    return int(found[len(found) // 2])
