"""The tables of README.md and docs/benchmarks.md, from the results that are in the repository."""

import json
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.harness import summary
from benchmarks.harness.machine import ROOT
from benchmarks.harness.results import Table, load

FOLDER = ROOT / "benchmarks" / "results"
# The README shows these training steps, of the newest jax that was measured.
GAINS = "cpu2-avx512-float32-jax-0.12.0.1"
GAINS_ROWS = {
    "dense 3x3": "dense 3×3",
    "depthwise 3x3": "depthwise 3×3",
    "grouped g=32 3x3": "grouped 3×3, 32 groups",
    "transposed k4 s2": "transposed 4×4, stride 2",
    "3D 3x3x3 stride 2": "3-D 3×3×3, stride 2",
    "MobileNet-like": "a network like MobileNet",
}
GAINS_MODELS = "cpu2-avx512-jax-0.12.0.1"
LIBRARIES = {"ResNeXt50": "Flax", "ConvMixer": "Equinox"}  # the other models are Keras applications
MORE_MEMORY, MORE_BYTES = 1.5, 2**20
NOTHING = "No results are in `benchmarks/results/` yet."


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
                        f"[{name}](../benchmarks/results/{name}.csv)",
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


def _other_dtypes(tables: dict[str, Table]) -> list[str]:
    header = ("results", "dtype", "cell", "rows", "lax/convjax", "convjax/PyTorch")
    lines = [_row(header), "|" + "---|" * len(header)]
    for name, table in tables.items():
        link = f"[{name}](../benchmarks/results/{name}.csv)"
        for dtype, cell, rows, lax, torch in summary.means_by_dtype(table.records):
            numbers = (str(rows), summary.number(lax), summary.number(torch))
            lines.append(_row((link, dtype, cell, *numbers)))
    if len(lines) == 2:
        return []
    return ["", "Rows of 16-bit floats, PyTorch's of the same dtype:", "", *lines]


