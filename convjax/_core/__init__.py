"""What every room builds on: checks, geometry, padding, layouts; integers and words, no arrays."""
