"""``python -m convjax.selftest``: the library's laws on this machine's backend, in about a minute.

It prints the versions that a bug report needs, a line per group of checks, and every failure. Its
exit status is 1 if a check fails. Arguments select the checks whose names contain all of them.

The operands are small integers, so that results are exact. They are compared to the last bit with
an oracle in numpy that knows only the definition of a convolution.
"""

import argparse
import functools
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convjax._public import public
from convjax.functional import causal_conv, conv, conv_transpose
from convjax.lowerings import LOWERINGS

# ---- the oracle --------------------------------------------------------------------------------


class Case(NamedTuple):
    """One geometry: x (N, *space, I), kernel (*K, I/G, O), and the options of `conv`."""

    name: str
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    strides: tuple[int, ...] = (1, 1, 1)
    input_dilation: tuple[int, ...] = (1, 1, 1)
    kernel_dilation: tuple[int, ...] = (1, 1, 1)
    groups: int = 1
    mode: str = "constant"

    @property
    def options(self) -> dict[str, Any]:
        """What `conv` and `conv_transpose` both take."""
        rank = len(self.kernel) - 2
        return {
            "padding": self.padding,
            "strides": self.strides[:rank],
            "kernel_dilation": self.kernel_dilation[:rank],
            "feature_group_count": self.groups,
            "padding_mode": self.mode,
        }

    @property
    def dilated(self) -> bool:
        return any(step > 1 for step in self.input_dilation)

    def conv(self, x: Any, kernel: Any, algorithm: Any = None) -> jax.Array:
        rank = len(self.kernel) - 2
        return conv(
            x,
            kernel,
            input_dilation=self.input_dilation[:rank],
            algorithm=algorithm,
            **self.options,
        )


CASES = (
    Case("pointwise", (2, 5, 4, 6), (1, 1, 6, 5), ((0, 0), (0, 0))),
    Case("dense 1d", (2, 9, 3), (4, 3, 5), ((1, 2),)),
    Case("dense 2d", (2, 6, 5, 3), (3, 2, 3, 4), ((1, 1), (0, 1))),
    Case("dense 3d", (1, 4, 5, 3, 2), (2, 1, 3, 2, 3), ((0, 1), (1, 1), (1, 0))),
    Case("large window", (1, 8, 7, 2), (7, 2, 2, 3), ((3, 3), (2, 3))),
    Case("one image, one channel", (1, 6, 7, 1), (2, 3, 1, 1), ((1, 1), (1, 1))),
    Case("strided", (2, 7, 8, 3), (3, 2, 3, 4), ((1, 1), (0, 1)), strides=(2, 3)),
    Case("stride beyond the window", (2, 9, 7, 2), (2, 1, 2, 3), ((0, 0), (1, 0)), strides=(4, 2)),
    Case("dilated", (2, 8, 7, 3), (3, 2, 3, 4), ((2, 2), (3, 0)), kernel_dilation=(2, 3)),
    Case("dilated and strided 1d", (2, 11, 2), (3, 2, 4), ((4, 1),), (2,), (1,), (3,)),
    Case("dilated input", (2, 4, 5, 3), (2, 3, 3, 2), ((2, 2), (1, 2)), input_dilation=(2, 3)),
    Case("every step", (1, 5, 6, 2), (3, 2, 2, 3), ((3, 2), (1, 4)), (3, 2), (2, 3), (2, 3)),
    Case("cropped", (2, 7, 8, 3), (2, 3, 3, 4), ((-1, 2), (1, -2))),
    Case("padding beyond the window", (1, 4, 3, 2), (2, 2, 2, 3), ((4, 3), (0, 5))),
    Case("grouped", (2, 6, 5, 6), (3, 2, 2, 9), ((1, 1), (0, 1)), (1, 2), groups=3),
    Case("depthwise", (2, 6, 5, 4), (3, 2, 1, 8), ((1, 1), (1, 1)), groups=4),
    Case("depthwise 1d, strided", (2, 9, 5), (3, 1, 5), ((1, 1),), (2,), groups=5),
    Case("depthwise 3d", (1, 4, 3, 5, 3), (2, 3, 1, 1, 3), ((1, 0), (0, 1), (1, 1)), groups=3),
    Case("spatially separable", (2, 6, 5, 3), (3, 1, 3, 4), ((1, 1), (0, 0)), (2, 1)),
    Case("wrapped", (2, 6, 5, 3), (3, 2, 3, 4), ((2, 1), (0, 1)), mode="wrap"),
    Case("reflected", (2, 6, 5, 4), (3, 2, 2, 4), ((2, 1), (0, 1)), groups=2, mode="reflect"),
)


