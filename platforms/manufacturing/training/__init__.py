"""Training of the weld defect model. `network.py` needs the `train` extra; no agent imports any of it."""
