"""Duties that one of several coordinators has at a time."""
