"""What the coordinator keeps. `store.py` is the seam, `sqlite.py` and `reader.py` the technology behind it."""
