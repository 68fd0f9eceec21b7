"""The benchmark: ours beside its peers, on the same data, in one run."""
