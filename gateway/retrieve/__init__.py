"""Retrieves: from an identifier to a plan, from a plan to C-STORE sub-operations."""
