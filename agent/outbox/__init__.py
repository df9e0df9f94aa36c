"""Everything durable passes here: committed to SQLite before it is published, deleted when the coordinator has it.

`rows` the values, `file` the SQLite file, `outbox` what the rest of the agent appends to and the link sends from.
"""
