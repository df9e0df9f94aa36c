"""The sections of an `edge_computing` block: functions, events, state and the lists of names."""

from collections.abc import Iterable, Mapping, Sequence

from schemas.fields import Owner, Rule
from schemas.language import tree
from schemas.language.annotations import Mark, Notes
from schemas.language.build import Scope, nearest
from schemas.language.schema import (
    CollectionType,
    EnumType,
    EventType,
    FunctionType,
    Kind,
    MapOf,
    OpaqueType,
    Placement,
    RecordType,
    Scalar,
    Schema,
    Type,
)

GROUPS = ("workloads", "analytics_types", "data_sources")
SECTIONS = ("platform_name", "edge_node_types", *GROUPS, "functions", "state", "events")
NODE, COORDINATOR = "node", "coordinator"


def build(file: tree.File, name: str, imported: Mapping[str, Schema]) -> tuple[Schema, Scope]:
    """The schema of a file whose imports are built already; what is wrong with it is in the scope's `problems`."""
    scope = Scope(file, name, imported)
    blocks = file.platforms
    for block in blocks[1:]:
        scope.wrong(block.place, "a file has one edge_computing block", "put the second one in a file of its own")
    imports = tuple(one.target for one in file.imports)
    if not blocks:
        schema = Schema(name, types=scope.types, imports=imports)
    else:
        schema = _Block(scope, blocks[0], imported).schema(imports)
    for type_ in scope.types.values():
        if isinstance(type_, RecordType) and type_.module == name:
            scope.check_defaults(schema, type_.fields)
    for function in schema.functions.values():
        scope.check_defaults(schema, function.parameters)
    for event in schema.events.values():
        scope.check_defaults(schema, event.fields)
    scope.problems.sort(key=lambda problem: problem.place)
    return schema, scope


