"""The way to the broker: presence, birth, heartbeat, rows out, acknowledgements and commands in.

`window` what may be on its way, `sender` rows to messages, `link` one connection after another.
"""
