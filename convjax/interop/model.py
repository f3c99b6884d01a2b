"""The port checker on a whole model of PyTorch: its convolutions, and what pads before them.

A model is walked as a tree of modules. What is certain without running it is how a ``Sequential``
goes on; what the ``forward`` of any other module does between its layers is not looked at, and the
report says so.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from types import CodeType
from typing import Any

from convjax._core.geometry import Pair
from convjax.interop.layers import is_convolution, modules
from convjax.interop.port import Port, check_layer, check_port
from convjax.interop.torch_layer import PADS

# PyTorch's classes of padding modules (a base of each rank's), and their padding modes
_PAD_BASES = {
    "_ConstantPadNd": "zeros",
    "_ReflectionPadNd": "reflect",
    "_ReplicationPadNd": "replicate",
    "_CircularPadNd": "circular",
}
# Functions that pad, convolve or resize where no module shows it
_CALLS = {"interpolate", "grid_sample", "unfold", "fold", "pixel_shuffle"}
_CALLS |= {f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3)}
_PAD = re.compile(r"(\w*_)?pad(_?\dd|_\w+)?")


class Ports(dict[str, Port]):
    """What `check_model` returns: name to `Port`; printed, a report of all.

    Attributes:
        unseen: what in the model was not looked at, line by line: modules of other types, and code
            in the ``forward`` of modules that are not ``Sequential``.
    """

    unseen: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{name or '(the model)'}: {port}" for name, port in self.items()]
        lines += ["not looked at:", *(f"  {line}" for line in self.unseen)] if self.unseen else []
        return "\n".join(lines)


def check_model(model: object) -> Ports:
    """`check_port` of every convolution in a PyTorch model, by its name in the model.

    Padding modules (``ZeroPad2d``, ``ReflectionPad1d``, ...) directly before a convolution in a
    ``Sequential`` are taken together with it. Where a layer's input is padded in another way, or
    may be, its `Port` says so in `before`.

    Args:
        model: a ``torch.nn.Module``.

    Returns:
        `Ports`: name to `Port`, such as ``{"layer1.0.conv1": Port(...)}``. Its `unseen` lists what
        was not looked at; print it to read all.

    Raises:
        TypeError: no modules in it.

    Example:
        >>> from convjax import interop
        >>> print(interop.check_model(model))  # doctest: +SKIP
        0: ZeroPad2d((0, 1, 0, 1)), Conv2d(kernel_size=(3, 3), stride=(2, 2), padding=(0, 0))
          ...
        not looked at:
          SiLU (4 modules)
          Block.forward (2 modules), which calls pad
    """
    found, taken = Ports(), set()
    every = _outside_convolutions(modules("check_model", model))
    before, code_above = _before(every), _code_above(every)
    for name, module in every:
        if is_convolution(module):
            pads = before.get(id(module), [])
            found[name], absorbed = _port(module, pads)
            taken |= {id(pad) for pad in pads if absorbed}
    idle = [(name, module) for name, module in every if _mode(module) and id(module) not in taken]
    for name, port in found.items():
        doubts = [port.before] if port.before else []
        above = code_above[name]
        if above is not None:
            pads = [module for pad, module in idle if code_above[pad] is above]
            calls = [call for call in _called(above) if _PAD.fullmatch(call)]
            if pads or calls:
                does = [f"has {', '.join(map(_shown, pads))}"] * bool(pads)
                does += [f"calls {', '.join(calls)}"] * bool(calls)
                doubts.append(
                    f"{_code(above)} {' and '.join(does)}: what that adds is not in what follows; "
                    "ask check_port with (low, high) pairs"
                )
        found[name] = dataclasses.replace(port, before="; ".join(doubts))
    found.unseen = _unseen(every, taken)
    return found


def _unseen(every: list[tuple[str, Any]], taken: set[int]) -> tuple[str, ...]:
    """Types of modules, and code, that were not looked at, with how many there are of each."""
    counts: Counter[tuple[str, str]] = Counter()
    for _, module in every:
        if is_convolution(module) or _is_plain(module) or id(module) in taken:
            continue
        what, calls = type(module).__name__, _called(module)
        if _mode(module):
            what, calls = _shown(module), ()
        elif module._modules:
            what = _code(module)
        counts[what, f", which calls {', '.join(calls)}" if calls else ""] += 1
    return tuple(
        f"{what} ({count} module{'s' * (count > 1)}){calls}"
        for (what, calls), count in counts.items()
    )


# ---- the tree of modules -----------------------------------------------------------------------


def _bases(module: Any) -> dict[str, type]:
    return {base.__name__: base for base in type(module).__mro__}


def _is_plain(module: Any) -> bool:
    """Whether `module` adds nothing to what its children do: a container, or the identity."""
    bases = _bases(module)
    if {"ModuleList", "ModuleDict", "Identity"} & bases.keys():
        return True
    sequential = bases.get("Sequential")
    return sequential is not None and type(module).forward is sequential.forward  # type: ignore[attr-defined]


def _line(module: Any) -> Iterator[Any]:
    """What a ``Sequential`` calls, one after the other, those inside it included."""
    if "Sequential" in _bases(module) and _is_plain(module):
        for child in module._modules.values():  # `children` leaves out what comes again
            yield from _line(child)
    elif "Identity" not in _bases(module):
        yield module


def _before(every: list[tuple[str, Any]]) -> dict[int, list[Any]]:
    """The padding modules directly before each convolution, by its id; outer containers first."""
    found: dict[int, list[Any]] = {}
    for _, module in every:
        pads: list[Any] = []
        for called in _line(module):
            if is_convolution(called):
                found.setdefault(id(called), pads)
            pads = [*pads, called] if _mode(called) else []
    return found


def _outside_convolutions(every: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """All modules but those inside a convolution, such as those that make its weight."""
    found: list[tuple[str, Any]] = []
    inside: set[str] = set()  # a name is listed after those that it begins with
    for name, module in every:
        parent = name.rpartition(".")[0]
        if name and parent in inside:
            inside.add(name)
            continue
        if is_convolution(module):
            inside.add(name)
        found.append((name, module))
    return found


def _code_above(every: list[tuple[str, Any]]) -> dict[str, Any]:
    """By name: the module whose ``forward`` says what happens to a module's input, if any does."""
    found: dict[str, Any] = {}
    by_name = dict(every)
    for name in by_name:
        parent = name.rpartition(".")[0] if name else None
        if parent is None or parent not in by_name:
            found[name] = None
        else:
            found[name] = found[parent] if _is_plain(by_name[parent]) else by_name[parent]
    return found


