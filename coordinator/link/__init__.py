"""The coordinator's connection to the broker and the commands it answers there."""
