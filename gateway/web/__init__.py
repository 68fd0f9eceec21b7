"""HTTP: health, metrics and the REST interface."""