class _Block:
    """One block of one file."""

    def __init__(self, scope: Scope, block: tree.Platform, imported: Mapping[str, Schema]) -> None:
        self._scope = scope
        self._block = block
        self._imported = imported
        self._sections: dict[str, tree.Section] = {}
        for section in block.sections:
            if section.name not in SECTIONS:
                hint = nearest(section.name, SECTIONS) or f"there are {', '.join(SECTIONS)}"
                scope.wrong(section.place, f"there is no section {section.name}", hint)
            elif section.name in self._sections:
                line = self._sections[section.name].place.line
                scope.wrong(section.place, f"{section.name} is there twice", f"it is in line {line} already")
            else:
                self._sections[section.name] = section

    def schema(self, imports: tuple[str, ...]) -> Schema:
        scope, block = self._scope, self._block
        notes = scope.notes(block.annotations, Mark.PLATFORM)
        groups = {group: self._words(group) for group in GROUPS if group in self._sections}
        functions = self._functions()
        names = {*functions, *(word for words in groups.values() for word in words)}
        for schema in self._imported.values():
            names |= {*schema.functions, *(word for words in schema.groups.values() for word in words)}
        schema = Schema(
            scope.module,
            block.name,
            self._title(),
            notes.text("version"),
            self._words("edge_node_types"),
            groups,
            functions,
            self._events(names, functions),
            self._state(),
            scope.types,
            imports,
            block.doc,
        )
        self._check_shared(schema)
        return schema

    def _title(self) -> str:
        section = self._sections.get("platform_name")
        if section is None:
            self._scope.wrong(self._block.place, f"{self._block.name} has no platform_name", 'add platform_name: "…"')
            return self._block.name
        if not isinstance(section.value, str):
            self._scope.wrong(section.place, "platform_name is a text", 'write platform_name: "…"')
            return self._block.name
        return section.value

    def _entries(self, name: str) -> Sequence[tree.Entry]:
        section = self._sections.get(name)
        if section is None:
            return ()
        if not isinstance(section.value, tuple) or any(isinstance(one, tree.Member) for one in section.value):
            self._scope.wrong(section.place, f"{name} is a list", f"write {name}: [ … ]")
            return ()
        found: dict[str, tree.Entry] = {}
        for one in section.value:
            assert isinstance(one, tree.Entry)
            if one.name in found:
                line = found[one.name].place.line
                self._scope.wrong(one.place, f"{one.name} is there twice", f"it is in line {line} already")
            else:
                found[one.name] = one
        return tuple(found.values())

    def _words(self, name: str) -> tuple[str, ...]:
        entries = self._entries(name)
        for one in entries:
            if one.parameters is not None:
                self._scope.wrong(one.place, f"{name} are names", f"write {one.name} without parentheses")
            self._scope.notes(one.annotations, Mark.PLATFORM)
        return tuple(one.name for one in entries)

    # ---- functions ------------------------------------------------------------------------------

    def _functions(self) -> dict[str, FunctionType]:
        found = {}
        for one in self._entries("functions"):
            if one.parameters is None:
                self._scope.wrong(one.place, f"{one.name} has no parameters", f"write {one.name}()")
            found[one.name] = self._function(one)
        return found

    def _function(self, one: tree.Entry) -> FunctionType:
        scope = self._scope
        notes = scope.notes(one.annotations, Mark.FUNCTION)
        return FunctionType(
            one.name,
            scope.fields(one.parameters or (), Mark.PARAMETER),
            scope.type(one.returns) if one.returns is not None else None,
            self._placement(one, notes),
            notes.seconds("timeout") or 30.0,
            _int(notes.argument("parallel")),
            notes.has("personal"),
            notes.text("deprecated"),
            one.doc,
            scope.module,
            one.place,
        )

    def _placement(self, one: tree.Entry, notes: Notes) -> Placement:
        given = [place for place in Placement if notes.has(place.value)]
        if len(given) > 1:
            text = f"{one.name} has {len(given)} placements: {', '.join('@' + place for place in given)}"
            self._scope.wrong(one.place, text, "leave one of them; @any means a node if it can, else the coordinator")
        if notes.has("personal") and given == [Placement.CLOUD]:
            text = f"{one.name} is @personal, so its result must not leave the node, and it is hosted in the @cloud"
            self._scope.wrong(one.place, text, "make it @edge")
        return given[0] if given else Placement.ANY

    # ---- events ---------------------------------------------------------------------------------

    def _events(self, names: Iterable[str], functions: Mapping[str, FunctionType]) -> dict[str, EventType]:
        known = {*names, NODE, COORDINATOR}
        found = {}
        for one in self._entries("events"):
            if one.parameters is None:
                self._scope.wrong(one.place, f"{one.name} has no fields", f"write {one.name}()")
            if one.returns is not None:
                self._scope.wrong(
                    one.returns.place, f"{one.name} is an event: it returns nothing", "leave the type out"
                )
            found[one.name] = self._event(one, known, functions)
        return found

    def _event(self, one: tree.Entry, known: set[str], functions: Mapping[str, FunctionType]) -> EventType:
        scope = self._scope
        notes = scope.notes(one.annotations, Mark.EVENT)
        sources = notes.words("source")
        if not sources and not scope.short_form and not self._is_shared_event(one.name):
            hint = "say who tells it: @source(node), @source(coordinator), or functions or workloads of this platform"
            scope.wrong(one.place, f"{one.name} has no source", hint)
        for source in sources:
            if source not in known:
                hint = nearest(source, known) or f"there are {', '.join(sorted(known))}"
                scope.wrong(notes.by_name["source"].place, f"there is no {source} that could tell {one.name}", hint)
        qos = notes.argument("qos")
        return EventType(
            one.name,
            scope.fields(one.parameters or (), Mark.PARAMETER),
            sources,
            _placement_of(sources, functions),
            qos if isinstance(qos, int) else 1,
            notes.seconds("keep"),
            notes.has("personal"),
            notes.text("deprecated"),
            one.doc,
            scope.module,
            one.place,
        )

    # ---- state ----------------------------------------------------------------------------------

    def _state(self) -> dict[str, CollectionType]:
        section = self._sections.get("state")
        if section is None:
            return {}
        members = section.value if isinstance(section.value, tuple) else ()
        if not all(isinstance(one, tree.Member) for one in members) or isinstance(section.value, str):
            self._scope.wrong(section.place, "state has collections", "write state: { name: Map[Key, Value] }")
            return {}
        found: dict[str, CollectionType] = {}
        for one in members:
            assert isinstance(one, tree.Member)
            if one.name in found:
                line = found[one.name].place.line
                self._scope.wrong(one.place, f"{one.name} is there twice", f"it is in line {line} already")
            elif (made := self._collection(one)) is not None:
                found[one.name] = made
        return found

    def _collection(self, one: tree.Member) -> CollectionType | None:
        scope = self._scope
        notes = scope.notes(one.annotations, Mark.COLLECTION)
        type_ = scope.type(one.type)
        if one.default is not None:
            scope.wrong(one.place, f"{one.name} has a default", "a collection begins empty; leave it out")
        if not isinstance(type_, MapOf):
            scope.wrong(one.type.place, f"{one.name} is no map", "write Map[Key, Value]")
            return None
        self._check_key(one, type_.key)
        owner = Owner(notes.text("owner") or Owner.NODE)
        if notes.has("personal") and owner is not Owner.NODE:
            text = f"{one.name} is @personal, so it must not leave the node, and is not owned by the node alone"
            scope.wrong(one.place, text, "write @owner(node)")
        return CollectionType(
            one.name,
            type_.key,
            type_.value,
            owner,
            Rule(notes.text("merge") or Rule.LAST_WRITER),
            notes.has("personal"),
            one.doc,
            scope.module,
            one.place,
        )

    def _check_key(self, one: tree.Member, key: Type) -> None:
        bare = Schema("", types=self._scope.types).bare(key)
        named = Schema("", types=self._scope.types).named(key)
        is_text = isinstance(bare, Scalar) and bare.kind in (Kind.STRING, Kind.INTEGER, Kind.JSON)
        is_open = isinstance(named, EnumType | OpaqueType)
        if not is_text and not is_open:
            hint = "a key is a String, an Integer, an enum, or another name for one"
            self._scope.wrong(one.type.arguments[0].place, f"{one.type.arguments[0]} cannot be a key", hint)

    # ---- with other platforms -------------------------------------------------------------------

    def _is_shared_event(self, name: str) -> bool:
        return any(name in schema.events for schema in self._imported.values())

    def _check_shared(self, schema: Schema) -> None:
        """A function or event of an imported platform may be listed again, as what it is there."""
        for other in self._imported.values():
            for name in schema.functions.keys() & other.functions.keys():
                mine, theirs = schema.functions[name], other.functions[name]
                if (mine.parameters, mine.returns) != (theirs.parameters, theirs.returns):
                    hint = "give it the same signature, or another name"
                    self._scope.wrong(mine.place, f"{name} is another function in {other.name}", hint)
            for name in schema.events.keys() & other.events.keys():
                if schema.events[name].fields != other.events[name].fields:
                    hint = "give it the same fields, or another name"
                    self._scope.wrong(schema.events[name].place, f"{name} is another event in {other.name}", hint)


def _placement_of(sources: Sequence[str], functions: Mapping[str, FunctionType]) -> Placement:
    """Where an event is said: by the coordinator alone, by nodes alone, or by either."""
    clouds = {name for name in sources if name == COORDINATOR or _placed(functions, name) is Placement.CLOUD}
    if any(_placed(functions, name) is Placement.ANY for name in sources):
        return Placement.ANY
    if clouds and len(clouds) == len(sources):
        return Placement.CLOUD
    return Placement.ANY if clouds else Placement.EDGE


def _placed(functions: Mapping[str, FunctionType], name: str) -> Placement | None:
    found = functions.get(name)
    return found.placement if found is not None else None


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
