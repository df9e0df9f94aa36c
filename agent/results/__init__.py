"""What stays at the node and can be asked for: each frame's result for hours, their aggregates for days."""
