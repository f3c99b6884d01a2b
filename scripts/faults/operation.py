"""Faults in arguments, sizes, layouts, and in the operation and its derivatives."""

from faults.record import ADJOINT, CONV, GRADIENTS, TRANSPOSED_GRADIENTS, Fault

FAULTS = [
    Fault(
        "swap lo and hi of SAME",
        "_core/padding.py",
        "(total - half, half) if lower else (half, total - half)",
        "(half, total - half) if lower else (total - half, half)",
        CONV,
    ),
    Fault(
        "swap lo and hi of pairs",
        "_core/padding.py",
        "result.append((int(pair[0]), int(pair[1])))",
        "result.append((int(pair[1]), int(pair[0])))",
        CONV,
    ),
    Fault(
        "swap lo and hi in the input's gradient",
        "_core/geometry.py",
        "lo = k_hat - 1 - self.padding[a][0]",
        "lo = k_hat - 1 - self.padding[a][1]",
        GRADIENTS,
    ),
    Fault(
        "swap I and O in the input's gradient",
        "_core/layout.py",
        "kernel=self.kernel._replace(contract=self.kernel.out, out=self.kernel.contract)",
        "kernel=self.kernel",
        GRADIENTS,
    ),
    Fault(
        "interleave the groups instead of keeping them together",
        "_operation/grouping.py",
        "    shape = (*x.shape[:axis], groups, x.shape[axis] // groups,",
        "    x = jax.numpy.moveaxis(\n"
        "        x.reshape(*x.shape[:axis], -1, groups, *x.shape[axis + 1 :]), axis + 1, axis\n"
        "    ).reshape(x.shape)\n"
        "    shape = (*x.shape[:axis], groups, x.shape[axis] // groups,",
        CONV,
    ),
    Fault(
        "drop a group",
        "_operation/grouping.py",
        "    if groups == 1:\n        return y\n",
        "    if groups == 1:\n        return y\n"
        "    y = y * (jax.numpy.arange(groups) > 0).astype(y.dtype).reshape(\n"
        "        [-1 if a == channel else 1 for a in range(y.ndim)])\n",
        CONV,
    ),
    Fault(
        "forget a varying axis",
        "_operation/primitive.py",
        "x, kernel = sharding.same_varying(x, kernel)",
        "x, kernel = jax.numpy.asarray(x), jax.numpy.asarray(kernel)",
        "tests/laws/test_sharding.py::test_shard_map_over_the_batch",
    ),
    Fault(
        "give the result a type that varies over no axis",
        "_operation/primitive.py",
        "    return x.update(\n        shape=shape,",
        "    return jax.core.ShapedArray((), x.dtype).update(\n        shape=shape,",
        "tests/laws/test_sharding.py::test_shard_map_over_the_batch",
    ),
    Fault(
        "take stride for dilation in the kernel's gradient",
        "_core/geometry.py",
        "kernel_dilation=self.strides,\n",
        "kernel_dilation=self.kernel_dilation,\n",
        GRADIENTS,
    ),
    Fault(
        "forget to turn the gradient of a reversed kernel",
        "_operation/primitive.py",
        "    if geometry.reversal:\n        result = lax.rev(result, layout.kernel.space)\n",
        "",
        TRANSPOSED_GRADIENTS,
    ),
    Fault(
        "reflect with the edge doubled",
        "_operation/boundary_modes.py",
        '"reflect": [(1, low), (n - 1 - high, high)]',
        '"reflect": [(0, low), (n - high, high)]',
        "tests/laws/test_conv.py::test_extend_first_then_crop",
    ),
    Fault(
        "crop before extending",
        "_core/padding.py",
        "positive = max_dim(lo, 0), max_dim(hi, 0)",
        "positive = (max_dim(lo, 0), max_dim(hi, 0)) if min(lo, hi) >= 0 else (0, 0)",
        "tests/laws/test_conv.py::test_extend_first_then_crop",
    ),
    Fault(
        "let a mode reach too far",
        "_core/padding.py",
        "certainly(operator.gt, side, limit)",
        "certainly(operator.gt, side, limit + 1)",
        "tests/library/test_errors.py::test_options_of_conv",
    ),
    Fault(
        "make output_padding as large as the stride legal",
        "_core/transposed_sizes.py",
        "if a >= s and a > 0:",
        "if a > s and a > 0:",
        "tests/laws/test_transposed.py::test_output_padding_and_output_shape_errors",
    ),
    Fault(
        "put output_padding before instead of after",
        "_core/transposed_sizes.py",
        "        return out, pairs\n\n    pairs = resolve(out)",
        "        return out, tuple((lo + a, hi - a) for (lo, hi), a in zip(pairs, extra))\n\n"
        "    pairs = resolve(out)",
        ADJOINT,
    ),
    Fault(
        "mistake vmap over the kernel for one over the batch",
        "_core/layout.py",
        'x_role, kernel_role = "batch", "out"',
        'x_role, kernel_role = "batch", "contract"',
        "tests/laws/test_vmap.py::test_vmap_equals_a_loop",
    ),
    Fault(
        "insert a mapped axis beside its place",
        "_core/layout.py",
        "a + (a >= position)",
        "a + (a > position)",
        "tests/laws/test_vmap.py::test_vmap_equals_a_loop",
    ),
    Fault(
        "save no convolution under checkpoint",
        "_operation/primitive.py",
        "return ours or primitive is lax.conv_general_dilated_p",
        "return primitive is lax.conv_general_dilated_p",
        "tests/laws/test_control_flow.py::test_checkpoint_with_convs_saveable",
    ),
    Fault(
        "resolve the precision when lowering",
        "_operation/primitive.py",
        'params["precision"] or (lax.Precision.DEFAULT,) * 2',
        'params["precision"]',
        "tests/laws/test_transforms.py::test_precision_is_resolved_at_the_call",
    ),
    Fault(
        "give a gradient the cotangent's dtype",
        "_operation/primitive.py",
        "return _cast(result, kernel.aval.dtype)",
        "return result",
        "tests/laws/test_dtypes.py::test_gradients_of_a_wide_result_of_narrow_operands",
    ),
    Fault(
        "forget the sharding of the operand in its gradient",
        "_operation/primitive.py",
        "return aval.sharding if sharding.is_explicit(aval.sharding.mesh) else None",
        "return None",
        "tests/laws/test_sharding_explicit.py::test_explicit_axes",
    ),
    Fault(
        "let a causal transposed convolution look ahead",
        "_core/transposed_sizes.py",
        "pairs = ((0, painted - extents[0]), *pairs[1:])",
        "pairs = ((painted - extents[0], 0), *pairs[1:])",
        "tests/laws/test_transposed_causal.py::test_an_output_sees_no_later_input",
    ),
    Fault(
        "count multiply-accumulates on padding at every phase of a dilated input",
        "_operation/counting.py",
        "        padded += everything - (inside - before)",
        "        padded += count - (last - first)",
        "tests/laws/test_cost.py::test_any_transposed_convolution",
    ),
]
