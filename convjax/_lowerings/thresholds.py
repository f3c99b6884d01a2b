"""The numbers that rules compare sizes with, each with its unit, its meaning and its measurement.

`scripts/tune_select.py NAME` measures one again: it times the candidates at half the threshold, at
the threshold, and at twice and four times it, and writes the file that `measured` names.
`tests/library/test_thresholds.py` reads the files: it bounds what the committed value loses.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A number that a rule compares a size with.

    Attributes:
        value: the number.
        unit: what is counted.
        meaning: what is decided, and for which sizes.
        measured: the file of measurements behind it, from the repository's root.
    """

    value: float
    unit: str
    meaning: str
    measured: str


FEW_PAIRS = Threshold(
    32,
    "pairs of input and output channels in a group",
    "up to here `taps` sums products of whole arrays, above `per_group` convolves each group",
    measured="benchmarks/select/few_pairs.csv",
)
FEW_PAIRS_IN_GRADIENTS = Threshold(
    64,
    "pairs of channels in a group, in the gradient of a kernel",
    "the same for these, which `taps` adds up row by row in the cache",
    measured="benchmarks/select/few_pairs_in_gradients.csv",
)
PAIRS_PER_GROUP = Threshold(
    4,
    "pairs of channels in a group, for each group, in the gradient of a kernel",
    "up to here the groups are enough for `taps`, whose vectors have all of them",
    measured="benchmarks/select/pairs_per_group.csv",
)
FEW_UNEVEN_PAIRS = Threshold(
    49,
    "pairs of channels in a group whose input channels are no multiple of eight",
    "the same for these, which Eigen gathers slowly",
    measured="benchmarks/select/few_uneven_pairs.csv",
)
UNEVEN_CHANNELS = Threshold(
    10,
    "input channels of a group that are no multiple of eight",
    "up to here XLA's own grouped convolution is faster than `per_group`, on jaxlib 0.12",
    measured="benchmarks/select/uneven_channels.csv",
)
UNEVEN_STRIDED_CHANNELS = Threshold(
    22,
    "input channels of a group that are no multiple of eight, in a strided convolution",
    "the same for these",
    measured="benchmarks/select/uneven_strided_channels.csv",
)
GROUPS_WRITTEN_OUT = Threshold(
    8,
    "groups of a 1x1 convolution",
    "up to here every group is a product by itself, above one product has all groups",
    measured="benchmarks/select/groups_written_out.csv",
)
LITTLE_CUT_OFF = Threshold(
    1.25,
    "computed results for one result that is kept",
    "up to here `depth_sum` may compute results outside the output and cut them off",
    measured="benchmarks/select/little_cut_off.csv",
)
WORTH_SUMMING = Threshold(
    1 << 20,
    "inputs that Eigen gathers",
    "up to here a plane with few output channels stays with Eigen, above `depth_sum` takes it",
    measured="benchmarks/select/worth_summing.csv",
)
FEW_OUTPUTS = Threshold(
    1,
    "results for every row of taps, for one input channel",
    "up to here `depth_sum` takes a plane",
    measured="benchmarks/select/few_outputs.csv",
)
FEW_SMALL_OUTPUTS = Threshold(
    3,
    "results for every row of taps, for one input channel",
    "the same where the results are small: WORTH_SUMMING numbers at most, in few channels",
    measured="benchmarks/select/few_small_outputs.csv",
)
SMALL_RESULTS = Threshold(
    1 << 22,
    "numbers that `depth_sum` writes before it adds them",
    "up to here they are small",
    measured="benchmarks/select/small_results.csv",
)
SMALL_CHANNELS = Threshold(
    32,
    "output channels",
    "up to here results may count as small",
    measured="benchmarks/select/small_channels.csv",
)
FEWEST_OUTPUTS = Threshold(
    8,
    "output channels",
    "from here `depth_sum` is faster than a fast YNNPACK, which takes planes with fewer",
    measured="benchmarks/select/fewest_outputs.csv",
)
GATHERED_FAST = Threshold(
    16,
    "channels side by side",
    "from here Eigen gathers spread rows fast, so that `spread_rows` may evade a slow YNNPACK",
    measured="benchmarks/select/gathered_fast.csv",
)
GATHERED_FAST_IN_GRADIENTS = Threshold(
    8,
    "examples side by side",
    "the same for the gradient of a kernel, whose input channels are examples",
    measured="benchmarks/select/gathered_fast_in_gradients.csv",
)
FEW_CHANNELS = Threshold(
    8,
    "input channels (in the gradient of a kernel: examples)",
    "below here Eigen gathers windows slowly, and `depth_fold` makes an axis into channels",
    measured="benchmarks/select/few_channels.csv",
)
FEW_PRODUCTS = Threshold(
    27,
    "products that an output sums",
    "up to here `depth_fold` would copy more than it saves: three colours under 3x3",
    measured="benchmarks/select/few_products.csv",
)
FEW_COPIES = Threshold(
    8,
    "copies of the input",
    "up to here `depth_fold` may copy it",
    measured="benchmarks/select/few_copies.csv",
)
FEW_COPIES_FOR_YNNPACK = Threshold(
    3,
    "copies of the input",
    "the same where YNNPACK is fast for what it gets",
    measured="benchmarks/select/few_copies_for_ynnpack.csv",
)
FEW_COLOURS = Threshold(
    8,
    "input channels of a convolution, in the gradient of its kernel",
    "up to here YNNPACK counts as slow, and `depth_fold` may copy an image FEW_COPIES times",
    measured="benchmarks/select/few_colours.csv",
)
FEW_OUTPUTS_OF_FEW_EXAMPLES = Threshold(
    24,
    "output channels, in the gradient of a kernel of fewer than FEW_CHANNELS examples",
    "up to here YNNPACK is faster than `depth_fold`",
    measured="benchmarks/select/few_outputs_of_few_examples.csv",
)

