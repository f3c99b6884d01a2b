"""The operation: a JAX primitive, the way from users' arrays to it, and boundary modes."""
