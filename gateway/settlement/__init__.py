"""Closed days, statements and proofs; reads facts, never called by the capabilities."""
