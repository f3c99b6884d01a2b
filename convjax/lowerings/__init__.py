"""One file per way to execute a convolution, and the table of them.

A lowering is a module with

- ``run(x, kernel, *, geometry, layout, precision, preferred_element_type, kernel_gradient)``,
- ``accepts(problem)``: None, or why not,
- ``partitionable``: whether it stays without gathers when its operands are sharded.
"""

from types import ModuleType

from convjax.lowerings import direct

LOWERINGS: dict[str, ModuleType] = {
    "direct": direct,
}
