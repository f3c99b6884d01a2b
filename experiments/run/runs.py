"""What a training run leaves on disk: its settings, a JSON-lines log, and orbax checkpoints.

RUN/settings.json   what the run was begun with: only an equal run may go on from here
RUN/log.jsonl       a line for every measurement
RUN/checkpoints/    the newest state
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

Line = dict[str, Any]


class OtherSettingsError(ValueError):
    """A run that was begun with other settings cannot go on with these."""


class Run:
    """The folder of one training run; without a folder, a log in memory and no checkpoints.

    Over several processes all of them save, each its part, and the first one writes the rest.
    """

    def __init__(self, folder: Path | None, settings: dict[str, Any], resume: bool) -> None:
        """Begin afresh, or (`resume`) where the run in `folder` stopped, if there is one.

        Raises:
            OtherSettingsError: that run was begun with other settings.
        """
        self.lines: list[Line] = []
        self._manager: Any = None
        self._log: Path | None = None
        if folder is None:
            return
        import orbax.checkpoint as ocp

        first = jax.process_index() == 0
        if resume:
            _check_equal(folder, settings)
        elif first:
            shutil.rmtree(folder, ignore_errors=True)
        if first:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "settings.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
            self._log = folder / "log.jsonl"
        if jax.process_count() > 1:
            from jax.experimental.multihost_utils import sync_global_devices

            sync_global_devices("the run's folder is ready")
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager((folder / "checkpoints").absolute(), options=options)
        if resume:
            self.lines = _read(folder / "log.jsonl")

    def restore(self, state: Any) -> Any:
        """The newest saved state, of the shapes and shardings of `state`; `state` if none is."""
        if self._manager is None or self._manager.latest_step() is None:
            self._keep(lambda line: False)
            return state
        import orbax.checkpoint as ocp

        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state
        )
        step = self._manager.latest_step()
        found = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        self._keep(lambda line: line["step"] <= step)  # what came after it is computed again
        return found

    def save(self, step: int, state: Any) -> None:
        """Save the state after `step` steps; it is there whole or not at all."""
        if self._manager is not None and self._manager.latest_step() != step:
            import orbax.checkpoint as ocp

            self._manager.save(step, args=ocp.args.StandardSave(state), force=True)

    def log(self, line: Line) -> None:
        """Add a line."""
        self.lines.append(line)
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        if self._manager is not None:
            self._manager.close()

    def _keep(self, wanted: Any) -> None:
        self.lines = [line for line in self.lines if wanted(line)]
        if self._log is not None:
            text = "".join(json.dumps(line) + "\n" for line in self.lines)
            self._log.write_text(text, encoding="utf-8")


def _read(log: Path) -> list[Line]:
    """The whole lines of a log; a line that a kill cut short is none."""
    lines = []
    for text in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _check_equal(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / "settings.json"
    if not path.exists():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(settings))
    names: Iterable[str] = sorted({*before, *now})
    changed = [f"{n} {before.get(n)!r}, now {now.get(n)!r}" for n in names
               if before.get(n) != now.get(n)]  # fmt: skip
    if changed:
        raise OtherSettingsError(
            f"the run in {folder} was begun with other settings ({'; '.join(changed)}): "
            "leave --resume out to begin it again."
        )
