"""Platforms' functions at the node: what their `Context` stands on here."""
