"""The tables of docs/devices.md, from the files in benchmarks/results/devices and .../scale."""

import math
from collections.abc import Iterable
from pathlib import Path

from compiled import scale, table, targets

PAGE = table.ROOT / "docs" / "devices.md"
_START, _END = "<!-- compiled -->\n", "<!-- end of compiled -->"
_SCALE, _END_OF_SCALE = "<!-- scale -->\n", "<!-- end of scale -->"


def pairs(lines: Iterable[dict[str, str]]) -> list[tuple[dict[str, str], dict[str, str]]]:
    """(lax's line, this library's) for each cell."""
    ours = {_cell(line): line for line in lines if line["library"] == "convjax"}
    return [
        (line, ours[_cell(line)])
        for line in lines
        if line["library"] == "lax" and _cell(line) in ours
    ]


def _cell(line: dict[str, str]) -> tuple[str, ...]:
    return tuple(line[column] for column in ("target", "dtype", "program", "row"))


def is_grouped(line: dict[str, str]) -> bool:
    return line["kind"] in ("grouped", "pointwise grouped")


def ratio(lax: dict[str, str], ours: dict[str, str], column: str = "cycles") -> float:
    """How many times as much lax's program takes."""
    return int(lax[column]) / int(ours[column])


def mean(ratios: list[float]) -> float:
    """Geometric."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def differs(lax: dict[str, str], ours: dict[str, str], what: str) -> bool:
    """Whether this library's program is another than lax's, or another count was read in it."""
    return set(ours["lowerings"].split()) != {"direct"} or lax[what] != ours[what]


def markdown() -> str:
    """A table for every target that has a file: of the programs that differ from lax's."""
    parts = []
    for name, target in targets.TARGETS.items():
        found = pairs(table.read(table.FOLDER / f"{name}.csv"))
        if not found:
            continue
        what = "cycles" if target.platform == "tpu" else "bytes"
        unit = "thousand cycles" if what == "cycles" else "MB"
        scale = 1000 if what == "cycles" else 10**6
        rows = [
            f"### {name}: {unit}\n",
            "| layer | program | dtype | lax | convjax | ratio | compiled by |",
            "|---|---|---|--:|--:|--:|---|",
        ]
        differing = [pair for pair in found if differs(*pair, what)]
        for lax, ours in differing:
            a, b = (int(line[what]) / scale for line in (lax, ours))
            held = "" if lax["fitted"] == "1" else " (held out)"
            names = " ".join(f"`{name}`" for name in dict.fromkeys(ours["lowerings"].split()))
            cells = (
                f"{lax['row']}{held}",
                lax["program"],
                lax["dtype"],
                f"{a:,.0f}",
                f"{b:,.0f}",
                f"{a / b:.2f}",
                names,
            )
            rows.append(f"| {' | '.join(cells)} |")
        same = len(found) - len(differing)
        rows.append(f"\nBoth programs are `lax`'s in {same} of {len(found)} cells." if same else "")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def of_scale() -> str:
    """A table of training steps: what one device holds and exchanges, beside the formulas; MB."""
    rows = [
        "| network | split by | target | parameters | temporaries | exchanged "
        "| gradients | slices | sums | collectives |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for line in table.read(scale.FILE):
        columns = ("collective_bytes", "formula_gradients", "formula_slices", "formula_sums")
        held = 4 * int(line["parameters"]), int(line["temporaries"])
        numbers = [_megabytes(size) for size in (*held, *(int(line[name]) for name in columns))]
        names = (line["network"], line["split"], line["target"])
        rows.append(f"| {' | '.join((*names, *numbers, line['collectives'] or 'none'))} |")
    return "\n".join(rows) + "\n"


def _megabytes(size: int) -> str:
    return f"{size / 10**6:.2f}" if size else "0"


def written(page: str) -> str:
    """The page with both tables between their marks."""
    for content, start, end in ((markdown(), _START, _END), (of_scale(), _SCALE, _END_OF_SCALE)):
        before, _, rest = page.partition(start)
        page = before + start + "\n" + content + "\n" + end + rest.partition(end)[2]
    return page


def update(page: Path = PAGE) -> None:
    """Write the tables into the page."""
    page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
