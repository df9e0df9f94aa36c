"""What the coordinator tells this node to run beside its configuration: containers, pipelines, functions.

`machine.py` decides what follows for one workload, `fit.py` what there is room for, `workloads.py` does it by a
`Runner` for each type: `containers.py`, `pipelines.py`, `calls.py`.
"""
