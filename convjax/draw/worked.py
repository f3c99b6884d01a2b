"""One configuration worked out by the library: its values, and what each result reads.

Nothing here knows how a kind computes: every tensor is put through the real function once with
the numbers that are drawn, and once for every element with a one there and zeros elsewhere, in one
compiled call. These probes are the columns of its Jacobian, for every kind is linear in x.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convjax._core import checks
from convjax.draw.stages import Stage, stages_of
from convjax.draw.window import Window
from convjax.kinds import KINDS, Kind
from convjax.kinds._sizes import Sizes

FUNCTION = "arithmetic"
MOST_CELLS = 1200  # of all tensors together: more is not legible
MOST_PAIRS = 360_000  # elements of x times elements of the result
_OPTIONS = {
    "strides",
    "padding",
    "padding_mode",
    "input_dilation",
    "kernel_dilation",
    "feature_group_count",
    "output_padding",
    "output_shape",
    "method",
    "order",
}
# Kinds that are drawn with several channels: in_features, out_features, groups.
_CHANNELS = {
    "pointwise": (3, 2, 1),
    "depthwise": (3, 3, 1),
    "depthwise_separable": (3, 2, 1),
    "flattened": (2, 2, 1),
    "grouped": (4, 4, 2),
    "channel_shuffle": (6, 6, 3),
    "shuffled_grouped": (4, 4, 2),
    "pointwise_grouped": (4, 4, 2),
}


@dataclasses.dataclass(frozen=True)
class Worked:
    """A configuration and what came out.

    Attributes:
        kind, sizes, options: what was computed; `call` is how it is written.
        stages: the steps of the kind.
        values: per tensor, from x to the result, (*space, C).
        windows: per stage, the window that moves over its input, if one does.
        weights: per tensor but the last, (result, element): the derivative of every element of the
            result with respect to every element of the tensor.
        depends: per tensor but the last, (result, element): whether it is read at all, whatever
            the weights are.
        reads: per stage, (element of its result, element of its input): what it reads.
        kernels: the kernels.
        taps: of a kind with one kernel, (result, weight): which weights make which result.
    """

    kind: Kind
    sizes: Sizes
    options: dict[str, Any]
    call: str
    stages: list[Stage]
    values: list[np.ndarray]
    windows: list[Window | None]
    weights: list[np.ndarray]
    depends: list[np.ndarray]
    reads: list[np.ndarray]
    kernels: list[np.ndarray]
    taps: np.ndarray | None

    @property
    def rank(self) -> int:
        return self.sizes.rank


@contextlib.contextmanager
def in_the_name_of(function: str) -> Iterator[None]:
    """Let what is raised about a configuration name the public function that was called."""
    try:
        yield
    except (ValueError, TypeError) as error:
        words = str(error)
        if not words.startswith(f"{FUNCTION}: "):
            raise
        raise type(error)(function + words.removeprefix(FUNCTION)) from None


def work_out(
    kind: str,
    input_size: Any,
    kernel_size: Any,
    *,
    in_features: int | None = None,
    out_features: int | None = None,
    channel_multiplier: int = 1,
    scale: Any = 2,
    x: Any = None,
    kernels: Any = None,
    seed: int = 0,
    **options: Any,
) -> Worked:
    """Run one configuration; options that are None are not passed on."""
    row, sizes, given, call = configured(
        kind,
        input_size,
        kernel_size,
        in_features=in_features,
        out_features=out_features,
        channel_multiplier=channel_multiplier,
        scale=scale,
        **options,
    )
    shapes = kernel_shapes(row, sizes, given)
    in_shape = (*sizes.space, row.in_features(sizes))
    _check_cells("input_size", input_size, prod(in_shape))
    for shape in shapes:
        if prod(shape) > MOST_PAIRS:
            rule = f"makes a kernel of shape {tuple(shape)}, too large to draw"
            checks.fail(FUNCTION, "kernel_size", kernel_size, rule)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 4, in_shape) if x is None else np.asarray(x)
    if drawn.shape != in_shape:
        drawn = _reshaped("x", drawn, in_shape)
    if kernels is None:
        high = 4 if len(shapes) == 1 else 3
        kernels = [rng.integers(1, high, shape) for shape in shapes]
    elif hasattr(kernels, "shape"):
        kernels = [kernels]
    if len(kernels) != len(shapes):
        checks.fail(FUNCTION, "kernels", len(kernels), f"must be {len(shapes)} arrays for {kind}")
    arrays = [
        _reshaped("kernels", np.asarray(k), shape) for k, shape in zip(kernels, shapes, strict=True)
    ]

    def whole(x: jax.Array, ks: Sequence[jax.Array]) -> jax.Array:
        return row.function(x, *row.arguments(ks, sizes), **given)

    stages = stages_of(row, sizes, given)
    found = _run(drawn, arrays, whole, stages)
    taps = _taps(in_shape, arrays[0], whole) if len(arrays) == 1 else None
    return Worked(row, sizes, given, call, stages, *found, kernels=arrays, taps=taps)


def configured(
    kind: str,
    input_size: Any,
    kernel_size: Any,
    *,
    in_features: int | None = None,
    out_features: int | None = None,
    channel_multiplier: int = 1,
    scale: Any = 2,
    **options: Any,
) -> tuple[Kind, Sizes, dict[str, Any], str]:
    """The kind's row, its sizes, the options that its function takes, and the call in words."""
    row = KINDS[checks.choice(FUNCTION, "kind", kind, tuple(KINDS))]
    given = {name: value for name, value in options.items() if value is not None}
    sizes, given = _sizes(
        row, input_size, kernel_size, in_features, out_features, channel_multiplier, scale, given
    )
    _check_options(row, given)
    return row, sizes, given, _call(row, sizes, given, len(row.shapes(sizes)))


