"""Stages of platforms on this node's frame paths: what they are connected to. Read `place.py` first.

What a stage is stands in `platforms/stages.py`.
"""
