"""Desired and reported documents at the node.

`journal.py` keeps them, `plan.py` says what they mean here, `documents.py` puts that into force.
"""
