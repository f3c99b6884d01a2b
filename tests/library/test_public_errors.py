"""Every public function and module refuses wrong arguments in the form of section 7.

The arguments of the example in its docstring are changed one by one. What is not accepted raises a
``ValueError`` or ``TypeError`` that starts with a public name; nothing raw comes through.
"""

import contextlib
import doctest
import importlib
import inspect
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from test_public import PUBLIC

import convjax
from convjax import linen, nn

# Functions of arrays that are lax's own, of predicates that take anything, and of classes of data
EXCEPT = {
    "convjax.convs_saveable",
    "convjax.conv_general_dilated",
    "convjax.selftest.main",
    "convjax.selftest.checks",
    "convjax.selftest.versions",
    "convjax.kinds.markdown_table",
    "convjax.interop.check_model",  # of PyTorch's models, in test_interop_port
    "convjax.interop.layers_of",
    "convjax.analysis.rank_energy",  # the same function as in convjax.equivalents
}
FUNCTIONS = {
    name: value
    for name, value in PUBLIC.items()
    if inspect.isfunction(value) and name not in EXCEPT and not name.startswith("convjax.lax.")
}
MODULES = {
    f"{room.__name__}.{name}": getattr(room, name)
    for room in (nn, linen)
    for name in room.__all__
    if name not in ("Layer", "CausalState")  # which are no modules with options
}


# ---- options that do not exist -----------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_unknown_options_of_functions(name):
    function = FUNCTIONS[name]
    if name in ("convjax.cost_of", "convjax.explain"):
        pytest.skip("what it does not know it gives to its function")
    own = function.__name__
    with pytest.raises(TypeError, match=f"^{own}: there is no option `nonsense`\\. It takes "):
        function(nonsense=1)
    names = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    for right in names:
        for wrong in (right[:-1], right + "s", right.upper()) if len(right) > 3 else ():
            if wrong not in names:
                with pytest.raises(TypeError, match=rf"^{own}: there is no option `{wrong}` \(did"):
                    function(**{wrong: 1})
    if names:
        with pytest.raises(TypeError, match=f"^{own}: too many positional arguments"):
            function(*range(30))


@pytest.mark.parametrize("name", MODULES)
def test_unknown_options_of_modules(name):
    cls = MODULES[name]
    with pytest.raises(TypeError, match=f"^{cls.__name__}: there is no option `nonsense`"):
        example(name)(nonsense=1)
    for wrong, right in {"stride": "strides", "paddings": "padding", "usebias": "use_bias"}.items():
        if cls.__name__ == "ChannelShuffle":
            continue
        if cls.__name__.startswith("Pointwise") and right == "padding":
            continue
        if cls.__name__ == "CausalConvTranspose" and right == "padding":
            continue
        match = rf"^{cls.__name__}: there is no option `{wrong}` \(did you mean `{right}`\?\)"
        with pytest.raises(TypeError, match=match):
            example(name)(**{wrong: 1})


WORDS = {
    "stride": "strides",
    "window_strides": "strides",
    "dilation": "kernel_dilation",
    "rhs_dilation": "kernel_dilation",
    "lhs_dilation": "input_dilation",
    "groups": "feature_group_count",
    "data_format": "dimension_numbers",
    "Padding": "padding",
}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("name", ["conv", "conv2d", "correlate", "convolve"])
def test_words_of_other_libraries(name, word):
    match = rf"^{name}: there is no option `{word}` \(did you mean `{WORDS[word]}`\?\)"
    with pytest.raises(TypeError, match=match):
        getattr(convjax, name)(jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 2, 4)), **{word: 2})


# The calls of functions whose docstring shows none
_X, _K, _G, _D = (1, 6, 6, 4), (3, 3, 4, 8), (3, 3, 2, 8), (3, 3, 1, 8)
_P, _AXES = (1, 1, 8, 5), [(3, 1, 4, 5), (1, 3, 5, 8)]
EXAMPLES = {f"convjax.arithmetic.relation_{i}": (args, {}) for i, args in {
    1: (7, 3), 2: (7, 3, 1), 3: (7, 3), 4: (7, 3), 5: (7, 3, 2), 7: (7, 3, 2), 8: (5, 3),
    9: (5, 3, 1), 10: (5, 3), 11: (5, 3), 12: (3, 3, 2), 13: (3, 3, 2, 1),
}.items()}  # fmt: skip
EXAMPLES |= {f"convjax.cost.{kind}": (args, {}) for kind, args in {
    "conv": (_X, _K), "pointwise_conv": (_X, (1, 1, 4, 8)), "dilated_conv": (_X, _K, 2),
    "grouped_conv": (_X, _G, 2), "pointwise_grouped_conv": (_X, (1, 1, 2, 8), 2),
    "shuffled_grouped_conv": (_X, _G, 2), "depthwise_conv": (_X, _D),
    "conv_transpose": (_X, (3, 3, 8, 4)), "depthwise_separable_conv": (_X, _D, _P),
    "spatially_separable_conv": (_X, _AXES),
    "flattened_conv": (_X, (1, 1, 4, 5), [(3, 1, 1, 5), (1, 3, 1, 5)]),
    "channel_shuffle": (_X, 2), "channel_unshuffle": (_X, 2), "pixel_shuffle": (_X, 2),
    "pixel_unshuffle": (_X, 2), "subpixel_conv": (_X, (3, 3, 4, 8), 2), "resize": (_X, 2),
    "resize_conv": (_X, _K, 2), "hold": (_X, 2),
}.items()}  # fmt: skip
EXAMPLES["convjax._lowerings.compiler.compiler_options"] = ((), {"platform": "cpu"})


