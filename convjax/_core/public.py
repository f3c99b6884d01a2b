"""Errors of public functions and classes: unknown options, and arguments that do not fit."""

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

# Names of options in other libraries. Each means the first of these names that the function has.
_ELSEWHERE = {
    "stride": ("strides",),
    "window_strides": ("strides",),
    "dilation": ("kernel_dilation",),
    "dilations": ("kernel_dilation",),
    "dilation_rate": ("kernel_dilation",),
    "rhs_dilation": ("kernel_dilation",),
    "lhs_dilation": ("input_dilation",),
    "rate": ("kernel_dilation",),
    "groups": ("feature_group_count", "groups"),
    "feature_group_count": ("groups",),
    "data_format": ("dimension_numbers",),
    "weight": ("kernel",),
    "weights": ("kernel",),
    "filters": ("features", "out_features"),
    "out_channels": ("out_features", "features"),
    "in_channels": ("in_features",),
    "depth_multiplier": ("channel_multiplier",),
    "bias": ("use_bias",),
    "factor": ("scale",),
    "upscale_factor": ("scale",),
    "block_size": ("scale",),
}


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that `word` means, or ""."""
    known = list(known)
    for candidate in _ELSEWHERE.get(word.lower(), ()):
        if candidate in known:
            return candidate
    return next(iter(difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.7)), "")


def refuse(function: str, word: str, known: Iterable[str]) -> NoReturn:
    """Raise the ``TypeError`` of an option that does not exist."""
    known = list(known)
    meant = nearest(word, known)
    words = ", ".join(f"`{name}`" for name in known)
    text = f"{function}: there is no option `{word}`"
    text += f" (did you mean `{meant}`?)." if meant else "."
    raise TypeError(f"{text} It takes {words}." if known else f"{text} It takes none.")


Check = Callable[[str, str, Any], Any]

_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


def public(
    function: T,
    name: str = "",
    options_of: Callable[..., Any] | None = None,
    checks: Mapping[str, Check] = MappingProxyType({}),
) -> T:
    """`function`, with an error for an unknown option that names the most similar option.

    Args:
        function: a function.
        name: its public name, by default its own; of an ``__init__`` that of the class.
        options_of: the function that takes the ``**options`` of `function`.
        checks: a check of `convjax._core.checks` for arguments by their names. If there are any,
            an error also names arguments that pass the checks but do not fit together.
    """
    signature = inspect.signature(function)
    parameters = dict(signature.parameters)
    rest = [p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD]
    if rest and options_of is not None:
        del parameters[rest.pop()]
        taken = inspect.signature(options_of).parameters.items()
        parameters |= {key: p for key, p in taken if p.kind is p.KEYWORD_ONLY}
    known = dict.fromkeys(
        p.name
        for p in parameters.values()
        if p.kind in (p.KEYWORD_ONLY, _POSITIONAL) and p.name != "self"
    )
    label = name or function.__name__
    kinds = [p.kind for p in signature.parameters.values()]
    most = sum(kind in (_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY) for kind in kinds)
    unlimited = inspect.Parameter.VAR_POSITIONAL in kinds
    explains = bool(checks)
    checks = {key: check for key, check in checks.items() if key in known}

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        if not rest:
            for word in options:
                if word not in known:
                    refuse(label, word, known)
        if len(args) > most and not unlimited:
            _check_binds(label, signature, args, options)
        given = {**dict(zip(known, args, strict=False)), **options} if explains else options
        for key, check in checks.items():
            if key in given:
                check(label, key, given[key])
        try:
            return function(*args, **options)
        except TypeError as error:
            _check_binds(label, signature, args, options)
            if not explains or _is_ours(error):
                raise
            raise _fitting(label, TypeError, given) from error
        except AttributeError as error:
            if not explains:
                raise
            raise _fitting(label, TypeError, given) from error
        except (ArithmeticError, LookupError, ValueError) as error:
            if not explains or _is_ours(error):
                raise
            raise _fitting(label, ValueError, given) from error

    return checked  # type: ignore[return-value]


def _fitting(name: str, kind: type[Exception], given: Mapping[str, Any]) -> Exception:
    shown = ", ".join(f"`{key}` (={_shown(value)})" for key, value in given.items())
    return kind(f"{name}: the arguments do not fit together: {shown}.")


def _is_ours(error: Exception) -> bool:
    """Whether it starts with a public name, as ours do; those of JAX under a trace stay, too."""
    ours = re.match(r"[\w.]+: ", str(error)) is not None
    return ours or type(error).__module__.startswith("jax")


def _shown(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"array of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    return repr(value)


def _check_binds(name: str, signature: inspect.Signature, args: Any, options: Any) -> None:
    """Refuse a call with arguments too many or too few."""
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        named = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        text = f"{name}: {str(error).replace(chr(39), '`')}."
        if named and "too many" in text:
            text += f" Options are given by name, as in `{named[0]}=...`."
        raise TypeError(text) from None


def public_with(options_of: Callable[..., Any] | None = None, **checks: Check) -> Callable[[T], T]:
    """`public` for functions that pass ``**options`` on to `options_of`, and with `checks`."""
    return functools.partial(public, options_of=options_of, checks=checks)


def public_class(cls: type) -> None:
    """Let the constructor of `cls` refuse unknown options: see `public`."""
    init = cls.__init__  # type: ignore[misc]
    inherited = getattr(init, "__wrapped__", None) if init.__module__ == cls.__module__ else None
    if "__init__" in vars(cls) or inherited is not None:
        cls.__init__ = public(inherited or init, cls.__name__)  # type: ignore[misc]
