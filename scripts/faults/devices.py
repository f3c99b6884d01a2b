"""Faults in what several devices compute and send."""

from faults.record import Fault

FAULTS = [
    Fault(
        "let a NaN pass checkify",
        "_operation/registries.py",
        "table[primitive] = functools.partial(rule.func, primitive)",
        "pass",
        "tests/library/test_registries.py::test_checkify_finds_a_nan",
    ),
    Fault(
        "leave a term out of Taylor series",
        "_operation/registries.py",
        "for j in range(order + 1))",
        "for j in range(max(order, 1)))",
        "tests/laws/test_transforms.py::test_jet",
    ),
    Fault(
        "forget the sum over devices",
        "_sharding/splits.py",
        "y = lax.psum(y.astype(total), plan.summed)",
        "y = y * 1",
        "tests/laws/test_sharding.py::test_automatic_sharding"
        " tests/laws/test_sharding_law.py::test_random_programs",
    ),
    Fault(
        "sum over one mesh axis too many",
        "_sharding/splits.py",
        "y = lax.psum(y.astype(total), plan.summed)",
        "y = lax.psum(y.astype(total), tuple(mesh))",
        "tests/laws/test_sharding.py::test_automatic_sharding"
        " tests/laws/test_sharding_law.py::test_random_programs",
    ),
    Fault(
        "fetch a halo of one row too few",
        "_sharding/partition.py",
        "before = max(0, *(begin - max(row, 0) for begin, row in pairs))",
        "before = max(0, *(begin - max(row, 0) - 1 for begin, row in pairs))",
        "tests/laws/test_partition.py::test_shards_compute_what_the_whole_does",
    ),
    Fault(
        "take the neighbours for each other",
        "_sharding/partition.py",
        "sender, reads = receiver - distance,",
        "sender, reads = receiver + distance,",
        "tests/laws/test_partition.py::test_shards_compute_what_the_whole_does",
    ),
    Fault(
        "number shards in the mesh's order",
        "_sharding/exchange.py",
        "ordered = [tuple(map(self._number_in_mesh_order, pair)) for pair in pairs]",
        "ordered = list(pairs)",
        "tests/laws/test_sharding_law.py::test_shards_in_another_order_than_the_mesh_has",
    ),
    Fault(
        "let rows that do not exist take part",
        "_sharding/exchange.py",
        "return jnp.where(index < size, part, jnp.zeros((), part.dtype))",
        "return part",
        "tests/laws/test_sharding_law.py::test_what_is_not_finite_stays_on_its_rows"
        " tests/laws/test_sharding_law.py::test_uneven_contractions",
    ),
    Fault(
        "let XLA inline the calls of a device's part",
        "_sharding/distributed.py",
        'attributes["inlineable"] = "false"',
        "pass",
        "tests/laws/test_sharding_memory.py::test_a_chain_of_convolutions",
    ),
    Fault(
        "leave space sharded where XLA splits over several axes",
        "_sharding/distributed.py",
        "spec[axis] = None\n        return lax.with_sharding_constraint",
        "pass\n        return lax.with_sharding_constraint",
        "tests/laws/test_sharding_law.py::test_spatial_and_tensor_parallel_split_by_xla",
    ),
]
