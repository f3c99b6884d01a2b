"""A cost model beside the rules: what each would lose on the committed measurements.

    python scripts/fit_select.py

The time of a lowering is a sum of its work times what a unit of each kind of work takes on a
target: multiply-accumulates in matrix products, elements that are gathered under windows, elements
that are written, products of whole arrays, and calls. The units are fitted to the files of
`benchmarks/select/` for every target, never below zero. Each row is predicted by units that were
fitted without its file. Printed are the geometric means of chosen over best: by the rules, by the
model, and by lax's own convolution.
"""

import argparse
import csv
import json
import math
from typing import Any

import jax
import numpy as np
import select_cases
import tune_select

import convjax
from convjax._lowerings import depth_fold, depth_sum
from convjax._lowerings.problem import Problem

KINDS = ("matrix", "gathered", "written", "vector", "calls")


def work(name: str, p: Problem) -> tuple[float, ...]:
    """The work of a lowering, in the order of KINDS."""
    outputs, window = math.prod(p.out_space), math.prod(p.window)
    products = p.n * p.groups * outputs * window * p.i * p.o
    gathered = products / p.o
    results = p.n * p.groups * outputs * p.o
    inputs = p.n * p.groups * math.prod(p.space) * p.i
    if name == "taps":
        return 0, 0, results, products, 1
    if name == "per_group":
        return products, gathered, results + 2 * inputs, 0, p.groups
    if name == "matmul":
        return products, 0, results + 2 * inputs, 0, window
    if name == "depth_sum":
        moved = p.n * depth_sum.elements_moved(p)
        planes = p.n * p.space[0] * math.prod(p.out_space[1:])
        return planes * window * p.i * p.o, planes * math.prod(p.window[1:]) * p.i, moved, 0, 2
    if name == "depth_fold":
        return products, gathered, results + p.n * depth_fold.elements_moved(p), 0, 2
    return products, gathered, results, 0, 1


def least_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The x >= 0 that brings a @ x nearest to b (multiplicative updates; a and b are positive)."""
    x = np.full(a.shape[1], 1e-6)
    gram, right = a.T @ a, a.T @ b
    for _ in range(20000):
        x *= right / np.maximum(gram @ x, 1e-30)
    return x


def measured() -> list[dict[str, Any]]:
    """All rows: file, target, problem, chosen lowering, and milliseconds of each lowering."""
    found = []
    for path in sorted(tune_select.FOLDER.glob("*.csv")):
        onednn = path.stem.upper() in select_cases.WITH_ONEDNN
        for row in csv.DictReader(path.read_text().splitlines()):
            x, kernel = (tuple(map(int, row[key].split("x"))) for key in ("x", "kernel"))
            options, dtype = json.loads(row["options"]), row.get("dtype", "float32")
            case = select_cases.Case(0, x, kernel, options, row["role"], dtype)
            target = tune_select.target_of(row, onednn)
            shapes = (jax.ShapeDtypeStruct(s, case.dtype) for s in tune_select.operand_shapes(case))
            (line,) = convjax.explain(tune_select.function(case, None), *shapes, target=target).rows
            ms = {k[:-3]: float(v) for k, v in row.items() if k.endswith(" ms") and v}
            place = f"jaxlib {row['jaxlib']}, {row['vector_bits']} bits" + ", with oneDNN" * onednn
            problem = problem_of(case, line.geometry)
            found.append({"file": path.stem, "place": place, "problem": problem, "ms": ms})
            # `channels_last` is the same call of lax, outside of loops
            found[-1]["rules"] = line.lowering if line.lowering in ms else "direct"
    return found


def problem_of(case: select_cases.Case, geometry: Any) -> Problem:
    """The sizes of a case, as `work` reads them."""
    groups = case.options.get("feature_group_count", 1)
    n, *space, channels = case.x
    *window, i, o = case.kernel
    out = geometry.output_space
    if case.role == "forward":
        sizes = (n, groups, i, o // groups, tuple(space), tuple(window))
    else:
        (_, *rows, _) = tune_select.operand_shapes(case)[1]
        sizes = (channels // groups, groups, n, o // groups, tuple(space), tuple(rows))
    return Problem(*sizes, out(*sizes[4:]), geometry, np.dtype("float32"), case.role)


def mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    rows = measured()
    for place in sorted({row["place"] for row in rows}):
        here = [row for row in rows if row["place"] == place]
        losses: dict[str, list[float]] = {"rules": [], "model": [], "lax": []}
        for file in sorted({row["file"] for row in here}):
            others = [r for r in here if r["file"] != file]
            pairs = [(work(k, r["problem"]), ms) for r in others for k, ms in r["ms"].items()]
            scale = 1 / np.array([ms for _, ms in pairs])
            units = least_squares(np.array([w for w, _ in pairs]) * scale[:, None], scale**0)
            for row in (r for r in here if r["file"] == file):
                ms, best = row["ms"], min(row["ms"].values())
                predicted = {k: float(np.dot(work(k, row["problem"]), units)) for k in ms}
                losses["rules"].append(ms[row["rules"]] / best)
                losses["model"].append(ms[min(predicted, key=predicted.__getitem__)] / best)
                if "direct" in ms:
                    losses["lax"].append(ms["direct"] / best)
        print(f"{place}, {len(here)} rows")
        for name, ratios in losses.items():
            print(f"  {name:6} {mean(ratios):.3f}, at most {max(ratios):.2f}")


if __name__ == "__main__":
    main()
