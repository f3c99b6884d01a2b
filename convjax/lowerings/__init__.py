"""One file per way to execute a convolution, and the table of them.

A lowering is a module with

- ``run(x, kernel, *, geometry, precision, preferred_element_type)`` on canonical operands, x
  (N, *space, G, I) and kernel (*window, G, I, O), to (N, *out_space, G, O); `direct` alone works on
  the caller's layout, so that lax sees what a lax user would have written,
- ``accepts(problem)``: None, or why not,
- ``partitionable``: whether `select` may choose it where XLA splits the computation over devices.
  `direct` is the last resort there as everywhere.
"""

from types import ModuleType

from convjax.lowerings import direct, matmul

LOWERINGS: dict[str, ModuleType] = {
    "direct": direct,
    "matmul": matmul,
}
