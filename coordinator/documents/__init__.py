"""Desired and reported documents at the coordinator: `changes.py` decides, `documents.py` loops."""
