"""What a function changes in its arguments, carried out of its trace.

A traced function sees copies of its arguments. Flax's NNX modules, optimizers and random streams
are changed in place, and so are Keras' variables, and lists and dictionaries may be: the caller's
objects get those changes.
"""

from convjax._programs.changes.carry import carry

__all__ = ["carry"]
