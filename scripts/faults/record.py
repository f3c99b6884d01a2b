"""What a planted fault is, and the tests that notice several of them."""

from typing import NamedTuple

CONV = "tests/laws/test_conv.py::test_conv_equals_the_oracle"
WORKED = "tests/laws/test_conv.py::test_the_worked_example"
ADJOINT = "tests/laws/test_transposed.py::test_conv_transpose_is_the_adjoint"
GRADIENTS = "tests/laws/test_transposed.py::test_gradients_of_conv_are_those_of_the_matrix"
TRANSPOSED_GRADIENTS = (
    "tests/laws/test_transposed.py::test_gradients_of_conv_transpose_are_those_of_the_matrix"
)


class Fault(NamedTuple):
    """`old` occurs once in `file`; with `new` in its place, `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str  # test identifiers, separated by blanks
