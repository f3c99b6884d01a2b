"""Several devices: who computes what, what they send each other, and who asks."""
