"""The faults that `mutate.py` plants, each with the tests that should notice."""

from faults import devices, functions, lowerings, operation
from faults.record import Fault as Fault

FAULTS = [*operation.FAULTS, *lowerings.FAULTS, *devices.FAULTS, *functions.FAULTS]
