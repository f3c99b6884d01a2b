"""One cell after another: prepare the contenders, see that they agree, then time them."""

import dataclasses
import datetime
import gc
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.harness import hlo_text, machine, prepare, timing
from benchmarks.harness.ops import TORCH_PEERS, LeftOut
from benchmarks.harness.prepare import Contender
from benchmarks.harness.results import BUSY, Record
from benchmarks.harness.rows import Row
from benchmarks.harness.timing import Samples, Timed

LOOSER = {"bfloat16": 5e-2, "float16": 1e-2}
LOSS = 0.05  # weight of a loss' error: a float32 sum of millions of squares rounds much
GPU_TOLERANCE = 1e-2  # float32 convolutions run in TF32 there by default


class Unequal(Exception):
    """A contender's result is not lax's."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How cells are run.

    Attributes:
        compiler_options: those of every JAX library.
        onednn: the options of `convjax` and of `lax_onednn`, in place of these; None where there is
            no `lax_onednn`.
    """

    peers: Sequence[str]
    rounds: int = 7
    dtype: str = "float32"
    compiler_options: dict[str, Any] | None = None
    onednn: dict[str, Any] | None = None
    limit_s: float = 90.0
    busy_cores: int = 0
    commit: str = ""
    say: Callable[[str], None] = print

    def options_of(self, peer: str) -> dict[str, Any] | None:
        under_onednn = self.onednn is not None and peer in ("lax_onednn", "convjax")
        return self.onednn if under_onednn else self.compiler_options


def tolerance(row: Row, dtype: str) -> float:
    """The largest error allowed, relative to the largest value of the reference."""
    bound = LOOSER.get(dtype, row.tolerance)
    return bound if jax.default_backend() == "cpu" else max(bound, GPU_TOLERANCE)


