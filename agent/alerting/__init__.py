"""Alerts over everything that happens at the node: conditions as text, acknowledgement, escalation, actions."""
