"""Run the experiments and write DIR/index.html and DIR/results.json.

python -m experiments                                    everything, into results/
python -m experiments photo groups                       two of them
python -m experiments --jobs 2                           two at a time, in processes of their own
python -m experiments filter_groups --profile standard   with several seeds, longer
python -m experiments filter_groups --profile full --data cifar-10-batches-bin

The page is there from the start, lists the sections to come, and is written again after each of
them. An experiment that fails gets a section that says so; the others go on, and the exit status
is 1. Training runs are kept in DIR/runs. After Ctrl-C or a crash the same command with --resume
goes on from their checkpoints. One command at a time may use a DIR. On several machines, or several
processes of one, every process runs the same command, and the first one writes. Slurm, Open MPI,
Cloud TPU and indexed Jobs of Kubernetes need no more; elsewhere set JAX_COORDINATOR_ADDRESS
(host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID. JAX_NUM_PROCESSES=1: run without the others.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.run.settings import PROFILES, Settings

EXTRA = "pip install -e '.[experiments]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones (default: all)")
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of every random number; several seeds are N, N+1, ... (default: 0)",
    )
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="default: quick")
    parser.add_argument(
        "--data",
        default="photos10",
        metavar="NAME|DIR",
        help="what to train on: photos10 (default), digits, or a folder with CIFAR-10's binary "
        "version",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the training runs in DIR/runs"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="experiments at a time, on a CPU (default: 1; elsewhere 1 whatever N)",
    )
    parser.add_argument("--list", action="store_true", help="list the experiments and stop")
    options = parser.parse_args(arguments)
    try:
        return _dispatch(options)
    except KeyboardInterrupt:
        kept = options.out / "runs"
        more = " --resume goes on from the last checkpoint." if kept.is_dir() else ""
        what = f"what is in {options.out} is of the experiments that were done"
        return _stop(f"interrupted; {what}.{more}", 130)


def _dispatch(options: argparse.Namespace) -> int:
    try:
        from experiments import registry
        from experiments.run import lock, processes
        from experiments.run.data import DataError, check
        from experiments.run.runs import OtherSettingsError
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("experiments", "convjax"):
            raise
        return _stop(f"the package {missing.name!r} is missing; install it with: {EXTRA}", 2)
    if options.jobs < 1:
        return _stop(f"--jobs {options.jobs} must be at least 1.", 2)
    if options.list:
        print("\n".join(registry.EXPERIMENTS))
        return 0
    try:
        chosen = registry.select(options.names)
        check(options.data, options.profile)
        processes.start()
    except ValueError as error:
        return _stop(str(error), 2)
    problem = _unwritable(options.out)
    if problem:
        return _stop(problem, 2)
    try:
        with lock.held(options.out):
            return _run(chosen, options)
    except (DataError, OtherSettingsError, lock.InUseError) as error:
        return _stop(str(error), 2)


def _run(chosen: dict[str, Any], options: argparse.Namespace) -> int:
    import jax
    from tqdm import tqdm

    from experiments import registry
    from experiments.page import report
    from experiments.page.html import page
    from experiments.run import pool

    start = time.perf_counter()
    first = jax.process_index() == 0  # the others compute along, and write nothing
    total = sum(len(module.PARTS) for module in chosen.values())
    waiting = {name: _to_come(name, module, options.profile) for name, module in chosen.items()}
    if first:
        for name, module in chosen.items():
            expected = getattr(module, "EXPECTED", {}).get(options.profile)
            if expected:
                print(f"{name}, profile {options.profile}: {expected}")
    with tqdm(
        total=total, unit="part", dynamic_ncols=True, mininterval=0.3, disable=not first
    ) as bar:

        def progress(label: str) -> None:
            bar.update()

        smoke = options.profile == "smoke"
        settings = Settings(
            options.profile,
            options.seed,
            options.data,
            None if smoke else options.out / "runs",
            options.resume,
            not smoke,
            progress,
        )
        found: dict[str, report.Section] = {}

        def write(stopped: bool = False) -> None:
            """What is known so far, as the page and as numbers."""
            made_with = _made_with(settings) | {"seconds": round(time.perf_counter() - start)}
            if settings.resume:
                made_with["resumed"] = True  # runs that were finished before took other seconds
            sections = [found[name] for name in chosen if name in found]
            texts = {
                "index.html": page(sections, made_with, list(waiting.values()), stopped=stopped),
                "results.json": report.results(sections, made_with, waiting),
            }
            report.write(options.out, texts)

        if first:
            write()
            print(f"{options.out / 'index.html'}: open it, it fills as the experiments end")
        jobs = options.jobs if jax.default_backend() == "cpu" and jax.process_count() == 1 else 1
        if jobs > 1:
            bar.set_description(f"{jobs} at a time")
            made = pool.at_once(registry.by_length(chosen), settings, min(jobs, len(chosen)))
        else:
            made = pool.in_turn(chosen, settings, bar.set_description)
        try:
            for name, section in made:
                found[name] = section
                waiting.pop(name)
                if first:
                    write()
        except BaseException:
            if first:
                write(stopped=True)
            raise
    sections = [found[name] for name in chosen]
    failures = [section for section in sections if section.failed]
    if not first:
        return 0
    print(report.summary(sections, shutil.get_terminal_size((120, 24)).columns))
    print(f"{options.out / 'index.html'} and {options.out / 'results.json'} written")
    for section in failures:
        print(f"\nexperiment {section.name!r} failed:\n{section.failed}", file=sys.stderr)
    if failures:
        return _stop(f"failed: {', '.join(section.name for section in failures)}.", 1)
    return 0


def _to_come(name: str, module: Any, profile: str) -> Any:
    """The experiment as the page lists it before it has run."""
    from experiments import registry
    from experiments.page.html import ToCome

    seconds = registry.SECONDS.get(name, 0) if profile == "quick" else 0
    expected = getattr(module, "EXPECTED", {}).get(profile, "")
    if seconds and not expected:
        long = seconds >= 90
        expected = f"about {round(seconds / 60)} minutes" if long else f"about {seconds} seconds"
    return ToCome(name, registry.about(name, module), expected)


def _made_with(settings: Settings) -> dict[str, Any]:
    import importlib.metadata
    import platform

    import jax

    from experiments.run.data import data_name

    def version(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "from its source tree"

    return {
        "convjax": version("convjax"),
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "python": platform.python_version(),
        "profile": settings.profile,
        "seed": settings.seed,
        "data": data_name(settings.data),
    }


def _unwritable(directory: Path) -> str:
    """Why the results cannot be written there; empty if they can (and the directory exists)."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"--out {directory} cannot be a directory ({error.strerror})."
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return f"--out {directory} is not writable, or not readable."
    return ""


def _stop(sentence: str, status: int) -> int:
    print(f"python -m experiments: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
