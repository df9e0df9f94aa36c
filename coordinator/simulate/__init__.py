"""A fleet that is not there: real connections, births, heartbeats, rows, faults; for planning and benchmarks."""
