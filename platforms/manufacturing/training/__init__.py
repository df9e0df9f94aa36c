"""Training of the weld defect model. Needs the `train` extra; nothing of it is imported by an agent."""
