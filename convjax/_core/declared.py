"""The compiler options that a program was declared to be compiled with.

JAX takes options from the outermost ``jit`` and shows them to no function that it traces. So who
gives options declares them as well. A convolution keeps what was declared where it was traced.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from convjax._core import checks

Options = tuple[tuple[str, Any], ...]

# A context of JAX's: its value is part of the key of every cache of `jit`. So a function that is
# compiled inside others is traced anew under other options.
_DECLARED = jax.make_user_context(None)


def now() -> Options | None:
    """The options that are declared where this is called, or None."""
    found: Options | None = _DECLARED.value
    return found


@contextlib.contextmanager
def declaring(options: Options | None) -> Iterator[None]:
    """Declare options; None declares that nothing is known."""
    with _DECLARED(options):
        yield


def as_options(function: str, given: Any) -> Options:
    """Options as ``jax.jit`` takes them, in an order that does not depend on the caller's."""
    if not isinstance(given, Mapping):
        rule = "must be a dictionary of names and values, as `jax.jit` takes it"
        checks.fail_type(function, "compiler_options", given, rule)
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, (str, bool, int, float)):
            rule = "must have words as names, and words, numbers or True and False as values"
            checks.fail_type(function, "compiler_options", given, rule)
    return tuple(sorted(given.items()))


class Outermost:
    """``jax.jit(fun, compiler_options=...)`` that declares its options, or ``jax.jit(fun)`` inside
    another ``jit``.

    JAX refuses options inside of another program: that is compiled as a whole, under its own.
    `options` is asked at the first call.
    """

    def __init__(
        self, fun: Callable[..., Any], options: Callable[[], Options], **jit_options: Any
    ) -> None:
        self._fun, self.options, self._jit_options = fun, options, jit_options
        self._nested: Any = jax.jit(fun, **jit_options)

    @functools.cached_property
    def outer(self) -> Any:
        options = self.options()
        declares = declaring(options or None)(self._fun)
        under: Any = dict(options) or None
        return jax.jit(declares, compiler_options=under, **self._jit_options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.outer(*args, **kwargs)
        except ValueError as error:
            if _NESTED not in str(error):
                raise
        return self._nested(*args, **kwargs)


def of(fun: Any) -> contextlib.AbstractContextManager[None]:
    """What `fun` declares where it is called outside of other programs."""
    return declaring(fun.options() or None) if isinstance(fun, Outermost) else declaring(now())


_NESTED = "`compiler_options` can only be passed to top-level"  # in JAX's error
