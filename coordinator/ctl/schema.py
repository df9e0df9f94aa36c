"""`edgectl schema`: what can be done with the schema of a platform."""

from typing import Any

from coordinator.ctl.schema_check import add_check
from coordinator.ctl.schema_export import add_export


def add_commands(parser: Any) -> None:
    """Adds the commands of `edgectl schema` to its parser."""
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    add_check(commands)
    add_export(commands)
