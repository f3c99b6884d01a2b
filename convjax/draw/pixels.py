"""A scene as pixels: PNG, and GIF with one picture per step. Needs pillow (the extra `draw`)."""

import functools
from collections.abc import Sequence
from pathlib import Path as File
from typing import Any

import numpy as np

from convjax.draw.colours import Style, look, mixed
from convjax.draw.scene import Frame, Item, Picture, Rect, Scene, Text
from convjax.draw.svg import arrow_head

THEMES = ("light", "dark")
_COLOURS = 63  # of a GIF, and one more for what stays as it was
_SMOOTH = 2  # pictures are drawn this much larger, and reduced: Pillow's lines are not smooth


def image(scene: Scene, step: int | None = None, *, scale: float = 2, theme: str = "light") -> Any:
    """The scene at one step as a ``PIL.Image``."""
    pillow, drawing = _pillow()
    size = round(scene.width * scale), round(scene.height * scale)
    factor = scale * _SMOOTH
    canvas = pillow.new("RGB", (size[0] * _SMOOTH, size[1] * _SMOOTH), _style("page", theme).fill)
    pen = drawing.Draw(canvas)
    for item in scene.at(step):
        _draw(canvas, pen, item, factor, theme)
    return canvas.resize(size, pillow.Resampling.LANCZOS)


def save_png(scene: Scene, path: File, step: int | None, scale: float, theme: str) -> None:
    """Write one step."""
    picture = image(scene, step, scale=scale, theme=theme)
    words = _information(scene.title, scene.described(step))
    picture.save(path, format="PNG", pnginfo=words)


