"""Workloads over the fleet: `workload` says what is declared, `index` what nodes have, `placement` and `preemption`
choose, `scheduler` decides what follows from what, `schedules` carries it out.
"""
