"""Decide: tracks become facts, that is events and alerts.

`Decider(camera_id, labels, settings).update(tracks, ...) -> list[Fact]` is the whole of it; read `decider.py` first.
Each other file is one kind of decision: `objects`, `frames`, `lines`, `zones`, `alerts`. Nothing here reads a clock:
the same tracks at the same times give the same facts.
"""
