"""The contract: all that agent, coordinator and everybody else on the broker must agree on.

`topics` addresses, `messages` values, `codec` bytes, `identity` what makes a row the same row, `shape` how mappings
become values. Imports nothing else of ours.
"""

from schemas.messages import WIRE_VERSION

__all__ = ["WIRE_VERSION"]
