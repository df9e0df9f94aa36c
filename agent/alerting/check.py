"""Conditions against what the platforms here declare: types that nobody tells, fields that are not there. Pure."""

import difflib
from collections.abc import Sequence

from agent.alerting.settings import AlertSettings
from platforms.conditions import ConditionError, parse
from schemas.language.schema import EventType, Field, ListOf, MapOf, Nullable, OpaqueType, RecordType, Scalar, Schema
from schemas.language.schema import Kind as Built

BESIDE = ("subject",)  # of an event, beside its data


def declared_mistakes(text: str, schemas: Sequence[Schema]) -> list[str]:
    """What a condition, which can be read, looks at and nobody declares, each as it is shown to people."""
    found: list[str] = []
    for kind, path, column in parse(text).fields():
        event = next((one.events[kind] for one in schemas if kind in one.events), None)
        if event is None:
            wrong = (
                f"no platform here declares an event {kind}{_near(kind, [n for one in schemas for n in one.events])}"
            )
        elif not path or path[0] in BESIDE:
            continue
        else:
            schema = next(one for one in schemas if kind in one.events)
            wrong = _field_mistake(event, path, schema) or ""
        if wrong:
            said = str(ConditionError(text, column, wrong))
            if said not in found:
                found.append(said)
    return found


def conditions_mistakes(
    alerts: Sequence[AlertSettings | None], schemas: Sequence[Schema], known: Sequence[str]
) -> list[str]:
    """The same of the configured alerts; what is known to be wrong already is not looked at again."""
    found = []
    for i, one in enumerate(alerts):
        for key, text in (("condition", one.condition), ("clear", one.clear)) if one else ():
            where = f"alerts[{i}].{key}: "
            if text and not any(mistake.startswith(where) for mistake in known):
                found += [where + wrong for wrong in declared_mistakes(text, schemas)]
    return found


def _field_mistake(event: EventType, path: Sequence[str], schema: Schema) -> str | None:
    fields: Sequence[Field] = event.fields
    for n, name in enumerate(path):
        field = next((one for one in fields if one.name == name), None)
        if field is None:
            known = [one.name for one in fields]
            return f"{'.'.join((event.name, *path[:n]))} has no field {name}{_near(name, known)} ({', '.join(known)})"
        if n + 1 == len(path):
            return None
        bare = schema.bare(field.type.inner if isinstance(field.type, Nullable) else field.type)
        named = schema.named(bare)
        if isinstance(bare, MapOf) or bare == Scalar(Built.JSON) or isinstance(named, OpaqueType):
            return None  # its keys are nobody's to declare
        if not isinstance(named, RecordType):
            what = "a list" if isinstance(bare, ListOf) else "a single value"
            return f"{'.'.join((event.name, *path[: n + 1]))} is {what}: nothing lies beneath it"
        fields = named.fields
    return None


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
