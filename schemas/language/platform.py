"""The sections of an `edge_computing` block: functions, events, state and the lists of names."""

from collections.abc import Iterable, Mapping, Sequence

from schemas.fields import Owner, Rule
from schemas.language import tree
from schemas.language.annotations import Mark, Notes
from schemas.language.build import Scope, nearest, place_of_import, shortened_list
from schemas.language.reach import mentioned, reached
from schemas.language.recover import NO_DAMAGE, Damage
from schemas.language.schema import (
    CollectionType,
    EventType,
    FunctionType,
    Kind,
    ListOf,
    MapOf,
    Nullable,
    Placement,
    RecordType,
    Scalar,
    Schema,
    Type,
)

GROUPS = ("workloads", "analytics_types", "data_sources")
SECTIONS = ("platform_name", "edge_node_types", *GROUPS, "functions", "state", "events")
TITLE_CHARS_MAX = 200
NODE, COORDINATOR = "node", "coordinator"


def build(
    file: tree.File, name: str, imported: Mapping[str, Schema], damage: Damage = NO_DAMAGE
) -> tuple[Schema, Scope]:
    """The schema of a file whose imports are built already; what is wrong with it is in the scope's `problems`."""
    scope = Scope(file, name, imported, damage)
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
    if not damage:
        _warn_of_unused(scope, schema, imported)
    scope.finish()
    return schema, scope


SETTINGS = "_Settings"


def _warn_of_unused(scope: Scope, schema: Schema, imported: Mapping[str, Schema]) -> None:
    """A file that imports nothing, or has no platform, may be there for others: its types count as used."""
    used = reached(schema.types, _messages(schema))
    if schema.platform and imported:
        for name in sorted(scope.types.keys() - used):
            if name.endswith(SETTINGS):
                continue  # a table of the configuration
            place = scope.place(name)
            if place is not None:
                scope.warn(place, f"no message holds a {name}", "leave it out, or use it")
    mine = [type_ for type_ in schema.types.values() if type_.module == schema.name]
    used |= {name for type_ in mine for name in mentioned(type_)}
    sources = {source for event in schema.events.values() for source in event.sources}
    for other in imported.values():
        words = {word for words in other.groups.values() for word in words}
        names = {*other.types, *other.functions, *other.events, *words}
        if not names & {*used, *schema.functions, *schema.events, *sources}:
            text = f"nothing of {other.name} is used"
            scope.warn(place_of_import(scope.file, other.name), text, "leave the import out")


