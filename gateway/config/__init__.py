"""The configuration as values: models, and a loader that reports every problem with file, line and path."""
