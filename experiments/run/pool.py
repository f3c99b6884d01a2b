"""Experiments one after the other in this process, or several at a time in processes of their own.

A process that dies takes its experiment with it, and no other: a new one takes its place.
"""

import dataclasses
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

from experiments.page.report import Section
from experiments.run.settings import Settings


def in_turn(
    chosen: dict[str, ModuleType], settings: Settings, begins: Callable[[str], Any]
) -> Iterator[tuple[str, Section]]:
    """Names and sections, in the order of `chosen`, made here; `begins` hears each name."""
    for name, module in chosen.items():
        begins(name)
        yield name, section(name, module, settings)


def section(name: str, module: ModuleType, settings: Settings) -> Section:
    """What the experiment found, or that it failed. Errors of the command's arguments go on."""
    import jax

    from experiments.run.data import DataError
    from experiments.run.runs import OtherSettingsError

    try:
        with jax.default_matmul_precision("highest"):  # on every device
            return module.run(settings)
    except (DataError, OtherSettingsError):
        raise
    except Exception:
        if jax.process_count() > 1:  # the others wait for what this one would have computed
            raise
        return failed(name, traceback.format_exc())


def failed(name: str, why: str) -> Section:
    """The section of an experiment that did not get to its end."""
    return Section(name, name.replace("_", " ").capitalize(), "", failed=why)


def at_once(
    names: Sequence[str], settings: Settings, jobs: int, serve: Callable[..., None] | None = None
) -> Iterator[tuple[str, Section]]:
    """Names and sections as they are done, by `jobs` processes that take experiments in this order.

    `serve` is what each process runs: `_serve`, but in tests.
    """
    waiting = list(names)
    cores = _shares(jobs)
    running: dict[Connection, _Worker] = {}
    try:
        while waiting or any(worker.name for worker in running.values()):
            while waiting and len(running) < jobs:
                free = next(share for share in cores if share not in _taken(running))
                own = dataclasses.replace(settings, progress=_silent)
                worker = _Worker(serve or _serve, free, own)
                running[worker.connection] = worker
            for worker in running.values():
                if waiting and not worker.name:
                    worker.begin(waiting.pop(0))
            for connection in wait([c for c, worker in running.items() if worker.name]):
                worker = running[connection]  # type: ignore[index]
                try:
                    kind, value = worker.connection.recv()
                except EOFError:
                    kind, value = "died", None
                if kind == "part":
                    settings.progress(value)
                elif kind == "error":
                    raise value
                elif kind == "died":
                    running.pop(worker.connection)
                    yield worker.name, failed(worker.name, worker.epitaph())
                else:
                    name, worker.name = worker.name, ""
                    yield name, value
    finally:
        for worker in running.values():
            worker.end()


def _silent(label: str) -> None:
    """A worker's settings get their own way to report progress."""


def _shares(jobs: int) -> list[tuple[int, ...]]:
    """The cores of each process: XLA's threads of several processes would wait for each other."""
    if not hasattr(os, "sched_getaffinity"):
        return [(job,) for job in range(jobs)]
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < jobs:
        return [(job, *cores) for job in range(jobs)]
    return [tuple(cores[job::jobs]) for job in range(jobs)]


def _taken(running: dict[Connection, Any]) -> list[tuple[int, ...]]:
    return [worker.cores for worker in running.values()]


class _Worker:
    """A process that computes one section after the other.

    Attributes:
        name: of the experiment that it is at, "" if none.
        connection: where it reports.
        cores: where it runs.
    """

    def __init__(
        self, serve: Callable[..., None], cores: tuple[int, ...], settings: Settings
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.name, self.cores = "", cores
        self.process = context.Process(target=serve, args=(theirs, cores, settings), daemon=True)
        self.process.start()
        theirs.close()  # so that its death closes the connection

    def begin(self, name: str) -> None:
        self.name = name
        try:
            self.connection.send(name)
        except OSError:
            pass  # it died; waiting for it says so

    def epitaph(self) -> str:
        self.process.join()
        return f"The process of this experiment died (exit code {self.process.exitcode})."

    def end(self) -> None:
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection, cores: tuple[int, ...], settings: Settings) -> None:
    """Compute the sections that are asked for, until this process is ended."""
    if hasattr(os, "sched_setaffinity"):  # before JAX counts the cores
        os.sched_setaffinity(0, set(cores) & os.sched_getaffinity(0))
    from experiments import registry

    def report(label: str) -> None:
        connection.send(("part", label))

    own = dataclasses.replace(settings, bars=False, progress=report)
    while True:
        try:
            name = connection.recv()
            found: Any = ("section", section(name, registry.EXPERIMENTS[name], own))
        except (EOFError, KeyboardInterrupt):
            return
        except Exception as error:
            found = ("error", error)
        connection.send(found)
