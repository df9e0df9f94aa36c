"""The composition root of the gateway's process. Read `wire.py` first."""
