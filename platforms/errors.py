"""What can be wrong with a platform, by what there is to do about it.

    PlatformError
    ├── NoSuchPlatformError   nothing of this name is shipped, installed or in a folder
    ├── BrokenPlatformError   it is there, and cannot be used: its package, its schema, its Python
    └── ConflictError         two platforms that cannot be had together

`what` says what was found where, `hint` what would be right. A host tells of them as mistakes of its configuration.
"""


class PlatformError(Exception):
    """A platform that cannot be used."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}; {hint}" if hint else what)
        self.what = what
        self.hint = hint


class NoSuchPlatformError(PlatformError):
    """Nothing of this name."""


class BrokenPlatformError(PlatformError):
    """It is there, and cannot be used."""


class ConflictError(PlatformError):
    """Two platforms that cannot be had together."""


class SeveralError(PlatformError):
    """All that is wrong, in one go."""

    def __init__(self, errors: "list[PlatformError]") -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors
