"""Ways to execute a convolution, and the choice between them.

problem    what is asked: sizes (`Problem`) and a request (`Call`)
lowering   what answers: the record (`Lowering`) with which each file of a lowering ends
target     where it will run (`Target`)
rules      where which lowering is right and fast, in lines as `rule` has them; `planes` has what it
           asks of two spatial axes, `cudnn` of GPUs, and `onednn` of CPUs with oneDNN
compiler   options of XLA; `probe` sees in a small program what this XLA does under them
thresholds the numbers that rules compare sizes with, and the measurements behind them
select     the choice, a function of a problem and a target
run        runs what was chosen
tools/     what lowerings are written with

Every other file is one lowering.
"""

from convjax._lowerings import (
    batch_as_space,
    block_diagonal,
    channels_last,
    commuted,
    depth_fold,
    depth_sum,
    direct,
    fft,
    matmul,
    pallas,
    patchify,
    per_group,
    polyphase,
    reshaped,
    spread_rows,
    stacked_sum,
    symmetric,
    taps,
)
from convjax._lowerings.lowering import Lowering

LOWERINGS: dict[str, Lowering] = {
    file.LOWERING.name: file.LOWERING
    for file in (
        direct,
        channels_last,
        batch_as_space,
        commuted,
        symmetric,
        reshaped,
        taps,
        matmul,
        patchify,
        per_group,
        block_diagonal,
        polyphase,
        depth_fold,
        depth_sum,
        spread_rows,
        stacked_sum,
        pallas,
        fft,
    )
}
