"""Public options have types that an editor shows, and that a type checker reads."""

import importlib
import inspect
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

import convjax
from convjax._core import aliases, options, padding
from convjax._lowerings import LOWERINGS

ROOT = Path(__file__).parents[2]
MODULES = """
    convjax convjax.analysis convjax.arithmetic convjax.cost convjax.equivalents
    convjax.initializers convjax.interop convjax._modules.conventions convjax.kinds convjax.linen
    convjax.models convjax.nn
""".split()
FLAX = ("convjax.linen", "convjax.models", "convjax.nn")

# JAX calls it, with a primitive of a class that has no public name.
EXEMPT = {"convjax.convs_saveable"}

# Unions of JAX and numpy in which `Any` stands for a dtype's class, or for nested sequences; and
# trees of other libraries, whose keys and leaves only these know.
KNOWN = [aliases.AnyArray, aliases.DType, aliases.Precision, aliases.AnyTree]


def is_loose(annotation: Any) -> bool:
    """Whether `annotation` is `Any` or missing, or has `Any` as a member, however deep."""
    if isinstance(annotation, options.Named):
        annotation = annotation.type
    if annotation is Any or annotation is inspect.Parameter.empty:
        return True
    if annotation in KNOWN:
        return False
    if get_origin(annotation) in (typing.Union, types.UnionType):
        known = {member for union in KNOWN for member in get_args(union)} - {Any}
        return any(is_loose(m) for m in get_args(annotation) if m not in known)
    if get_origin(annotation) in (list, tuple, dict, *map(get_origin, CONTAINERS)):
        return any(is_loose(member) for member in get_args(annotation) if member is not ...)
    return isinstance(annotation, str) and "Any" in annotation


CONTAINERS = [typing.Sequence[int], typing.Mapping[str, int], typing.Iterable[int]]


def parameters(function: Any) -> dict[str, Any]:
    """Parameters and their annotations, what each TypedDict of ``**options`` has among them."""
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.VAR_POSITIONAL and parameter.name != "self":
            found[parameter.name] = parameter.annotation
    for name in PASSED_ON.get(getattr(function, "__qualname__", ""), ()):
        del found[name]
    return found


# What the caller's function is given.
PASSED_ON = {"cost_of": ["kwargs"], "explain": ["kwargs"]}


def publics() -> dict[str, Any]:
    """Every public function, and the constructor of every public module, by its full name.

    Other classes are results.
    """
    found = {}
    for module in MODULES:
        if module in FLAX and importlib.util.find_spec("flax") is None:
            continue
        room = importlib.import_module(module)
        for name in getattr(room, "__all__", None) or dir(room):
            value = getattr(room, name)
            home = getattr(value, "__module__", None) or ""
            inside = home == module if not hasattr(room, "__all__") else home.startswith("convjax")
            if inspect.isclass(value):
                ours = (
                    getattr(value.__init__, "__module__", "").startswith("convjax")
                    or module == "convjax.linen"
                )
                value = value.__init__ if ours and module in FLAX else None
            if callable(value) and inside and not name.startswith("_"):
                found[f"{module}.{name}"] = value
    return found


PUBLICS = publics()


def test_the_search_finds_what_it_looks_for():
    assert len(PUBLICS) > 130
    assert set(parameters(convjax.conv)) == {
        "x", "kernel", *typing.get_type_hints(options.ConvOptions)
    }  # fmt: skip
    for annotation in (Any, int | Any, list[Any], typing.Sequence[Any]):
        assert is_loose(annotation)
    for annotation in (aliases.Ints, aliases.Padding, aliases.ResultType, int | None, object):
        assert not is_loose(annotation)


@pytest.mark.parametrize("name", sorted(PUBLICS))
def test_no_public_option_is_any(name):
    if name in EXEMPT:
        return
    loose = [option for option, type in parameters(PUBLICS[name]).items() if is_loose(type)]
    assert not loose


# Trees of other libraries, and pads that may be symbolic.
LOOSE = [dict[Any, Any], dict[str, dict[Any, Any]], tuple[tuple[Any, Any], ...]]


