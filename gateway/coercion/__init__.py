"""Coercion rules: parsed once into types, applied to identifiers, answers and instances."""
