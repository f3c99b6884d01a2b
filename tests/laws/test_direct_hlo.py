"""Where `direct` is chosen, the optimised program is lax's own, forward and training."""

import jax
import jax.numpy as jnp
import pytest
from compilation import AS_USERS
from programs import compiled

from benchmarks.harness import hlo_text
from benchmarks.harness.ops import ConvjaxOps, DropInOps, LaxOps
from benchmarks.harness.prepare import all_direct, jax_function, lowerings, prepare_jax
from benchmarks.harness.rows import forward

CELLS = ("forward", "training")
ROWS = [
    forward("plain", "dense", 2, (9, 8), 3, 4, (3, 3)),
    forward("pointwise", "dense", 2, (9, 8), 3, 4, (1, 1)),
    forward("strided", "dense", 2, (9, 8), 3, 4, (3, 3), strides=2),
    forward("dilated", "dense", 2, (9, 8), 3, 4, (3, 3), dilation=2),
    forward("patches", "dense", 2, (8, 8), 3, 4, (4, 4), strides=4, padding=((0, 0), (0, 0))),
    forward("one axis", "dense", 2, (19,), 3, 4, (5,)),
    forward("three axes", "dense", 1, (5, 6, 4), 3, 4, (3, 3, 3)),
    forward("drop-in", "dense", 2, (9, 8), 3, 4, (3, 3), layout="first"),
    forward("drop-in strided", "dense", 2, (9, 8), 3, 4, (3, 3), strides=2, layout="first"),
]


# Forward only: the gradients of kernels are moved to channels last on a CPU.
DIRECT = ("plain", "strided", "dilated", "patches", "one axis")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_where_direct_is_chosen(row, cell):
    direct = row.name in DIRECT and cell == "forward"
    assert all_direct(lowerings(row, cell, "float32")) == direct


@pytest.mark.parametrize("row", [r for r in ROWS if r.name in DIRECT], ids=lambda row: row.name)
def test_the_program_is_laxs(row):
    cell = "forward"
    arrays = row.draw()
    ours = (DropInOps if row.layout == "first" else ConvjaxOps)(row.layout)
    texts = [
        hlo_text.normalised(prepare_jax(ops, row, cell, arrays, "float32", AS_USERS).text)
        for ops in (LaxOps(row.layout), ours)
    ]
    assert texts[0] == texts[1]
    assert "ENTRY" in texts[0] and "metadata" not in texts[0]


def optimised(function, *operands):
    return compiled(function, *operands, options=AS_USERS)


def test_names_and_sources_do_not_count():
    x = jnp.ones((4, 4))

    def one(first, second):
        return jnp.tanh(first @ second) + 1

    def other(p, q):
        with jax.named_scope("elsewhere"):
            return jnp.tanh(p @ q) + 1

    one_text, other_text = optimised(one, x, x), optimised(other, x, x)
    assert one_text != other_text
    assert hlo_text.same_program(one_text, other_text)


@pytest.mark.parametrize(
    "changed",
    [
        lambda a, b: jnp.tanh(a @ b) + 2,
        lambda a, b: jnp.tanh(b @ a) + 1,
        lambda a, b: jnp.sin(a @ b) + 1,
    ],
)
def test_programs_that_differ_do(changed):
    x = jnp.ones((4, 4))
    text = optimised(lambda a, b: jnp.tanh(a @ b) + 1, x, x)
    assert not hlo_text.same_program(text, optimised(changed, x, x))


def test_padding_counts():
    row, other = (
        forward("a", "dense", 1, (8,), 2, 2, (3,), padding=(pads,)) for pads in ((1, 1), (0, 2))
    )
    texts = [optimised(jax_function(LaxOps(), r, "forward"), *r.draw()) for r in (row, other)]
    assert not hlo_text.same_program(*texts)


def test_what_is_stripped():
    text = """HloModule jit_f, entry_computation_layout={(f32[2]{0})->f32[2]{0}}

FileNames
1 "a{b}.py"

ENTRY %main.3 (x.1: f32[2], y: (f32[2], s32[])) -> f32[2] {
  %x.1 = f32[2]{0} parameter(0), metadata={op_name="x{" source_file="a.py" source_line=3}
  // a comment
  ROOT %tanh.2 = f32[2]{0} tanh(/*index=0*/%x.1), metadata={op_name="jit(f)/tanh"}, sharding={r}
}
"""
    assert hlo_text.normalised(text).splitlines() == [
        "ENTRY %0 (_: f32[2], _: (f32[2], s32[])) -> f32[2] {",
        "%1 = f32[2]{0} parameter(0)",
        "ROOT %2 = f32[2]{0} tanh(%1), sharding={r}",
        "}",
    ]
