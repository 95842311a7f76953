"""Payments (PISP): variable recurring payment mandates and payments."""
