"""`cost_of` and `explain`: what they read in a program's jaxpr."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import convjax
from convjax._lowerings import select
from convjax._lowerings import target as targets
from convjax._lowerings.target import Target
from convjax._programs.cost_of import cost_of
from convjax._programs.explain import explain


def like(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def totals(fn, *args, **kwargs):
    found = cost_of(fn, *args, **kwargs)
    return found.macs, found.useful_macs


# ---- law "counts": one convolution, the taps that the oracle touches -----------------------------

OPTIONS = [
    {},
    {"strides": (2, 3), "padding": ((1, 4), (-1, 2))},
    {"strides": (3, 1), "padding": "FULL", "kernel_dilation": (2, 1)},
    {"strides": 2, "padding": ((0, 3), (2, -2)), "input_dilation": (2, 3)},
    {"padding": "CAUSAL", "input_dilation": (3, 1), "kernel_dilation": (1, 2)},
    {"strides": (4, 5), "padding": "VALID", "feature_group_count": 3},
    {"padding": ((5, 6), (7, 8)), "feature_group_count": 3},
]
N, SPACE, WINDOW, I, O = 2, (5, 7), (3, 2), 6, 9  # noqa: E741


def case(options):
    groups = options.get("feature_group_count", 1)
    real, padded = oracle.problem(SPACE, WINDOW, **options).count()
    size = N * (I // groups) * O
    return like(N, *SPACE, I), like(*WINDOW, I // groups, O), size * (real + padded), size * real


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("algorithm", [None, "direct"])
def test_a_convolution_and_its_gradients(options, algorithm):
    x, kernel, macs, useful = case(options)
    conv = partial(convjax.conv, algorithm=algorithm, **options)
    assert totals(conv, x, kernel) == (macs, useful)

    y = jax.eval_shape(conv, x, kernel)
    to_x = cost_of(lambda y, k: jax.linear_transpose(lambda x: conv(x, k), x)(y), y, kernel)
    to_kernel = cost_of(lambda y, x: jax.linear_transpose(lambda k: conv(x, k), kernel)(y), y, x)
    assert to_x.useful_macs == to_kernel.useful_macs == useful
    assert to_kernel.macs == macs
    both = cost_of(jax.grad(lambda x, k: (conv(x, k) ** 2).sum(), (0, 1)), x, kernel)
    assert both.useful_macs == 3 * useful
    assert len(both.rows) == 3


def test_the_input_gradient_counts_no_inserted_zeros():
    # 2 x 2 -> 5 x 5 with a 3 x 3 kernel (relation 12): 36 useful taps, 28 more on padding.
    y, kernel = like(1, 2, 2, 1), like(3, 3, 1, 1)
    found = cost_of(convjax.conv_transpose, y, kernel, strides=2, padding="VALID")
    assert found.useful_macs == 36
    taps = [2 * o + t for o in range(2) for t in range(3)]
    assert len(taps) ** 2 == 36
    # Per axis, outputs 0..4 and taps 0..2 read -2..4; inputs lie at 0 and 2, padding at -2 and 4,
    # and zeros that the strides insert in between.
    reads = [o + t - 2 for o in range(5) for t in range(3)]
    assert found.macs == sum(p % 2 == 0 for p in reads) ** 2 == 64


def test_dot_general():
    assert totals(lambda x, y: x @ y, like(5, 3), like(3, 7)) == (105, 105)
    assert totals(partial(jnp.einsum, "bij,bkj->bik"), like(2, 5, 3), like(2, 7, 3)) == (210,) * 2
    assert totals(jnp.vdot, like(4, 4), like(4, 4)) == (16, 16)


@pytest.mark.parametrize("groups", [{"feature_group_count": 3}, {"batch_group_count": 2}])
def test_lax_own_convolution(groups):
    x, kernel = like(4, 6, 8, 9), like(6, 6 // groups.get("feature_group_count", 1), 3, 2)
    fn = partial(lax.conv_general_dilated, window_strides=(2, 1), padding="VALID", **groups)
    batch = 4 // groups.get("batch_group_count", 1)
    macs = batch * 6 * kernel.shape[1] * (3 * 8) * (3 * 2)  # N O I, outputs, taps
    found = cost_of(fn, x, kernel)
    assert (found.macs, found.useful_macs) == (macs, macs)
    assert found.rows[0].name == "lax.conv_general_dilated"
    assert totals(partial(convjax.conv_general_dilated, **fn.keywords), x, kernel) == (macs, macs)
    gradients = jax.grad(lambda x, k: (fn(x, k) ** 2).sum(), (0, 1))
    assert cost_of(gradients, x, kernel).useful_macs == 3 * macs


# ---- programs ------------------------------------------------------------------------------------

X, K = like(2, 9, 3), like(4, 3, 3)
ONE = totals(convjax.conv, X, K)


def unrolled(x, k):
    for _ in range(5):
        x = convjax.conv(x, k)
    return x


def scanned(x, k):
    return lax.scan(lambda x, _: (convjax.conv(x, k), None), x, length=5)[0]


def counted(x, k):
    return lax.fori_loop(0, 5, lambda _, x: convjax.conv(x, k), x)


def test_scan_is_unrolled():
    assert totals(unrolled, X, K) == totals(scanned, X, K) == totals(counted, X, K)
    assert totals(unrolled, X, K) == (5 * ONE[0], 5 * ONE[1])
    (row,) = cost_of(scanned, X, K).rows
    assert (row.count, row.macs_per_call, row.macs) == (5, ONE[0], 5 * ONE[0])
    assert row.useful_macs == 5 * row.useful_macs_per_call == 5 * ONE[1]
    assert row.where.startswith("scan x5")
    nested = lambda x, k: lax.scan(lambda x, _: (scanned(x, k), None), x, length=3)[0]  # noqa: E731
    assert totals(nested, X, K) == (15 * ONE[0], 15 * ONE[1])


def test_gradients_of_scan():
    def loss(fn):
        return jax.grad(lambda k: (fn(jnp.ones(X.shape), k) ** 2).sum())

    # The unrolled one needs no gradient of the first x; a scan computes that of every step.
    assert cost_of(loss(unrolled), K).useful_macs == (5 + 5 + 4) * ONE[1]
    assert cost_of(loss(scanned), K).useful_macs == (5 + 5 + 5) * ONE[1]


def test_vmapped_is_looped():
    xs, ks = like(6, *X.shape), like(6, *K.shape)
    for options in OPTIONS:
        x, kernel, macs, useful = case(options)
        many_x, many_k = like(4, *x.shape), like(4, *kernel.shape)
        for algorithm in (None, "direct"):
            conv = partial(convjax.conv, algorithm=algorithm, **options)
            expected = (4 * macs, 4 * useful)
            assert totals(jax.vmap(conv), many_x, many_k) == expected
            assert totals(jax.vmap(conv, (0, None)), many_x, kernel) == expected
            assert totals(jax.vmap(conv, (None, 0)), x, many_k) == expected
    gradient = jax.grad(lambda k, x: (convjax.conv(x, k) ** 2).sum())
    assert totals(jax.vmap(gradient), ks, xs) == tuple(6 * n for n in totals(gradient, K, X))


def test_cond_counts_its_largest_branch():
    def switch(i, x, k):
        twice = lambda x: convjax.conv(convjax.conv(x, k), k)  # noqa: E731
        return lax.switch(i, [lambda x: x, twice, lambda x: convjax.conv(x, k)], x)

    index = like(dtype=jnp.int32)
    assert totals(switch, index, X, K) == (2 * ONE[0], 2 * ONE[1])
    assert [row.where for row in cost_of(switch, index, X, K).rows] == ["cond[1]"] * 2
    assert len(explain(switch, index, X, K).rows) == 3


def test_while_counts_one_iteration_and_says_so():
    def loop(x, k):
        return lax.while_loop(lambda x: x.sum() < 9, lambda x: convjax.conv(x, k), x)

    found = cost_of(loop, X, K)
    assert (found.macs, found.useful_macs) == ONE
    assert not found.exact and not found.rows[0].exact
    assert "1*" in str(found) and "one iteration is counted" in str(found)
    assert cost_of(scanned, X, K).exact
    assert "iteration" not in str(cost_of(scanned, X, K))


@jax.custom_jvp
def with_jvp(x, k):
    return convjax.conv(x, k)


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[0]))


@jax.custom_vjp
def with_vjp(x, k):
    return convjax.conv(x, k)


with_vjp.defvjp(lambda x, k: (with_vjp(x, k), (x, k)), lambda saved, ct: (ct, saved[1]))


@pytest.mark.parametrize(
    ("fn", "times"),
    [(with_jvp, 1), (with_vjp, 1), (jax.jit(convjax.conv), 1), (jax.checkpoint(unrolled), 5)],
)
def test_calls_count_what_they_hold_once(fn, times):
    assert totals(fn, X, K) == (times * ONE[0], times * ONE[1])
    assert totals(jax.jit(fn), X, K) == (times * ONE[0], times * ONE[1])


def test_remat_counts_what_it_computes_again():
    def loss(policy):
        net = lambda x, k: jnp.sin(convjax.conv(jnp.sin(convjax.conv(x, k)), k))  # noqa: E731
        return jax.grad(lambda x, k: jax.checkpoint(net, policy=policy)(x, k).sum())

    again = cost_of(loss(None), X, K).useful_macs
    saved = cost_of(loss(convjax.convs_saveable), X, K).useful_macs
    plain = cost_of(loss(jax.checkpoint_policies.everything_saveable), X, K).useful_macs
    assert saved == plain == 4 * ONE[1]
    assert again == 6 * ONE[1]


def test_shard_map_multiplies_by_its_devices():
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    x = like(8, 9, 3)
    whole = totals(convjax.conv, x, K)

    def split(axes, specs, out):
        return jax.shard_map(
            convjax.conv, mesh=mesh, in_specs=specs, out_specs=out, axis_names=axes
        )

    data = split({"data", "model"}, (P("data"), P()), P("data"))
    assert totals(data, x, K) == tuple(2 * n for n in whole)  # replicated over "model"
    assert totals(split({"data"}, (P("data"), P()), P("data")), x, K) == whole
    both = split({"data", "model"}, (P("data"), P(None, None, "model")), P("data", None, "model"))
    wide = like(4, 3, 8)
    assert totals(both, x, wide) == totals(convjax.conv, x, wide)
    assert cost_of(both, x, wide).rows[0].shapes == ((2, 9, 3), (4, 3, 4), (2, 9, 4))


def test_other_programs():
    assert totals(lambda x: lax.map(lambda r: r @ r, x), like(3, 4)) == (12, 12)
    solve = lambda a, b: lax.custom_linear_solve(  # noqa: E731
        lambda v: a @ v, b, lambda _, b: a @ (a @ b), transpose_solve=lambda _, b: b
    )
    assert totals(solve, like(3, 3), like(3)) == (18, 18)
    found = cost_of(lambda x: jnp.fft.fft(x) @ jnp.ones(4), like(4))
    assert found.uncounted == ("fft",) and "not counted: fft" in str(found)
    assert totals(jnp.sin, X) == (0, 0)


def test_pallas_kernels_run_once_per_grid_point():
    pallas = pytest.importorskip("jax.experimental.pallas")

    def body(x, y, out):
        out[...] = x[...] @ y[...]

    specs = [
        pallas.BlockSpec((8, 16), lambda i, j: (i, 0)),
        pallas.BlockSpec((16, 8), lambda i, j: (0, j)),
    ]
    out = pallas.BlockSpec((8, 8), lambda i, j: (i, j))
    matmul = pallas.pallas_call(
        body, grid=(2, 3), in_specs=specs, out_specs=out, out_shape=like(16, 24)
    )
    assert totals(matmul, like(16, 16), like(16, 24)) == (16 * 16 * 24,) * 2


# ---- arguments and printing ----------------------------------------------------------------------


def test_arguments_that_are_not_arrays_stay_what_they_are():
    expected = totals(lambda x, k: convjax.conv(x, k, strides=2, padding="VALID"), X, K)
    assert totals(convjax.conv, X, K, strides=2, padding="VALID") == expected
    assert totals(convjax.conv, X, kernel=K, strides=np.int64(2), padding="VALID") == expected
    assert totals(lambda net, x: net["f"](x, net["k"]), {"f": convjax.conv, "k": K}, X) == ONE
    concrete = np.ones(X.shape, np.float32), jnp.ones(K.shape)
    assert totals(convjax.conv, *concrete) == ONE
    assert jax.jit(lambda x, k: cost_of(convjax.conv, x, k).macs)(*concrete) == ONE[0]
    assert [r.role for r in explain(convjax.conv, X, K, strides=2).rows] == ["forward"]


def test_tables():
    @jax.named_scope("head")
    def net(x, k):
        return scanned(x, k) @ jnp.ones((3, 2))

    lines = str(cost_of(net, X, K)).splitlines()
    assert [line.split()[0] for line in lines] == [
        "operation",
        lines[1].split()[0],
        "conv",
        "dot_general",
        "total",
    ]
    assert "2x9x3, 4x3x3 -> 2x9x3" in lines[2] and "head" in lines[2] and "scan x5" in lines[2]
    assert f"{cost_of(net, X, K).macs:,}" in lines[-1]
    assert str(cost_of(jnp.sin, X)).splitlines()[-1].split() == ["total", "0", "0"]
    text = str(explain(convjax.conv, X, K, strides=2, padding=((3, 1),), kernel_dilation=2))
    assert "strides 2; kernel_dilation 2; padding 3:1" in text and "direct" in text
    assert str(explain(jnp.sin, X)).startswith("role")


# ---- explain -------------------------------------------------------------------------------------


def gradients(x, k):
    return jax.grad(lambda x, k: (convjax.conv(x, k, strides=2) ** 2).sum(), (0, 1))(x, k)


def test_explain_names_roles_geometry_and_shapes():
    rows = {row.role: row for row in explain(gradients, X, K).rows}
    assert set(rows) == {"forward", "input_gradient", "kernel_gradient"}
    assert rows["forward"].geometry.strides == (2,)
    assert rows["input_gradient"].geometry.input_dilation == (2,)
    assert rows["input_gradient"].geometry.reversal
    assert rows["kernel_gradient"].geometry.kernel_dilation == (2,)
    assert rows["kernel_gradient"].shapes == ((2, 9, 3), (2, 5, 3), (4, 3, 3))
    names = {role: row.lowering for role, row in rows.items()}
    assert names == {
        "forward": "direct",
        "input_gradient": "polyphase",
        "kernel_gradient": "channels_last",
    }
    assert all(row.rule for row in rows.values())


def test_explain_marks_lax_own_convolutions():
    fn = lambda x, k: convjax.conv(x, k) + convjax.conv(x, k, algorithm="direct")  # noqa: E731
    ours, theirs = explain(fn, X, K).rows
    assert (ours.role, theirs.role) == ("forward", "lax")
    assert "lax's own" in theirs.rule and theirs.runner_up is None
    assert theirs.geometry == ours.geometry and theirs.shapes == ours.shapes


def test_explain_asks_select(monkeypatch):
    asked = []

    def choose(problem, target):
        asked.append((problem.role, target.platform, target.split))
        return select.Choice("direct", f"because {problem.role}", "none")

    monkeypatch.setattr(select, "select", choose)
    found = explain(convjax.conv, X, K, platform="tpu", partitioned=True)
    assert (found.rows[0].rule, found.rows[0].runner_up) == ("because forward", "none")
    explain(convjax.conv, X, K, platform="rocm", partitioned=3)
    explain(convjax.conv, X, K, platform="cuda")
    explain(convjax.conv, X, K, target=Target.of("cpu", "0.10"), partitioned=True)
    assert asked == [
        ("forward", "tpu", "XLA"),
        ("forward", "rocm", "nobody"),  # where a device runs what is chosen for its part
        ("forward", "cuda", "nobody"),
        ("forward", "cpu", "nobody"),
    ]


def test_explain_knows_the_mesh_inside_shard_map():
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    volume = like(8, 8, 8, 8, 3), like(3, 3, 3, 3, 16)

    def chosen(names, split, target):
        fn = jax.shard_map(
            convjax.conv,
            mesh=mesh,
            in_specs=(P("data"), P()),
            out_specs=P("data"),
            axis_names=names,
        )
        return explain(fn, *volume, target=target, partitioned=split).rows[0].lowering

    cpu = Target.of("cpu")
    assert chosen({"data", "model"}, True, cpu) == "depth_fold"  # a device's own convolution
    assert chosen({"data"}, True, cpu) == "depth_fold"  # a part gets what one device would get


@pytest.mark.parametrize(
    ("platform", "version", "expected"),
    [
        ("cpu", "", "cpu"),
        ("gpu", "cuda 13000", "cuda"),
        ("gpu", "ROCm 7", "rocm"),
        ("tpu", "", "tpu"),
    ],
)
def test_explain_knows_its_platform(monkeypatch, platform, version, expected):
    backend = SimpleNamespace(platform=platform, platform_version=version)
    monkeypatch.setattr(targets, "get_backend", lambda: backend)
    x, kernel = like(1, 9, 17), like(3, 17, 17)
    assert explain(convjax.conv, x, kernel).rows[0].rule.endswith(f" {expected}")


def test_explain_offers_transforms_for_long_kernels():
    def rule(k, **options):
        x, kernel = like(1, 4096, 16), like(k, 1, 16)
        conv = partial(convjax.depthwise_conv, padding="CAUSAL", **options)
        found = explain(jax.grad(lambda *a: conv(*a).sum(), (0, 1)), x, kernel, platform="cpu")
        assert len(found.rows) == 3
        rules = [row.rule for row in found.rows]
        assert len({"fft" in rule for rule in rules}) == 1
        return rules[0]

    assert '`algorithm="fft"` takes half the time' in rule(2048)
    assert "fft" not in rule(2047) and "fft" not in rule(2048, algorithm="fft")


def test_explain_offers_the_kernel_on_a_tpu():
    """Where it accepts the convolution; a program that XLA splits cannot have it."""

    def rules(channels=8, groups=8, window=(3, 3), **options):
        x, kernel = like(2, 16, 16, channels), like(*window, channels // groups, channels)
        conv = partial(convjax.conv, feature_group_count=groups)
        step = jax.grad(lambda x, k: conv(x, k).sum(), (0, 1))
        return [row.rule for row in explain(step, x, kernel, **options).rows]

    offer = 'available by `algorithm="pallas"`: compiled for v5e and v6e, never timed'
    for options in ({"platform": "tpu"}, {"target": Target.of("tpu")}):
        found = rules(**options)
        assert len(found) == 3 and all(rule.endswith(offer) for rule in found)
    for options in (
        {"platform": "cpu"},
        {"platform": "cuda"},
        {"platform": "tpu", "partitioned": True},
        {"platform": "tpu", "groups": 1},
        {"platform": "tpu", "window": (9, 9)},
    ):
        assert not any("pallas" in rule for rule in rules(**options))


def test_explain_answers_for_another_machine():
    x, kernel = like(8, 28, 28, 64), like(3, 3, 64, 64)

    def chosen(*release, **options):
        found = explain(convjax.conv, x, kernel, target=Target.of("cpu", *release, **options))
        return found.rows[0].lowering, found.note

    assert chosen("0.10.2") == ("spread_rows", "")
    assert chosen("0.10.2", ynnpack=False) == ("direct", "")
    assert chosen("0.12.0.1") == chosen() == ("direct", "")
    assumed = "jaxlib 0.99.1 was not measured: the choice is that of jaxlib 0.12"
    assert chosen("0.99.1") == ("direct", assumed)
    found = explain(convjax.conv, x, kernel, target=Target.of("cpu", "0.99.1"))
    assert str(found).endswith(f"\n{assumed}")
    with pytest.raises(TypeError, match="^explain: `target` .* must be a `convjax.Target`"):
        explain(convjax.conv, x, kernel, target="cpu")
    with pytest.raises(ValueError, match="^explain: `platform` .* differs from that of `target`"):
        explain(convjax.conv, x, kernel, platform="tpu", target=Target.of("cpu"))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "rocm", "tpu"])
def test_explain_says_what_is_really_chosen(monkeypatch, platform):
    """The rows agree with what lowering asks for and gets."""
    seen = []
    original = select.forced

    def spy(problem, algorithm, target):
        choice = original(problem, algorithm, target)
        seen.append((problem.role, target.platform, target.split, choice))
        return choice

    rows = explain(gradients, X, K, platform=platform).rows
    monkeypatch.setattr(select, "forced", spy)
    jax.jit(lambda x, k: gradients(x, k)).trace(X, K).lower(lowering_platforms=(platform,))
    expected = [(r.role, platform, "nobody", (r.lowering, r.rule, r.runner_up)) for r in rows]
    assert sorted(seen) == sorted(expected)


def test_a_program_of_one_device_is_refused_where_xla_would_split_it():
    """`explain` says what the compilation of such a program would say."""
    x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 1, 4))
    run = partial(convjax.depthwise_conv, algorithm="pallas")
    assert explain(run, x, kernel, platform="tpu").rows[0].lowering == "pallas"
    with pytest.raises(ValueError, match="'pallas' cannot .* which XLA cannot split; shard over"):
        explain(run, x, kernel, platform="tpu", partitioned=True)
