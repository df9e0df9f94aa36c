"""Platforms' functions in the coordinator: what their `Context` stands on here."""