def _json(folder: pathlib.Path, kind: str) -> dict[str, dict[str, Any]]:
    """What other commands measured: by the file's name, in the order of names."""
    paths = sorted((folder / kind).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def _memory(folder: pathlib.Path) -> list[str]:
    header = (
        "results",
        "all cells: convjax/lax",
        "cells with much more than lax",
        "cells over lax and a copy",
    )
    lines = ["### Temporary memory", "", _row(header), "|" + "---|" * len(header)]
    for name, found in _json(folder, "memory").items():
        pairs = [(c["resident"]["convjax"], c["resident"]["lax"]) for c in found["cells"]]
        ratio = sum(ours for ours, _ in pairs) / sum(theirs for _, theirs in pairs)
        more = sum(o > MORE_MEMORY * t and o > t + MORE_BYTES for o, t in pairs)
        link = f"[{name}](../benchmarks/results/memory/{name}.json)"
        counts = (f"{more} of {len(pairs)}", _over_a_copy(found["cells"]))
        lines.append(_row((link, summary.number(ratio), *counts)))
    about = (
        '"Much more" is over 1.5 times as much, and over 1 MB more. "A copy" is one of the input '
        "and the result."
    )
    return [*lines, "", about]


def _over_a_copy(cells: Sequence[dict[str, Any]]) -> str:
    """How many cells take more than lax and a copy; a dash where an older file does not say."""
    if not all("copy" in cell for cell in cells):
        return "-"
    over = [c for c in cells if c["resident"]["convjax"] - c["resident"]["lax"] > c["copy"]]
    return f"{len(over)} of {len(cells)}"


def _accelerated(folder: pathlib.Path) -> list[str]:
    header = ("library", "as it is, ms", "accelerated, ms", "faster")
    lines = ["### A small model of each library under `accelerate`", ""]
    for name, found in _json(folder, "accelerate").items():
        lines += [f"[{name}](../benchmarks/results/accelerate/{name}.json):", ""]
        lines += [_row(header), "|" + "---|" * len(header)]
        for library, cells in found["libraries"].items():
            times = (cells["ms"]["as it is"], cells["ms"]["accelerated"], cells["faster"])
            label = library.replace("_", " ").capitalize()
            lines.append(_row((label, *(summary.number(time) for time in times))))
    return lines


def _networks(folder: pathlib.Path) -> list[str]:
    header = ("results", "options", "Flax, ms", "convjax, ms", "Flax/convjax")
    lines = ["### Networks of `convjax.models`", "", _row(header), "|" + "---|" * len(header)]
    for name, found in _json(folder, "networks").items():
        options = ", ".join([*found["options"], f"batch={found['shape'][0]}"])
        times = (found["ms"]["flax"], found["ms"]["convjax"], found["flax/convjax"])
        link = f"[{name}](../benchmarks/results/networks/{name}.json)"
        lines.append(_row((link, options, *(summary.number(time) for time in times))))
    return lines


def _model(name: str) -> str:
    return f"{name}, {LIBRARIES.get(name, 'Keras')}"


def _models(folder: pathlib.Path) -> list[str]:
    every = ("lax", "lax, oneDNN", "convjax", "convjax, options", "convjax.jit", "PyTorch")
    lines = ["### Whole models", ""]
    for file, report in _json(folder, "models").items():
        there = {
            way for cells in report["models"].values() for found in cells.values() for way in found
        }
        ways = [way for way in every if way in there]
        header = ("model", "program", *ways, "compile, s", "temporaries, MiB")
        shape = "×".join(map(str, report["shape"]))
        lines += [
            f"[{file}](../benchmarks/results/models/{file}.json), input {shape}, times in ms. The"
            " last two columns have `lax` and convjax:",
            "",
            _row(header),
            "|" + "---|" * len(header),
        ]
        for name, programs in report["models"].items():
            for program, cells in programs.items():
                times = [summary.number(cells[way]["ms"]) if way in cells else "—" for way in ways]
                more = [
                    ", ".join(summary.number(cells[way][column]) for way in ("lax", "convjax"))
                    for column in ("compile_s", "temporaries_mib")
                ]
                lines.append(_row((_model(name), program, *times, *more)))
    return lines


def markdown(folder: pathlib.Path = FOLDER) -> str:
    """What stands between the markers of docs/benchmarks.md."""
    tables = {path.stem: load(path) for path in files(folder)}
    if not tables:
        return NOTHING + "\n"
    lines = [*_means(tables), *_other_dtypes(tables)]
    for name, table in tables.items():
        if not name.endswith("-options"):
            lines += ["", *_families(name, table)]
    for kind, section in (
        ("models", _models),
        ("accelerate", _accelerated),
        ("networks", _networks),
        ("memory", _memory),
    ):
        if (folder / kind).is_dir():
            lines += ["", *section(folder)]
    return "\n".join(lines) + "\n"


def _machine(table: Table) -> str:
    """Which processor and which versions, in words."""
    names = [part.strip() for part in table.header["machine"].split(",")]
    versions = dict(part.rsplit(" ", 1) for part in table.header["versions"].split(", "))
    torch = versions["torch"].split("+")[0]
    return f"{names[1]} of an {names[0]} (AVX-512), jax {versions['jax']}, PyTorch {torch}"


def gains(folder: pathlib.Path = FOLDER) -> str:
    """What stands between the markers of README.md: a few training steps, measured."""
    table = load(folder / f"{GAINS}.csv")
    cells = {r.row: r for r in table.records if r.cell == "training"}
    header = ("training step, float32", "`lax`, ms", "convjax, ms", "PyTorch, ms")
    lines = [_row(header), "|" + "---|" * len(header)]
    for row, label in GAINS_ROWS.items():
        record = cells[row]
        shape = record.shape.split(",")[0].replace("x", "×").replace("->", " → ")
        times = (record.ms["lax"], record.ms["convjax"], record.ms["torch"])
        lines.append(_row((f"{label} ({shape})", *map(summary.number, times))))
    lines += ["", *_whole_models(folder)]
    lines += ["", f"Measured on {_machine(table)} in its faster memory format."]
    return "\n".join(lines) + "\n"


def _whole_models(folder: pathlib.Path) -> list[str]:
    """The training steps of models of others: as they are, and under `accelerate`."""
    report = _json(folder, "models")[GAINS_MODELS]
    shape = "×".join(map(str, report["shape"]))
    header = (
        f"training step of a whole model, {shape}",
        "`lax`, ms",
        "accelerated, ms",
        "PyTorch, ms",
    )
    lines = [_row(header), "|" + "---|" * len(header)]
    for name, programs in report["models"].items():
        cells = programs["training"]
        times = (
            cells[way]["ms"] if way in cells else None for way in ("lax", "convjax", "PyTorch")
        )
        lines.append(
            _row((_model(name), *("—" if t is None else summary.number(t) for t in times)))
        )
    return lines


# Each page: the name of its markers, and what stands between them.
PAGES: dict[str, tuple[str, Callable[[pathlib.Path], str]]] = {
    "README.md": ("gains", gains),
    "docs/benchmarks.md": ("benchmark", markdown),
}


def markers(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->\n", f"<!-- end of {name} -->"


def between_markers(text: str, name: str) -> re.Match[str]:
    start, end = markers(name)
    found = re.search(f"({re.escape(start)})(.*?)({re.escape(end)})", text, re.DOTALL)
    if not found:
        raise ValueError(f"the page lacks the markers {start.strip()} and {end}")
    return found


def rewrite(root: pathlib.Path = ROOT, folder: pathlib.Path = FOLDER) -> list[str]:
    """Put the tables into their pages; the pages that this changed."""
    changed = []
    for page, (name, table) in PAGES.items():
        path = root / page
        text = path.read_text(encoding="utf-8")
        found = between_markers(text, name)
        new = text[: found.start(2)] + table(folder) + text[found.end(2) :]
        path.write_text(new, encoding="utf-8")
        changed += [page] * (new != text)
    return changed
