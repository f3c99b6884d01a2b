"""Section 1: convolution and cross-correlation."""

import jax.numpy as jnp
import numpy as np

import convjax
from convjax.draw import Drawing
from convjax.draw.scene import Frame, Item, Path, Text, fitted, moved
from figures.registry import axes, figure, table

STEP = 0.05  # between samples of the functions of this section
GRID = np.arange(-2, 4, STEP)
F = ((GRID >= 0) & (GRID < 1)).astype(float)  # a box
G = np.where((GRID >= 0) & (GRID < 2), np.exp(-1.5 * np.clip(GRID, 0, None)), 0)  # a decay


def _line(values):
    return jnp.asarray(values, jnp.float32)[None, :, None]


def _along(function, f, g):
    """The result of the library's function on two sampled functions, on the whole line."""
    return np.asarray(function(_line(f), _line(g)[0][:, :, None], padding="FULL"))[0, :, 0] * STEP


@figure("F1", "1")
def definition():
    """The definition, and three ways to the same numbers."""
    f, g = [1, 2, 3], [0, 1, 2]
    kernel = jnp.asarray(g, jnp.float32)[:, None, None]
    by_sum = [sum(f[t] * g[n - t] for t in range(3) if 0 <= n - t < 3) for n in range(5)]
    convolved = convjax.convolve(_line(f), kernel, padding="FULL").ravel()
    flipped = convjax.correlate(_line(f), kernel[::-1], padding="FULL").ravel()
    plain = convjax.correlate(_line(f), kernel, padding="FULL").ravel()
    rows = [
        ("Σ f(τ) g(t − τ), written out", *by_sum),
        ("convolve(f, g)", *(int(v) for v in convolved)),
        ("correlate(f, g reversed)", *(int(v) for v in flipped)),
        ("correlate(f, g): not the same", *(int(v) for v in plain)),
    ]
    head = ("(f ∗ g)(t), f = 1 2 3, g = 0 1 2", *(f"t={n}" for n in range(5)))
    return table("(f ∗ g)(t) = ∫ f(τ) g(t − τ) dτ", head, rows)


@figure("F2", "1", moving=True)
def sliding():
    """g is reversed and slides over f; the area under the product is the convolution there."""
    whole = _along(convjax.convolve, F, G)
    start = 2 * GRID[0]
    frames = []
    times = np.arange(-0.4, 3.3, 0.2)
    for t in times:
        turned = np.interp(t - GRID, GRID, G)
        product = F * turned
        upto = int(round((t - start) / STEP)) + 1
        curve = whole[:upto]
        items = _two_rows(turned, product, curve, start, t)
        area = float(product.sum() * STEP)
        words = f"t = {t:.1f}: the area under f(τ)·g(t − τ) is {area:.2f}"
        frames.append(Frame((*items, Text(0, 300, words, "ink", 13, "start")), words + "."))
    base = [*_frame(0), *_frame(150)]
    base += [
        Text(412, 60, "f, and g reversed", "quiet", 12, "start"),
        Text(412, 210, "(f ∗ g)(t)", "quiet", 12, "start"),
        Path(tuple(_at(x, y, 0) for x, y in zip(GRID, F, strict=True)), "curve-0"),
    ]
    title = "Convolution: reverse g, slide it over f, take the area under the product"
    words = "A box f, and a decaying g that is reversed and moves to the right over it."
    scene = fitted(title, words, base, frames, still=7)
    return Drawing(scene, details=(times, whole))


def _at(x, y, top, low=-2.0, high=4.0, tall=1.1):
    return (x - low) / (high - low) * 400, top + 120 - min(y, tall) / tall * 110


def _frame(top) -> list[Item]:
    return [Path(((0, top + 120), (400, top + 120)), "axis")]


def _two_rows(turned, product, curve, start, t):
    shaded = [(x, y) for x, y in zip(GRID, product, strict=True) if y > 0]
    items: list[Item] = []
    if shaded:
        outline = [
            _at(shaded[0][0], 0, 0),
            *(_at(x, y, 0) for x, y in shaded),
            _at(shaded[-1][0], 0, 0),
        ]
        items.append(Path(tuple(outline), "area", closed=True))
    items.append(Path(tuple(_at(x, y, 0) for x, y in zip(GRID, turned, strict=True)), "curve-1"))
    places = start + STEP * np.arange(len(curve))
    seen = [(x, y) for x, y in zip(places, curve, strict=True) if -2 <= x <= 4]
    if len(seen) > 1:
        items.append(Path(tuple(_at(x, y, 150) for x, y in seen), "curve-2"))
    x, _ = _at(t, 0, 0)
    items.append(Path(((x, 0), (x, 270)), "outline"))
    return items


@figure("F3", "1")
def three_products():
    """Convolution, cross-correlation and autocorrelation of the same two functions."""
    lags = np.arange(len(GRID) * 2 - 1) * STEP
    rows = [
        ("convolution f ∗ g", _along(convjax.convolve, F, G), lags + 2 * GRID[0]),
        ("cross-correlation g ⋆ f", _along(convjax.correlate, F, G), lags - lags[-1] / 2),
        ("autocorrelation g ⋆ g", _along(convjax.correlate, G, G), lags - lags[-1] / 2),
    ]
    items: list[Item] = []
    for number, (name, values, places) in enumerate(rows):
        keep = (places >= -3) & (places <= 4)
        curve = (name, places[keep], values[keep])
        items += moved(
            axes([curve], height=90, across="lag t" if number == 2 else ""), 0, 140 * number
        )
    title = "The same f (a box) and g (a decay): reversed, not reversed, with itself"
    words = "Convolution rises fast and decays slowly; cross-correlation is that picture mirrored."
    return Drawing(fitted(title, words, items), details=rows)