# ---- the example of the docstring, with one argument changed -----------------------------------


class _Seen(Exception):
    pass


def example(name):
    """A function that makes the example's call, with the arguments that it is given changed."""
    room, own = name.rsplit(".", 1)
    module, value = importlib.import_module(room), PUBLIC[name]
    calls = []

    def spy(*args, **kwargs):
        calls.append((args, kwargs))
        return value(*args, **kwargs)

    if name in EXAMPLES:
        calls.append(EXAMPLES[name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, own, spy)
        names = {**vars(inspect.getmodule(inspect.unwrap(value))), own: spy}
        with contextlib.redirect_stdout(io.StringIO()):
            parts = doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")
            for part in [] if calls else parts:
                exec(part.source, names)  # noqa: S102
                if calls:
                    break
    if not calls:
        return None
    args, kwargs = calls[0]
    positional = list(inspect.signature(value).parameters)
    given = dict(zip(positional, args, strict=False))
    extra = args[len(given) :]

    def call(**changes):
        found = {**given, **kwargs, **changes}
        leading = [found.pop(key) for key in positional[: len(args) - len(extra)]]
        return value(*leading, *extra, **found)

    call.arguments = {**given, **kwargs}
    call.positional = positional
    return call


ZERO, ONE = np.zeros((0,), np.float32), np.float32(1)
WRONG = [None, "nonsense", -1, 0, 1.5, True, (), (0,), (1, 2, 3, 4, 5), (1.5, "x"), {}, object(),
         ZERO, ONE, np.ones((2, 3)), np.ones((1, 2, 3, 4, 5, 6), np.int32),
         np.ones((1, 1, 1, 1), bool), np.array(["a"]), [[1], [2, 3]]]  # fmt: skip


SOME = [None, "nonsense", -1, 1.5, (), (1, 2, 3, 4, 5), object(), ZERO, np.ones((2, 3))]


def public_label(message):
    """Whether an error starts as ours do."""
    return re.match(r"^[\w.]+: ", message) is not None


def faults(call, names, values):
    """What a changed argument raises that is not in the house's form."""
    found = []
    for argument in names:
        for wrong in values:
            try:
                call(**{argument: wrong})
            except (ValueError, TypeError) as error:
                if not public_label(str(error)):
                    found.append(f"{argument}={wrong!r}: {type(error).__name__}: {error}"[:200])
            except Exception as error:
                found.append(f"{argument}={wrong!r}: {type(error).__name__}: {error}"[:200])
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_arguments_of_functions(name):
    call = example(name)
    if call is None:
        pytest.fail("its docstring has no example that calls it")
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    slow = "analysis" in name or "separa" in name
    found = faults(call, names, SOME if slow else WRONG)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", MODULES)
def test_wrong_arguments_of_modules(name):
    """When the module is made, or when it is called on what its example takes."""
    call = example(name)
    x = {3: jnp.ones((1, 8, 8, 3)), 6: jnp.ones((1, 7, 7, 6))}.get(
        call.arguments.get("in_features"), jnp.ones((1, 4, 4, 8))
    )

    quick = {} if name.endswith("Shuffle") else {"kernel_init": jax.nn.initializers.zeros}

    def used(**changes):
        module = call(**quick, **changes)
        if isinstance(module, flax_nnx.Module):
            fits = x.shape[-1] == getattr(module, "in_features", 0)
            return jax.eval_shape(lambda: module(x)) if fits else module
        return jax.eval_shape(module.init, jax.random.key(0), x)

    parameters = inspect.signature(MODULES[name]).parameters.values()
    foreign = {"rngs", "parent", "name", "promote_dtype", "kernel_init", "bias_init", "dtype",
               "param_dtype", "kernel_metadata", "bias_metadata", "conv_general_dilated",
               "conv_general_dilated_cls"}  # fmt: skip
    names = [
        p.name
        for p in parameters
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name not in foreign
    ]
    found = faults(used, names, SOME)
    assert not found, "\n".join(found)
