"""The parts of the fault campaign: the load node and its journal, the processes, the faults, the checker."""
