"""Findings about trained networks, beside their controls."""
