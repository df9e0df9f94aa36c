"""Inspection of parts, from trigger to verdict: pure decisions, which an agent's inspection stage asks."""
