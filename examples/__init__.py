"""Programs to start from: each runs as it is, from the repository's root."""
