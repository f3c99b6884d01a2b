"""What follows from a table of records: the plain-text table, geometric means, what stands out."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

from benchmarks.harness.results import BUSY, COMPARED, Record
from benchmarks.harness.rows import SLOW
from benchmarks.harness.timing import loses

CELLS = ("forward", "training")
FAR_FROM_TORCH = 1.5
LONG_COMPILE, LONG_COMPILE_S = 2.0, 1.0
MUCH_MEMORY, MUCH_MEMORY_BYTES = 1.5, 2**20


def geometric_mean(values: Iterable[float]) -> float | None:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def inverse(value: float | None) -> float | None:
    return None if value is None else 1 / value


def mean_ratio(
    records: Sequence[Record], peer: str, cell: str, keep: Callable[[Record], bool]
) -> float | None:
    """The geometric mean of convjax/peer over the records of this cell that `keep` accepts."""
    return geometric_mean(
        r.ratio[peer] for r in records if r.cell == cell and peer in r.ratio and keep(r)
    )


def count(records: Sequence[Record], peer: str, cell: str, keep: Callable[[Record], bool]) -> int:
    return sum(r.cell == cell and peer in r.ratio and keep(r) for r in records)


def losing(records: Sequence[Record]) -> list[Record]:
    """Cells at which convjax is slower than lax, with oneDNN or without, beyond noise."""
    ways = ("lax", "lax_onednn")
    return [
        r
        for r in records
        if any(way in r.ratio and loses(r.ratio[way], r.ms[way] / 1e3) for way in ways)
    ]


def far_from_torch(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if r.ratio.get("torch", 0) > FAR_FROM_TORCH]


def _growth(values: dict[str, float]) -> float | None:
    """convjax/lax of something that the compiler says."""
    if "lax" not in values or "convjax" not in values:
        return None
    return values["convjax"] / values["lax"] if values["lax"] else None


def long_compiles(records: Sequence[Record]) -> list[Record]:
    return [
        r
        for r in records
        if (_growth(r.compile_s) or 0) > LONG_COMPILE and r.compile_s["convjax"] > LONG_COMPILE_S
    ]


def much_memory(records: Sequence[Record]) -> list[Record]:
    """Cells with over 1.5 times lax's temporary memory, and over a megabyte."""
    found = []
    for r in records:
        ours, theirs = r.temp_bytes.get("convjax"), r.temp_bytes.get("lax")
        if ours is None or theirs is None:
            continue
        if ours > MUCH_MEMORY * theirs and ours > MUCH_MEMORY_BYTES:
            found.append(r)
    return found


def disturbed(records: Sequence[Record]) -> list[Record]:
    """Cells that were timed while the machine did something else."""
    return [r for r in records if (r.others or 0) > BUSY]


# ---- text ----------------------------------------------------------------------------------------


def number(value: float | None, suffix: str = "") -> str:
    """Three figures; a dash for nothing."""
    if value is None:
        return "-"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(digits, 3)}f}{suffix}"


def megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 2**20:,.1f}"


