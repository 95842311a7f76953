"""Policies: deny by default, compiled to plain checks."""
