"""What runs several verbs: the demonstration and the benchmarks."""
