"""Figures of a production line: counts, times, stops, OEE, control charts, and which defects matter. Pure."""
