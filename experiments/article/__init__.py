"""The statements and worked numbers of the article, computed again."""
