"""Faults in the kinds, the modules, and what comes from other libraries."""

from faults.record import ADJOINT, Fault

FAULTS = [
    Fault(
        "do not flip the kernel of a true convolution",
        "_functional/dense.py",
        "lax.rev(jnp.asarray(kernel), recipe.layout.kernel.space)",
        "kernel",
        "tests/laws/test_conv.py::test_correlate_is_conv_and_convolve_is_its_flip",
    ),
    Fault(
        "swap I and O within the groups of a transposed convolution",
        "_functional/prepare.py",
        "return axes._replace(contract=axes.out, out=axes.contract)",
        "return axes",
        ADJOINT,
    ),
    Fault(
        "lose what a step changes in its model",
        "_programs/changes/modules.py",
        "if changed:\n            _, result",
        "if False:\n            _, result",
        "tests/library/test_accelerate_changes.py::test_nnx_steps_train",
    ),
    Fault(
        "make a mask a tuple",
        "_modules/plan.py",
        'return value if name == "mask" else frozen(value)',
        "return frozen(value)",
        "tests/library/test_public.py::test_masks",
    ),
    Fault(
        "keep lax's module in a drop-in",
        "lax.py",
        "wrapper.__module__ = __name__",
        "pass",
        "tests/library/test_public.py::test_names_can_be_pickled_and_copied",
    ),
    Fault(
        "return an empty result where the kernel does not fit",
        "_functional/prepare.py",
        "placed(names, space, window, given, steps, 0 in x)",
        "placed(names, space, window, given, steps, True)",
        "tests/library/test_errors.py::test_operands_of_conv",
    ),
    Fault(
        "take the norm of a weight over all of its axes",
        "interop/reparametrised.py",
        "enumerate(length.shape) if extent == 1)",
        "enumerate(length.shape))",
        "tests/library/test_interop_reparametrised.py::test_weight_norm_is_length_times_direction",
    ),
    Fault(
        "take a padding module's sides in the order of the axes",
        "interop/model.py",
        "zip(sides[-2::-2], sides[::-2], strict=True)",
        "zip(sides[::2], sides[1::2], strict=True)",
        "tests/library/test_interop_model.py::test_padding_modules_of_every_rank",
    ),
    Fault(
        "leave the later kernels unmasked",
        "_modules/plan.py",
        "        for name, factor in mask.items():",
        "        for name, factor in list(mask.items())[:1]:",
        "tests/library/test_nn_masks.py::test_every_kernel_is_masked",
    ),
    Fault(
        "let taps of a pack cross its boundaries",
        "_functional/sequences.py",
        "same = run[:, start : start + count] == run_of",
        "same = run[:, start : start + count] <= run_of",
        "tests/laws/test_causal.py::test_packs",
    ),
    Fault(
        "send a sequence's state to the shard before",
        "_functional/sequences.py",
        "(shard, shard + 1)",
        "(shard + 1, shard)",
        "tests/laws/test_causal_sharding.py::test_states",
    ),
]