def _source(position: int, n: int, dilation: int, mode: str) -> int | None:
    """The element of an axis of `n` that lies at `position`; None where a zero does."""
    if mode == "wrap":
        return position % n
    if mode == "reflect":
        return abs(position) if position < n else 2 * (n - 1) - position
    inside = 0 <= position <= (n - 1) * dilation
    return position // dilation if inside and position % dilation == 0 else None


def _taps(case: Case) -> tuple[np.ndarray, tuple[int, ...]]:
    """(output, tap, element of x): 1 where the output's tap touches the element; and out_space."""
    found, out_space = np.ones((1, 1, 1), np.int64), []
    for axis, (lo, hi) in enumerate(case.padding):
        n, taps = case.x[axis + 1], case.kernel[axis]
        a, d, s = (
            steps[axis] for steps in (case.input_dilation, case.kernel_dilation, case.strides)
        )
        starts = range(-lo, (n - 1) * a + hi - (taps - 1) * d + 1, s)
        out_space.append(len(starts))
        line = np.zeros((len(starts), taps, n), np.int64)
        for output, start in enumerate(starts):
            for tap in range(taps):
                element = _source(start + tap * d, n, a, case.mode)
                if element is not None:
                    line[output, tap, element] += 1
        found = np.kron(found, line)
    return found, tuple(out_space)


class Known(NamedTuple):
    """Operands of a case as float32 integers, and what the definition makes of them."""

    x: np.ndarray
    kernel: np.ndarray
    cotangent: np.ndarray
    y: np.ndarray
    dx: np.ndarray
    dkernel: np.ndarray


