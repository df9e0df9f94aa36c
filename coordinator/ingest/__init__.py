"""From a message to a durable row: decode, drop duplicates, commit, and only then acknowledge."""
