"""What all commands share: how they read options, compare results, and write a report."""

import argparse
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.harness import environment, machine, results, timing

environment.prepare()  # for who imports a command, and does not run it

RESULTS = machine.ROOT / "benchmarks" / "results"


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The reader of a command's options: the first sentence of `doc`, its module's, describes it.

    Args:
        name: of the command.
        doc: the docstring of its module.
    """
    about = " ".join((doc or "").split("\n\n")[0].split()).split(";")[0]
    return argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=f"{about}.")


def add_busy(p: argparse.ArgumentParser) -> None:
    """The option `--busy`, of the commands that time something."""
    p.add_argument(
        "--busy", type=_cores, default=0, metavar="N",
        help="keep N cores busy with other processes while timing; the file's name says so",
    )  # fmt: skip


def _cores(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"wants a number of cores, not {text!r}")
    return int(text)


def difference(found: Any, wanted: Any) -> float:
    """The largest difference of any leaf, relative to the largest value of the wanted one."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max() / max(np.abs(np.asarray(b)).max(), 1e-30))
        for a, b in pairs
    )


def timed(
    programs: Mapping[str, Callable[[], Any]],
    rounds: int,
    limit_s: float = 90.0,
    busy_cores: int = 0,
) -> timing.Samples:
    """Seconds of every program in interleaved rounds; every call is waited for."""
    wait = jax.block_until_ready
    contenders = {name: timing.Timed(call, wait) for name, call in programs.items()}
    return timing.interleaved(contenders, rounds, limit_s=limit_s, busy_cores=busy_cores)


def milliseconds(samples: timing.Samples) -> dict[str, float]:
    """The median of each program, in ms."""
    return {name: round(1e3 * timing.median(each), 2) for name, each in samples.items()}


def write(
    folder: pathlib.Path,
    report: Mapping[str, Any],
    *,
    sizes: str,
    of: str = "",
    busy_cores: int = 0,
) -> None:
    """Write ``FOLDER/[OF-]DEVICE-jax-VERSION[-busyN].json``, with the conditions, and print its
    path."""
    whole = {
        **report,
        "commit": machine.commit(),
        **machine.conditions("float32", {}, sizes, busy_cores),
    }
    words = (*([of] if of else []), machine.device(), "jax", jax.__version__)
    name = "-".join((*words, *machine.busy_words(busy_cores)))
    path = folder / f"{name}.json"
    results.write_json(path, whole)
    print(path)