# Where XLA has oneDNN.
MANY_TAPS = Threshold(
    25,
    "taps of a depthwise window with two axes or three",
    "from here oneDNN is faster than `taps`",
    measured="benchmarks/select/many_taps.csv",
)
MANY_STRIDED_TAPS = Threshold(
    49,
    "taps of a depthwise window with a stride",
    "the same for these",
    measured="benchmarks/select/many_strided_taps.csv",
)
MANY_TAPS_OF_HALVES = Threshold(
    9,
    "taps of a depthwise window with two axes or three, in float16",
    "the same for these on processors with AMX, with a stride or without",
    measured="benchmarks/select/many_taps_of_halves.csv",
)
MANY_TAPS_OF_CHANNELS_FIRST = Threshold(
    49,
    "taps of a depthwise window with two axes or three, channels first",
    "the same for these, with a stride or without",
    measured="benchmarks/select/many_taps_of_channels_first.csv",
)
LITTLE_PADDING = Threshold(
    4,
    "elements of padding on the last axis, on its larger side, of a dilated depthwise window",
    "up to here oneDNN has fast code for a dilation, above it has none and is 50 times slower",
    measured="benchmarks/select/little_padding.csv",
)
LITTLE_PADDING_IN_512_BITS = Threshold(
    6,
    "elements of padding on the last axis, on its larger side, of a dilated depthwise window",
    "the same on processors with vectors of 512 bits",
    measured="benchmarks/select/little_padding_in_512_bits.csv",
)
FEW_PAIRS_BESIDE_ONEDNN = Threshold(
    24,
    "pairs of channels in a group, in the gradient of a kernel",
    "up to here `taps` is faster than oneDNN",
    measured="benchmarks/select/few_pairs_beside_onednn.csv",
)
PAIRS_PER_EXAMPLE = Threshold(
    512,
    "pairs of channels in a group, for each example, in the gradient of a kernel",
    "up to here oneDNN is faster than `per_group`",
    measured="benchmarks/select/pairs_per_example.csv",
)
COTANGENT_OF_A_GROUP = Threshold(
    8000,
    "numbers of an example's cotangent in a group, in the gradient of a kernel",
    "from here on `per_group` is faster than oneDNN on processors with vectors of 512 bits",
    measured="benchmarks/select/cotangent_of_a_group.csv",
)
FEW_PRODUCTS_FOR_ONEDNN = Threshold(
    64,
    "products that all outputs of a group sum in one place",
    "up to here `taps` is faster than oneDNN",
    measured="benchmarks/select/few_products_for_onednn.csv",
)
FEW_PRODUCTS_OF_CHANNELS_FIRST = Threshold(
    144,
    "products that all outputs of a group sum in one place, channels first and no stride",
    "the same for these",
    measured="benchmarks/select/few_products_of_channels_first.csv",
)
MANY_POSITIONS = Threshold(
    3136,
    "positions of a convolution's result",
    "from here oneDNN is as fast as Eigen for the gradient of a dense kernel, or faster",
    measured="benchmarks/select/many_positions.csv",
)
TOO_MANY_POSITIONS = Threshold(
    4096,
    "positions of a convolution's result",
    "above here oneDNN is slower than Eigen for it again",
    measured="benchmarks/select/too_many_positions.csv",
)
FEW_OUTPUTS_FOR_ONEDNN = Threshold(
    8,
    "output channels",
    "up to here `depth_sum` is faster than oneDNN where it moves little",
    measured="benchmarks/select/few_outputs_for_onednn.csv",
)
FEW_CHANNELS_IN_A_ROW = Threshold(
    8,
    "input channels of a convolution, in the gradient of its kernel",
    "from here `batch_as_space` is faster on processors with vectors of 512 bits",
    measured="benchmarks/select/few_channels_in_a_row.csv",
)
FEW_EXAMPLES_FOR_AMX = Threshold(
    4,
    "examples, or blocks of them, in the gradient of a kernel in bfloat16",
    "below here `channels_last` is faster on processors with AMX, from here `batch_as_space`",
    measured="benchmarks/select/few_examples_for_amx.csv",
)
LARGE_KERNEL_FOR_AMX = Threshold(
    8,
    "taps on the last axis of a kernel, in its gradient in bfloat16",
    "up to here `batch_as_space` is faster on processors with AMX, above `channels_last`",
    measured="benchmarks/select/large_kernel_for_amx.csv",
)
WRITTEN_FOR_A_CALL = Threshold(
    50_000,
    "elements of a kernel that is written out, for each call of oneDNN that this saves",
    "up to here `block_diagonal` is faster for groups in bfloat16 on processors with AMX",
    measured="benchmarks/select/written_for_a_call.csv",
)
MANY_PRODUCTS = Threshold(
    2**23,
    "products of two numbers in a product of two matrices",
    "from here XLA gives oneDNN the product, which takes less time than a 1x1 convolution",
    measured="benchmarks/select/many_products.csv",
)
KERNEL_OF_TILED_ROWS = Threshold(
    400_000,
    "elements of the kernel of a result whose rows are made of tiles",
    "up to here `reshaped` makes an image of every row; larger kernels are slow to read so often",
    measured="benchmarks/select/kernel_of_tiled_rows.csv",
)
INPUTS_OF_TILED_ROWS = Threshold(
    128,
    "input channels, in bfloat16, of a result whose rows are made of tiles",
    "up to here `reshaped` takes less time than to interleave rows",
    measured="benchmarks/select/inputs_of_tiled_rows.csv",
)
WIDE_LINES = Threshold(
    128,
    "output channels of a kernel with one axis",
    "from here `spread_rows` keeps the kernel's gradient with Eigen, which is faster than oneDNN",
    measured="benchmarks/select/wide_lines.csv",
)