def test_no_public_result_is_any():
    loose, overloads = {}, 0
    for name, function in PUBLICS.items():
        forms = typing.get_overloads(getattr(function, "__wrapped__", function))
        overloads += len(forms)
        for form in [function, *forms]:
            result = inspect.signature(form).return_annotation
            constructs = form.__name__ == "__init__"
            if is_loose(result) and not constructs and result not in LOOSE:
                loose[name] = result
    assert not loose
    assert overloads > 12


def test_the_words_of_types_are_the_words_that_functions_accept():
    assert get_args(aliases.Policy) == padding.POLICIES
    assert get_args(aliases.Mode) == padding.MODES
    assert set(get_args(aliases.Lowering)) == set(LOWERINGS)


def test_signatures_show_every_option_with_its_default():
    """`help` of every function that passes its options on shows them, and not ``**options``."""
    text = str(inspect.signature(convjax.conv1d))
    assert "strides: Ints = 1, padding: Padding = 'SAME', padding_mode: PaddingMode" in text
    assert "**" not in text and "Any" not in text
    assert "padding_mode: PaddingMode = 'edge'" in str(inspect.signature(convjax.hold))
    causal = str(inspect.signature(convjax.causal_conv))
    assert "bias: ArrayLike | None = None" in causal and "numpy" not in causal
    for name in convjax.__all__:
        value = getattr(convjax, name)
        if name in ("channel_shuffle", "channel_unshuffle"):
            continue  # their `axis` is the axis of the channels
        if inspect.isfunction(value) and value.__module__.startswith("convjax._functional"):
            signature = inspect.signature(value)
            assert not [p for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
            defaults = {p.name: p.default for p in signature.parameters.values()}
            for option in defaults.keys() & options.DEFAULTS.keys():
                if (name, option) not in {("hold", "padding_mode"), ("dilated_conv", DILATION)}:
                    assert defaults[option] == options.DEFAULTS[option]


DILATION = "kernel_dilation"  # an argument of `dilated_conv`, without a default

GOOD = """
import jax
import jax.numpy as jnp
import numpy as np
import convjax
from convjax import arithmetic, cost, equivalents, interop

x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
y: jax.Array = convjax.conv(x, kernel, strides=(2, 1), padding=[(1, 1), (0, 2)])
y = convjax.conv(np.ones((1, 8, 8, 4)), kernel, padding="CAUSAL", precision="highest")
y = convjax.conv2d(x, kernel, padding_mode=("reflect", "wrap"), algorithm="taps")
y = convjax.conv(x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), algorithm=(None,) * 3)
y = convjax.conv_transpose(x, kernel, strides=2, output_padding=1, padding=1)
y = convjax.depthwise_conv(x, jnp.ones((3, 3, 1, 4)), preferred_element_type=jnp.float32)
y = convjax.hold(x, 2, order=1, padding="SAME")
row, taps = x[:, 0], kernel[0]
y = convjax.causal_conv(row, taps, activation="silu", output_at="last")
y, state = convjax.causal_conv(row, taps, bias=row[0, 0], return_state=True)
y = convjax.causal_conv(row, taps, state=state, mesh_axis="time", mask=row[..., 0] > 0)
y, state = convjax.causal_step(row[:, 0], taps, convjax.init_state(row, taps))
y = convjax.causal_conv_transpose(row, taps, strides=2, activation=jax.nn.relu)
y, state = convjax.causal_conv_transpose(row, taps, state=state, return_state=True)


def either(flag: bool) -> jax.Array | tuple[jax.Array, jax.Array]:
    return convjax.causal_conv(row, taps, return_state=flag)


def double(x: jax.Array, times: int = 2) -> jax.Array:
    return times * x


y = convjax.accelerate(double)(x, times=3)
weight: np.ndarray = interop.kernel_from("torch", np.ones((4, 4, 3)), "dense")
weights = interop.kernel_to("torch", [weight, weight], "spatially_separable")
first: np.ndarray = weights[0]
y = convjax.resize(x, (2, 3), method="bilinear")
macs: int = cost.conv((1, 8, 8, 4), kernel, strides=2, itemsize=2).macs
size: int = arithmetic.conv_output_size(8, 3, padding="VALID")
sizes: tuple[int, ...] = arithmetic.conv_output_size((8, 9), 3)
dense: jax.Array = equivalents.grouped(kernel, 2)
"""
WRONG = """
import jax.numpy as jnp
import convjax
from convjax import cost

x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
convjax.conv(x, kernel, padding_mode="reflectt")
convjax.conv(x, kernel, padding="same")
convjax.conv(x, kernel, strides=1.5)
convjax.conv(x, kernel, stride=2)
convjax.conv(x, kernel, algorithm="tap")
convjax.conv([1.0], kernel)
convjax.conv_transpose(x, kernel, input_dilation=2)
convjax.pointwise_conv(x, kernel, padding="SAME")
convjax.resize(x, 2, method="cubic")
convjax.causal_conv(x, kernel, padding="CAUSAL")
convjax.causal_conv(x, kernel, return_state=True).shape
convjax.causal_conv(x, kernel, return_state="yes")
convjax.causal_conv(x, kernel, mesh_axis=0)
convjax.causal_step(x, kernel, x, strides=2)
convjax.causal_conv_transpose(x, kernel, mask=x)
convjax.causal_conv_transpose(x, kernel, return_state=True).shape
convjax.accelerate(convjax.conv)(x)
cost.conv((1, 8, 8, 4), (3, 3, 4, 4), padding_mode="zeros")
"""
MODULE = """
import jax
import jax.numpy as jnp
from flax import nnx
from convjax import linen, nn

rngs = nnx.Rngs(0)
nn.Conv(3, 4, (3, 3), padding="CIRCULAR", strides=None, rngs=rngs)
nn.GroupedConv(6, 12, (3, 3), 3, strides=2, padding_mode="edge", use_bias=False, rngs=rngs)
linen.Conv(4, (3, 3), padding=[1, (0, 2)], strides=2)
x = jnp.ones((1, 8, 4))
layer = nn.CausalConv(4, 4, 3, rngs=rngs)
y: jax.Array = layer(x)
y, state = layer(x, state=None, return_state=True)
y = layer(x, return_state=True)  # wrong
layer(x, stream=True)  # wrong
y, state = linen.CausalConv(4, 3)(x, return_state=True)
y = linen.CausalConv(4, 3)(x, stream="step")
nn.GroupedConv(6, 12, (3, 3), 3, padding_mode="reflectt", rngs=rngs)  # wrong
nn.PointwiseConv(6, 12, padding="SAME", rngs=rngs)  # wrong
linen.GroupedConv(6, (3, 3), 3, padding_mode="reflectt")  # wrong
nn.ConvTranspose(3, 4, 3, convention="torch", rngs=rngs)  # wrong
"""


def checked(program: str, folder: Path) -> tuple[list[int], str]:
    """The lines of `program` that mypy refuses, and what it says."""
    path = folder / "program.py"
    path.write_text(program)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--config-file", "", str(path)]
    done = subprocess.run(
        [*command, "--follow-imports=silent", "--ignore-missing-imports"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    found = [line.split(":") for line in done.stdout.splitlines() if ": error:" in line]
    return sorted({int(line[1]) for line in found}), done.stdout + done.stderr


def test_a_type_checker_passes_right_calls_and_refuses_wrong_ones(tmp_path):
    pytest.importorskip("mypy")
    refused, said = checked(GOOD + WRONG, tmp_path)
    first = GOOD.count("\n") + WRONG[: WRONG.index("convjax.conv(")].count("\n") + 1
    wanted = list(range(first, (GOOD + WRONG).count("\n") + 1))
    assert refused == wanted, said


def test_a_type_checker_reads_modules(tmp_path):
    pytest.importorskip("mypy")
    pytest.importorskip("flax")
    refused, said = checked(MODULE, tmp_path)
    wanted = [n for n, line in enumerate(MODULE.splitlines(), 1) if line.endswith("# wrong")]
    assert refused == wanted, said
