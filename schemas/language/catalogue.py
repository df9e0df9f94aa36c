"""Several schemas together: what an event, a function or a collection of the state has to be, whichever declares it.

Where two schemas declare the same event or function, they declare it alike (the checker sees to that), and the first
is asked.
"""

from collections.abc import Sequence

from schemas.language.schema import Schema
from schemas.language.validators import Validator, Validators


class Catalogue:
    """The schemas of one process. Its validators are built when they are first asked for."""

    def __init__(self, schemas: Sequence[Schema]) -> None:
        self.schemas = tuple(schemas)
        self._validators = [Validators(schema) for schema in schemas]
        self._events: dict[str, Validator | None] = {}

    def event(self, name: str) -> Validator | None:
        """Of an event's data; None for one that no schema declares."""
        try:
            return self._events[name]
        except KeyError:
            pass
        found = next((one.event(name) for one in self._validators if name in one.schema.events), None)
        if found is not None:  # names that nobody declares come from outside: they would fill the memory
            self._events[name] = found
        return found

    def arguments(self, function: str) -> Validator | None:
        """Of a function; None for one that no schema declares."""
        return next((one.arguments(function) for one in self._validators if function in one.schema.functions), None)

    def result(self, function: str) -> Validator | None:
        """As `arguments`."""
        return next((one.result(function) for one in self._validators if function in one.schema.functions), None)

    def state(self, collection: str) -> tuple[Validator, Validator] | None:
        """Of the keys and values of `traffic.intersections`; None for a collection that no schema declares."""
        platform, _, name = collection.partition(".")
        for one in self._validators:
            if one.schema.name == platform and name in one.schema.state:
                return one.state(name)
        return None

    def check(self, event: str, data: object) -> bool:
        """False for an event that no schema declares. Raises InvalidError for one that is not as declared."""
        found = self.event(event)
        if found is None:
            return False
        found.check(data)
        return True

    def is_plain_json(self, event: str, data: bytes) -> bool:
        """True for a declared event whose data are right and have declared fields only; False: ask `check_json`."""
        found = self.event(event)
        return found is not None and found.is_plain_json(data)

    def check_json(self, event: str, data: bytes | str) -> bool:
        """As `check`, for data that is still JSON."""
        found = self.event(event)
        if found is None:
            return False
        found.check_json(data)
        return True
