"""Queries: ports, the effective view, the cache."""
