"""Law "lax": jax's own convolution tests, with lax and then with convjax's drop-ins, compared.

    python scripts/jax_own_tests.py PATH_TO_JAX_TESTS [--algorithm NAME[,NAME...]]

PATH_TO_JAX_TESTS is the folder `tests` of jax's source at the installed release. In the second run
the `lax` that its test modules see (`lax` and `jax.lax`) has our convolution functions. It fails
(exit 1) if a test that passes with lax does not pass with ours, or if our operation was never used.
`--algorithm` runs every convolution that the named lowering accepts through that lowering, in a run
for each name; "select" is the default choice, "all" is that and every lowering.

jax's tests need absl-py, hypothesis and pytest besides jax. Extra arguments go to pytest.
"""

import argparse
import os
import sys
import types
from pathlib import Path
from typing import Any

import own_tests

FILES = ["lax_test.py", "lax_vmap_test.py", "lax_autodiff_test.py"]
SELECTION = "Conv or conv"
CASES = "25"
DEFAULT = "select"


class Proxy(types.ModuleType):
    """A module like `original`, some of whose attributes are replaced."""

    def __init__(self, original: types.ModuleType, replaced: dict[str, Any]) -> None:
        super().__init__(original.__name__, original.__doc__)
        self.__dict__.update(replaced)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class Plugin(own_tests.Plugin):
    """Count how often our operation is bound and lowered."""

    def swap(self, what: str) -> None:
        """Give `jax` a `lax` with our functions, before the test modules import it."""
        import jax

        import convjax.lax
        from convjax._lowerings import LOWERINGS, select
        from convjax._operation import primitive

        algorithm = "" if what == DEFAULT else what
        real_bind, real_select = primitive.conv_p.bind, select.select
        if algorithm and algorithm not in LOWERINGS:
            sys.exit(f"no lowering {algorithm!r}: there are {', '.join(LOWERINGS)}")

        def bind(*operands: Any, **params: Any) -> Any:
            self.counts["bound"] += 1
            return real_bind(*operands, **params)

        def choose(problem: Any, target: Any) -> select.Choice:
            choice = real_select(problem, target)
            if algorithm and LOWERINGS[algorithm].accepts(problem) is None:
                choice = select.Choice(algorithm, "--algorithm", choice.name)
            self.counts[f"lowered as {choice.name}"] += 1
            return choice

        primitive.conv_p.bind = bind  # type: ignore[method-assign]
        select.select = choose  # type: ignore[assignment]
        ours = {name: getattr(convjax.lax, name) for name in convjax.lax.__all__}
        jax.lax = Proxy(jax.lax, ours)  # type: ignore[assignment]


def pytest_configure(config: Any) -> None:
    """Called by pytest, to which this file is a plugin."""
    config.pluginmanager.register(Plugin())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tests", type=Path, help="the folder `tests` of jax's source")
    parser.add_argument(
        "--algorithm", default=DEFAULT, help="the lowerings to run where they accept, by commas"
    )
    arguments, extra = parser.parse_known_args()
    tests = own_tests.folder_of_tests(parser, arguments.tests, FILES)
    cases = {"JAX_NUM_GENERATED_CASES": os.environ.get("JAX_NUM_GENERATED_CASES", CASES)}

    def run(swap: str) -> tuple[dict[str, str], dict[str, int]]:
        return own_tests.run(__file__, tests, FILES, SELECTION, swap, extra, cases)

    print("==> with lax", flush=True)
    theirs, _ = run("")
    names = arguments.algorithm.split(",")
    if names == ["all"]:
        from convjax._lowerings import LOWERINGS

        names = [DEFAULT, *LOWERINGS]
    status = 0
    for name in names:
        print(f"==> with convjax, {name}", flush=True)
        ours, counts = run(name)
        used = counts.get("bound" if name == DEFAULT else f"lowered as {name}", 0)
        status |= own_tests.compare("lax", theirs, ours, counts, used)
        sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
