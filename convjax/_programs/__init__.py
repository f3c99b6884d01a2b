"""Programs of others, as jaxprs: walked, counted, explained, and rewritten."""