def aligned(header: Sequence[str], lines: Sequence[Sequence[str]], left: int = 2) -> str:
    """A table; all columns but the first `left` are aligned to the right."""
    rows = [header, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    text = []
    for row in (header, ["-" * width for width in widths], *lines):
        cells = [
            f"{cell:{'<' if index < left else '>'}{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def plain_table(records: Sequence[Record]) -> str:
    """Every cell: medians in ms, paired ratios, compile seconds, temporary megabytes."""
    peers = [p for p in COMPARED if p != "lax" and any(p in r.ms for r in records)]
    header = ["row", "cell", "lax", "convjax", *peers, "lax/us", "us/torch"]
    header += ["compile lax", "us", "MB lax", "us", "lowerings"]
    lines = []
    for r in records:
        name = r.row + " *" * r.slow
        marks = " =lax" * (r.same_hlo == "yes") + " !=lax" * (r.same_hlo == "no")
        lines.append(
            [
                name,
                r.cell,
                *(number(r.ms.get(p)) for p in ("lax", "convjax", *peers)),
                number(inverse(r.ratio.get("lax"))),
                number(r.ratio.get("torch")),
                *(number(r.compile_s.get(p)) for p in ("lax", "convjax")),
                *(megabytes(r.temp_bytes.get(p)) for p in ("lax", "convjax")),
                r.lowerings + marks + " rerun" * r.rerun,
            ]
        )
    notes = (
        "Medians in ms; lax/us and us/torch are medians of ratios of one round, torch the better"
        " format.\n* a slow family; =lax the optimised program is lax's, !=lax it is not although"
        " all is direct."
    )
    return f"{aligned(header, lines)}\n\n{notes}"


def dtypes(records: Sequence[Record]) -> list[str]:
    """The element types, the one of most records first."""
    counts = collections.Counter(r.dtype for r in records)
    return [dtype for dtype, _ in counts.most_common()]


def of_dtype(records: Sequence[Record], dtype: str) -> list[Record]:
    return [r for r in records if r.dtype == dtype]


@dataclasses.dataclass(frozen=True)
class Means:
    """The four geometric means of one kind of cell, as factors, and over how many rows.

    They are of the element type that most rows have: `means_by_dtype` has the others.
    """

    cell: str
    lax_over_us: float | None
    lax_rows: int
    us_over_torch: float | None
    torch_rows: int
    us_over_torch_all: float | None
    all_rows: int


def means(records: Sequence[Record]) -> list[Means]:
    records = of_dtype(records, dtypes(records)[0]) if records else []
    found = []
    for cell in CELLS:

        def slow(record: Record) -> bool:
            return record.slow

        def every(record: Record) -> bool:
            return True

        found.append(
            Means(
                cell,
                inverse(mean_ratio(records, "lax", cell, slow)),
                count(records, "lax", cell, slow),
                mean_ratio(records, "torch", cell, slow),
                count(records, "torch", cell, slow),
                mean_ratio(records, "torch", cell, every),
                count(records, "torch", cell, every),
            )
        )
    return found


def means_by_dtype(
    records: Sequence[Record],
) -> list[tuple[str, str, int, float | None, float | None]]:
    """For every other element type, cell by cell: how many rows, lax/convjax, convjax/torch."""
    found = []
    for dtype in dtypes(records)[1:]:
        some = of_dtype(records, dtype)
        for cell in CELLS:
            rows = count(some, "lax", cell, lambda _: True)
            lax = inverse(mean_ratio(some, "lax", cell, lambda _: True))
            torch = mean_ratio(some, "torch", cell, lambda _: True)
            if rows:
                found.append((dtype, cell, rows, lax, torch))
    return found


def family_means(records: Sequence[Record], family: str, cell: str) -> tuple[float | None, ...]:
    """lax/convjax and convjax/torch of a family's main rows."""

    def keep(record: Record) -> bool:
        return record.family == family and record.section in ("main", "network")

    return (
        inverse(mean_ratio(records, "lax", cell, keep)),
        mean_ratio(records, "torch", cell, keep),
    )


def families(records: Sequence[Record]) -> list[str]:
    order = ("dense", *SLOW, "network")
    return [family for family in order if any(r.family == family for r in records)]


def _listed(title: str, records: Sequence[Record], tell: Callable[[Record], str]) -> list[str]:
    lines = [f"{title}: {len(records) or 'none'}"]
    return lines + [f"  {r.row}, {r.cell}: {tell(r)}" for r in records]


def _loss(r: Record) -> str:
    spread = f"{number(r.ratio_low)} to {number(r.ratio_high)}"
    text = f"convjax/lax {number(r.ratio['lax'])} (quartiles {spread}), {number(r.ms['lax'])} ms"
    if "lax_onednn" in r.ratio:
        text += f", convjax/lax with oneDNN {number(r.ratio['lax_onednn'])}"
    text += f", {r.lowerings}" + ", rerun" * r.rerun
    return text + ", the same program as lax's" * (r.same_hlo == "yes")


def summary(records: Sequence[Record]) -> str:
    lines = ["Geometric means (over so many rows):"]
    for m in means(records):
        lines += [
            f"  {m.cell}: lax/convjax, slow families {number(m.lax_over_us)} ({m.lax_rows});"
            f" convjax/torch, slow families {number(m.us_over_torch)} ({m.torch_rows}),"
            f" whole table {number(m.us_over_torch_all)} ({m.all_rows})"
        ]
        for family in families(records):
            ours, torch = family_means(records, family, m.cell)
            lines.append(f"    {family}: lax/convjax {number(ours)}, convjax/torch {number(torch)}")
    for dtype, cell, rows, ours, torch in means_by_dtype(records):
        lines.append(
            f"  {dtype}, {cell}: lax/convjax {number(ours)}, convjax/torch {number(torch)}"
            f" (over {rows} rows)"
        )
    lines += _listed("Slower than lax (over 1.05, or 1.15 below 5 ms)", losing(records), _loss)
    lines += _listed(
        f"Over {FAR_FROM_TORCH}x PyTorch",
        far_from_torch(records),
        lambda r: f"{number(r.ratio['torch'])} ({number(r.ms['convjax'])} ms)",
    )
    lines += _listed(
        f"Compiles over {LONG_COMPILE:g}x lax and {LONG_COMPILE_S:g} s",
        long_compiles(records),
        lambda r: f"{number(r.compile_s['convjax'])} s, lax {number(r.compile_s['lax'])} s",
    )
    lines += _listed(
        f"Temporary memory over {MUCH_MEMORY}x lax and 1 MB",
        much_memory(records),
        lambda r: (
            f"{megabytes(r.temp_bytes['convjax'])} MB, lax {megabytes(r.temp_bytes['lax'])} MB"
        ),
    )
    lines += _listed(
        "Direct, yet not lax's program",
        [r for r in records if r.same_hlo == "no"],
        lambda r: r.lowerings,
    )
    lines += _listed(
        f"Disturbed: other processes took over {BUSY:g} cores, run these again",
        disturbed(records),
        lambda r: f"{number(r.others)} cores",
    )
    left = [r for r in records if r.left_out and r.cell == "forward"]
    lines += _listed("Left out", left, lambda r: r.left_out)
    return "\n".join(lines)
