"""What every function of `convjax.draw` returns: a picture that notebooks show and files hold."""

import dataclasses
import html
from pathlib import Path
from typing import Any

from convjax._core import checks
from convjax.draw import pixels, player, svg
from convjax.draw.scene import Scene

ENDINGS = (".svg", ".png", ".gif", ".html")


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A picture, still or moving.

    In a notebook it displays itself: as a player if it moves, as SVG if not. ``str(drawing)`` is
    its text alternative.

    Attributes:
        scene: what is drawn, with its `title`, `words` (the text alternative) and `frames`.
        by: whether its steps go through cells of the "output" or of the "input".
        last: the number of the last tensor drawn; the first is 0.
        details: what was computed for it; see the function that made it.
    """

    scene: Scene
    by: str = "output"
    last: int = 1
    details: Any = None

    @property
    def title(self) -> str:
        """What it shows, in one line."""
        return self.scene.title

    @property
    def steps(self) -> int:
        """How many steps it has; 1 if it stands still."""
        return max(len(self.scene.frames), 1)

    def svg(self, *, step: int | None = None, animated: bool = False, seconds: float = 1.0) -> str:
        """SVG text of one step, or of all of them one after the other.

        Args:
            step: from 0 on; None means a typical one.
            animated: show every step for some time, for ever. It moves by CSS, so it does in an
                ``<img>`` too; readers who ask for reduced motion get one step.
            seconds: how long each step is shown.
        """
        self._check(step, seconds)
        return svg.document(self.scene, step, animated=animated, seconds=seconds)

    def html(self, *, seconds: float = 1.0) -> str:
        """A page that needs nothing but itself: the picture, a slider, a play button, keys."""
        self._check(None, seconds)
        return player.page(self.scene, seconds=seconds, by=self.by, last=self.last)

    def image(self, *, step: int | None = None, scale: float = 2, theme: str = "light") -> Any:
        """A ``PIL.Image`` of one step, in `scale` pixels per pixel of the SVG; needs Pillow."""
        self._check(step, 1)
        checks.choice("image", "theme", theme, pixels.THEMES)
        return pixels.image(self.scene, step, scale=scale, theme=theme)

    def save(
        self,
        path: Any,
        *,
        step: int | None = None,
        animated: bool = False,
        seconds: float = 1.0,
        scale: float = 2,
        theme: str = "light",
    ) -> Any:
        """Write a file of the kind that its ending names, and return its path, a ``pathlib.Path``.

        Args:
            path: ends in .svg or .png (one step), .gif (all steps) or .html (a player).
            step: of a .svg or .png; None means a typical one.
            animated: let a .svg show all steps; see `svg`.
            seconds: how long each step is shown.
            scale: pixels of a .png or .gif per pixel of the SVG.
            theme: "light" or "dark", of a .png or .gif; the others follow the reader's screen.

        Raises:
            ValueError: another ending, a step that it has not, seconds or scale not above 0.
            ImportError: a .png or .gif without Pillow (the extra `draw`).
        """
        file = Path(path)
        if file.suffix.lower() not in ENDINGS:
            checks.fail("save", "path", str(path), f"must end in one of {', '.join(ENDINGS)}")
        self._check(step, seconds)
        if not scale > 0:
            checks.fail("save", "scale", scale, "must be above 0")
        checks.choice("save", "theme", theme, pixels.THEMES)
        if file.suffix.lower() == ".svg":
            text = self.svg(step=step, animated=animated, seconds=seconds)
            file.write_text(text, encoding="utf-8")
        elif file.suffix.lower() == ".html":
            file.write_text(self.html(seconds=seconds), encoding="utf-8")
        elif file.suffix.lower() == ".png":
            pixels.save_png(self.scene, file, step, scale, theme)
        else:
            pixels.save_gif(self.scene, file, seconds, scale, theme)
        return file

    def _check(self, step: int | None, seconds: float) -> None:
        if step is not None and not 0 <= checks.integer("Drawing", "step", step) < self.steps:
            rule = f"must be from 0 to {self.steps - 1}: the drawing has {self.steps} steps"
            checks.fail("Drawing", "step", step, rule)
        if not seconds > 0:
            checks.fail("Drawing", "seconds", seconds, "must be above 0")

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_html_(self) -> str:
        if not self.scene.frames:
            return self.svg()
        page = html.escape(self.html(), quote=True)
        height = round(self.scene.height) + 260
        return (
            f'<iframe srcdoc="{page}" title="{html.escape(self.title, quote=True)}" '
            f'style="width:100%;height:{height}px;border:0"></iframe>'
        )

    def __str__(self) -> str:
        return f"{self.title}\n{self.scene.described()}"
