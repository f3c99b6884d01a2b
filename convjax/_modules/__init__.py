"""What the modules of `convjax.nn` and `convjax.linen` share: one table, and how a row is applied.

A module is any object with the options of its row as attributes. Nothing here knows Flax.
"""

from convjax._modules.plan import Plan, attribute, frozen, options, per_parameter, plan
from convjax._modules.table import ROWS, Row

__all__ = ["ROWS", "Plan", "Row", "attribute", "frozen", "options", "per_parameter", "plan"]
