"""Which results leave the node, when, and how many bytes of them; and sending what was kept here when asked to."""
