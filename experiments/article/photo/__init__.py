"""A photograph through every kind of convolution in `convjax.kinds`."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import convjax
from convjax.draw.charts import Theme
from convjax.kinds import KINDS
from experiments.article.photo.applied import GREY, Photos, gauss
from experiments.article.photo.recipes import RECIPES, unknown
from experiments.page.figures import chart, photo, response
from experiments.page.report import Section
from experiments.run.measure import call, difference
from experiments.run.settings import Settings

BOUND = 1e-5  # float32 sums of some hundred products, relative to the largest value
RANKS = "one and three dimensions"
PARTS = (*KINDS, RANKS)


def load(size: int) -> Photos:
    """Two photographs that ship inside scikit-image, (1, size, size, 3) in 0..1."""
    from skimage import data
    from skimage.transform import resize

    squares = data.astronaut()[:400, 30:430], data.coffee()[:, 130:530]
    smaller = (resize(square / 255.0, (size, size), anti_aliasing=True) for square in squares)
    return Photos(*(jnp.asarray(picture, jnp.float32)[None] for picture in smaller))


def run(settings: Settings) -> Section:
    """Run the experiment."""
    section = Section(
        "photo",
        "A photograph through every kind",
        "The portrait (Eileen Collins, NASA) and the cup of coffee ship with scikit-image. "
        "Responses that can be negative are drawn in colours: blue is negative, black is zero, "
        "orange is positive. Beyond its edges a picture goes on as at the edge.",
    )
    photos = load(settings.photo_size)
    errors: dict[str, float] = {}
    miscounted = []
    for name in settings.track(PARTS):
        if name == RANKS:
            _ranks(section, photos)
            continue
        errors[name], counted = _show(section, photos, name)
        miscounted += [] if counted else [name]
    worst = max(errors, key=errors.__getitem__)
    section.identity(
        f"Each of the {len(errors)} kinds equals one dense convolution with the kernel that it "
        "stands for, on the photograph",
        "equal",
        errors[worst],
        BOUND,
        f"The largest difference, relative to the largest value, is that of {worst}.",
    )
    section.exact(
        "Multiplications counted in the program = the closed form of the kind: kinds that differ",
        0,
        len(miscounted),
        f"They are: {', '.join(miscounted)}." if miscounted else "",
    )
    return section


def _show(section: Section, photos: Photos, name: str) -> tuple[float, bool]:
    """Add the figure of a kind; its distance from its dense equivalent; whether costs agree."""
    kind = KINDS[name]
    shown = RECIPES[name](photos) if name in RECIPES else unknown(kind)
    example, options = shown.example, shown.options
    result = call(kind.function, *example.arguments, **options)

    def form(x: jax.Array, kernels: Sequence[jax.Array]) -> jax.Array:
        return kind.dense(x, kernels, example.sizes, **options)

    same = call(form, example.x, example.kernels)
    error = difference(result, same) / (float(np.abs(same).max()) or 1.0)
    cost = example.cost(**options)
    counted = convjax.cost_of(kind.function, *example.arguments, **options).macs
    shapes = ", ".join("×".join(map(str, kernel.shape)) for kernel in example.kernels)
    facts = [
        ("layer", f"{_shape(example.x)} → {_shape(result)}"),
        ("kernels", shapes or "none"),
        ("weights", cost.params),
        ("multiplications", counted),
    ]
    if counted:
        facts.append(("per output pixel", counted / math.prod(result.shape[:-1])))
    section.figure(
        f"{name}: `convjax.{kind.function.__name__}`", shown.caption, shown.pictures, facts, name
    )
    return error, counted == cost.macs


def _shape(array: jnp.ndarray) -> str:
    return "×".join(map(str, array.shape[1:]))


def _ranks(section: Section, photos: Photos) -> None:
    """The same function on a row of pixels and on a film."""
    size = photos.one.shape[1]
    grey = photos.one[0] @ jnp.asarray(GREY)
    row = size * 3 // 10
    line = grey[row]
    bell = jnp.asarray(gauss(9), jnp.float32)
    slope = jnp.convolve(bell, jnp.array([-0.5, 0, 0.5]))
    smooth, change = (
        convjax.conv1d(line[None, :, None], k[:, None, None], padding_mode="edge")[0, :, 0]
        for k in (bell, slope)
    )

    def curves(axes: Axes, theme: Theme) -> None:
        axes.plot(line, color=theme.quiet, linewidth=1, label="one row of pixels")
        axes.plot(smooth, color=theme.one, label="smoothed")
        axes.plot(np.asarray(change) * 3 - 0.45, color=theme.two, label="its slope (×3, lowered)")
        axes.set(xlabel="pixel", yticks=[0, 1], ylim=(-1.1, 1.45))
        axes.legend(loc="upper center", ncols=3, fontsize=8, columnspacing=1, handlelength=1.2)

    side, step = size // 4, size // 16
    patch = grey[side : 2 * side, size * 3 // 8 : size * 3 // 8 + side]
    still = photos.two[0] @ jnp.asarray(GREY)
    frames = [still.at[side : 2 * side, step * t : step * t + side].set(patch) for t in range(8)]
    film = jnp.stack(frames)[None, ..., None]
    before_after = jnp.array([-1.0, 0, 1]).reshape(3, 1, 1, 1, 1)
    moved = convjax.conv3d(film, before_after, padding="VALID")[0, ..., 0]
    section.figure(
        "The same call in one and three dimensions",
        "The rank is that of the kernel. First, one row of pixels, smoothed and differentiated by "
        "`conv1d`. Then a film of eight frames in which only the small portrait moves. "
        "A `conv3d` kernel of 3×1×1, later minus earlier, leaves nothing of what stands still.",
        [
            chart(f"row {row} of the photograph", curves, 400, 240),
            photo("frame 1 of the film", frames[0], 200),
            photo("frame 6", frames[5], 200),
            response("frame 6 minus frame 4", moved[3], 200),
        ],
    )
