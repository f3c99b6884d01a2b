"""Other libraries' conventions and weights, as pure functions."""
