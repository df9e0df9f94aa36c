"""Platform state at the node.

`tables.py` keeps it, `leaving.py` says when a change leaves, `platform_state.py` loops.
"""