def worst_error(found: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """The largest error of any array, relative to the largest value of its reference."""
    if len(found) != len(reference):
        return float("inf")
    worst = 0.0
    for one, other in zip(found, reference, strict=True):
        if one.shape != other.shape:
            return float("inf")
        error = np.abs(one.astype(np.float64) - other).max() / max(np.abs(other).max(), 1e-30)
        if one.ndim == 0:
            error *= LOSS
        worst = max(worst, error) if np.isfinite(error) else float("inf")
    return worst


def contenders_of(
    row: Row, cell: str, plan: Plan, dtype: str, arrays: Sequence[np.ndarray]
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Those that can run the row, and why the others cannot."""
    ready, out = {}, {}
    for peer in plan.peers:
        if row.peers and peer not in (*row.peers, "lax", "lax_onednn", "convjax"):
            continue
        try:
            ready[peer] = prepare.prepare(peer, row, cell, arrays, dtype, plan.options_of(peer))
        except LeftOut as why:
            out[peer] = str(why)
        except Exception as error:  # a peer's own limits must not end the table
            if peer in ("lax", "convjax"):
                raise
            out[peer] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    return ready, out


def check_equal(
    ready: dict[str, Contender],
    row: Row,
    cell: str,
    dtype: str,
    arrays: Sequence[np.ndarray],
    compiler_options: dict[str, Any] | None,
) -> dict[str, str]:
    """Raise `Unequal` unless all have lax's results; a peer that raises is left out, with why."""
    bound, out = tolerance(row, dtype), {}
    reference = ready["lax"].read(ready["lax"].call())
    if not all(np.isfinite(array).all() for array in reference):
        raise Unequal("lax's own results are not finite")
    for name, contender in list(ready.items()):
        expected = reference
        if contender.uses_same:
            expected = prepare.same_reference(row, cell, arrays, dtype, compiler_options)
        try:
            found = contender.read(contender.call())
        except Exception as error:
            if name in ("lax", "convjax"):
                raise
            out[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
            del ready[name]
            continue
        error_found = worst_error(found, expected)
        if error_found > bound:
            why = (
                f"{name} differs from lax by {error_found:.1e} of the largest value,"
                f" more than {bound:.0e}"
            )
            if name != "lax_onednn":  # which is known to be wrong in 16 bits on some processors
                raise Unequal(why)
            out[name] = why
            del ready[name]
    return out


def time_cell(ready: dict[str, Contender], plan: Plan, seed: int) -> tuple[Samples, bool]:
    """Samples of all, and whether convjax lost at first, so that they are of a second run."""
    each = jax.default_backend() == "cpu"
    timed = {name: Timed(c.call, c.wait, each) for name, c in ready.items()}
    options: dict[str, Any] = {"rng": random.Random(seed), "busy_cores": plan.busy_cores}
    samples = timing.interleaved(timed, plan.rounds, limit_s=plan.limit_s, **options)
    lost = any(
        timing.loses(timing.paired_ratio(samples, "convjax", way), timing.median(samples[way]))
        for way in ("lax", "lax_onednn")
        if "convjax" in samples and way in samples
    )
    if not lost:
        return samples, False
    again = timing.interleaved(timed, 2 * plan.rounds, limit_s=2 * plan.limit_s, **options)
    return again, True


def run_cell(row: Row, cell: str, plan: Plan) -> Record:
    """Everything about one cell. Raises `Unequal`."""
    dtype = row.dtype or plan.dtype
    arrays = row.draw()
    ready, out = contenders_of(row, cell, plan, dtype, arrays)
    out |= check_equal(ready, row, cell, dtype, arrays, plan.compiler_options)
    others = machine.Others()
    samples, rerun = time_cell(ready, plan, seed=len(row.name))
    busy = others.cores()
    record = Record(
        row=row.name,
        cell=cell,
        family=row.family,
        section=row.section,
        slow=row.slow,
        shape=row.shape,
        dtype=dtype,
        rounds=len(samples["lax"]),
        rerun=rerun,
        others=busy,
        left_out="; ".join(f"{peer}: {why}" for peer, why in out.items()),
        date=datetime.date.today().isoformat(),
        commit=plan.commit,
        ms={name: 1e3 * timing.median(values) for name, values in samples.items()},
    )
    if "convjax" in ready:
        _compare(record, ready, samples)
        record.lowerings = prepare.lowerings(row, cell, dtype, plan.options_of("convjax"))
        if prepare.all_direct(record.lowerings) and plan.onednn is None:
            same = hlo_text.same_program(ready["lax"].text, ready["convjax"].text)
            record.same_hlo = "yes" if same else "no"
    return record


def _compare(record: Record, ready: dict[str, Contender], samples: Samples) -> None:
    """Ratios convjax/peer, paired by round, and what the compiler says of both."""
    for name in samples:
        if name != "convjax":
            record.ratio[name] = timing.paired_ratio(samples, "convjax", name)
    there = [name for name in TORCH_PEERS if name in samples]
    if there:
        best = min(there, key=lambda name: record.ms[name])
        record.ms["torch"], record.ratio["torch"] = record.ms[best], record.ratio[best]
    record.ratio_low, record.ratio_high = timing.quartiles(timing.paired(samples, "convjax", "lax"))
    for name in ("lax", "convjax"):
        record.compile_s[name] = ready[name].compile_s
        record.temp_bytes[name] = ready[name].temp_bytes


def progress_text(record: Record) -> str:
    """One line about a finished cell."""
    shown = ("lax", "lax_onednn", "convjax", "flax", "equinox", "keras", "torch")
    names = [name for name in shown if name in record.ms]
    times = "  ".join(f"{name} {record.ms[name]:.3g}" for name in names)
    ratio = record.ratio.get("lax")
    end = f"  lax/convjax {1 / ratio:.2f}" if ratio else ""
    disturbed = (record.others or 0) > BUSY
    marks = f" (DISTURBED: {record.others:.1f} cores)" * disturbed if record.others else ""
    marks += " (rerun)" * record.rerun + " (same program)" * (record.same_hlo == "yes")
    return f"{record.row}, {record.cell} [ms]: {times}{end}  {record.lowerings}{marks}"


def run(
    rows: Sequence[Row],
    cells: Sequence[str],
    plan: Plan,
    save: Callable[[Record], None],
    progress: Any = None,
    done: Collection[tuple[str, str]] = (),
) -> list[str]:
    """Run every cell that is not `done` and save each; returns what was unequal."""
    unequal = []
    for row in rows:
        for cell in cells:
            if (row.name, cell) in done:
                continue
            try:
                record = run_cell(row, cell, plan)
            except Unequal as why:
                unequal.append(f"{row.name}, {cell}: {why}")
                plan.say(f"!!! UNEQUAL, not timed: {unequal[-1]}")
            else:
                save(record)
                plan.say(progress_text(record))
            gc.collect()
            if progress is not None:
                progress.update(1)
    return unequal
