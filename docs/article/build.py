"""Write every figure of the article into ``docs/article/pictures``.

``python docs/article/build.py`` writes F01.svg ... (moving ones move in the page) and, for those
that move, F01.html, a player. Names of figures as arguments write only those. Needs the package,
Flax, and scikit-learn with Pillow for the photographs (the extra ``experiments`` has all of them).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]  # the figures, and the package if not installed
PICTURES = HERE / "pictures"
SECONDS = 0.9  # per step of a moving picture


def write(folder: Path, wanted: Sequence[str] = ()) -> list[Path]:
    """Draw the wanted figures, or all, into a folder, and return the files."""
    from figures import FIGURES

    unknown = sorted(set(wanted) - set(FIGURES))
    if unknown:
        raise ValueError(
            f"no figure is named {', '.join(unknown)}: they are F1 to F{len(FIGURES)}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in FIGURES.items():
        if wanted and name not in wanted:
            continue
        start = time.monotonic()
        drawing = figure.draw()
        stem = f"F{int(name[1:]):02}"
        written.append(
            drawing.save(folder / f"{stem}.svg", animated=figure.moving, seconds=SECONDS)
        )
        if figure.moving:
            written.append(drawing.save(folder / f"{stem}.html", seconds=SECONDS))
        print(f"{stem} {time.monotonic() - start:5.1f} s  {figure.title}", flush=True)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is asked for, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", help="such as F4; all without it")
    parser.add_argument("--folder", type=Path, default=PICTURES)
    asked = parser.parse_args(arguments)
    try:
        write(asked.folder, asked.figures)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
