"""What lowerings are written with: none of these files executes a convolution by itself.

slices     strided slices of an operand: what taps and windows read
strips     outputs whose windows lie on the padding in the same way
row_sums   the gradient of a kernel of few channels, summed over rows
products   products of matrices that move no operand
xla        what XLA on a CPU must not fuse, and loops that must keep all threads
"""