# By programs compiled for TPU v5e and v6e, jax 0.12.0.1: `scripts/devices tpu --rows grouped`.
FEW_OF_A_UNIT = Threshold(
    128,
    "channels of a group, under a window, on TPU",
    "up to here groups become blocks, or a block each; above none was compiled",
    "benchmarks/results/devices/v5e.csv",
)
FEW_IN_GRADIENTS = Threshold(
    32,
    "channels of a group, in the gradient of a kernel, on TPU",
    "up to here groups become blocks, above lax's own gradient takes fewer cycles",
    "benchmarks/results/devices/v5e.csv",
)
MANY_INPUTS_IN_FLOAT32 = Threshold(
    6_000_000,
    "inputs of a convolution in 32 bits, on TPU",
    "from here groups become blocks, below lax's groups may take fewer cycles",
    "benchmarks/results/devices/v5e.csv",
)
NARROW_IN_FLOAT32 = Threshold(
    16,
    "channels of a group in 32 bits, on TPU",
    "up to here groups become blocks for any number of inputs",
    "benchmarks/results/devices/v5e.csv",
)
ONE_BLOCK_IN_FLOAT32 = Threshold(
    384,
    "channels of all groups in 32 bits, on TPU",
    "up to here groups that fill one block become it for any number of inputs",
    "benchmarks/results/devices/v5e.csv",
)
TAPS_IN_ONE_PASS = Threshold(
    32,
    "taps of a depthwise convolution, on GPU",
    "up to here `taps` writes them into one pass; 49 taps take ten times lax's time to compile",
    "benchmarks/results/devices/h200.csv",
)

# By programs compiled for an H200, jax 0.12.0.1: `scripts/devices gpu --rows depthwise`.
FEW_IN_A_SEQUENCE = Threshold(
    16,
    "elements of a depthwise kernel in a group, along one axis, on GPU",
    "up to here sums are written out, which XLA fuses",
    "benchmarks/results/devices/h200.csv",
)

THRESHOLDS = {name: value for name, value in vars().items() if isinstance(value, Threshold)}