@functools.lru_cache
def known(case: Case, magnitude: bool = False) -> Known:
    """The oracle: sums over outputs, taps and elements of x, group by group, in float64.

    Args:
        magnitude: of the operands' absolute values.
    """
    rng = np.random.default_rng([len(case.name), *case.x])
    taps, out_space = _taps(case)
    n, i, (per_group, o), g = case.x[0], case.x[-1], case.kernel[-2:], case.groups
    shapes = case.x, case.kernel, (n, *out_space, o)
    x, kernel, ct = (rng.integers(-3, 4, shape).astype(float) for shape in shapes)
    if magnitude:
        x, kernel, ct = abs(x), abs(kernel), abs(ct)
    xs, ks = x.reshape(n, -1, g, i // g), kernel.reshape(-1, per_group, g, o // g)
    cts = ct.reshape(n, -1, g, o // g)
    y = np.einsum("ots,nsgi,tigc->nogc", taps, xs, ks, optimize=True)
    dx = np.einsum("ots,nogc,tigc->nsgi", taps, cts, ks, optimize=True)
    dkernel = np.einsum("ots,nsgi,nogc->tigc", taps, xs, cts, optimize=True)
    return Known(
        x.astype(np.float32),
        kernel.astype(np.float32),
        ct.astype(np.float32),
        y.reshape(ct.shape),
        dx.reshape(x.shape),
        dkernel.reshape(kernel.shape),
    )


# ---- the checks: None, or what is wrong --------------------------------------------------------


def _differ(what: str, found: Any, wanted: Any, bound: Any = 0.0) -> str | None:
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    if found.shape != wanted.shape:
        return f"{what} has shape {found.shape}, not {wanted.shape}"
    error = abs(found - wanted)
    wrong = ~(error <= bound)  # a NaN is wrong
    if not wrong.any():
        return None
    worst = float(np.nan_to_num(error, nan=np.inf).max())
    return f"{what}: {wrong.sum()} of {wrong.size} numbers are wrong, by up to {worst:g}"


def _first(*outcomes: str | None) -> str | None:
    return next(filter(None, outcomes), None)


@functools.cache
def _ran(case: Case, algorithm: str | None) -> Any:
    """Value and both gradients, compiled together."""

    def everything(x: jax.Array, kernel: jax.Array, ct: jax.Array) -> Any:
        y, back = jax.vjp(functools.partial(case.conv, algorithm=algorithm), x, kernel)
        return y, *back(ct)

    k = known(case)
    return jax.jit(everything)(k.x, k.kernel, k.cotangent)


def _value(case: Case) -> str | None:
    """Law "definition": `conv`, compiled or not, is the definition."""
    k = known(case)
    return _first(
        _differ("the value", case.conv(k.x, k.kernel), k.y),
        _differ("the compiled value", _ran(case, None)[0], k.y),
    )


def _adjoint(case: Case) -> str | None:
    """Law "adjoint": `conv_transpose` is the transpose of `conv`, JAX's and the matrix's."""
    k = known(case)
    found = jax.jit(
        lambda y, kernel: conv_transpose(y, kernel, output_shape=case.x[1:-1], **case.options)
    )(k.cotangent, k.kernel)
    (wanted,) = jax.linear_transpose(lambda x: case.conv(x, k.kernel), k.x)(k.cotangent)
    return _first(
        _differ("conv_transpose against linear_transpose", found, wanted),
        _differ("conv_transpose against the matrix", found, k.dx),
    )


def _gradients(case: Case) -> str | None:
    """Law "adjoint": gradients are those of the matrix."""
    k = known(case)
    _, dx, dkernel = _ran(case, None)
    return _first(
        _differ("the input's gradient", dx, k.dx),
        _differ("the kernel's gradient", dkernel, k.dkernel),
    )


SKIPPED = "skipped"


def _elsewhere(name: str | None) -> str | None:
    """Why a lowering is not checked on this backend, or None."""
    here = jax.default_backend()
    if name == "pallas" and here != "tpu":
        return f"its kernels are for TPU, and this machine computes on {here}"
    return None


def _accepted(case: Case, name: str | None) -> bool:
    """Whether the lowering, forced, takes the forward convolution, and can be checked here."""
    if _elsewhere(name):
        return False
    k = known(case)
    try:
        jax.eval_shape(functools.partial(case.conv, algorithm=name), k.x, k.kernel)
    except ValueError as error:
        if "cannot execute this convolution" in str(error):
            return False
        raise
    return True


def _lowering(name: str | None, case: Case) -> str | None:
    """Law "lowerings": forced, or chosen, it equals `direct`."""
    if not _accepted(case, name):
        return SKIPPED
    exact = name is None or LOWERINGS[name].exact
    parts = ("the value", "the input's gradient", "the kernel's gradient")
    outcomes = []
    for part, ours, wanted in zip(parts, _ran(case, name), _ran(case, "direct"), strict=True):
        # an inexact one (fft) rounds at the scale of the largest numbers in it
        bound = 0.0 if exact else 1e-4 * max(1.0, float(abs(wanted).max(initial=0.0)))
        outcomes.append(_differ(part, ours, wanted, bound))
    return _first(*outcomes)


def _bfloat16(name: str | None, case: Case) -> str | None:
    """16-bit operands: one rounding of the result, and float32's in the sum."""
    if not _accepted(case, name):
        return SKIPPED
    k, scale = known(case), known(case, magnitude=True)
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in (k.x, k.kernel))
    found = jax.jit(functools.partial(case.conv, algorithm=name))(x, kernel)
    if found.dtype != jnp.bfloat16:
        return f"the result is {found.dtype}, not bfloat16"
    bound = 2**-8 * abs(k.y) + 2**-12 * scale.y
    if name is not None and not LOWERINGS[name].exact:
        bound = bound + 1e-4 * scale.y.max()
    return _differ("the value", found.astype(jnp.float32), k.y, bound)


def _causal_kernel() -> str | None:
    """The kernel for TPU that computes a causal convolution with all that surrounds it."""
    if _elsewhere("pallas"):
        return SKIPPED
    from convjax.pallas.checks import of_causal

    return _differ("the value", *of_causal(causal_conv))


class Check(NamedTuple):
    group: str
    name: str
    run: Callable[[], str | None]


@public
def checks() -> Iterator[Check]:
    """All checks, group by group."""

    def each(group: str, check: Callable[..., str | None], cases: Any = CASES) -> Iterator[Check]:
        for case in cases:
            yield Check(group, case.name, functools.partial(check, case))

    yield from each("definition, values", _value)
    undilated = [case for case in CASES if not case.dilated]
    yield from each("adjoint, transposed", _adjoint, undilated)
    yield from each("adjoint, gradients", _gradients)
    names: list[str | None] = [None, *(name for name in LOWERINGS if name != "direct")]
    for name in names:
        yield from each(f"lowerings, {name or 'chosen'}", functools.partial(_lowering, name))
    yield Check("causal, pallas", "state, segments, bias, activation", _causal_kernel)
    some = [case for case in CASES if case.name in ("dense 2d", "grouped", "depthwise", "strided")]
    for name in (None, *LOWERINGS):
        shown = name or "chosen"
        yield from each(f"bfloat16, {shown}", functools.partial(_bfloat16, name), some)


# ---- running them ------------------------------------------------------------------------------


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed (a source tree)"


@public
def versions() -> list[str]:
    """What a report of a bug should say."""
    devices = jax.devices()
    flags = {
        name: value
        for name, value in sorted(os.environ.items())
        if name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")
        or name.startswith("JAX_")
    }
    return [
        f"python    {platform.python_version()} on {platform.platform()}",
        f"jax       {jax.__version__}, jaxlib {_version('jaxlib')}, numpy {np.__version__}",
        f"convjax   {_version('convjax')}",
        f"platform  {devices[0].platform}: {len(devices)} x {devices[0].device_kind}",
        f"flags     {' '.join(f'{k}={v}' for k, v in flags.items()) or 'none'}",
    ]


def _outcome(check: Check) -> str | None:
    try:
        return check.run()
    except Exception as error:  # whatever it is, the other checks go on
        text = str(error).strip() or "no message"
        return f"{type(error).__name__}: {text.splitlines()[0]}"


@public
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks, print what came of them, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m convjax.selftest", description=__doc__)
    parser.add_argument("words", nargs="*", help="run the checks whose names contain all of these")
    words = parser.parse_args(arguments).words
    began = time.perf_counter()
    _ran.cache_clear()  # another run in this process runs anew
    for line in versions():
        print(line)
    groups: dict[str, list[Check]] = {}
    for check in checks():
        if all(word in f"{check.group}: {check.name}" for word in words):
            groups.setdefault(check.group, []).append(check)
    if not groups:
        parser.error(f"no check is named {' '.join(words)}")
    done = failed = 0
    with jax.default_matmul_precision("highest"):
        for group, members in groups.items():
            outcomes = [_outcome(check) for check in members]
            skipped = outcomes.count(SKIPPED)
            wrong = sum(outcome not in (None, SKIPPED) for outcome in outcomes)
            passed = len(members) - skipped - wrong
            counts = [f"{passed} passed"]
            counts += [f"{skipped} not accepted"] * bool(skipped) + [f"{wrong} FAILED"] * bool(
                wrong
            )
            reason = _elsewhere(group.partition(", ")[2])
            print(f"{group:24}  {', '.join(counts)}{f': {reason}' if reason else ''}", flush=True)
            for check, outcome in zip(members, outcomes, strict=True):
                if outcome not in (None, SKIPPED):
                    print(f"FAILED {group}, {check.name}: {outcome}", flush=True)
            done, failed = done + passed + wrong, failed + wrong
    if failed:
        print(f"selftest: {failed} of {done} checks FAILED")
        return 1
    seconds = time.perf_counter() - began
    print(f"selftest: {done} checks passed on {jax.default_backend()} in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
