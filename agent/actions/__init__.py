"""Local actions: what the node does itself about an event, with no network at all."""
