"""`jit` and `compiled_with`: compiler options that the choice of lowerings knows."""

import contextlib
import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, overload

import jax
import jax.numpy as jnp
from jax import lax

from convjax._core import checks, declared
from convjax._core.public import public, public_with
from convjax._lowerings import onednn_faults
from convjax._lowerings.compiler import known_options
from convjax._lowerings.problem import problem_of
from convjax._lowerings.target import Target, default_platform
from convjax._programs.rebind import as_written, evaluate
from convjax._programs.walk import trace

CompilerOptions = Mapping[str, str | bool | int | float]


@public
@contextlib.contextmanager
def compiled_with(compiler_options: CompilerOptions) -> Iterator[None]:
    """Declare the compiler options of a program to the convolutions in it.

    JAX shows a function that it traces no options. So the choice of lowerings assumes none, beyond
    those in ``XLA_FLAGS``. What is traced inside of ``with convjax.compiled_with(options):``, or in
    a function that ``convjax.compiled_with(options)`` decorates, is lowered for these options. The
    gradients of a convolution are lowered for the options that it was traced under.

    It declares and sets nothing: give the same options to whoever compiles. `convjax.jit` does
    both. This is for programs that others compile. A call outside of ``jit`` is compiled with the
    options that are declared.

    ``jit`` traces a function anew under other declarations, as under another precision. Programs
    that ``jax.export`` writes are lowered as if nothing was declared.

    Args:
        compiler_options: names and values, as ``jax.jit`` takes them.

    Returns:
        A context, which is also a decorator.

    Raises:
        TypeError: if `compiler_options` is no dictionary of such names and values.

    Example:
        >>> import jax, jax.numpy as jnp, convjax
        >>> options = convjax.compiler_options("cpu", onednn=True)
        >>> @convjax.compiled_with(options)
        ... def model(x, kernel):
        ...     return convjax.conv(x, kernel)
        >>> fast = jax.jit(model, compiler_options=options)
        >>> fast(jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))).shape
        (1, 8, 8, 4)

    Source: JAX, ``jax.make_user_context``, 2026, https://github.com/jax-ml/jax
    """
    with declared.declaring(declared.as_options("compiled_with", compiler_options)):
        yield


