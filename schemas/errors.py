"""Errors of the wire, told apart by whose fault they are.

WireError
├── LocalWireError   we were about to send something the contract forbids: a defect here
└── RemoteWireError  somebody sent us something the contract forbids: refuse it, count it, go on
"""


class WireError(Exception):
    """Base; never raised itself."""


class LocalWireError(WireError):
    """We were about to break the contract."""


class RemoteWireError(WireError):
    """Somebody else broke the contract."""
