"""The call of a function that may change its arguments: the result, and the changes."""

from collections.abc import Callable
from typing import Any

from convjax._programs.changes import containers, modules, variables

Run = Callable[[Callable[..., Any], tuple[Any, ...]], Any]


def carry(function: str, run: Run, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """``fn(*args, **kwargs)`` by `run`, and the changes that `fn` makes in its arguments.

    Args:
        function: the public function that errors name.
        run: ``run(fn, args)`` traces a function of pytrees, and evaluates it.
        fn: the function. Where it is an NNX module, a method of one, or a ``functools.partial``,
            what it holds counts among its arguments.
        args, kwargs: its arguments.
    """
    variables.check(function, fn)
    fn, args, kwargs = modules.opened(fn, args, kwargs)
    recorder = containers.Recorder(function, fn)
    scope = variables.scope()

    def pure(args: Any, kwargs: Any) -> Any:
        result = recorder.call(args, kwargs)
        return result, recorder.contents, scope.values()

    with scope:
        try:
            result, contents, values = modules.carry(run, pure, (args, kwargs))
        except Exception as error:
            if type(error).__name__ == "TraceContextError":
                error.add_note(
                    f"{function}: `fn` changes a module that it closes over. Make the module an "
                    f"argument of `fn`: `{function}(fn)(module, ...)`."
                )
            raise
    scope.assign(values)
    recorder.apply((args, kwargs), contents)
    return result
