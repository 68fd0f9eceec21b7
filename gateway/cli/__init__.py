"""Verbs of the command line: they parse, call and print; no logic."""
