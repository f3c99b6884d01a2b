"""The faults that `mutate.py` plants, each with the tests that should notice."""

from typing import NamedTuple

CONV = "tests/test_conv.py::test_conv_equals_the_oracle"
WORKED = "tests/test_conv.py::test_the_worked_example"
ADJOINT = "tests/test_transposed.py::test_conv_transpose_is_the_adjoint"
GRADIENTS = "tests/test_transposed.py::test_gradients_of_conv_are_those_of_the_matrix"
TRANSPOSED_GRADIENTS = (
    "tests/test_transposed.py::test_gradients_of_conv_transpose_are_those_of_the_matrix"
)


class Fault(NamedTuple):
    """`old` occurs once in `file`; with `new` in its place, `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str  # test identifiers, separated by blanks


FAULTS = [
    Fault(
        "flip the kernel",
        "lowerings/direct.py",
        "if geometry.reversal:",
        "if not geometry.reversal:",
        f"{WORKED} {CONV}",
    ),
    Fault(
        "do not flip the kernel of a true convolution",
        "functional/dense.py",
        "lax.rev(kernel, where.kernel[2])",
        "kernel",
        "tests/test_conv.py::test_correlate_is_conv_and_convolve_is_its_flip",
    ),
    Fault(
        "swap lo and hi of SAME",
        "padding.py",
        "(total - half, half) if lower else (half, total - half)",
        "(half, total - half) if lower else (total - half, half)",
        CONV,
    ),
    Fault(
        "swap lo and hi of pairs",
        "padding.py",
        "result.append((int(pair[0]), int(pair[1])))",
        "result.append((int(pair[1]), int(pair[0])))",
        CONV,
    ),
    Fault(
        "swap lo and hi in the input's gradient",
        "geometry.py",
        "lo = k_hat - 1 - self.padding[a][0]",
        "lo = k_hat - 1 - self.padding[a][1]",
        GRADIENTS,
    ),
    Fault(
        "swap I and O in the input's gradient",
        "layout.py",
        "kernel=self.kernel._replace(contract=self.kernel.out, out=self.kernel.contract)",
        "kernel=self.kernel",
        GRADIENTS,
    ),
    Fault(
        "swap I and O within the groups of a transposed convolution",
        "functional/transposed.py",
        "contract=(where.kernel[1],), out=(where.kernel[0],)",
        "contract=(where.kernel[0],), out=(where.kernel[1],)",
        ADJOINT,
    ),
    Fault(
        "interleave the groups instead of keeping them together",
        "boundary.py",
        "    shape = (*x.shape[:axis], groups, x.shape[axis] // groups,",
        "    x = jax.numpy.moveaxis(\n"
        "        x.reshape(*x.shape[:axis], -1, groups, *x.shape[axis + 1 :]), axis + 1, axis\n"
        "    ).reshape(x.shape)\n"
        "    shape = (*x.shape[:axis], groups, x.shape[axis] // groups,",
        CONV,
    ),
    Fault(
        "drop a group",
        "boundary.py",
        "    if groups == 1:\n        return y\n",
        "    if groups == 1:\n        return y\n"
        "    y = y * (jax.numpy.arange(groups) > 0).astype(y.dtype).reshape(\n"
        "        [-1 if a == channel else 1 for a in range(y.ndim)])\n",
        CONV,
    ),
    Fault(
        "forget a varying axis",
        "operation.py",
        "x, kernel = sharding.same_varying(x, kernel)",
        "x, kernel = jax.numpy.asarray(x), jax.numpy.asarray(kernel)",
        "tests/test_sharding.py::test_shard_map_over_the_batch",
    ),
    Fault(
        "give the result a type that varies over no axis",
        "operation.py",
        "    return x.update(\n        shape=shape,",
        "    return jax.core.ShapedArray((), x.dtype).update(\n        shape=shape,",
        "tests/test_sharding.py::test_shard_map_over_the_batch",
    ),
    Fault(
        "take stride for dilation in the kernel's gradient",
        "geometry.py",
        "kernel_dilation=self.strides,\n",
        "kernel_dilation=self.kernel_dilation,\n",
        GRADIENTS,
    ),
    Fault(
        "forget to turn the gradient of a reversed kernel",
        "operation.py",
        "    if geometry.reversal:\n        result = lax.rev(result, layout.kernel.space)\n",
        "",
        TRANSPOSED_GRADIENTS,
    ),
    Fault(
        "reflect with the edge doubled",
        "extension.py",
        '"reflect": [(1, low), (n - 1 - high, high)]',
        '"reflect": [(0, low), (n - high, high)]',
        "tests/test_conv.py::test_extend_first_then_crop",
    ),
    Fault(
        "crop before extending",
        "padding.py",
        "positive = max_dim(lo, 0), max_dim(hi, 0)",
        "positive = (max_dim(lo, 0), max_dim(hi, 0)) if min(lo, hi) >= 0 else (0, 0)",
        "tests/test_conv.py::test_extend_first_then_crop",
    ),
    Fault(
        "let a mode reach too far",
        "padding.py",
        "certainly(operator.gt, side, limit)",
        "certainly(operator.gt, side, limit + 1)",
        "tests/test_errors.py::test_options_of_conv",
    ),
    Fault(
        "make output_padding as large as the stride legal",
        "transposed_sizes.py",
        "if a >= s and a > 0:",
        "if a > s and a > 0:",
        "tests/test_transposed.py::test_output_padding_and_output_shape_errors",
    ),
    Fault(
        "put output_padding before instead of after",
        "transposed_sizes.py",
        "        return out, pairs\n\n    pairs = resolve(out)",
        "        return out, tuple((lo + a, hi - a) for (lo, hi), a in zip(pairs, extra))\n\n"
        "    pairs = resolve(out)",
        ADJOINT,
    ),
    Fault(
        "mistake vmap over the kernel for one over the batch",
        "layout.py",
        'x_role, kernel_role = "batch", "out"',
        'x_role, kernel_role = "batch", "contract"',
        "tests/test_vmap.py::test_vmap_equals_a_loop",
    ),
    Fault(
        "insert a mapped axis beside its place",
        "layout.py",
        "a + (a >= position)",
        "a + (a > position)",
        "tests/test_vmap.py::test_vmap_equals_a_loop",
    ),
    Fault(
        "lose what a step changes in its model",
        "changes/modules.py",
        "if changed:\n            _, result",
        "if False:\n            _, result",
        "tests/test_accelerate_changes.py::test_nnx_steps_train",
    ),
    Fault(
        "let a NaN pass checkify",
        "registries.py",
        "table[primitive] = functools.partial(rule.func, primitive)",
        "pass",
        "tests/test_registries.py::test_checkify_finds_a_nan",
    ),
    Fault(
        "make a mask a tuple",
        "modules/plan.py",
        'return value if name == "mask" else frozen(value)',
        "return frozen(value)",
        "tests/test_public.py::test_masks",
    ),
    Fault(
        "keep lax's module in a drop-in",
        "lax.py",
        "wrapper.__module__ = __name__",
        "pass",
        "tests/test_public.py::test_names_can_be_pickled_and_copied",
    ),
    Fault(
        "leave a term out of Taylor series",
        "registries.py",
        "for j in range(order + 1))",
        "for j in range(max(order, 1)))",
        "tests/test_transforms.py::test_jet",
    ),
    Fault(
        "save no convolution under checkpoint",
        "operation.py",
        "return ours or primitive is lax.conv_general_dilated_p",
        "return primitive is lax.conv_general_dilated_p",
        "tests/test_control_flow.py::test_checkpoint_with_convs_saveable",
    ),
    Fault(
        "resolve the precision when lowering",
        "operation.py",
        'params["precision"] or (lax.Precision.DEFAULT,) * 2',
        'params["precision"]',
        "tests/test_transforms.py::test_precision_is_resolved_at_the_call",
    ),
    Fault(
        "give a gradient the cotangent's dtype",
        "operation.py",
        "return _cast(result, kernel.aval.dtype)",
        "return result",
        "tests/test_dtypes.py::test_gradients_of_a_wide_result_of_narrow_operands",
    ),
    Fault(
        "forget the sharding of the operand in its gradient",
        "operation.py",
        "return aval.sharding if sharding.is_explicit(aval.sharding.mesh) else None",
        "return None",
        "tests/test_sharding_explicit.py::test_explicit_axes",
    ),
    Fault(
        "let NaN leak between groups",
        "lowerings/rules.py",
        '"groups",\n        "taps",',
        '"groups",\n        "direct",',
        "tests/test_select.py::test_select",
    ),
    Fault(
        "forget the sum over devices",
        "splits.py",
        "y = lax.psum(y.astype(total), plan.summed)",
        "y = y * 1",
        "tests/test_sharding.py::test_automatic_sharding"
        " tests/test_sharding_law.py::test_random_programs",
    ),
    Fault(
        "sum over one mesh axis too many",
        "splits.py",
        "y = lax.psum(y.astype(total), plan.summed)",
        "y = lax.psum(y.astype(total), tuple(mesh))",
        "tests/test_sharding.py::test_automatic_sharding"
        " tests/test_sharding_law.py::test_random_programs",
    ),
    Fault(
        "fetch a halo of one row too few",
        "partition.py",
        "before = max(0, *(begin - max(row, 0) for begin, row in pairs))",
        "before = max(0, *(begin - max(row, 0) - 1 for begin, row in pairs))",
        "tests/test_partition.py::test_shards_compute_what_the_whole_does",
    ),
    Fault(
        "take the neighbours for each other",
        "partition.py",
        "sender, reads = receiver - distance,",
        "sender, reads = receiver + distance,",
        "tests/test_partition.py::test_shards_compute_what_the_whole_does",
    ),
    Fault(
        "number shards in the mesh's order",
        "exchange.py",
        "ordered = [tuple(map(self._number_in_mesh_order, pair)) for pair in pairs]",
        "ordered = list(pairs)",
        "tests/test_sharding_law.py::test_shards_in_another_order_than_the_mesh_has",
    ),
    Fault(
        "let rows that do not exist take part",
        "exchange.py",
        "return jnp.where(index < size, part, jnp.zeros((), part.dtype))",
        "return part",
        "tests/test_sharding_law.py::test_what_is_not_finite_stays_on_its_rows"
        " tests/test_sharding_law.py::test_uneven_contractions",
    ),
    Fault(
        "leave space sharded where XLA splits over several axes",
        "distributed.py",
        "spec[axis] = None\n        return lax.with_sharding_constraint",
        "pass\n        return lax.with_sharding_constraint",
        "tests/test_sharding_law.py::test_spatial_and_tensor_parallel_split_by_xla",
    ),
    Fault(
        "let XLA split the gradient of a grouped kernel",
        "lowerings/rules.py",
        'lambda p: p.groups != 1 and p.role == "kernel_gradient",',
        "lambda p: False,",
        "tests/test_select.py::test_select",
    ),
    Fault(
        "leave out the rows that do not fill a block",
        "lowerings/_tools/row_sums.py",
        "        if length:",
        "        if length and firsts != [-1]:",
        "tests/test_lowerings.py::test_rows_that_do_not_fill_a_block",
    ),
    Fault(
        "keep an infinite weight's product with padding finite",
        "lowerings/taps.py",
        "weights.times(weights.kernel, zero), zero)",
        "zero, zero)",
        "tests/test_strips.py::test_what_is_not_finite_goes_where_laxs_goes",
    ),
    Fault(
        "end a strip one output early",
        "lowerings/_tools/strips.py",
        "(from_where(0, tap), from_where(size, tap))",
        "(from_where(0, tap), from_where(size - 1, tap))",
        "tests/test_strips.py::test_every_output_lies_in_the_strip_of_its_taps",
    ),
    Fault(
        "start a phase one input element late",
        "lowerings/polyphase.py",
        "first=(start + tap * d) // e,",
        "first=(start + tap * d) // e + 1,",
        "tests/test_transposed.py::test_conv_transpose_is_the_adjoint",
    ),
    Fault(
        "fold depth without its dilation",
        "lowerings/_tools/slices.py",
        "low -= index * geometry.kernel_dilation[0]",
        "low -= index",
        "tests/test_lowerings.py::test_forced_equals_direct",
    ),
    Fault(
        "add depths one image late",
        "lowerings/depth_sum.py",
        "(residue + at) // (stride * period))",
        "(residue + at) // (stride * period) + 1)",
        "tests/test_lowerings.py::test_forced_equals_direct",
    ),
    Fault(
        "contract the first axis of a matrix for its last",
        "lowerings/_tools/products.py",
        "        return 0\n",
        "        return 1\n",
        "tests/test_products.py::test_it_is_einsum",
    ),
    Fault(
        "shift the tiles of a cotangent",
        "lowerings/patchify.py",
        "_cut(kernel, 0, [0] * rank",
        "_cut(kernel, 0, [1] * rank",
        "tests/test_lowerings.py::test_transposed_tiles",
    ),
    Fault(
        "cut phases that are channels one output late",
        "lowerings/polyphase.py",
        "starts = [e - 1 - low % e",
        "starts = [-low % e",
        "tests/test_lowerings.py::test_phases_are_channels_of_one_convolution",
    ),
    Fault(
        "keep a group axis of one element",
        "lowerings/run.py",
        "if layout.x.group and problem.groups == 1:",
        "if False:",
        "tests/test_vmap.py::test_vmaps_of_size_one",
    ),
    Fault(
        "read beyond a cropped input",
        "lowerings/rules.py",
        "lambda p: p.groups == 1 and any(crops(p.geometry)),",
        "lambda p: False,",
        "tests/test_select.py::test_select",
    ),
    Fault(
        "spread rows, and pad them as before",
        "lowerings/spread_rows.py",
        "padding=((2 * low, 2 * high), *others)",
        "padding=((low, high), *others)",
        "tests/test_lowerings.py::test_forced_equals_direct",
    ),
    Fault(
        "let XLA compute sums again for every reader",
        "lowerings/taps.py",
        'LOWERING = Lowering("taps", run, accepts, always)',
        'LOWERING = Lowering("taps", run, accepts, lambda *_: False)',
        "tests/test_lowerings.py::test_sums_are_not_computed_again_for_every_reader",
    ),
    Fault(
        "copy the input of a kernel gradient in the forward pass",
        "lowerings/run.py",
        "if target.is_one_cpu and not inner and lowering.isolated(problem, chosen):",
        "if False:",
        "tests/test_lowerings.py::test_a_kernel_gradient_takes_its_copies_when_it_is_due",
    ),
    Fault(
        "return an empty result where the kernel does not fit",
        "functional/worker.py",
        "_check_fits(function, geometry, space, window, empty=0 in x.shape)",
        "_check_fits(function, geometry, space, window, empty=True)",
        "tests/test_errors.py::test_operands_of_conv",
    ),
    Fault(
        "meet a volume's depths one element late",
        "lowerings/polyphase.py",
        "Phase(0, 1, window[axis], -low, s, d, e)",
        "Phase(0, 1, window[axis], 1 - low, s, d, e)",
        "tests/test_lowerings.py::test_a_volumes_planes_come_phase_by_phase",
    ),
    Fault(
        "fold rows where columns are meant",
        "lowerings/depth_fold.py",
        "jnp.moveaxis(jnp.stack(pieces, 1), 2 + axis, -2)",
        "jnp.moveaxis(jnp.stack(pieces, 1), 2, -2)",
        "tests/test_lowerings.py::test_a_single_example_has_its_columns_folded",
    ),
    Fault(
        "let XLA compute phases again for every reader",
        "lowerings/polyphase.py",
        "problem.groups != 1 or problem.geometry.rank == 3:\n        return True",
        "problem.groups != 1 or problem.geometry.rank == 3:\n        return False",
        "tests/test_lowerings.py::test_phases_that_are_sums_are_not_computed_again",
    ),
    Fault(
        "groups copy all at once",
        "lowerings/per_group.py",
        "if call.target.is_one_cpu and not widened",
        "if not call.target.is_one_cpu and not widened",
        "tests/test_lowerings.py::test_groups_take_their_copies_one_after_another",
    ),
    Fault(
        "leave a strided kernel's gradient to YNNPACK",
        "lowerings/planes.py",
        "return DILATED if any(",
        "return LARGE if any(",
        "tests/test_select.py::test_select",
    ),
    Fault(
        "sum several outputs with what arranges them",
        "lowerings/taps.py",
        "and not call.groups_first and several",
        "and not call.groups_first and not several",
        "tests/test_lowerings.py::test_several_outputs_are_summed_apart",
    ),
    Fault(
        "sort the place of a turn the wrong way",
        "lowerings/_tools/xla.py",
        "lax.sort(jnp.stack([index, index + 1]), dimension=0)[0]",
        "lax.sort(jnp.stack([index, index + 1]), dimension=0)[1]",
        "tests/test_lowerings.py::test_a_turn_of_a_large_window_is_found_by_sorting",
    ),
    Fault(
        "let a causal transposed convolution look ahead",
        "transposed_sizes.py",
        "pairs = ((0, painted - extents[0]), *pairs[1:])",
        "pairs = ((painted - extents[0], 0), *pairs[1:])",
        "tests/test_transposed_causal.py::test_an_output_sees_no_later_input",
    ),
    Fault(
        "sum a short piece of a sequence in an order of its own",
        "lowerings/taps.py",
        ' and not (problem.role == "forward" and few)',
        "",
        "tests/test_prefix.py::test_depthwise",
    ),
    Fault(
        "count multiply-accumulates on padding at every phase of a dilated input",
        "counting.py",
        "        padded += everything - (inside - before)",
        "        padded += count - (last - first)",
        "tests/test_cost.py::test_any_transposed_convolution",
    ),
    Fault(
        "take the norm of a weight over all of its axes",
        "interop/reparametrised.py",
        "enumerate(length.shape) if extent == 1)",
        "enumerate(length.shape))",
        "tests/test_interop_reparametrised.py::test_weight_norm_is_length_times_direction",
    ),
    Fault(
        "take a padding module's sides in the order of the axes",
        "interop/model.py",
        "zip(sides[-2::-2], sides[::-2], strict=True)",
        "zip(sides[::2], sides[1::2], strict=True)",
        "tests/test_interop_model.py::test_padding_modules_of_every_rank",
    ),
    Fault(
        "leave the later kernels unmasked",
        "modules/plan.py",
        "        for name, factor in mask.items():",
        "        for name, factor in list(mask.items())[:1]:",
        "tests/test_nn_masks.py::test_every_kernel_is_masked",
    ),
    Fault(
        "let taps of a pack cross its boundaries",
        "functional/sequences.py",
        "same = run[:, start : start + count] == run_of",
        "same = run[:, start : start + count] <= run_of",
        "tests/test_causal.py::test_packs",
    ),
    Fault(
        "send a sequence's state to the shard before",
        "functional/sequences.py",
        "(shard, shard + 1)",
        "(shard + 1, shard)",
        "tests/test_causal_sharding.py::test_states",
    ),
    Fault(
        "let LLVM fuse products of a sequence with their additions",
        "lowerings/run.py",
        "geometry.rank == 1 and x.dtype",
        "geometry.rank == 2 and x.dtype",
        "tests/test_causal.py::test_bits_as_users_compile",
    ),
]
