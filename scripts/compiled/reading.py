"""What the text of one optimised program says.

XLA's text lists computations, each with one instruction a line. The TPU's compiler writes beside
an instruction how many cycles its model gives it (`estimated_cycles`). The GPU's does not.
"""

import math
import re
from collections import Counter
from typing import Any, NamedTuple

_NAME = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"\b(?:calls|to_apply|body|true_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_FUNCTION = re.compile(r'custom_call_target="__cudnn\$(\w+)"')
_OPERAND = re.compile(r"%([\w.\-]+)")

COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
_NO_PASS = {
    *("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all"),
    *("partition-id", "iota", "opt-barrier"),
}
_TURNS = {"transpose", "reverse"}  # these write another order
_COPIES = {"copy", "pad"}  # these do not
_MOVES = {*_TURNS, *_COPIES, "parameter", "constant", "bitcast", "reshape", "tuple"}


class Instruction(NamedTuple):
    """One line: what it computes, of which type, from which operands."""

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    number: str = ""  # of a parameter


class Reading(NamedTuple):
    """What a program does, as far as its text says it. A loop's body counts once per turn."""

    cycles: int | None  # by the model of the TPU's compiler
    bytes: int  # that all passes read and write in the device's main memory
    passes: int  # instructions that read or write arrays
    large_passes: int  # those of which one array is large, or what is read of it
    copies: int  # passes that only copy, or pad
    transposes: int  # passes that only transpose
    calls: int  # of libraries: cuDNN, cuBLAS
    collectives: str  # such as "2 collective-permute, 1 all-reduce"
    temporaries: int  # bytes
    functions: str = ""  # of cuDNN, such as "2 convForward, 1 convBackwardFilter"


def computations(text: str) -> dict[str, list[Instruction]]:
    """Every computation's instructions; the entry computation's name is "ENTRY"."""
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = line.split(" ")[1 if line.startswith("ENTRY") else 0].lstrip("%")
            current = found.setdefault("ENTRY" if line.startswith("ENTRY") else name, [])
        elif match := _NAME.match(line):
            current.append(_instruction(match.group(1), line[match.end() :]))
    return found


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    opcode, _, _ = text[end:].strip().partition("(")
    start = text.index("(", end)
    close = _closing(text, start)
    operands = tuple(_OPERAND.findall(text[start:close]))
    number = text[start + 1 : close - 1] if opcode == "parameter" else ""
    return Instruction(name, text[:end], opcode, operands, text[close:], number)


def _closing(text: str, start: int) -> int:
    """The place after the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place + 1
    return len(text)


def read(compiled: Any, large: int = 1) -> Reading:
    """The reading of a ``jax.stages.Compiled``; arrays of `large` bytes, or more, are large."""
    memory = compiled.memory_analysis()
    found = read_text(compiled.as_text() or "", large)
    return found._replace(temporaries=int(memory.temp_size_in_bytes) if memory else 0)


def read_text(text: str, large: int = 1) -> Reading:
    """The reading of an optimised program's text; it does not tell temporaries."""
    program = computations(text)
    totals: Counter[str] = Counter()
    _add("ENTRY", program, 1, totals, large)
    has_model = _CYCLES.search(text) is not None
    collectives = [f"{totals[kind]} {kind}" for kind in COLLECTIVES if totals[kind]]
    return Reading(
        cycles=totals["cycles"] if has_model else None,
        bytes=totals["bytes"],
        passes=totals["passes"],
        large_passes=totals["large passes"],
        copies=totals["copies"],
        transposes=totals["transposes"],
        calls=totals["calls"],
        collectives=", ".join(collectives),
        temporaries=0,
        functions=", ".join(
            f"{times} {name}" for name, times in totals.items() if name.startswith("conv")
        ),
    )


def collective_bytes(text: str) -> int:
    """Bytes that one device hands to collectives in a turn of the program."""
    program = computations(text)
    return _handed("ENTRY", program)


def _handed(name: str, program: dict[str, list[Instruction]]) -> int:
    types = {one.name: one.type for one in program[name]}
    total = 0
    for one in program[name]:
        inner, turns = _inner(one)
        if inner:
            total += turns * _handed(inner, program)
        elif one.opcode.removesuffix("-start") in COLLECTIVES:
            handed = (types.get(operand, "") for operand in one.operands)
            total += sum(size(re.sub(r"S\(\d+\)", "", kind)) for kind in handed)
    return total


