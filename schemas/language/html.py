"""A platform as one HTML page for people: what can be called, what is said, what is kept, and lines to copy.

The page is one file that loads nothing. Whatever a schema says stays text.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from schemas.language.describe import allowed, bare_type, meaning, span, unit_of, used_types
from schemas.language.examples import NoExampleError, example, example_key, example_of
from schemas.language.html_parts import article, line, page, paragraphs, table, tag, text
from schemas.language.schema import (
    AliasType,
    CollectionType,
    EnumType,
    EventType,
    Field,
    FunctionType,
    Kind,
    ListOf,
    MapOf,
    NamedType,
    Nullable,
    Placement,
    RecordType,
    Ref,
    Scalar,
    Schema,
    Type,
)
from schemas.topics import COORDINATOR, FLEET, ROOT, Topic, TopicSpace
from schemas.topics import Kind as TopicKind

NODE = "gw-1"  # in the lines to copy
STAYS = "<p>It stays at the node.</p>"
_PLACES = {
    Placement.EDGE: "node",
    Placement.CLOUD: "coordinator",
    Placement.ANY: "node or coordinator",
}
_FIELDS = ("Name", "Type", "Allowed", "Default", "Meaning")


def html_page(schema: Schema, *, root: str = ROOT) -> str:
    """The page of a platform: of what its own block declares, and of the types that this uses."""
    return _Page(schema, TopicSpace(root)).text()


class _Page:
    def __init__(self, schema: Schema, space: TopicSpace) -> None:
        self._schema = schema
        self._space = space
        self._types = used_types(schema)

    def text(self) -> str:
        schema = self._schema
        parts = {
            "Functions": [(f"function-{name}", name, self._function(one)) for name, one in schema.functions.items()],
            "Events": [(f"event-{name}", name, self._event(one)) for name, one in schema.events.items()],
            "State": [(f"state-{name}", name, self._collection(one)) for name, one in schema.state.items()],
            "Types": [(f"type-{name}", name, self._named(one)) for name, one in self._types.items()],
        }
        filled = {title: items for title, items in parts.items() if items}
        navigation = " ".join(f'<a href="#{title.lower()}">{title}</a>' for title in filled)
        index = "".join(
            f"<b>{title}</b>" + "".join(f'<a href="#{anchor}">{text(name)}</a>' for anchor, name, _ in items)
            for title, items in filled.items()
        )
        body = "".join(
            f'<section id="{title.lower()}"><h2>{title}</h2>\n{"".join(one for *_, one in items)}</section>'
            for title, items in filled.items()
        )
        return page(schema.title or schema.platform or schema.name, self._header(), navigation, index, body)

    def _header(self) -> str:
        schema = self._schema
        said = [schema.platform or schema.name, f"version {schema.version}" if schema.version else ""]
        said += [f"imports {', '.join(schema.imports)}" if schema.imports else ""]
        words = {"edge_node_types": schema.node_types, **schema.groups}
        listed = [
            f'<p><span class="soft">{text(name.replace("_", " ").capitalize())}</span> {text(", ".join(items))}</p>'
            for name, items in words.items()
            if items
        ]
        title = f"<h1>{text(schema.title or schema.platform or schema.name)}</h1>"
        about = f'<p class="soft">{text(" · ".join(part for part in said if part))}</p>'
        return title + about + paragraphs(schema.doc) + "".join(listed)

    # ---- types ----------------------------------------------------------------------------------

    def _type(self, type_: Type) -> str:
        """A type with links to what it names."""
        match type_:
            case Ref(name):
                return f'<a href="#type-{text(name)}">{text(name)}</a>'
            case ListOf(item):
                return f"{self._type(item)}[]"
            case MapOf(key, value):
                return f"Map[{self._type(key)}, {self._type(value)}]"
            case Nullable(inner):
                return f"{self._type(inner)}?"
            case Scalar(kind):
                means = meaning(self._schema, type_)
                return f'<span title="{text(means)}">{text(kind.value)}</span>' if means else text(kind.value)

    def _fields(self, fields: Iterable[Field]) -> str:
        return table(_FIELDS, (self._field(one) for one in fields))

    def _field(self, one: Field) -> tuple[str, ...]:
        limits = allowed(self._schema, one.type, unit_of(self._schema, one))
        default = "" if one.required else f"<code>{text(self._default(one))}</code>"
        marks = [tag("personal", "warn")] if one.personal else []
        said = paragraphs(one.doc) + (paragraphs(f"Deprecated: {one.deprecated}") if one.deprecated else "")
        name = f"<code>{text(one.name)}</code>"
        return name, f"<code>{self._type(one.type)}</code>", text(limits), default, said + "".join(marks)

    def _default(self, one: Field) -> str:
        bare = bare_type(self._schema, one.type)
        is_time = isinstance(bare, Scalar) and bare.kind is Kind.DURATION and one.default is not None
        return span(one.default) if is_time else _compact(one.default)

    def _named(self, one: NamedType) -> str:
        tags: list[str] = []
        match one:
            case RecordType(fields=fields):
                body = self._fields(fields) or '<p class="soft">It has no fields.</p>'
                tags += [tag("personal", "warn")] if one.personal else []
            case EnumType(choices=choices):
                rows = ((f"<code>{text(each.wire)}</code>", paragraphs(each.doc)) for each in choices)
                body = table(("Value", "Meaning"), rows)
            case AliasType(type=inner):
                limits = allowed(self._schema, inner, one.unit)
                body = f'<p><code>{self._type(inner)}</code> <span class="soft">{text(limits)}</span></p>'
                tags += [tag("personal", "warn")] if one.personal else []
            case _:
                body = '<p class="soft">Not defined by this schema: any value will do.</p>'
        origin = [tag(f"from {one.module}")] if one.module and one.module != self._schema.name else []
        return article(f"type-{one.name}", one.name, [*tags, *origin], paragraphs(one.doc) + body)

    # ---- functions ------------------------------------------------------------------------------

    def _function(self, one: FunctionType) -> str:
        tags = [tag(_PLACES[one.placement], one.placement.value)]
        tags += [tag("personal", "warn")] if one.personal else []
        tags += [tag("deprecated", "warn")] if one.deprecated else []
        returns = "nothing" if one.returns is None else f"<code>{self._type(one.returns)}</code>"
        runs = f"runs {span(one.timeout_s)} at most" + (f", {one.parallel} at a time" if one.parallel else "")
        body = paragraphs(one.doc) + (paragraphs(f"Deprecated: {one.deprecated}") if one.deprecated else "")
        body += self._fields(one.parameters)
        body += f'<p>Returns {returns} <span class="soft">· {text(runs)}</span></p>'
        host = COORDINATOR if one.placement is Placement.CLOUD else NODE
        topic = self._space.text(Topic(TopicKind.CMD, host, one.name))
        arguments = self._example(lambda: example_of(self._schema, one.parameters, spoken=True, brief=True))
        if arguments is not None:
            body += line(f"mosquitto_pub -V 5 -q 1 -t {topic} -m {shlex.quote(_compact(arguments))}")
            body += line(" ".join(["edgectl call", host, one.name, *_as_typed(arguments)]))
        if one.returns is not None:
            body += self._shown("Example of a result", lambda: example(self._schema, one.returns or Ref("")))
        return article(f"function-{one.name}", one.name, tags, body)

    def _example(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except NoExampleError:
            return None

    def _shown(self, title: str, make: Callable[[], Any]) -> str:
        value = self._example(make)
        if value is None:
            return ""
        shown = json.dumps(value, indent=2, ensure_ascii=False)
        return f"<details><summary>{text(title)}</summary>{line(shown, long=True)}</details>"

    # ---- events and state -----------------------------------------------------------------------

    def _event(self, one: EventType) -> str:
        tags = [tag(_PLACES[one.placement], one.placement.value)]
        tags += [tag("personal", "warn")] if one.personal else []
        tags += [tag("deprecated", "warn")] if one.deprecated else []
        body = paragraphs(one.doc) + (paragraphs(f"Deprecated: {one.deprecated}") if one.deprecated else "")
        if one.personal:
            return article(f"event-{one.name}", one.name, tags, body + STAYS + self._fields(one.fields))
        hosts = {Placement.EDGE: ("+",), Placement.CLOUD: (FLEET,), Placement.ANY: ("+", FLEET)}[one.placement]
        topics = [self._space.filter(TopicKind.EVENT, who).removesuffix("+") + one.name for who in hosts]
        told = f"told by {', '.join(one.sources)} · " if one.sources else ""
        kept = f" · kept {span(one.keep_s)}" if one.keep_s else ""
        about = f"{told}QoS {one.qos}{kept}"
        listed = ", ".join(f"<code>{text(topic.replace('+', '<node>'))}</code>" for topic in topics)
        body += f'<p>{listed} <span class="soft">· {text(about)}</span></p>'
        body += self._fields(one.fields) or '<p class="soft">It has no fields.</p>'
        body += line(" ".join(["mosquitto_sub -V 5 -v", *(f"-t {shlex.quote(topic)}" for topic in topics)]))
        body += self._shown("Example of its data", lambda: example_of(self._schema, one.fields))
        return article(f"event-{one.name}", one.name, tags, body)

    def _collection(self, one: CollectionType) -> str:
        path = f"{self._schema.name}.{one.name}"
        tags = [tag(f"written by {_OWNERS[one.owner.value]}")]
        tags += [tag("personal", "warn")] if one.personal else []
        body = paragraphs(one.doc)
        body += f"<p><code>{text(path)}.&lt;key&gt;</code> is a <code>{self._type(one.value)}</code>"
        body += f', the key a <code>{self._type(one.key)}</code> <span class="soft">· where several wrote: '
        body += f"{text(one.rule.value.replace('_', ' '))}</span></p>"
        key = None if one.personal else self._example(lambda: example_key(self._schema, one.key))
        if one.personal:
            body += STAYS
        if key is not None:
            body += line(f"edgectl state get {shlex.quote(f'{path}.{key}')}")
        body += self._shown("Example of a value", lambda: example(self._schema, one.value))
        return article(f"state-{one.name}", one.name, tags, body)


_OWNERS: Mapping[str, str] = {"node": "the node", "coordinator": "the coordinator", "shared": "both sides"}


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_typed(arguments: Mapping[str, Any]) -> list[str]:
    """As `edgectl call` takes them: values are JSON, or else text."""
    return [shlex.quote(f"{name}={_value(value)}") for name, value in arguments.items()]


def _value(value: Any) -> str:
    if not isinstance(value, str):
        return _compact(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return _compact(value)
