"""Law "modules": Flax's own convolution tests, with Flax's modules and then with ours, compared.

    python scripts/flax_own_tests.py PATH_TO_FLAX

PATH_TO_FLAX is Flax's source at the installed release, of which only the folder `tests` is used. In
the second run `Conv` and `ConvTranspose` of `flax.nnx` and `flax.linen` are those of `convjax.nn`
and `convjax.linen`. It fails (exit 1) if a test that passes with Flax's does not pass with ours, or
if ours never convolved. Extra arguments go to pytest.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import own_tests

FILES = ["nnx/nn/conv_test.py", "linen/linen_linear_test.py"]
SELECTION = "conv or Conv"
NAMES = ("Conv", "ConvTranspose")


class Plugin(own_tests.Plugin):
    """Count how often our modules convolve, and how often our operation is bound."""

    def swap(self, what: str) -> None:
        """Give `flax.nnx` and `flax.linen` our modules, before the test modules use theirs."""
        from flax import linen, nnx

        import convjax.linen
        import convjax.nn
        from convjax import _modules
        from convjax._operation import primitive

        real_bind, real_apply = primitive.conv_p.bind, _modules.Plan.apply

        def bind(*operands: Any, **params: Any) -> Any:
            self.counts["operations bound"] += 1
            return real_bind(*operands, **params)

        def apply(plan: _modules.Plan, *args: Any, **options: Any) -> Any:
            api = "nnx" if isinstance(plan.module, nnx.Module) else "linen"
            self.counts[f"calls of our {api} {plan.name}"] += 1
            return real_apply(plan, *args, **options)

        primitive.conv_p.bind = bind  # type: ignore[method-assign]
        _modules.Plan.apply = apply  # type: ignore[assignment, method-assign]
        for name in NAMES:
            setattr(nnx, name, getattr(convjax.nn, name))
            setattr(linen, name, getattr(convjax.linen, name))


def pytest_configure(config: Any) -> None:
    """Called by pytest, to which this file is a plugin."""
    config.pluginmanager.register(Plugin())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("flax", type=Path, help="Flax's source")
    arguments, extra = parser.parse_known_args()
    tests = own_tests.folder_of_tests(parser, arguments.flax / "tests", FILES)

    def run(swap: str) -> tuple[dict[str, str], dict[str, int]]:
        return own_tests.run(__file__, tests, FILES, SELECTION, swap, extra, {})

    print("==> with Flax", flush=True)
    theirs, _ = run("")
    print("==> with convjax", flush=True)
    ours, counts = run("modules")
    return own_tests.compare("Flax", theirs, ours, counts, counts.get("operations bound", 0))


if __name__ == "__main__":
    sys.exit(main())
