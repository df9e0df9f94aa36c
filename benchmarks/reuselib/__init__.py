"""The parts of the reuse figure: what can be reached from a function, and what of it a process has run."""
