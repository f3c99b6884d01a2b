"""The table of kinds: every kind of convolution by name, and what the library knows of it.

`KINDS` maps a name to its `Kind`: the function, what its kernels look like, the dense convolution
that it equals, its cost, a summary and where it comes from. Tests, the documentation's table and
pages (``python -m convjax.kinds`` prints the table), benchmarks and drawings read it.

Example:
    >>> from convjax.kinds import KINDS
    >>> example = KINDS["grouped"].example(rank=2)
    >>> example.x.shape, [kernel.shape for kernel in example.kernels]
    ((2, 7, 8, 6), [(3, 2, 2, 9)])
    >>> example(padding="VALID").shape
    (2, 5, 7, 9)
    >>> bool((example(strides=2) == example.equivalent(strides=2)).all())
    True
    >>> example.cost(padding="VALID").macs
    7560
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convjax import _functional, cost, equivalents
from convjax._core.public import public
from convjax.kinds import _dense_forms
from convjax.kinds._dense_forms import conv_with
from convjax.kinds._sizes import Shape, Sizes

__all__ = ["KINDS", "Example", "Kind", "markdown_table"]

SPATIAL_OPTIONS = ("strides", "padding", "padding_mode", "kernel_dilation")


def _kernels_as_they_are(kernels: Sequence[jax.Array], sizes: Sizes) -> Sequence[Any]:
    return kernels


@dataclasses.dataclass(frozen=True)
class Kind:
    """One row of the table.

    Attributes:
        name: the name used in tables, on command lines and in pictures.
        function: the public function; `also` names those that go with it.
        kernels: its kernels' shapes, as the documentation writes them.
        macs: multiply-accumulates per output pixel and example, as a formula.
        summary: what it does, in one line.
        section: the section of the article that treats it, "" where none does.
        source: authors and year of a paper, and where it is.
        shapes: the kernels' shapes, from sizes.
        arguments: what the function takes after x, from its kernels and sizes.
        dense: ``dense(x, kernels, sizes, **options)``: the same result from `conv` or
            `conv_transpose` with the kernel that `convjax.equivalents` gives.
        exact_options: the options under which `dense` equals the function.
    """

    name: str
    function: Callable[..., jax.Array]
    kernels: str
    macs: str
    summary: str
    section: str
    source: tuple[str, str]
    shapes: Callable[[Sizes], Sequence[Shape]]
    dense: Callable[..., jax.Array]
    arguments: Callable[[Sequence[jax.Array], Sizes], Sequence[Any]] = _kernels_as_they_are
    exact_options: tuple[str, ...] = SPATIAL_OPTIONS
    also: tuple[str, ...] = ()
    in_features: Callable[[Sizes], int] = lambda sizes: sizes.in_features

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A row of the table is pickled by its name: it holds functions that have none."""
        if KINDS.get(self.name) is self:
            return _kind, (self.name,)
        return super().__reduce_ex__(protocol)

    @property
    def options(self) -> tuple[str, ...]:
        """The keyword options of `function`."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def example(
        self, rank: int = 2, seed: int = 0, *, dtype: Any = np.float32, **sizes: Any
    ) -> "Example":
        """Operands of this kind: random integers from -4 to 4, of distinct extents.

        `sizes` are fields of `Sizes`, such as ``kernel_size=(5, 5)`` or ``groups=2``.
        """
        defaults = {"space": (7, 8, 5, 6)[:rank], "kernel_size": (3, 2, 2, 3)[:rank]}
        found = Sizes(**{**defaults, **sizes})
        rng = np.random.default_rng(seed)
        shapes = [(found.batch, *found.space, self.in_features(found)), *self.shapes(found)]
        x, *kernels = (jnp.asarray(rng.integers(-4, 5, shape), dtype) for shape in shapes)
        return Example(self, x, tuple(kernels), found)


@dataclasses.dataclass(frozen=True)
class Example:
    """Operands that fit a kind. Call it with options to apply the kind to them."""

    kind: Kind
    x: jax.Array
    kernels: tuple[jax.Array, ...]
    sizes: Sizes

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The positional arguments of the kind's function, x first."""
        return (self.x, *self.kind.arguments(self.kernels, self.sizes))

    def __call__(self, **options: Any) -> jax.Array:
        return self.kind.function(*self.arguments, **options)

    def equivalent(self, **options: Any) -> jax.Array:
        """The same result by the dense convolution, for the kind's `exact_options`."""
        return self.kind.dense(self.x, self.kernels, self.sizes, **options)

    def cost(self, **options: Any) -> cost.Cost:
        """What the call with these options costs, in closed form."""
        return getattr(cost, self.kind.function.__name__)(*self.arguments, **options)


_DUMOULIN = ("Dumoulin & Visin 2016", "https://arxiv.org/abs/1603.07285")
_ZHANG = ("Zhang et al. 2017", "https://arxiv.org/abs/1707.01083")
_SHI = ("Shi et al. 2016", "https://arxiv.org/abs/1609.05158")

