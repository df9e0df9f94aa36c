"""The parts of `benchmarks.fleet`: a system of real processes, simulated nodes, one file a question."""
