"""What the node says about itself: host figures and the heartbeat."""
