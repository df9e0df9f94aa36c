"""What is wrong with a condition, and where."""


class ConditionError(ValueError):
    """A condition that means nothing. `column` counts from 1."""

    def __init__(self, text: str, column: int, message: str, hint: str = "") -> None:
        underline = " " * (column - 1) + "^"
        super().__init__("\n".join(line for line in (f"{message} (column {column})", text, underline, hint) if line))
        self.column = column