_ROWS = (
    Kind(
        name="dense",
        function=_functional.conv,
        also=("conv1d", "conv2d", "conv3d", "correlate", "convolve"),
        kernels="(*K, I/G, O)",
        macs="prod(K)·I·O / G",
        summary="every output channel sees every input channel through its own window",
        section="2, 3, 5",
        source=_DUMOULIN,
        shapes=lambda s: [(*s.kernel_size, s.in_features, s.out_features)],
        dense=conv_with(lambda kernels, s: kernels[0]),
    ),
    Kind(
        name="pointwise",
        function=_functional.pointwise_conv,
        kernels="(1…, I, O)",
        macs="I·O",
        summary="one matrix over the channels, at every pixel",
        section="4",
        source=("Lin, Chen & Yan 2013", "https://arxiv.org/abs/1312.4400"),
        shapes=lambda s: [(*s.ones, s.in_features, s.out_features)],
        dense=conv_with(lambda kernels, s: kernels[0]),
        exact_options=("strides",),
    ),
    Kind(
        name="dilated",
        function=_functional.dilated_conv,
        kernels="(*K, I, O)",
        macs="prod(K)·I·O",
        summary="leaves gaps between the taps: a wider view with the same weights",
        section="7",
        source=("Yu & Koltun 2015", "https://arxiv.org/abs/1511.07122"),
        shapes=lambda s: [(*s.kernel_size, s.in_features, s.out_features)],
        arguments=lambda kernels, s: (kernels[0], s.kernel_dilation),
        dense=conv_with(lambda kernels, s: equivalents.dilated(kernels[0], s.kernel_dilation)),
        exact_options=("strides", "padding", "padding_mode"),
    ),
    Kind(
        name="transposed",
        function=_functional.conv_transpose,
        kernels="(*K, O/G, I)",
        macs="prod(K)·I·O / prod(strides)",
        summary="the adjoint of a convolution: every input adds a copy of the kernel",
        section="6",
        source=_DUMOULIN,
        shapes=lambda s: [(*s.kernel_size, s.out_features, s.in_features)],
        dense=_dense_forms.transposed,
        exact_options=("strides", "padding", "kernel_dilation"),
    ),
    Kind(
        name="spatially_separable",
        function=_functional.spatially_separable_conv,
        kernels="[(K1, 1…, I, M), (1, K2, 1…, M, O), …]",
        macs="≈ K1·I·M + K2·M·O",
        summary="one convolution per spatial axis, one after the other",
        section="8.1",
        source=("Szegedy et al. 2015", "https://arxiv.org/abs/1512.00567"),
        shapes=lambda s: [(*s.along(a), *s.chain[a : a + 2]) for a in range(s.rank)],
        arguments=lambda kernels, s: (list(kernels),),
        dense=conv_with(lambda kernels, s: equivalents.spatially_separable(kernels)),
    ),
    Kind(
        name="depthwise",
        function=_functional.depthwise_conv,
        kernels="(*K, 1, I·M)",
        macs="prod(K)·I·M",
        summary="each channel on its own, with M kernels per channel",
        section="8.2, 10.1",
        source=("Chollet 2017", "https://arxiv.org/abs/1610.02357"),
        shapes=lambda s: [(*s.kernel_size, 1, s.in_features * s.channel_multiplier)],
        dense=conv_with(lambda kernels, s: equivalents.depthwise(kernels[0], s.in_features)),
    ),
    Kind(
        name="depthwise_separable",
        function=_functional.depthwise_separable_conv,
        kernels="(*K, 1, I·M), (1…, I·M, O)",
        macs="prod(K)·I·M + I·M·O",
        summary="depthwise over space, then pointwise over channels",
        section="8.2",
        source=("Howard et al. 2017", "https://arxiv.org/abs/1704.04861"),
        shapes=lambda s: [
            (*s.kernel_size, 1, s.in_features * s.channel_multiplier),
            (*s.ones, s.in_features * s.channel_multiplier, s.out_features),
        ],
        dense=conv_with(lambda ks, s: equivalents.depthwise_separable(ks[0], ks[1], s.in_features)),
    ),
    Kind(
        name="flattened",
        function=_functional.flattened_conv,
        kernels="(1…, I, F), [(K1, 1…, 1, F), (1, K2, 1…, 1, F), …]",
        macs="≈ I·F + sum(K)·F",
        summary="rank-1 filters: across the channels, then along every axis",
        section="9",
        source=("Jin, Dundar & Culurciello 2014", "https://arxiv.org/abs/1412.5474"),
        shapes=lambda s: [
            (*s.ones, s.in_features, s.out_features),
            *((*s.along(axis), 1, s.out_features) for axis in range(s.rank)),
        ],
        arguments=lambda kernels, s: (kernels[0], list(kernels[1:])),
        dense=conv_with(lambda kernels, s: equivalents.flattened(kernels[0], kernels[1:])),
    ),
    Kind(
        name="grouped",
        function=_functional.grouped_conv,
        kernels="(*K, I/G, O)",
        macs="prod(K)·I·O / G",
        summary="G separate paths, each from its own channels to its own",
        section="10",
        source=("Krizhevsky, Sutskever & Hinton 2012", "https://papers.nips.cc/paper/4824"),
        shapes=lambda s: [(*s.kernel_size, s.in_features // s.groups, s.out_features)],
        arguments=lambda kernels, s: (kernels[0], s.groups),
        dense=conv_with(lambda kernels, s: equivalents.grouped(kernels[0], s.groups)),
    ),
    Kind(
        name="channel_shuffle",
        function=_functional.channel_shuffle,
        also=("channel_unshuffle",),
        kernels="none",
        macs="0",
        summary="interleaves the channels of G groups: 1 2 | 3 4 | 5 6 becomes 1 3 5 2 4 6",
        section="11",
        source=_ZHANG,
        shapes=lambda s: [],
        arguments=lambda kernels, s: (s.groups,),
        dense=lambda x, kernels, s: _functional.conv(
            x, equivalents.channel_shuffle(s.in_features, s.groups, s.rank, x.dtype)
        ),
        exact_options=(),
    ),
    Kind(
        name="shuffled_grouped",
        function=_functional.shuffled_grouped_conv,
        kernels="(*K, I/G, O)",
        macs="prod(K)·I·O / G",
        summary="a grouped convolution, then a shuffle, so that the next groups see every group",
        section="11",
        source=_ZHANG,
        shapes=lambda s: [(*s.kernel_size, s.in_features // s.groups, s.out_features)],
        arguments=lambda kernels, s: (kernels[0], s.groups),
        dense=conv_with(lambda kernels, s: equivalents.shuffled_grouped(kernels[0], s.groups)),
    ),
    Kind(
        name="pointwise_grouped",
        function=_functional.pointwise_grouped_conv,
        kernels="(1…, I/G, O)",
        macs="I·O / G",
        summary="one matrix per group, at every pixel",
        section="12",
        source=_ZHANG,
        shapes=lambda s: [(*s.ones, s.in_features // s.groups, s.out_features)],
        arguments=lambda kernels, s: (kernels[0], s.groups),
        dense=conv_with(lambda kernels, s: equivalents.grouped(kernels[0], s.groups)),
        exact_options=("strides",),
    ),
    Kind(
        name="resize",
        function=_functional.resize_conv,
        also=("resize",),
        kernels="(*K, I, O)",
        macs="prod(K)·I·O",
        summary="enlarges by nearest neighbour or bilinearly, then convolves",
        section="6.1",
        source=("Odena, Dumoulin & Olah 2016", "https://distill.pub/2016/deconv-checkerboard"),
        shapes=lambda s: [(*s.kernel_size, s.in_features, s.out_features)],
        arguments=lambda kernels, s: (kernels[0], s.scale),
        dense=_dense_forms.resize_conv,
        exact_options=("padding", "kernel_dilation"),
    ),
    Kind(
        name="pixel_shuffle",
        function=_functional.pixel_shuffle,
        also=("pixel_unshuffle",),
        kernels="none",
        macs="0",
        summary="lays r^d channels out as a block of pixels, r along every axis",
        section="",
        source=_SHI,
        shapes=lambda s: [],
        arguments=lambda kernels, s: (s.scale,),
        dense=_dense_forms.pixel_shuffle,
        exact_options=(),
        in_features=lambda s: s.out_features * s.block,
    ),
    Kind(
        name="subpixel",
        function=_functional.subpixel_conv,
        kernels="(*K, I, O·r^d)",
        macs="prod(K)·I·O",
        summary="convolves to r^d times the channels, then lays them out in space",
        section="",
        source=_SHI,
        shapes=lambda s: [(*s.kernel_size, s.in_features, s.out_features * s.block)],
        arguments=lambda kernels, s: (kernels[0], s.scale),
        dense=_dense_forms.subpixel,
        exact_options=("padding",),
    ),
    Kind(
        name="hold",
        function=_functional.hold,
        kernels="none",
        macs="≈ sum(K̂)·C",
        summary="a fixed moving average, the cure of checkerboards",
        section="",
        source=("Kinoshita & Kiya 2020", "https://arxiv.org/abs/2002.02117"),
        shapes=lambda s: [],
        arguments=lambda kernels, s: (s.scale,),
        dense=_dense_forms.hold,
        exact_options=("strides", "padding", "padding_mode"),
    ),
)
#: Every kind by its name, in the order of the documentation.
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ROWS}


def _kind(name: str) -> Kind:
    return KINDS[name]


@public
def markdown_table() -> str:
    """The documentation's table of kinds, in Markdown: a row for each."""
    lines = [
        "| kind | functions | kernels (channels-last) | MACs per output pixel | what it does | § "
        "| source |",
        f"|{'---|' * 7}",
    ]
    for kind in KINDS.values():
        names = ", ".join(f"`{name}`" for name in (kind.function.__name__, *kind.also))
        shapes = kind.kernels if kind.kernels == "none" else f"`{kind.kernels}`"
        cells = (
            kind.name,
            names,
            shapes,
            kind.macs,
            kind.summary.replace("|", "\\|"),
            kind.section or "–",
            "[{}]({})".format(*kind.source),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
