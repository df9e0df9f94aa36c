"""Inspection stations of this node: pictures, signals and codes in; verdicts out. Read `stage.py` first.

What is decided stands in `platforms/manufacturing/inspection`.
"""
