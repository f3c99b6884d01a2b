"""A function's program, to look at: the text that JAX hands to XLA, and what XLA compiles of it."""

import jax


class Lowered(str):
    """The text that is handed to XLA, in StableHLO."""

    def count_of(self, *operations: str) -> int:
        """How many operations of these names it has."""
        return sum(self.count(f"stablehlo.{name}") for name in operations)

    @property
    def sums_of_products(self) -> int:
        """How many convolutions and matrix products it has."""
        return self.count_of("convolution", "dot_general")

    @property
    def isolated_calls(self) -> int:
        """How often it calls what XLA may not inline."""
        return self.count("call @isolated_call")


def lowered(function, *operands, platform=None):
    """The text of `function`, which may be jitted already, for `platform` or for this machine."""
    traced = _jitted(function).trace(*operands)
    return Lowered(traced.lower(lowering_platforms=platform and (platform,)).as_text())


def compiled(function, *operands, options=None):
    """The text that XLA made of `function` under these compiler options."""
    return _compiled(function, operands, options).as_text()


def temporaries(function, *operands, options=None):
    """The bytes that the compiled program asks for beside its arguments and results."""
    return _compiled(function, operands, options).memory_analysis().temp_size_in_bytes


def _jitted(function):
    return function if hasattr(function, "lower") else jax.jit(function)


def _compiled(function, operands, options):
    return _jitted(function).lower(*operands).compile(options)
