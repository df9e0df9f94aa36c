"""The base platform's catalogue, for programs that host nothing: benchmarks, tests, tools."""

from platforms.finding import find_schema
from platforms.loading import BASE
from schemas.language.cache import load_schema
from schemas.language.catalogue import Catalogue


def open_catalogue() -> Catalogue:
    """Raises SchemaError where the installation is damaged."""
    path = find_schema(BASE)
    if path is None:
        raise FileNotFoundError(f"platforms/{BASE}/{BASE}.edge is missing: install the package again")
    return Catalogue([load_schema(path, find_schema).schema])
