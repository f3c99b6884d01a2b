"""What one line of `rules.py` is made of."""

from collections.abc import Callable
from typing import NamedTuple

from convjax._lowerings.problem import Problem
from convjax._lowerings.target import Target

Holds = Callable[[Problem, Target], bool]


class Guard(NamedTuple):
    """Where the lowerings in `wrong` compute wrong numbers, one of `instead` runs: the first that
    accepts."""

    name: str
    where: Callable[[Target], bool]
    holds: Callable[[Problem], bool]
    wrong: tuple[str, ...]
    instead: tuple[str, ...]
    why: str


class Rule(NamedTuple):
    """A kind of convolutions, on some targets, and its lowering: None where only exceptions to the
    rule are faster than lax."""

    name: str
    where: Callable[[Target], bool]
    holds: Callable[[Problem], bool]
    lowering: str | None
    why: str = ""


class Tuned(NamedTuple):
    """Within the rule of the name `within`, `lowering` runs where `holds`."""

    name: str
    within: str
    lowering: str
    holds: Holds
    why: str


# ---- targets -----------------------------------------------------------------------------------


def on_one_cpu(target: Target) -> bool:
    return target.is_one_cpu


def split_by_xla(target: Target) -> bool:
    return target.split == "XLA"


def split_by_xla_on_cpus(target: Target) -> bool:
    return target.split == "XLA" and target.platform == "cpu"


def on_cpu(target: Target) -> bool:
    return target.platform == "cpu"


def on_one_cpu_with_onednn(target: Target) -> bool:
    return target.is_one_cpu and target.onednn


def on_one_cpu_with_onednn_and_512_bits(target: Target) -> bool:
    return on_one_cpu_with_onednn(target) and target.vector_bits == 512


def on_one_cpu_with_amx(target: Target) -> bool:
    return on_one_cpu_with_onednn(target) and target.amx


def on_one_cpu_without_amx(target: Target) -> bool:
    return on_one_cpu_with_onednn(target) and not target.amx


def split_by_xla_with_onednn(target: Target) -> bool:
    return split_by_xla_on_cpus(target) and target.onednn
