"""Traces: one followed through a whole system, none where none are wanted, collectors that are away."""
