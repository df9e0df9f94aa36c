"""The parts of `benchmarks.inspection`."""
