"""Which collectives the compiled programs of sharded convolutions hold, counted in their text.

Nothing is gathered where the geometry needs it not: groups and batches stay where they are, rows
beyond a shard's edge come from its neighbours, and sums over what is sharded are all-reduced. What
is gathered all the same, `EXCEPTIONS` names. The devices divide every extent.
"""

import re
from functools import cache, partial

import jax
import numpy as np
import oracle
import programs
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from sharded import equal, mesh_of, needs_devices

import convjax

pytestmark = needs_devices

COLLECTIVES = (
    "all-gather", "all-to-all", "all-reduce", "reduce-scatter", "collective-permute",
    "collective-broadcast", "ragged-all-to-all",
)  # fmt: skip

# ---- the law -------------------------------------------------------------------------------------

NOTHING: set[str] = set()
HALO = {"collective-permute"}
SUM = {"all-reduce", "reduce-scatter"}

# What is sharded: collectives of the convolution, of its input's gradient, of its kernel's gradient
LAW = {
    "batch": (NOTHING, NOTHING, SUM),
    "height": (HALO, HALO, HALO | SUM),
    "width": (HALO, HALO, HALO | SUM),
    "groups": (NOTHING, NOTHING, NOTHING),
    "in": (SUM, NOTHING, NOTHING),
    "out": (NOTHING, SUM, NOTHING),
    # over two mesh axes
    "batch, height": (HALO, HALO, HALO | SUM),
    "batch, groups": (NOTHING, NOTHING, SUM),
    "height, groups": (HALO, HALO, HALO | SUM),
    "batch, out": (NOTHING, SUM, SUM),
}
EVERYWHERE = ("batch", "height", "groups")
ROLES = ("forward", "input_gradient", "kernel_gradient")

N, H, W = 8, 16, 8


def conv(groups=1, **options):
    return partial(convjax.conv, feature_group_count=groups, **options)


def transposed(groups=1):
    return partial(convjax.conv_transpose, strides=2, feature_group_count=groups)


# kind: function, groups, shape of x, shape of the kernel
KINDS = {
    "dense": (conv(), 1, (N, H, W, 16), (3, 3, 16, 8)),
    "strided": (conv(strides=2), 1, (N, H, W, 16), (3, 3, 16, 8)),
    "dilated": (conv(kernel_dilation=2), 1, (N, H, W, 16), (3, 3, 16, 8)),
    "pointwise": (conv(), 1, (N, H, W, 16), (1, 1, 16, 8)),
    "3-D": (conv(), 1, (N, H, W, 4, 8), (3, 3, 3, 8, 8)),
    "transposed": (transposed(), 1, (N, H, W, 8), (3, 3, 16, 8)),
    "depthwise": (conv(16), 16, (N, H, W, 16), (3, 3, 1, 16)),
    "depthwise, 2 kernels each": (conv(16), 16, (N, H, W, 16), (3, 3, 1, 32)),
    "depthwise, strided": (conv(16, strides=2), 16, (N, H, W, 16), (3, 3, 1, 16)),
    "grouped": (conv(8), 8, (N, H, W, 64), (3, 3, 8, 64)),
    "transposed, grouped": (transposed(8), 8, (N, H, W, 64), (3, 3, 8, 64)),
}


def shardings(kind, sharded, names="ab"):
    """The specs of x, of the kernel and of the result: over `names`, in the order of the words."""
    _, _, shape, kernel_shape = KINDS[kind]
    x, kernel, y = [None] * len(shape), [None] * len(kernel_shape), [None] * len(shape)
    contract, out = (-1, -2) if kind.startswith("transposed") else (-2, -1)
    for part, name in zip(sharded.split(", "), names, strict=False):
        if part == "groups":
            x[-1] = y[-1] = name
            kernel[-1] = name
        elif part == "in":
            x[-1] = kernel[contract] = name
        elif part == "out":
            y[-1] = kernel[out] = name
        else:
            axis = {"batch": 0, "height": 1, "width": 2}[part]
            x[axis] = y[axis] = name
    return P(*x), P(*kernel), P(*y)


