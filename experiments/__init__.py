"""What the article says, computed: `python -m experiments` writes one page and one JSON file."""
