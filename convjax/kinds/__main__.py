"""Print the table of kinds: ``python -m convjax.kinds``."""

from convjax.kinds import markdown_table

print(markdown_table())
