"""Errors, grouped by the reaction they call for.

    EdgewrightError
    ├── TemporaryError   wait and try again; nothing is wrong with the request
    ├── PermanentError   trying again cannot help; report it and go on with the rest
    │   └── ConfigError  the configuration asks for something impossible
    └── AuthError        refused for who we are: stop trying fast, ask a person

A defect of ours is none of these: it is an ordinary Python exception and ends the task that met it.

Every message says what was tried, on what, and what to do next: `hint` holds the last part.
"""


class EdgewrightError(Exception):
    """Base of every error this project raises on purpose.

    `what` is the operation and its object with the reason; `hint` is what a person can do about it.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}" if self.hint else self.what


class TemporaryError(EdgewrightError):
    """Wait and try again."""


class PermanentError(EdgewrightError):
    """Trying again cannot help."""


class ConfigError(PermanentError):
    """The configuration asks for something impossible."""


class AuthError(EdgewrightError):
    """Refused for who we are."""
