"""One file per way to execute a convolution, and the table of them.

A lowering is a module with

- ``run(x, kernel, call)``: the convolution of a `Call`, operands and result in the caller's layout;
  `layout.arranged` brings them into the order that suits it,
- ``accepts(problem)``: None, or why not,
- ``apart(problem)``: whether XLA on CPU must compile it as a call of its own, so that it is not
  repeated in every operation that reads its result (`unfused`),
- ``exact = False`` if its results on integers are rounded.
"""

from types import ModuleType

from convjax.lowerings import (
    channels_last,
    depth_fold,
    depth_sum,
    direct,
    fft,
    matmul,
    pallas,
    patchify,
    per_group,
    polyphase,
    spread_rows,
    taps,
)

LOWERINGS: dict[str, ModuleType] = {
    "direct": direct,
    "channels_last": channels_last,
    "taps": taps,
    "matmul": matmul,
    "patchify": patchify,
    "per_group": per_group,
    "polyphase": polyphase,
    "depth_fold": depth_fold,
    "depth_sum": depth_sum,
    "spread_rows": spread_rows,
    "pallas": pallas,
    "fft": fft,
}
