"""The page of a run, made again from its numbers: all claims, and no figures.

python -m experiments.page.stored DIR   reads DIR/results.json, writes DIR/index.html

Figures are drawn by the run itself: `python -m experiments` writes a page that has both.
"""

import json
import sys
from pathlib import Path
from typing import Any

from experiments.page.html import page
from experiments.page.report import Claim, Section

INTRO = "The statements of this experiment are above. Its figures are drawn by a run."


def sections(results: dict[str, Any]) -> list[Section]:
    """What `report.results` wrote, as sections without figures."""
    found: dict[str, Section] = {}
    for row in results["claims"]:
        name = row["experiment"]
        if name not in found:
            found[name] = Section(name, name.replace("_", " ").capitalize(), INTRO)
        found[name].claims.append(Claim(**row))
    return list(found.values())


def write(folder: Path, target: Path) -> None:
    """Write the page of the numbers in a folder to `target`."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(sections(results), results["made_with"]), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[1]) / "index.html")
