"""Options of a network from the words of a command line, such as ``groups=3``."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from convjax._core import checks


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _several(text: str) -> tuple[int, ...]:
    return tuple(int(entry) for entry in text.split(","))


# How the words of a command line are read, by the annotation of the argument.
_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    bool: (_flag, "true or false"),
    int: (int, "an integer"),
    int | None: (int, "an integer"),
    float: (float, "a number"),
    str: (str, "a word"),
    Sequence[int]: (_several, "integers with commas between them"),
    Sequence[str]: (lambda text: tuple(text.split(",")), "words with commas between them"),
}


def is_readable(argument: inspect.Parameter) -> bool:
    """Whether a word can say the value of a constructor's argument."""
    return argument.annotation in _READERS


def options_of(
    name: str,
    arguments: Mapping[str, inspect.Parameter],
    keys: Sequence[str],
    words: Sequence[str],
) -> dict[str, Any]:
    """The options that `words` say.

    Args:
        name: the network's, for errors.
        arguments: those of its constructor that can be read.
        keys: what a word may begin with; what is no argument is an integer.
        words: such as ``groups=3``.
    """
    options = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            rule = "must be key=value"
            checks.fail(name, "option", word, rule, f"Keys: {', '.join(keys)}.")
        check_key(name, keys, key)
        known = arguments.get(key)
        read, form = _READERS[known.annotation if known else int]
        try:
            options[key] = read(text)
        except (ValueError, KeyError):
            options[key] = checks.fail(name, key, text, f"must be {form}")
        if isinstance(options[key], int) and not isinstance(options[key], bool):
            least = 0 if known and known.default == 0 else 1
            checks.integer(name, key, options[key], minimum=least)
    return options


def check_key(name: str, keys: Sequence[str], key: str) -> None:
    """Refuse a key that the network of this name has not."""
    if key not in keys:
        rule = f"must be one of {', '.join(keys)}"
        checks.fail(name, "key", key, rule)