def _add(
    name: str,
    program: dict[str, list[Instruction]],
    times: int,
    totals: Counter[str],
    large: int,
) -> None:
    """Add what a computation does `times` times."""
    instructions = program[name]
    types = {instruction.name: instruction.type for instruction in instructions}
    for one in instructions:
        if found := _CYCLES.search(one.rest):
            totals["cycles"] += times * int(found.group(1))
        inner, turns = _inner(one)
        if inner:
            _add(inner, program, times * turns, totals, large)
            continue
        kind = one.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            totals[kind] += times
        if one.opcode in _NO_PASS or one.opcode.endswith("-done"):
            continue
        if one.opcode in ("copy-start", "slice-start", "async-start"):  # beside other work
            totals["bytes"] += times * size(one.type)
            continue
        moved = _only_moves(one, program)
        totals["passes"] += times
        if function := _FUNCTION.search(one.rest):
            totals[function.group(1)] += times
        totals["calls"] += times * (one.opcode == "custom-call" and "__cu" in one.rest)
        totals["copies"] += times * (moved == "copy")
        totals["transposes"] += times * (moved == "transpose")
        arrays = [one.type, *(types.get(operand, "") for operand in one.operands)]
        totals["bytes"] += times * sum(map(size, arrays))
        touched = [size(one.type), *_read_of_operands(one, arrays[1:], program)]
        totals["large passes"] += times * (max(touched) >= large)


def _inner(one: Instruction) -> tuple[str | None, int]:
    """The computation that an instruction runs, and how often; None if it is one pass.

    Of a branch it is the last one: where the condition holds. This library branches on whether
    numbers are finite.
    """
    if one.opcode == "conditional" and (found := _BRANCHES.search(one.rest)):
        return found.group(1).split(",")[-1].strip().lstrip("%"), 1
    if one.opcode not in ("conditional", "while", "call"):
        return None, 0
    called = re.search(r"\b(?:body|to_apply|true_computation)=%?([\w.\-]+)", one.rest)
    trips = _TRIPS.search(one.rest)
    return (called.group(1) if called else None), int(trips.group(1)) if trips else 1


def _read_of_operands(
    one: Instruction, types: list[str], program: dict[str, list[Instruction]]
) -> list[int]:
    """Bytes that a pass reads of operands of these types: of one that is sliced, the slices."""
    if one.opcode == "slice":
        return [size(one.type)]
    called = _CALLED.search(one.rest)
    if one.opcode != "fusion" or not called:
        return list(map(size, types))
    inner = program.get(called.group(1), [])
    found = list(map(size, types))
    for parameter in inner:
        if parameter.opcode != "parameter":
            continue
        users = [user for user in inner if parameter.name in user.operands]
        if users and all(user.opcode == "slice" for user in users):
            found[int(parameter.number)] = sum(size(user.type) for user in users)
    return found


def _only_moves(one: Instruction, program: dict[str, list[Instruction]]) -> str:
    """ "copy" or "transpose" if an instruction does nothing else; else ""."""
    called = _CALLED.search(one.rest)
    if one.opcode == "copy":
        return "transpose" if _permutes(one, program) else "copy"
    opcodes = {one.opcode}
    if one.opcode == "fusion" and called:
        opcodes = {inner.opcode for inner in program.get(called.group(1), [])}
    if not opcodes <= _MOVES or not opcodes & (_TURNS | _COPIES):
        return ""
    return "transpose" if opcodes & _TURNS else "copy"


def _permutes(one: Instruction, program: dict[str, list[Instruction]]) -> bool:
    """Whether a copy changes the order in memory."""
    types = {i.name: i.type for instructions in program.values() for i in instructions}
    layouts = [_order(kind) for kind in (one.type, types.get(one.operands[0], ""))]
    return None not in layouts and layouts[0] != layouts[1]


def _order(kind: str) -> str | None:
    found = re.search(r"\{([\d,]*)", kind)
    return found.group(1) if found else None


def size(kind: str) -> int:
    """Bytes of a type, of a tuple's arrays together, that lie in main memory.

    The TPU's compiler marks an array in the chip's own memory by `S(1)`, or another number.
    """
    total = 0
    for dtype, shape, layout in _ARRAY.findall(kind):
        if re.search(r"S\([1-9]", layout):
            continue
        bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype).group())  # type: ignore[union-attr]
        total += math.prod(int(n) for n in shape.split(",") if n) * bits // 8
    return total
