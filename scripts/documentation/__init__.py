"""What makes the site's pages from the library: the kinds, the reference, docstrings as written."""
