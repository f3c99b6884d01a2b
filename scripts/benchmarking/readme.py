"""The README's benchmark table, from the CSV files that are in the repository."""

import pathlib
import re
from collections.abc import Sequence

from benchmarking import summary
from benchmarking.machine import ROOT
from benchmarking.results import Table, load

FOLDER = ROOT / "benchmarks"
START, END = "<!-- benchmark -->\n", "<!-- end of benchmark -->"
NOTHING = "No results are in `benchmarks/` yet."


def files(folder: pathlib.Path = FOLDER) -> list[pathlib.Path]:
    """The results that are kept: neither a quick run's nor an unfinished one's."""
    paths = sorted(folder.glob("*.csv")) if folder.is_dir() else []
    return [p for p in paths if not p.stem.endswith(("-quick", ".partial"))]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _means(tables: dict[str, Table]) -> list[str]:
    header = (
        "results",
        "cell",
        "slow families: lax/convjax",
        "convjax/PyTorch",
        "whole table: convjax/PyTorch",
        "cells slower than lax",
    )
    lines = [_row(header), "|" + "---|" * len(header)]
    for name, table in tables.items():
        for m in summary.means(table.records):
            there = [r for r in table.records if r.cell == m.cell]
            if not there:
                continue
            lines.append(
                _row(
                    (
                        f"[{name}](benchmarks/{name}.csv)",
                        m.cell,
                        summary.number(m.lax_over_us),
                        summary.number(m.us_over_torch),
                        summary.number(m.us_over_torch_all),
                        f"{len(summary.losing(there))} of {len(there)}",
                    )
                )
            )
    return lines


def _families(name: str, table: Table) -> list[str]:
    header = ("family", "forward: lax/convjax", "convjax/PyTorch")
    lines = [f"`{name}`, by family:", ""]
    lines += [_row((*header, "training: lax/convjax", "convjax/PyTorch")), "|" + "---|" * 5]
    for family in summary.families(table.records):
        numbers = [
            summary.number(value)
            for cell in summary.CELLS
            for value in summary.family_means(table.records, family, cell)
        ]
        lines.append(_row((family, *numbers)))
    return lines


def markdown(folder: pathlib.Path = FOLDER) -> str:
    """What stands between the markers."""
    tables = {path.stem: load(path) for path in files(folder)}
    if not tables:
        return NOTHING + "\n"
    lines = _means(tables)
    for name, table in tables.items():
        if not name.endswith("-options"):
            lines += ["", *_families(name, table)]
    return "\n".join(lines) + "\n"


def between_markers(text: str) -> re.Match[str]:
    found = re.search(f"({re.escape(START)})(.*?)({re.escape(END)})", text, re.DOTALL)
    if not found:
        raise ValueError(f"README.md lacks the markers {START.strip()} and {END}")
    return found


def rewrite(path: pathlib.Path = ROOT / "README.md", folder: pathlib.Path = FOLDER) -> bool:
    """Put the table into the README; whether that changed it."""
    text = path.read_text(encoding="utf-8")
    found = between_markers(text)
    new = text[: found.start(2)] + markdown(folder) + text[found.end(2) :]
    path.write_text(new, encoding="utf-8")
    return new != text