class Jitted(declared.Outermost):
    """What `jit` returns: it is called, and lowered, as what ``jax.jit`` returns."""

    def __init__(
        self, fun: Callable[..., Any], given: declared.Options, jit_options: Mapping[str, Any]
    ) -> None:
        # `updated`: the attributes of a callable object, such as a module, are its own
        functools.update_wrapper(self, fun, updated=())

        def options() -> declared.Options:
            best = known_options(default_platform(), onednn=True)
            return declared.as_options("jit", {**best, **dict(given)})

        super().__init__(_right_with_onednn(fun), options, **jit_options)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """As ``jax.jit(fun).lower``, under the options."""
        return self.outer.lower(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """As ``jax.jit(fun).trace``, under the options."""
        return self.outer.trace(*args, **kwargs)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """As ``jax.jit(fun).eval_shape``."""
        return self.outer.eval_shape(*args, **kwargs)

    def clear_cache(self) -> None:
        """As ``jax.jit(fun).clear_cache``."""
        self.outer.clear_cache()
        self._nested.clear_cache()


def _right_with_onednn(fun: Callable[..., Any]) -> Callable[..., Any]:
    """`fun`, whose convolutions of 16-bit numbers, and rare ones of float32, this library executes
    where XLA has oneDNN.

    oneDNN computes some of lax's wrongly: see `onednn_faults`. lax would write others when
    they are differentiated. Products of matrices in float16 are computed in float32: where a
    processor has instructions for float16, XLA gives them to oneDNN, whose reference code took 800
    times as long (jaxlib 0.12.0.1, AMX: 512x1024 by 1024x1024 3 s).
    """

    @functools.wraps(fun, updated=())
    def right(*args: Any, **kwargs: Any) -> Any:
        if not Target.here(default_platform(), options=declared.now()).onednn:
            return fun(*args, **kwargs)
        traced = trace(fun, args, kwargs)
        return traced.restore(evaluate(traced.jaxpr, traced.operands, _is_unsafe))

    return right


def _is_unsafe(eqn: Any) -> bool:
    """Whether it is a convolution of 16-bit numbers, or one of float32 that oneDNN may compute
    wrongly, or a product of matrices in float16."""
    if eqn.primitive is lax.dot_general_p:
        types = [atom.aval.dtype for atom in (*eqn.invars, *eqn.outvars)]
        return all(dtype == jnp.float16 for dtype in types)
    x, kernel = (atom.aval for atom in eqn.invars)
    if x.dtype == jnp.float32 and eqn.params["feature_group_count"] == 1:
        problem = problem_of(x, kernel, *as_written(eqn.params), "forward")
        return onednn_faults.may_be_wrong_in_float32(problem, jax.device_count())
    size: int = x.dtype.itemsize
    return size == 2


@overload
def jit(
    fun: Callable[..., Any],
    *,
    compiler_options: CompilerOptions | None = None,
    **jit_options: object,
) -> Jitted: ...
@overload
def jit(
    fun: None = None,
    *,
    compiler_options: CompilerOptions | None = None,
    **jit_options: object,
) -> Callable[[Callable[..., Any]], Jitted]: ...
@public_with(options_of=jax.jit)
def jit(
    fun: Callable[..., Any] | None = None,
    *,
    compiler_options: CompilerOptions | None = None,
    **jit_options: object,
) -> Jitted | Callable[[Callable[..., Any]], Jitted]:
    """``jax.jit`` under `compiler_options`, which the choice of lowerings is told.

    ``convjax.jit(fun)`` is ``jax.jit(fun, compiler_options=options)``, with
    ``convjax.compiler_options(platform, onednn=True)`` for the platform of JAX's default backend.
    In addition, the convolutions in `fun` are lowered for these options: where XLA has oneDNN, some
    are fastest in other forms. It is written once, around the whole program, such as a training
    step.

    oneDNN computes some convolutions wrongly: rare ones of float32 on processors with AVX-512, more
    of 16-bit numbers on those with AMX. So this library executes them in forms that are right, if
    `fun` calls ``lax``, too: all convolutions of 16-bit numbers, and those of float32 that may be
    wrong. `accelerate` does the same for all convolutions. And oneDNN is slow for products of
    matrices in float16 (``x @ w``) on some processors: these are computed in float32, and the
    result is rounded.

    Inside of another ``jit``, ``scan`` and the like it is ``jax.jit(fun)``: JAX takes options for
    whole programs only. So are its gradients, ``jax.grad(convjax.jit(loss))``, on jax 0.10; later
    they are compiled under the options, too.

    Args:
        fun: a function that JAX can trace. Without it, the result decorates one.
        compiler_options: further options, or others in place of these:
            ``{"xla_cpu_experimental_onednn_custom_call": False}`` leaves oneDNN out.
        jit_options: what else ``jax.jit`` takes, such as `static_argnames`, `donate_argnums`
            and `out_shardings`.

    Returns:
        A function of `fun`'s signature, with the methods ``lower``, ``trace``, ``eval_shape`` and
        ``clear_cache`` of ``jax.jit``.

    Raises:
        TypeError: if `fun` cannot be called, or an option is none of ``jax.jit``'s.

    Example:
        >>> import jax, jax.numpy as jnp, convjax
        >>> @convjax.jit
        ... def step(kernel, x):
        ...     loss, gradient = jax.value_and_grad(lambda k: convjax.conv(x, k).sum())(kernel)
        ...     return kernel - 0.1 * gradient, loss
        >>> kernel, loss = step(jnp.ones((3, 3, 3, 4)), jnp.ones((1, 8, 8, 3)))
        >>> kernel.shape
        (3, 3, 3, 4)

    Source: Bradbury et al., JAX: composable transformations of Python+NumPy programs, 2018,
        https://github.com/jax-ml/jax
    """
    given = declared.as_options("jit", {} if compiler_options is None else compiler_options)
    if fun is None:
        return functools.partial(jit, compiler_options=compiler_options, **jit_options)
    if not callable(fun):
        checks.fail_type("jit", "fun", type(fun), "must be a function", "Give it, not its result.")
    return Jitted(fun, given, jit_options)
