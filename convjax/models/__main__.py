"""Print the networks' parameters and multiply-accumulates next to the published counts.

``python -m convjax.models`` prints the table of all networks. ``python -m convjax.models NAME
key=value ...`` prints one network, layer by layer; with ``--json`` its counts are the last line.
"""

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from convjax._programs.table import table
from convjax.models.counts import CONVENTIONS, Counts, counts_of, macs_of, parameters_of
from convjax.models.published import PUBLISHED, Figure, Published
from convjax.models.registry import NETWORKS, Network

_RIGHT = "parameters|MACs|published|difference|weights|biases|norms|statistics"


def _shown(options: Mapping[str, Any]) -> str:
    """Options as they are written on the command line."""

    def one(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    return " ".join(f"{key}={one(value)}" for key, value in options.items())


@functools.cache
def _counts(name: str, options: tuple[tuple[str, Any], ...]) -> Counts:
    return NETWORKS[name].counts(**dict(options))


def _row(row: Published) -> list[Any]:
    counts = _counts(row.name, tuple(row.options.items()))
    cells: list[Any] = [f"{row.name} {_shown(row.options)}".strip()]
    for value, text in (
        (counts.parameters(row.convention), row.parameters),
        (counts.macs(row.convention), row.macs),
    ):
        mark = "" if row.verified else " †"
        difference = Figure.read(text).difference(value) if text else "–"
        cells += [value, text + mark if text else "–", difference]
    return [*cells, row.convention, row.source or "–"]


def _all() -> None:
    compared = ("published", "difference")
    header = ("network", "parameters", *compared, "MACs", *compared, "convention", "source")
    print("\n".join(table(header, [_row(row) for row in PUBLISHED], _RIGHT)))
    print()
    for name, convention in CONVENTIONS.items():
        print(f"{name:11}  {convention.summary}")
    print("A published number that is rounded is compared after rounding.")
    print("†  reported, not verified here")


def _one(network: Network, options: Mapping[str, Any], convention: str, as_json: bool) -> None:
    model, shape = network.abstract(**options), network.shape(options)
    if not as_json:
        fields = ("weights", "biases", "norms", "statistics")
        rows = [
            (path, *(layer.get(field, 0) for field in fields))
            for path, layer in parameters_of(model).items()
        ]
        print("\n".join(table(("layer", *fields), rows, _RIGHT)))
        print(f"\n{macs_of(model, shape)}\n")
    counts = counts_of(model, shape)
    found = {
        "parameters": counts.parameters(convention),
        "macs": counts.macs(convention),
    }
    asked = f"{network.name} {_shown(options)}".strip()
    extents = "x".join(map(str, shape[1:-1]))
    print(f"{asked}, on {extents}, by the convention of {convention}:")
    print(f"{found['parameters']:,} parameters, {found['macs']:,} MACs")
    if as_json:
        print(json.dumps(found))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is asked for, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m convjax.models", description=__doc__)
    parser.add_argument("name", nargs="?", help=f"one of {', '.join(NETWORKS)}")
    parser.add_argument("options", nargs="*", metavar="key=value", help="as its class takes them")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--convention", default="convjax", help=f"of {', '.join(CONVENTIONS)}")
    asked = parser.parse_intermixed_args(arguments)
    try:
        if asked.convention not in CONVENTIONS:
            choices = ", ".join(CONVENTIONS)
            raise ValueError(f"no convention is named {asked.convention!r}: choose from {choices}.")
        if asked.name is None:
            if asked.json:
                raise ValueError(f"--json needs the name of a network: {', '.join(NETWORKS)}.")
            _all()
            return 0
        if asked.name not in NETWORKS:
            choices = ", ".join(NETWORKS)
            raise ValueError(f"no network is named {asked.name!r}: choose from {choices}.")
        network = NETWORKS[asked.name]
        _one(network, network.read(asked.options), asked.convention, asked.json)
    except (ValueError, TypeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