def _code(module: Any) -> str:
    return f"{type(module).__name__}.forward"


def _called(module: Any) -> tuple[str, ...]:
    """The functions that pad, convolve or resize and that the methods of a module name."""
    codes: list[Any] = []
    for base in type(module).__mro__:
        if base.__module__.startswith("torch."):
            break
        methods = (value for name, value in vars(base).items() if name != "__init__")
        codes += [getattr(method, "__code__", None) for method in methods]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        if isinstance(code, CodeType):
            names |= {*code.co_names}
            codes += code.co_consts
    known = names - module._modules.keys()
    return tuple(sorted(name for name in known if name in _CALLS or _PAD.fullmatch(name)))


# ---- padding modules ---------------------------------------------------------------------------


def _mode(module: Any) -> str:
    """The padding mode of a padding module; "constant" is of other numbers than zero; else ""."""
    bases = _bases(module)
    mode = next((mode for base, mode in _PAD_BASES.items() if base in bases), "")
    return "constant" if mode == "zeros" and module.value else mode


def _pairs(module: Any) -> list[Pair]:
    """What a padding module adds, one pair per axis in the order of the axes."""
    sides = tuple(module.padding)
    return list(zip(sides[-2::-2], sides[::-2], strict=True))


def _shown(module: Any) -> str:
    value = f", value={module.value}" if _mode(module) == "constant" else ""
    return f"{type(module).__name__}({tuple(module.padding)}{value})"


def _port(layer: Any, pads: list[Any]) -> tuple[Port, bool]:
    """The `Port` of a layer, and whether the padding modules before it are in it."""
    plain = check_layer(layer)
    if not pads:
        return plain, True
    merged = None if layer.transposed else _merged(layer, plain.options["padding"], pads)
    if merged is None:
        shown = ", ".join(map(_shown, pads))
        hint = "not in what follows; no one padding does both, so do it first, by jnp.pad"
        return dataclasses.replace(plain, before=f"{shown}: {hint}"), False
    mode, pairs = merged
    port = check_port(
        layer.kernel_size,
        stride=layer.stride,
        padding=pairs,
        dilation=layer.dilation,
        groups=layer.groups,
        padding_mode=mode,
    )
    shown = ", ".join([*map(_shown, pads), plain.layer])
    return dataclasses.replace(port, layer=shown), True


def _merged(
    layer: Any, own: tuple[Pair, ...], pads: list[Any]
) -> tuple[str, tuple[Pair, ...]] | None:
    """One padding that does what several do, one after the other: its mode and pairs, or None.

    Zeros add up, unless what was cropped is padded again; other modes stand by themselves.
    """
    parts = [(_mode(pad), _pairs(pad)) for pad in pads] + [(layer.padding_mode, list(own))]
    parts = [(mode, pairs) for mode, pairs in parts if any(map(any, pairs))]
    if any(len(pairs) != len(own) or mode not in PADS for mode, pairs in parts):
        return None
    if not parts:
        return "zeros", ((0, 0),) * len(own)
    (mode, total), *rest = parts
    for other, pairs in rest:
        sides = [
            (a, b) for p, q in zip(total, pairs, strict=True) for a, b in zip(p, q, strict=True)
        ]
        if {mode, other} != {"zeros"} or any(a < 0 < b for a, b in sides):
            return None
        total = [(p[0] + q[0], p[1] + q[1]) for p, q in zip(total, pairs, strict=True)]
    return mode, tuple(total)
