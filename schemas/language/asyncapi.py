"""A platform as an AsyncAPI 3.0 document: the real topics, seen by an integrator's client.

The client sends commands and receives everything else. A function that a node or the coordinator may host has a
channel for each. The contract's own types are those whose names begin with `wire.`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from schemas.language import asyncapi_parts as parts
from schemas.language.asyncapi_examples import alert_examples, command_examples, event_examples, result_examples
from schemas.language.asyncapi_parts import EVENT_TYPE, JSON_TYPE, Json
from schemas.language.contract import EXAMPLES, contract
from schemas.language.describe import span, spoken_types
from schemas.language.json_schema import definitions, fields_schema, json_schema
from schemas.language.schema import CollectionType, EventType, FunctionType, Placement, Schema, references
from schemas.messages import Severity
from schemas.shape import fields_of
from schemas.topics import COORDINATOR, FLEET, ROOT, RULES, Kind, TopicSpace

REF = "#/components/schemas/"
WIRE = "wire."


def asyncapi(
    schemas: Sequence[Schema], *, node: str | None = None, root: str = ROOT, host: str = "localhost"
) -> Json:
    """The document of these platforms together; the first one names it.

    `node` is the one node that it is about; without it topics have a parameter. `host` is the broker's.
    """
    made = _Document(node, TopicSpace(root))
    for schema in schemas:
        made.add_platform(schema)
    made.add_tellings(schemas)
    made.add_alerts()
    return made.document(schemas[0], host)


class _Document:
    """What has been gathered so far."""

    def __init__(self, node: str | None, space: TopicSpace) -> None:
        self._node = node or "{node}"
        self._space = space
        self._channels: Json = {}
        self._operations: Json = {}
        self._messages: Json = {}
        self._schemas: Json = {}
        known = contract()
        found = definitions(known, known.types, ref_prefix=REF + WIRE)
        self._schemas |= {f"{WIRE}{name}": parts.plain_refs(one) for name, one in found.items()}

    def document(self, first: Schema, host: str) -> Json:
        name = first.platform or first.name
        return {
            "asyncapi": "3.0.0",
            "id": f"urn:edgewright:{first.name}",
            "info": {
                "title": first.title or name,
                "version": first.version or "0",
                "description": first.doc or f"What {name} says and takes over MQTT.",
                "tags": [_ref("tags", name) for name in parts.TAGS],
            },
            "defaultContentType": JSON_TYPE,
            "servers": parts.servers(host),
            "channels": self._channels,
            "operations": self._operations,
            "components": {
                "schemas": self._schemas,
                "messages": self._messages,
                "securitySchemes": parts.SECURITY,
                "correlationIds": {"call": parts.CORRELATION},
                "tags": parts.TAGS,
            },
        }

    # ---- pieces ---------------------------------------------------------------------------------

    def _channel(self, key: str, address: str | None, messages: Iterable[str], what: str, parameters: Json) -> None:
        here = {"node": parts.NODE_PARAMETER} if address is not None and "{node}" in address else {}
        self._channels[key] = {
            "address": address,
            "messages": {name: _ref("messages", name) for name in messages},
            "description": what,
        }
        if here or parameters:
            self._channels[key]["parameters"] = here | parameters

    def _address(self, kind: Kind, who: str, leaf: str = "") -> str:
        return self._space.filter(kind, who).removesuffix("+") + leaf

    def _receive(self, key: str, message: str, summary: str, tag: str, bindings: Json) -> None:
        self._operations[f"receive.{key}"] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": [{"$ref": f"#/channels/{key}/messages/{message}"}],
            "summary": summary,
            "tags": [_ref("tags", tag)],
            "bindings": bindings,
        }

    def _message(self, key: str, title: str, payload: Json, content_type: str, tag: str, **more: Any) -> None:
        """`more` are further fields of the message; those without a value are left out."""
        said = {name: value for name, value in more.items() if value}
        self._messages[key] = {
            "name": key,
            "title": title,
            "contentType": content_type,
            "payload": parts.plain_refs(payload),
            "tags": [_ref("tags", tag)],
            "bindings": parts.message_bindings(content_type),
            **said,
        }

    def _types(self, schema: Schema) -> str:
        """Puts the types that the platform uses among the components; what references to them begin with.

        Where another platform has another type of the same name, all of this one's bear its name before theirs.
        """
        names = sorted({name for type_ in spoken_types(schema) for name in references(type_)})
        found = self._definitions(schema, names, "")
        if any(self._schemas.get(name, one) != one for name, one in found.items()):
            found = self._definitions(schema, names, f"{schema.name}.")
            self._schemas |= found
            return f"{REF}{schema.name}."
        self._schemas |= found
        return REF

    def _definitions(self, schema: Schema, names: Sequence[str], prefix: str) -> Json:
        found = definitions(schema, names, ref_prefix=REF + prefix)
        return {f"{prefix}{name}": parts.plain_refs(one) for name, one in found.items()}

    # ---- a platform -----------------------------------------------------------------------------

    def add_platform(self, schema: Schema) -> None:
        """Its functions, events and state, but those that stay at the node, and what another one has said already."""
        prefix = self._types(schema)
        for function in schema.functions.values():
            if f"command.{function.name}" not in self._messages:
                self._add_function(schema, function, prefix)
        for event in schema.events.values():
            if f"event.{event.name}" not in self._messages and not event.personal:
                self._add_event(schema, event, prefix)
        for one in _told_state(schema):
            self._schemas[f"state.{schema.name}.{one.name}"] = {
                "title": f"{schema.name}.{one.name}",
                "description": f"{one.doc or 'State'} (ask with `edgectl state get {schema.name}.{one.name}.<key>`)",
                "type": "object",
                "additionalProperties": parts.plain_refs(json_schema(schema, one.value, ref_prefix=prefix)),
                "x-owner": one.owner.value,
                "x-merge": one.rule.value,
            }

    def _add_function(self, schema: Schema, one: FunctionType, prefix: str) -> None:
        self._add_messages_of(schema, one, prefix)
        command, result = f"command.{one.name}", f"result.{one.name}"
        reply = f"reply.{one.name}"
        self._channel(reply, None, [result], f"Where {one.name} answers if a command has a response topic.", {})
        for who in _hosts(one.placement, self._node, COORDINATOR):
            name = one.name if who == self._node else f"{COORDINATOR}.{one.name}"
            host = "a node" if who == self._node else "the coordinator"
            self._channel(f"cmd.{name}", self._address(Kind.CMD, who, one.name), [command], f"Calls {host}.", {})
            answers = self._address(Kind.RESULT, who, one.name)
            self._channel(f"result.{name}", answers, [result], f"What {host} answers, to everybody.", {})
            bindings = parts.operation_bindings(Kind.CMD, expiry_s=one.timeout_s)
            self._operations[f"call.{name}"] = {
                "action": "send",
                "channel": {"$ref": f"#/channels/cmd.{name}"},
                "messages": [{"$ref": f"#/channels/cmd.{name}/messages/{command}"}],
                "title": one.name,
                "summary": _first(one.doc) or f"Calls {one.name} of {host}",
                "description": _description(one),
                "tags": [_ref("tags", "commands")],
                "bindings": bindings,
                "reply": {
                    "address": {
                        "location": "$message.header#/responseTopic",
                        "description": f"Without it, and besides, the result goes to `{answers}`.",
                    },
                    "channel": {"$ref": f"#/channels/{reply}"},
                    "messages": [{"$ref": f"#/channels/{reply}/messages/{result}"}],
                },
            }
            bindings = parts.operation_bindings(Kind.RESULT)
            self._receive(f"result.{name}", result, f"Results of {one.name} of {host}", "commands", bindings)

    def _add_messages_of(self, schema: Schema, one: FunctionType, prefix: str) -> None:
        arguments = fields_schema(schema, one.parameters, ref_prefix=prefix)
        arguments["properties"] |= parts.OURS
        self._message(
            f"command.{one.name}", one.name, arguments, JSON_TYPE, "commands",
            summary=_first(one.doc),
            description="Arguments as one object, in JSON or msgpack. The result comes in the same encoding.",
            headers=parts.COMMAND_HEADERS,
            correlationId=_ref("correlationIds", "call"),
            examples=command_examples(schema, one),
        )  # fmt: skip
        result: Json = {"type": "null"}
        if one.returns is not None:
            result = {"anyOf": [json_schema(schema, one.returns, ref_prefix=prefix), result]}
        result["description"] = "What the function returned; null unless `state` is succeeded."
        payload = {
            "allOf": [{"$ref": f"{REF}{WIRE}Result"}],
            "type": "object",
            "properties": {"function": {"const": one.name}, "result": result},
        }
        self._message(
            f"result.{one.name}", f"Result of {one.name}", payload, JSON_TYPE, "commands",
            headers=parts.RESULT_HEADERS,
            correlationId=_ref("correlationIds", "call"),
            examples=result_examples(schema, one),
        )  # fmt: skip

    def _add_event(self, schema: Schema, one: EventType, prefix: str) -> None:
        data = fields_schema(schema, one.fields, ref_prefix=prefix)
        payload = {
            "allOf": [{"$ref": f"{REF}{WIRE}CloudEvent"}],
            "type": "object",
            "properties": {"type": {"const": one.name}, "data": data},
        }
        message = f"event.{one.name}"
        summary = _first(one.doc) or one.name
        self._message(
            message, one.name, payload, EVENT_TYPE, "events",
            summary=summary,
            description=_paragraphs(one.doc, _told(one), f"Deprecated: {one.deprecated}" if one.deprecated else ""),
            examples=event_examples(schema, one),
        )  # fmt: skip
        for who in _hosts(one.placement, self._node, FLEET):
            key = f"event.{one.name}" if who == self._node else f"{FLEET}.event.{one.name}"
            self._channel(key, self._address(Kind.EVENT, who, one.name), [message], summary, {})
            self._receive(key, message, summary, "events", parts.operation_bindings(Kind.EVENT, qos=one.qos))

    # ---- what every platform has ----------------------------------------------------------------

    def add_alerts(self) -> None:
        payload = {
            "allOf": [{"$ref": f"{REF}{WIRE}CloudEvent"}],
            "type": "object",
            "properties": {"data": {"$ref": f"{REF}{WIRE}Alert"}},
        }
        summary = "A step in the life of an alert: raised once, updated now and then, cleared once"
        self._message("alert", "Alert", payload, EVENT_TYPE, "events", summary=summary, examples=alert_examples())
        severities = {"severity": {"description": "How urgent it is.", "enum": [one.value for one in Severity]}}
        self._channel("alert", self._address(Kind.ALERT, self._node, "{severity}"), ["alert"], summary, severities)
        self._receive("alert", "alert", summary, "events", parts.operation_bindings(Kind.ALERT))

    def add_tellings(self, schemas: Sequence[Schema]) -> None:
        """Presence, heartbeats, batches, documents and files; `schemas` say which state there is."""
        shown = {type(one).__name__: fields_of(one) for one in EXAMPLES}
        state = dict.fromkeys(f"{schema.name}.{one.name}" for schema in schemas for one in _told_state(schema))
        for one in parts.TELLINGS:
            key = one.kind.value.replace("/", ".")
            payload = {"$ref": f"{REF}{WIRE}{one.type}"} if one.type else {"type": "string", "format": "binary"}
            kept = parts.RETAINED if RULES[one.kind].retain else ""
            listed = f"Collections of the state: {', '.join(state)}." if one.kind is Kind.SYNC and state else ""
            examples = [{"name": key, "payload": shown[one.type]}] if one.type in shown else []
            self._message(key, one.summary, payload, one.content_type, one.tag, examples=examples)
            about = _paragraphs(one.summary + ".", parts.MORE.get(one.kind, ""), listed, kept)
            leaf, parameters = ("{file}", {"file": parts.FILE_PARAMETER}) if RULES[one.kind].leaf else ("", {})
            self._channel(key, self._address(one.kind, self._node, leaf), [key], about, parameters)
            self._receive(key, key, one.summary, one.tag, parts.operation_bindings(one.kind))
        summary = "Presence of the coordinator, and its will"
        key = f"{COORDINATOR}.status"
        self._channel(key, self._address(Kind.STATUS, COORDINATOR), ["status"], f"{summary}.", {})
        self._receive(key, "status", summary, "fleet", parts.operation_bindings(Kind.STATUS))


def _hosts(placement: Placement, node: str, other: str) -> tuple[str, ...]:
    return {Placement.EDGE: (node,), Placement.CLOUD: (other,), Placement.ANY: (node, other)}[placement]


def _description(one: FunctionType) -> str:
    longest = f"Runs {span(one.timeout_s)} at most."
    many = f"At most {one.parallel} at a time." if one.parallel else ""
    personal = "Its result is personal and does not leave the node." if one.personal else ""
    gone = f"Deprecated: {one.deprecated}" if one.deprecated else ""
    return _paragraphs(one.doc, " ".join(part for part in (longest, many) if part), personal, gone)


def _told_state(schema: Schema) -> list[CollectionType]:
    return [one for one in schema.state.values() if not one.personal]


def _told(one: EventType) -> str:
    return f"Told by {', '.join(one.sources)}." if one.sources else ""


def _first(doc: str) -> str:
    return doc.strip().split("\n")[0]


def _paragraphs(*parts_: str) -> str:
    return "\n\n".join(part for part in parts_ if part)


def _ref(section: str, name: str) -> Json:
    return {"$ref": f"#/components/{section}/{name}"}
