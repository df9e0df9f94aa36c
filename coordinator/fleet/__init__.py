"""Which nodes there are and whether they are alive."""
