"""The CSV file: one line per cell, comments with the conditions, written so that nothing is lost.

Times are medians in ms; a ratio is the median over rounds of convjax/peer in the same round.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

TIMED = (
    *("lax", "lax_onednn", "convjax", "flax", "equinox", "keras"),
    *("torch_nchw", "torch_nhwc", "torch"),
)
COMPARED = tuple(name for name in TIMED if name != "convjax")
COMPILED = ("lax", "convjax")
BUSY = 0.2  # cores that others may use while a cell is timed
_GROUPS = {"ms": TIMED, "ratio": COMPARED, "compile_s": COMPILED, "temp_bytes": COMPILED}


@dataclasses.dataclass
class Record:
    """One cell of the table. `ratio_low` and `ratio_high` are the quartiles of convjax/lax."""

    row: str
    cell: str
    family: str
    section: str = "main"
    slow: bool = False
    shape: str = ""
    dtype: str = "float32"
    lowerings: str = ""
    same_hlo: str = ""  # "yes" or "no" where all is direct: whether the program is lax's
    rounds: int = 0
    rerun: bool = False
    others: float | None = None  # cores that other processes kept busy meanwhile
    ratio_low: float | None = None
    ratio_high: float | None = None
    ms: dict[str, float] = dataclasses.field(default_factory=dict)
    ratio: dict[str, float] = dataclasses.field(default_factory=dict)
    compile_s: dict[str, Any] = dataclasses.field(default_factory=dict)
    temp_bytes: dict[str, Any] = dataclasses.field(default_factory=dict)
    left_out: str = ""
    date: str = ""
    commit: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.row, self.cell


_FIELDS = {field.name: field.type for field in dataclasses.fields(Record)}


def columns() -> list[str]:
    """The names of the columns: a group's are `group:member`."""
    names: list[str] = []
    for field in _FIELDS:
        names += [f"{field}:{m}" for m in _GROUPS[field]] if field in _GROUPS else [field]
    return names


def _write_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _read_value(text: str, kind: Any) -> Any:
    if kind is bool:
        return text == "yes"
    if kind is int:
        return int(text)
    if kind is str:
        return text
    return float(text) if text else None


def to_line(record: Record) -> dict[str, str]:
    line: dict[str, str] = {}
    for field in _FIELDS:
        value = getattr(record, field)
        if field in _GROUPS:
            line |= {f"{field}:{m}": _write_value(value.get(m)) for m in _GROUPS[field]}
        else:
            line[field] = _write_value(value)
    return line


def from_line(line: Mapping[str, str]) -> Record:
    fields: dict[str, Any] = {}
    for field, kind in _FIELDS.items():
        if field in _GROUPS:
            number = int if field == "temp_bytes" else float
            found = {m: line.get(f"{field}:{m}", "") for m in _GROUPS[field]}
            fields[field] = {m: number(text) for m, text in found.items() if text}
        elif field in line:
            fields[field] = _read_value(line[field], kind)
    return Record(**fields)


# ---- files ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Table:
    """What a file holds: the comments, by name, and the records."""

    header: dict[str, str]
    records: list[Record]


def dump(table: Table) -> str:
    out = io.StringIO()
    for name, value in table.header.items():
        out.write(f"# {name}: {value}\n")
    writer = csv.DictWriter(out, columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(to_line(record) for record in table.records)
    return out.getvalue()


def load(path: pathlib.Path) -> Table:
    header, body = {}, []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("# "):
            name, _, value = line[2:].rstrip("\n").partition(": ")
            header[name] = value
        else:
            body.append(line)
    return Table(header, [from_line(line) for line in csv.DictReader(body)])


def write(path: pathlib.Path, table: Table) -> None:
    """Write under another name and rename, so that a reader never sees half a file."""
    write_text(path, dump(table))


def write_json(path: pathlib.Path, report: Any) -> None:
    """Write `report` as JSON, in the same way."""
    write_text(path, json.dumps(report, indent=1) + "\n")


def write_text(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def merged(old: Sequence[Record], new: Sequence[Record], order: Sequence[str]) -> list[Record]:
    """`old` with the cells of `new` in place of its own; rows stand in the table's `order`."""
    cells = {record.key: record for record in (*old, *new)}
    rank = {name: index for index, name in enumerate(order)}
    return sorted(cells.values(), key=lambda r: (rank.get(r.row, len(rank)), r.row, r.cell))


class Conflict(Exception):
    """The file holds results of other conditions."""


class Store:
    """The file of a run. Each record is saved as soon as it is there, beside the file.

    `finish` merges them into it. What an interrupted run has saved stays in `partial`, and the
    next run under the same conditions starts from it.
    """

    def __init__(
        self,
        path: pathlib.Path,
        header: dict[str, str],
        conditions: Sequence[str],
        order: Sequence[str],
        *,
        whole: bool,
    ):
        self.path, self.header, self.order = path, header, order
        self.conditions = conditions
        self.partial = path.with_suffix(".partial.csv")
        self.old = [] if whole else self._records_of(path)
        self.new = self._records_of(self.partial, strict=False)

    def _records_of(self, path: pathlib.Path, strict: bool = True) -> list[Record]:
        if not path.is_file():
            return []
        table = load(path)
        differ = [n for n in self.conditions if table.header.get(n) != self.header.get(n)]
        if not differ:
            return table.records
        if strict:
            raise Conflict(
                f"{path} has results under another {', '.join(differ)}: run the whole table, or"
                " choose another folder with --out"
            )
        return []

    def save(self, record: Record) -> None:
        self.new = merged(self.new, [record], self.order)
        write(self.partial, Table(self.header, self.new))

    def finish(self) -> list[Record]:
        records = merged(self.old, self.new, self.order)
        if records:
            write(self.path, Table(self.header, records))
        self.partial.unlink(missing_ok=True)
        return records
