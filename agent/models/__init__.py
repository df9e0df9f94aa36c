"""Models that the coordinator wants here: fetched, kept, proved on this device, run in place of the configured ones.

`models.py` is the driver of all of it; `docs/models.md`, "On the node", says what it does.
"""