def quickly(lowered):
    """The compiled program; its machine code is not optimised, which is none of the partitioner."""
    return lowered.compile(
        {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    )


def counts(text):
    """How often each collective occurs in a compiled program."""
    found = {name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES}
    return {name: number for name, number in found.items() if number}


def program(function, role, x, kernel, y):
    """The function that a role computes, its operands, and which of x, kernel and y it returns."""
    if role == "forward":
        return function, (x, kernel), 2
    if role == "input_gradient":
        return lambda k, y: jax.linear_transpose(lambda x: function(x, k), x)(y)[0], (kernel, y), 0
    return lambda x, y: jax.linear_transpose(lambda k: function(x, k), kernel)(y)[0], (x, y), 1


@cache
def one_device(kind):
    """x, kernel, a cotangent, and what the roles make of them without sharding."""
    function, _, *shapes = KINDS[kind]
    x, kernel = (oracle.integers(i, shape, bound=2) for i, shape in enumerate(shapes))
    y = oracle.integers(2, jax.eval_shape(function, x, kernel).shape, bound=2)
    results = []
    for role in ROLES:
        run, operands, _ = program(function, role, x, kernel, y)
        results.append(np.asarray(jax.jit(run)(*operands)))
    return (x, kernel, y), results


MODES = {
    # mode: type of the mesh axes, whether the mesh is set, devices over one axis and over two
    "automatic": (AxisType.Auto, False, (8,), (4, 2)),
    "automatic, set_mesh": (AxisType.Auto, True, (4,), (2, 2)),
    "explicit": (AxisType.Explicit, True, (8,), (2, 2)),
}


def compiled(function, role, arrays, specs, mode, sizes):
    """The compiled program of a role, and its operands on the devices."""
    kind, is_set, *_ = MODES[mode]
    mesh = mesh_of(sizes, ("a", "b")[: len(sizes)], kind)
    places = [NamedSharding(mesh, spec) for spec in specs]
    if kind == AxisType.Explicit:
        function = partial(function, out_sharding=places[2])
        arrays = [jax.device_put(a, place) for a, place in zip(arrays, places, strict=True)]
    run, operands, result = program(function, role, *arrays)
    operands = [
        jax.device_put(a, place)
        for i, place in enumerate(places) if i != result
        for a in [arrays[i]]
    ]  # fmt: skip
    with jax.set_mesh(mesh) if is_set else jax.disable_jit(False):
        return quickly(jax.jit(run, out_shardings=places[result]).lower(*operands)), operands


EVERY_MODE = ("dense", "transposed", "depthwise", "grouped")  # kinds with a lowering each
TWO_AXES = ("dense", "grouped")


def ways(kind):
    """What of a kind is sharded: one axis of it; for some kinds also the width, and two axes."""
    has = ("groups",) if KINDS[kind][1] > 1 else ("in", "out")
    for sharded in LAW:
        parts = sharded.split(", ")
        rare = len(parts) == 2 or parts == ["width"]
        if {*parts} & {"groups", "in", "out"} <= {*has} and (kind in TWO_AXES or not rare):
            yield sharded


def modes(kind, sharded):
    """Every mode for some kinds; for the others eight devices, where the compiler knows least."""
    return list(MODES) if kind in EVERY_MODE and sharded in EVERYWHERE else ["automatic"]


CASES = [
    (kind, sharded, mode)
    for kind in KINDS for sharded in ways(kind) for mode in modes(kind, sharded)
]  # fmt: skip


@pytest.mark.parametrize("kind, sharded, mode", CASES)
def test_collectives(kind, sharded, mode):
    """Nothing but what the law allows, and the values of one device."""
    arrays, wanted = one_device(kind)
    specs, sizes = shardings(kind, sharded), MODES[mode][3 if "," in sharded else 2]
    for role, allowed, value in zip(ROLES, LAW[sharded], wanted, strict=True):
        run, operands = compiled(KINDS[kind][0], role, arrays, specs, mode, sizes)
        found = counts(run.as_text())
        assert set(found) <= allowed - (HALO if kind == "pointwise" else set()), (role, found)
        # A halo is fetched from each side once for all taps (and phases), a sum is made once.
        assert sharded == "width" or sum(found.values()) <= 5, (role, found)
        equal(run(*operands), value)


# ---- what is gathered all the same ---------------------------------------------------------------


def theirs(x, kernel, groups=1, padding="SAME", input_dilation=(1, 1)):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, lhs_dilation=input_dilation, feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def gathers(function, role, shapes, specs, out=None):
    """How many all-gathers and all-to-alls, on four devices of an automatic mesh."""
    mesh = mesh_of((4,), ("a",))
    x, kernel = (
        jax.ShapeDtypeStruct(shape, np.float32, sharding=NamedSharding(mesh, spec))
        for shape, spec in zip(shapes, specs[:2], strict=True)
    )
    y = jax.eval_shape(function, x, kernel)
    y = jax.ShapeDtypeStruct(y.shape, y.dtype, sharding=NamedSharding(mesh, specs[2]))
    run, operands, result = program(function, role, x, kernel, y)
    place = NamedSharding(mesh, specs[result] if out is None else out)
    found = counts(quickly(jax.jit(run, out_shardings=place).lower(*operands)).as_text())
    return found.get("all-gather", 0) + found.get("all-to-all", 0)


ROWS, CHANNELS, ALL = P(None, "a"), P(None, None, None, "a"), P()
MANY, INNER, LAST = (4, N, H, W, 64), P(None, "a"), P(None, None, None, None, "a")
KERNEL, KERNELS = (3, 3, 8, 64), (4, 3, 3, 8, 64)

# reason: groups, vmapped axes, padding, shapes of x and kernel, specs of x, kernel and y, roles
EXCEPTIONS = {
    # The whole gradient is wanted everywhere, and every device has its own groups' part of it.
    "a replicated kernel's gradient, groups sharded": (
        8, None, "SAME", (MANY[1:], KERNEL), (CHANNELS, ALL, CHANNELS), ("kernel_gradient",),
    ),
    # Several axes of one role become one, and the sharded one is not the first of them. The types
    # of automatic axes do not say which is sharded.
    "batch sharded, under vmap over another axis": (
        8, (0, None), "SAME", (MANY, KERNEL), (INNER, ALL, INNER), ROLES,
    ),
    "groups sharded, under vmap over x and kernel": (
        8, (0, 0), "SAME", (MANY, KERNELS), (LAST, LAST, LAST), ROLES,
    ),
    # 14 rows on four devices: the result cannot be sharded.
    "rows that the devices do not divide": (
        1, None, "VALID", ((N, H, W, 8), (3, 3, 8, 8)), (ROWS, ALL, ALL), ROLES,
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", EXCEPTIONS)
def test_exceptions(reason):
    """Something is gathered here; it is no more than lax gathers."""
    groups, axes, padding, shapes, specs, roles = EXCEPTIONS[reason]
    ours = partial(convjax.conv, feature_group_count=groups, padding=padding)
    lax = partial(theirs, groups=groups, padding=padding)
    if axes:
        ours, lax = jax.vmap(ours, axes), jax.vmap(lax, axes)
    for role in roles:
        assert gathers(ours, role, shapes, specs) <= gathers(lax, role, shapes, specs), role


@pytest.mark.parametrize(
    "role, shapes, specs, options",
    [
        ("forward", (MANY[1:], KERNEL), (P("a"), ALL, P("a")), {"groups": 8}),
        ("forward", (MANY[1:], KERNEL), (CHANNELS, CHANNELS, CHANNELS), {"groups": 8}),
        ("forward", (MANY[1:], KERNEL), (ROWS, ALL, ROWS), {"groups": 8}),
        ("input_gradient", (MANY[1:], KERNEL), (CHANNELS, CHANNELS, CHANNELS), {"groups": 8}),
        (
            "kernel_gradient", ((N, H, W, 8), (3, 3, 8, 16)), (ROWS, ALL, ROWS),
            {"input_dilation": (2, 2), "padding": [(1, 2), (1, 2)]},
        ),
    ],
)  # fmt: skip
def test_lax_gathers(role, shapes, specs, options):
    """The count sees gathers: lax's, where this library has none. Fails when XLA improves."""
    assert gathers(partial(theirs, **options), role, shapes, specs) > 0
    if "groups" in options:
        options = {"feature_group_count": options["groups"]}
    assert gathers(partial(convjax.conv, **options), role, shapes, specs) == 0


# ---- the choice of lowering ----------------------------------------------------------------------


def choices(function, *operands, **options):
    rows = convjax.explain(function, *operands, platform="cpu", **options).rows
    return {row.role: row.lowering for row in rows}


def training(function):
    return jax.grad(lambda x, k: (function(x, k) ** 2).sum(), (0, 1))


def test_the_lowering_follows_the_partitioning():
    """Every device runs what one device would."""
    expected = {
        "grouped": "per_group", "3-D": "depth_sum", "depthwise": "taps", "transposed": "polyphase",
    }  # fmt: skip
    for kind, name in expected.items():
        function, _, *shapes = KINDS[kind]
        operands = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
        one, several = (
            choices(training(function), *operands, partitioned=n) for n in (False, True)
        )
        assert one == several, kind
        assert one["forward"] == name, kind


# ---- shard_map -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["depthwise", "grouped"])
def test_shard_map_sums_the_gradient_of_the_kernel_and_nothing_else(kind):
    """Batch and groups by hand, on eight devices: what one device runs, and one psum."""
    function, groups, *shapes = KINDS[kind]
    local = conv(groups // 2)
    (x, kernel, _), _ = one_device(kind)
    mesh = mesh_of((4, 2), ("n", "c"))
    x_spec, k_spec = P("n", None, None, "c"), P(None, None, None, "c")
    mapped = partial(jax.shard_map, mesh=mesh, in_specs=(x_spec, k_spec), check_vma=True)

    forward = mapped(local, out_specs=x_spec)
    assert counts(programs.compiled(forward, x, kernel)) == {}
    equal(jax.jit(forward)(x, kernel), function(x, kernel))

    gradient = mapped(training(local), out_specs=(x_spec, k_spec))
    assert counts(programs.compiled(gradient, x, kernel)) == {"all-reduce": 1}
    equal(jax.jit(gradient)(x, kernel), training(function)(x, kernel))

    # explain sees the lowerings of one device, of a device's part, whatever is outside
    part = x[: N // 4, ..., : shapes[0][-1] // 2], kernel[..., : shapes[1][-1] // 2]
    alone = choices(training(local), *part)
    assert choices(gradient, x, kernel, partitioned=2) == alone
    assert alone == choices(training(local), *part, partitioned=2)
