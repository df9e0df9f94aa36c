"""The catalogue of a process: core always, and the platforms that it is given."""

from collections.abc import Iterable

from platforms.finding import find_schema
from schemas.language.catalogue import Catalogue
from schemas.language.load import load
from schemas.language.schema import Schema

CORE = "core"


def open_catalogue(others: Iterable[Schema] = ()) -> Catalogue:
    """Reads the schema of core. Raises SchemaError where the installation is damaged."""
    path = find_schema(CORE)
    if path is None:
        raise FileNotFoundError("platforms/core/core.edge is missing: install the package again")
    return Catalogue([load(path, find_schema).schema, *others])
