"""What others ask of this node: validated, journalled, run once, answered once."""