def kernel_shapes(row: Kind, sizes: Sizes, options: dict[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of the kind's kernels, with the groups that an option may ask for."""
    shapes = [tuple(shape) for shape in row.shapes(sizes)]
    groups = options.get("feature_group_count", 1)
    if groups == 1:
        return shapes
    if sizes.in_features % groups or sizes.out_features % groups:
        rule = f"must divide the channels (={sizes.in_features}, {sizes.out_features})"
        checks.fail(FUNCTION, "feature_group_count", groups, rule)
    (*window, fewer, features) = shapes[0]
    return [(*window, fewer // groups, features)]


def _run(
    x: np.ndarray, kernels: list[np.ndarray], whole: Any, stages: list[Stage]
) -> tuple[list[np.ndarray], list[Window | None], list[np.ndarray], list[np.ndarray], list[Any]]:
    """What `Worked` holds from `values` to `reads`."""
    real = [jnp.asarray(k, jnp.float32) for k in kernels]
    ones = [jnp.ones(k.shape, jnp.float32) for k in kernels]
    result = jax.eval_shape(whole, jax.ShapeDtypeStruct((1, *x.shape), jnp.float32), real)
    _check_cells("input_size", x.shape[:-1], x.size + prod(result.shape))
    if x.size * prod(result.shape) > MOST_PAIRS:
        rule = f"gives {x.size} x {prod(result.shape)} pairs of elements; {MOST_PAIRS} can be drawn"
        checks.fail(FUNCTION, "input_size", x.shape[:-1], rule, "Give smaller extents.")
    values = [np.asarray(x, np.float32)]
    whole_weights, whole_depends, values_out = _probe(whole, values[0], real, ones)
    own_weights, own_depends, windows = [], [], []
    for stage in stages:
        if len(stages) == 1:
            found = whole_weights, whole_depends, values_out
        else:
            found = _probe(stage.apply, values[-1], real, ones)
        own_weights.append(found[0])
        own_depends.append(found[1])
        windows.append(stage.window(values[-1].shape[:-1], found[2].shape[:-1]))
        values.append(found[2])
        _check_cells("input_size", x.shape[:-1], sum(value.size for value in values))
    weights, depends = [own_weights[-1]], [own_depends[-1]]
    for weight, depend in zip(own_weights[-2::-1], own_depends[-2::-1], strict=True):
        weights.insert(0, weights[0] @ weight)
        depends.insert(0, depends[0].astype(np.float32) @ depend.astype(np.float32) > 0)
    weights[0], depends[0] = whole_weights, whole_depends
    return values, windows, weights, depends, own_depends


def _probe(
    function: Any, x: np.ndarray, real: Sequence[jax.Array], ones: Sequence[jax.Array]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Jacobian (result, element), where it is not 0 for kernels of ones, and the value."""
    count = x.size
    basis = np.concatenate([np.eye(count, dtype=np.float32).reshape(count, *x.shape), x[None]])

    @jax.jit
    def both(batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        return function(batch, real), function(batch[:-1], ones)

    found, reached = (np.asarray(part) for part in both(jnp.asarray(basis)))
    # Ones are not negative, so that nothing cancels; the least weights are those of interpolation.
    return found[:-1].reshape(count, -1).T, np.abs(reached.reshape(count, -1).T) > 1e-6, found[-1]


def _taps(in_shape: Sequence[int], kernel: np.ndarray, whole: Any) -> np.ndarray | None:
    """Which weights make which result: the derivative with respect to the kernel, for ones."""
    ones = jnp.ones((1, *in_shape), jnp.float32)
    if kernel.size > 64:
        return None
    found = jax.jacfwd(lambda k: whole(ones, [k]))(jnp.asarray(kernel, jnp.float32))
    return np.asarray(found).reshape(-1, kernel.size) != 0


def _sizes(
    row: Kind,
    input_size: Any,
    kernel_size: Any,
    in_features: int | None,
    out_features: int | None,
    multiplier: Any,
    scale: Any,
    options: dict[str, Any],
) -> tuple[Sizes, dict[str, Any]]:
    """The sizes of the configuration, and the options that the function itself takes."""
    rank = 1 if checks.is_int(input_size) else len(tuple(input_size))
    if rank not in (1, 2, 3):
        rule = "must have 1, 2 or 3 spatial axes"
        checks.fail(FUNCTION, "input_size", input_size, rule)
    space = checks.ints(FUNCTION, "input_size", input_size, rank, minimum=1)
    window = checks.ints(FUNCTION, "kernel_size", kernel_size, rank, minimum=1)
    scale = checks.ints(FUNCTION, "scale", scale, rank, minimum=1)
    multiplier = checks.integer(FUNCTION, "channel_multiplier", multiplier, minimum=1)
    usual_in, usual_out, groups = _CHANNELS.get(row.name, (1, 1, 1))
    if "feature_group_count" in options:
        groups = checks.integer(
            FUNCTION, "feature_group_count", options["feature_group_count"], minimum=1
        )
        if row.name not in _CHANNELS:
            usual_in = usual_out = groups
        elif usual_in % groups or usual_out % groups:
            usual_in = usual_out = 2 * groups
        if "groups" in inspect.signature(row.function).parameters:
            options = {n: v for n, v in options.items() if n != "feature_group_count"}
    sizes = Sizes(
        space,
        window,
        batch=1,
        in_features=_features("in_features", in_features, usual_in),
        out_features=_features("out_features", out_features, usual_out),
        groups=groups,
        channel_multiplier=multiplier,
        mid_features=(1,) * (rank - 1),
        scale=scale,
    )
    if row.name == "dilated":
        step = options.get("kernel_dilation", 2)
        options = {name: value for name, value in options.items() if name != "kernel_dilation"}
        step = checks.ints(FUNCTION, "kernel_dilation", step, rank, minimum=1)
        sizes = dataclasses.replace(sizes, kernel_dilation=step)
    grouped = row.name in ("grouped", "shuffled_grouped", "pointwise_grouped", "channel_shuffle")
    for name in ("in_features", "out_features") if grouped else ():
        if getattr(sizes, name) % sizes.groups:
            rule = f"must be a multiple of `feature_group_count` (={sizes.groups})"
            checks.fail(FUNCTION, name, getattr(sizes, name), rule)
    return sizes, options


def _features(name: str, value: int | None, usual: int) -> int:
    return usual if value is None else checks.integer(FUNCTION, name, value, minimum=1)


def _check_options(row: Kind, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if name not in row.options:
            known = ", ".join(f"`{n}`" for n in row.options if n in _OPTIONS) or "no such options"
            rule = f"is not an option of {row.name}, which takes {known}"
            checks.fail(FUNCTION, name, value, rule)


def _check_cells(name: str, value: Any, cells: int) -> None:
    if cells > MOST_CELLS:
        rule = f"makes {cells:,} cells, and at most {MOST_CELLS:,} can be drawn"
        checks.fail(FUNCTION, name, value, rule, "Give smaller extents or fewer channels.")


def _reshaped(name: str, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """`array` with the axes of extent 1 that `shape` has and it may lack."""
    given, wanted = ([n for n in extents if n > 1] for extents in (array.shape, shape))
    if array.size != prod(shape) or given != wanted:
        checks.fail(FUNCTION, name, array.shape, f"must have the shape {tuple(shape)}")
    return array.reshape(shape)


def _call(row: Kind, sizes: Sizes, options: dict[str, Any], kernels: int) -> str:
    """The call as it is written."""
    words = ["x"]
    if row.name in ("spatially_separable", "flattened"):
        words += ["lateral"] * (row.name == "flattened") + ["kernels"]
    else:
        words += ["kernel", "pointwise_kernel"][:kernels]
    if row.name in ("grouped", "shuffled_grouped", "pointwise_grouped", "channel_shuffle"):
        words.append(str(sizes.groups))
    if row.name in ("resize", "subpixel", "pixel_shuffle", "hold"):
        words.append(_short(sizes.scale))
    if row.name == "dilated":
        words.append(_short(sizes.kernel_dilation))
    words += [f"{name}={_short(value)}" for name, value in options.items()]
    return f"{row.function.__name__}({', '.join(words)})"


def _short(value: Any) -> str:
    """An option as it is written, one number where all are alike."""
    if isinstance(value, (tuple, list)) and value and all(v == value[0] for v in value):
        if not isinstance(value[0], (tuple, list)):
            return repr(value[0]).replace("'", '"')
    return repr(tuple(value) if isinstance(value, list) else value).replace("'", '"')
