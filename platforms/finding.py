"""Where the schema of a platform lies: those that come with the project, one folder each."""

from pathlib import Path

SHIPPED = ("core", "manufacturing", "traffic", "retail")


def find_schema(name: str) -> Path | None:
    """The `.edge` file of a shipped platform, for imports by name."""
    path = Path(__file__).parent / name / f"{name}.edge"
    return path if name in SHIPPED and path.is_file() else None
