"""Platform state at the coordinator: `judge.py` says which rows are not taken, `view.py` is for functions."""