def save_gif(scene: Scene, path: File, seconds: float, scale: float, theme: str) -> None:
    """Write all steps, for ever, in colours of one palette, so that what rests does not flicker."""
    pillow, drawing = _pillow()
    # Not enlarged and reduced as stills are: even colours keep the file small.
    size = round(scene.width * scale), round(scene.height * scale)
    rest = pillow.new("RGB", size, _style("page", theme).fill)
    for item in scene.items:
        _draw(rest, drawing.Draw(rest), item, scale, theme)
    pictures = []
    for frame in scene.frames or (Frame(),):
        picture = rest.copy()
        for item in frame.items:
            _draw(picture, drawing.Draw(picture), item, scale, theme)
        pictures.append(picture)
    sample = pictures[:: max(1, len(pictures) // 4)]
    column = pillow.new("RGB", (size[0], size[1] * len(sample)))
    for row, picture in enumerate(sample):
        column.paste(picture, (0, row * size[1]))
    palette = column.quantize(_COLOURS)
    found = [np.asarray(p.quantize(palette=palette, dither=pillow.Dither.NONE)) for p in pictures]
    frames = [pillow.fromarray(found[0], "P")]
    for before, after in zip(found, found[1:], strict=False):
        # What does not change stays transparent: a long run of one number, which is stored short.
        frames.append(
            pillow.fromarray(np.where(after == before, _COLOURS, after).astype(np.uint8), "P")
        )
    colours = np.array(palette.getpalette()[: 3 * _COLOURS], int).reshape(-1, 3)
    # Quantizing moves the page's colour a little.
    colours[found[0][0, 0]] = pictures[0].getpixel((0, 0))
    for frame in frames:
        frame.putpalette([*colours.ravel().tolist(), 0, 0, 0])
    options: dict[str, Any] = {"comment": scene.title.encode()}
    if len(frames) > 1:
        options |= {"append_images": frames[1:], "duration": round(seconds * 1000), "loop": 0}
        options |= {"save_all": True, "transparency": _COLOURS, "disposal": 1}
    frames[0].save(path, format="GIF", optimize=False, **options)


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError(
            "convjax.draw: PNG and GIF need Pillow: `pip install convjax[draw]`. "
            "SVG and HTML need nothing."
        ) from error
    return Image, ImageDraw


def _information(title: str, words: str) -> Any:
    from PIL.PngImagePlugin import PngInfo

    information = PngInfo()
    information.add_itxt("Title", title)
    information.add_itxt("Description", words)
    return information


@functools.cache
def _font(size: int, bold: bool) -> Any:
    """DejaVu Sans, which comes with matplotlib, or the font that comes with Pillow."""
    from PIL import ImageFont

    try:
        import matplotlib

        folder = File(matplotlib.get_data_path()) / "fonts" / "ttf"
        name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
        return ImageFont.truetype(str(folder / name), size)
    except (ImportError, OSError):
        return ImageFont.load_default(size)


def _style(role: str, theme: str) -> Style:
    return getattr(look(role), theme)


def _blended(colour: str, style: Style, page: Style) -> str:
    """A colour as it is seen through the style's opacity."""
    return colour if style.opacity == 1 else mixed(page.fill, colour, style.opacity)


def _draw(canvas: Any, pen: Any, item: Item, factor: float, theme: str) -> None:
    if isinstance(item, Picture):
        pillow, _ = _pillow()
        x0, y0, x1, y1 = (round(value * factor) for value in item.bounds())
        way = pillow.Resampling.BICUBIC if item.smooth else pillow.Resampling.NEAREST
        picture = pillow.fromarray(item.pixels).resize((x1 - x0, y1 - y0), way)
        canvas.paste(picture, (x0, y0))
        return
    style = _style(item.role, theme)
    page = _style("page", theme)
    fill = None if style.fill == "none" else _blended(style.fill, style, page)
    stroke = None if style.stroke == "none" else _blended(style.stroke, style, page)
    width = max(1, round(style.width * factor)) if stroke else 0
    dash = tuple(d * factor for d in style.dash)
    if isinstance(item, Rect):
        left, top, right, bottom = (value * factor for value in item.bounds())
        box, radius = (left, top, right, bottom), item.radius * factor
        pen.rounded_rectangle(
            box, radius, fill=fill, outline=None if dash else stroke, width=0 if dash else width
        )
        if dash and stroke:
            corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
            _lines(pen, corners, stroke, width, dash)
    elif isinstance(item, Text):
        font = _font(max(1, round(item.size * factor)), item.bold)
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[item.anchor]
        at = item.x * factor, item.y * factor
        if item.rotated:
            _turned(canvas, item.words, font, at, style.fill)
        else:
            pen.text(at, item.words, fill=style.fill, font=font, anchor=anchor)
    else:
        points = [(x * factor, y * factor) for x, y in item.points]
        if fill and item.closed:
            pen.polygon(points, fill=fill)
        if stroke:
            _lines(pen, [*points, *points[:1]] if item.closed else points, stroke, width, dash)
            if item.arrow:
                head = [(x * factor, y * factor) for x, y in arrow_head(item)]
                _lines(pen, head, stroke, width, ())


def _lines(
    pen: Any,
    points: Sequence[tuple[float, float]],
    colour: str,
    width: int,
    dash: tuple[float, ...],
) -> None:
    """Lines through points, solid or dashed."""
    if not dash:
        pen.line(list(points), fill=colour, width=width, joint="curve")
        return
    on, off = dash[0], dash[-1]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        at = 0.0
        while at < length:
            end = min(at + on, length)
            ends = [
                (x0 + (x1 - x0) * part / length, y0 + (y1 - y0) * part / length)
                for part in (at, end)
            ]
            pen.line(ends, fill=colour, width=width)
            at = end + off


def _turned(canvas: Any, words: str, font: Any, at: tuple[float, float], colour: str) -> None:
    """Words that read from below to above, centred on a point."""
    pillow, drawing = _pillow()
    left, top, right, bottom = font.getbbox(words, anchor="ls")
    mask = pillow.new("L", (round(right - left) + 4, round(bottom - top) + 4))
    drawing.Draw(mask).text((2 - left, 2 - top), words, fill=255, font=font, anchor="ls")
    mask = mask.rotate(90, expand=True)
    where = round(at[0] + top), round(at[1] - mask.height / 2)
    canvas.paste(colour, where, mask)
