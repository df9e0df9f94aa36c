"""The broker-side process, laid out in the order a message travels.

`link` subscribes, `ingest` decodes, drops duplicates, commits and then acknowledges, `fleet` knows the nodes and
whether they are alive, `store` keeps it all. `edgectl.py` is the operator's command line.
"""
