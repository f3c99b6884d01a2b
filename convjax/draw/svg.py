"""A scene as SVG text: structured, with a title, a description and classes, nothing from outside.

Only the classes that a picture uses are written into it.
"""

import base64
import html
import struct
import zlib
from collections.abc import Iterable

import numpy as np

from convjax.draw.colours import LOOKS, Look, Style
from convjax.draw.scene import Item, Path, Picture, Rect, Scene, Text

FONT = "system-ui,'Segoe UI','DejaVu Sans',sans-serif"


def document(
    scene: Scene, step: int | None = None, *, animated: bool = False, seconds: float = 1.0
) -> str:
    """The scene at one step, or with all of its steps one after the other, as one SVG element."""
    animated = animated and len(scene.frames) > 1
    shown = scene.frames if animated else ()
    used = [*scene.items, *(i for f in shown for i in f.items)] if animated else scene.at(step)
    title, words = scene.title, scene.described(step)
    ident = f"cj{zlib.crc32((title + words).encode()):08x}"
    body = elements(scene.items if animated else used)
    if animated:
        body += "".join(
            f'<g class="cj-step" style="animation-delay:{number * seconds:g}s">'
            f"{elements(frame.items)}</g>"
            for number, frame in enumerate(scene.frames)
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {scene.width:g} {scene.height:g}" '
        f'width="{scene.width:g}" height="{scene.height:g}" role="img" '
        f'aria-labelledby="{ident}-t {ident}-d" style="max-width:100%;height:auto">'
        f'<title id="{ident}-t">{html.escape(title)}</title>'
        f'<desc id="{ident}-d">{html.escape(words)}</desc>'
        f"<style>{styles(used)}{_motion(scene, seconds) if animated else ''}</style>"
        f'<rect class="cj-page" width="{scene.width:g}" height="{scene.height:g}"/>{body}</svg>\n'
    )


def elements(items: Iterable[Item]) -> str:
    """The items as SVG elements, in their order."""
    return "".join(map(_element, items))


def styles(items: Iterable[Item]) -> str:
    """The classes of these items, of the page and of its words."""
    roles = {"page": None} | {item.role: None for item in items if not item.role.startswith("#")}
    used = {role: LOOKS[role] for role in roles}
    font = f".cj-t{{font-family:{FONT};font-variant-numeric:tabular-nums}}"
    return font + _sheet(used)


def _sheet(looks: dict[str, Look]) -> str:
    light = "".join(_rule(role, look.light) for role, look in looks.items())
    dark = "".join(_rule(role, look.dark) for role, look in looks.items())
    return f"{light}@media screen and (prefers-color-scheme:dark){{{dark}}}"


def _rule(role: str, style: Style) -> str:
    parts = [f"fill:{style.fill}"]
    if style.stroke != "none":
        parts += [f"stroke:{style.stroke}", f"stroke-width:{style.width:g}"]
    if style.dash:
        parts.append("stroke-dasharray:" + " ".join(f"{d:g}" for d in style.dash))
    if style.opacity != 1:
        parts.append(f"opacity:{style.opacity:g}")
    return f".cj-{role}{{{';'.join(parts)}}}"


def _motion(scene: Scene, seconds: float) -> str:
    """One step after the other; only the still one for readers who asked for less motion."""
    count = len(scene.frames)
    share = f"{100 / count:.4f}"
    return (
        f"@keyframes cjs{count}{{0%,{share}%{{visibility:visible}}"
        f"{float(share) + 0.0001:.4f}%,100%{{visibility:hidden}}}}"
        f".cj-step{{visibility:hidden;animation:cjs{count} {count * seconds:g}s linear infinite}}"
        "@media print,(prefers-reduced-motion:reduce){.cj-step{animation:none}"
        f".cj-step:nth-last-of-type({count - scene.still}){{visibility:visible}}}}"
    )


def png(pixels: np.ndarray) -> bytes:
    """An image (H, W, 3), uint8, as a PNG file."""
    height, width, _ = pixels.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def _element(item: Item) -> str:
    if isinstance(item, Picture):
        data = base64.b64encode(png(item.pixels)).decode()
        square = "" if item.smooth else ' style="image-rendering:pixelated"'
        return (
            f'<image x="{_short(item.x)}" y="{_short(item.y)}" width="{_short(item.width)}" '
            f'height="{_short(item.height)}" preserveAspectRatio="none"{square} '
            f'href="data:image/png;base64,{data}"><title>{html.escape(item.name)}</title></image>'
        )
    if isinstance(item, Rect):
        look = f'fill="{item.role}"' if item.role[0] == "#" else f'class="cj-{item.role}"'
        key = f' data-k="{item.key}"' if item.key else ""
        radius = f' rx="{item.radius:g}"' if item.radius else ""
        shape = (
            f'{look} x="{_short(item.x)}" y="{_short(item.y)}" '
            f'width="{_short(item.width)}" height="{_short(item.height)}"{radius}{key}'
        )
        if item.name:
            return f"<rect {shape}><title>{html.escape(item.name)}</title></rect>"
        return f"<rect {shape}/>"
    if isinstance(item, Text):
        anchor = "" if item.anchor == "start" else f' text-anchor="{item.anchor}"'
        bold = ' font-weight="600"' if item.bold else ""
        at = f'x="{_short(item.x)}" y="{_short(item.y)}"'
        turn = f' transform="rotate(-90 {_short(item.x)} {_short(item.y)})"' if item.rotated else ""
        return (
            f'<text class="cj-t cj-{item.role}" {at} font-size="{item.size:g}"{anchor}{bold}{turn}>'
            f"{html.escape(item.words)}</text>"
        )
    line = "L".join(f"{_short(x)} {_short(y)}" for x, y in item.points)
    shape = f'<path class="cj-{item.role}" d="M{line}{"Z" if item.closed else ""}"/>'
    if not item.arrow:
        return shape
    head = "L".join(f"{_short(x)} {_short(y)}" for x, y in arrow_head(item))
    return shape + f'<path class="cj-{item.role}" d="M{head}"/>'


def arrow_head(item: Path) -> tuple[tuple[float, float], ...]:
    """The three points of the head that ends a path."""
    (x0, y0), (x1, y1) = item.points[-2:]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
    dx, dy = 6 * (x1 - x0) / length, 6 * (y1 - y0) / length
    return (
        (x1 - dx - 0.6 * dy, y1 - dy + 0.6 * dx),
        (x1, y1),
        (x1 - dx + 0.6 * dy, y1 - dy - 0.6 * dx),
    )


def _short(value: float) -> str:
    return f"{round(value, 2):g}"
