"""The leading archive as a source: batched look-ups, circuit breaker."""