def _messages(schema: Schema) -> list[Type]:
    """The types of all that is sent."""
    fields = [one for function in schema.functions.values() for one in function.parameters]
    fields += [one for event in schema.events.values() for one in event.fields]
    found = [one.type for one in fields]
    found += [function.returns for function in schema.functions.values() if function.returns is not None]
    return found + [type_ for one in schema.state.values() for type_ in (one.key, one.value)]


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
        hosts = {name: one.placement for name, one in functions.items()}
        for schema in self._imported.values():
            names |= {*schema.functions, *(word for words in schema.groups.values() for word in words)}
            hosts = {name: one.placement for name, one in schema.functions.items()} | hosts
        schema = Schema(
            scope.module,
            block.name,
            self._title(),
            notes.text("version"),
            self._words("edge_node_types"),
            groups,
            functions,
            self._events(names, hosts),
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
            if not self._scope.damage.has("platform_name"):
                text = f"{self._block.name} has no platform_name"
                self._scope.wrong(self._block.place, text, 'add platform_name: "…"')
            return self._block.name
        if not isinstance(section.value, str):
            self._scope.wrong(section.place, "platform_name is a text", 'write platform_name: "…"')
            return self._block.name
        if not 0 < len(section.value.strip()) <= TITLE_CHARS_MAX:
            hint = f"write 1 to {TITLE_CHARS_MAX} characters"
            self._scope.wrong(section.place, "platform_name is empty or too long", hint)
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
        self._scope.check_case([(one.name, one.place) for one in found.values()], name.removesuffix("s"))
        return tuple(found.values())

    def _words(self, name: str) -> tuple[str, ...]:
        entries = self._entries(name)
        for one in entries:
            if one.parameters is not None:
                self._scope.wrong(one.place, f"{name} are names", f"write {one.name} without parentheses")
            self._scope.notes(one.annotations, Mark.WORD)
        return tuple(one.name for one in entries)

    # ---- functions ------------------------------------------------------------------------------

    def _functions(self) -> dict[str, FunctionType]:
        found = {}
        for one in self._entries("functions"):
            if one.parameters is None:
                self._scope.wrong(one.place, f"{one.name} has no parameters", f"write {one.name}()")
            self._check_leaf(one)
            found[one.name] = self._function(one)
        return found

    def _check_leaf(self, one: tree.Entry) -> None:
        """The name is the last level of topics."""
        if one.name.startswith("_"):
            hint = f"write {one.name.lstrip('_') or 'a word'}"
            self._scope.wrong(one.place, f"{one.name} cannot be the last level of a topic: it begins with _", hint)

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

    def _events(self, names: Iterable[str], hosts: Mapping[str, Placement]) -> dict[str, EventType]:
        known = {*names, NODE, COORDINATOR}
        found = {}
        for one in self._entries("events"):
            if one.parameters is None:
                self._scope.wrong(one.place, f"{one.name} has no fields", f"write {one.name}()")
            if one.returns is not None:
                self._scope.wrong(
                    one.returns.place, f"{one.name} is an event: it returns nothing", "leave the type out"
                )
            self._check_leaf(one)
            found[one.name] = self._event(one, known, hosts)
        return found

    def _event(self, one: tree.Entry, known: set[str], hosts: Mapping[str, Placement]) -> EventType:
        scope = self._scope
        notes = scope.notes(one.annotations, Mark.EVENT)
        sources = notes.words("source")
        if not sources and not scope.short_form and not self._is_shared_event(one.name):
            hint = "say who tells it: @source(node), @source(coordinator), or functions or workloads of this platform"
            scope.wrong(one.place, f"{one.name} has no source", hint)
        for source in dict.fromkeys(sources):
            if sources.count(source) > 1:
                scope.wrong(notes.by_name["source"].place, f"{source} is a source twice", "leave one out")
            if source not in known and not scope.damage.has(source) and not scope.damage.has("import"):
                hint = nearest(source, known) or f"there are {shortened_list(sorted(known))}"
                scope.wrong(notes.by_name["source"].place, f"there is no {source} that could tell {one.name}", hint)
        placement = _placement_of(sources, hosts)
        if notes.has("personal") and placement is Placement.CLOUD:
            text = f"{one.name} is @personal, so it must not leave the node, and the coordinator alone tells it"
            scope.wrong(one.place, text, "leave @personal out, or let a node tell it")
        qos = notes.argument("qos")
        return EventType(
            one.name,
            scope.fields(one.parameters or (), Mark.PARAMETER),
            sources,
            placement,
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
        type_ = scope.bare(scope.type(one.type))
        scope.check_body(one)
        if one.name.startswith("_"):
            hint = f"write {one.name.lstrip('_') or 'a word'}"
            scope.wrong(one.place, "names that begin with _ are the contract's own", hint)
        if one.default is not None:
            scope.wrong(one.place, f"{one.name} has a default", "a collection begins empty; leave it out")
        if not isinstance(type_, MapOf):
            scope.wrong(one.type.place, f"{one.name} is no map", "write Map[Key, Value]")
            return None
        owner = Owner(notes.text("owner") or Owner.NODE)
        if notes.has("personal") and owner is not Owner.NODE:
            text = f"{one.name} is @personal, so it must not leave the node, and is not owned by the node alone"
            scope.wrong(one.place, text, "write @owner(node)")
        rule = Rule(notes.text("merge") or Rule.LAST_WRITER)
        if notes.has("merge"):
            self._check_merge(notes.by_name["merge"].place, owner, rule, type_.value)
        return CollectionType(
            one.name,
            type_.key,
            type_.value,
            owner,
            rule,
            notes.has("personal"),
            one.doc,
            scope.module,
            one.place,
        )

    def _check_merge(self, place: tree.Place, owner: Owner, rule: Rule, value: Type) -> None:
        scope = self._scope
        if owner is Owner.COORDINATOR:  # of nodes there are many
            scope.wrong(place, "@merge says nothing: the coordinator alone writes it", "leave it out")
            return
        bare = scope.bare(value)
        bare = scope.bare(bare.inner) if isinstance(bare, Nullable) else bare
        kind = bare.kind if isinstance(bare, Scalar) else None
        if rule is Rule.MAX and kind not in (Kind.INTEGER, Kind.FLOAT, Kind.DURATION, Kind.TIMESTAMP, Kind.JSON):
            scope.wrong(place, "@merge(max) needs numbers", "take another rule")
        if rule is Rule.UNION and not isinstance(bare, ListOf) and kind is not Kind.JSON:
            scope.wrong(place, "@merge(union) needs lists", "take another rule")

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


def _placement_of(sources: Sequence[str], hosts: Mapping[str, Placement]) -> Placement:
    """Where an event is said: by the coordinator alone, by nodes alone, or by either."""
    clouds = {name for name in sources if name == COORDINATOR or hosts.get(name) is Placement.CLOUD}
    if any(hosts.get(name) is Placement.ANY for name in sources):
        return Placement.ANY
    if clouds and len(clouds) == len(sources):
        return Placement.CLOUD
    return Placement.ANY if clouds else Placement.EDGE


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
