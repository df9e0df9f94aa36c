"""What every AsyncAPI document of ours has in it, whatever the platform: words, servers, security, bindings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from schemas.messages import Command
from schemas.topics import NODE_PATTERN, RULES, Kind

Json = dict[str, Any]

JSON_TYPE = "application/json"
MSGPACK_TYPE = "application/msgpack"
EVENT_TYPE = "application/cloudevents+json"
BINARY_TYPE = "application/octet-stream"
BINDING = "0.2.0"  # the version of the MQTT bindings
RETAINED = "Retained: a subscriber gets the last one at once."


@dataclass(frozen=True, slots=True)
class Telling:
    """A kind of message that is the same on every platform. `type` names its record among the contract's."""

    kind: Kind
    summary: str
    type: str
    content_type: str
    tag: str


TELLINGS = (
    Telling(Kind.STATUS, "Presence of a node, and its will", "Status", JSON_TYPE, "fleet"),
    Telling(Kind.BIRTH, "What a node is", "Birth", JSON_TYPE, "fleet"),
    Telling(Kind.HEARTBEAT, "Load and health, about every 15 s", "Heartbeat", MSGPACK_TYPE, "fleet"),
    Telling(Kind.SYNC, "Samples and state in batches", "SyncBatch", MSGPACK_TYPE, "data"),
    Telling(Kind.ACK, "What the coordinator has stored of a node's rows", "Ack", MSGPACK_TYPE, "data"),
    Telling(Kind.DESIRED, "How a node should be", "Desired", JSON_TYPE, "settings"),
    Telling(Kind.REPORTED, "How a node is", "Reported", JSON_TYPE, "settings"),
    Telling(Kind.BLOB_UP, "Pieces of a file on their way to the coordinator", "", BINARY_TYPE, "files"),
    Telling(Kind.BLOB_DOWN, "The coordinator's answers to them", "", BINARY_TYPE, "files"),
)
MORE: Mapping[Kind, str] = {
    Kind.SYNC: "Where it pays, the payload is one zstd frame that holds the message.",
    Kind.DESIRED: "To change it, call `setDesired` of the coordinator.",
    Kind.BLOB_UP: "Two bytes with the length of the head, the head as a msgpack map, the bytes of the piece.",
    Kind.BLOB_DOWN: "Two bytes with the length of the head, the head as a msgpack map.",
}

TAGS = {
    "commands": {"name": "commands", "description": "Functions that can be called."},
    "events": {"name": "events", "description": "Facts and alerts, as CloudEvents."},
    "fleet": {"name": "fleet", "description": "Who is there and how it fares."},
    "data": {"name": "data", "description": "Samples and state, and their acknowledgement."},
    "settings": {"name": "settings", "description": "Desired and reported documents."},
    "files": {"name": "files", "description": "Files in pieces, named by their SHA-256."},
}

SECURITY = {
    "userPassword": {"type": "userPassword", "description": "User name and password of the MQTT connection."},
    "X509": {"type": "X509", "description": "A client certificate; for a node its common name is the node's."},
}

CORRELATION = {
    "description": "Correlation data, the same in the command and in its result; or `_id` in the payload.",
    "location": "$message.header#/correlationData",
}

NODE_PARAMETER = {
    "description": f"The node's name: {NODE_PATTERN}",
    "examples": ["gw-1"],
}
FILE_PARAMETER = {"description": "The SHA-256 of the file, in lower-case hexadecimal digits."}


def servers(host: str) -> Json:
    """The broker, in the clear and over TLS."""

    def one(port: int, protocol: str, security: str, what: str) -> Json:
        return {
            "host": f"{host}:{port}",
            "protocol": protocol,
            "protocolVersion": "5",
            "description": f"The MQTT broker, {what}. A client of MQTT 3.1.1 can read everything, too.",
            "security": [{"$ref": f"#/components/securitySchemes/{security}"}],
            "bindings": {"mqtt": {"cleanSession": True, "sessionExpiryInterval": 0, "bindingVersion": BINDING}},
        }

    return {
        "tls": one(8883, "mqtts", "X509", "over TLS"),
        "plain": one(1883, "mqtt", "userPassword", "for machines and networks of one's own"),
    }


def operation_bindings(kind: Kind, *, qos: int | None = None, expiry_s: float | None = None) -> Json:
    """How messages of a kind travel. `qos` where an event says its own."""
    rule = RULES[kind]
    mqtt: Json = {"qos": rule.qos if qos is None else qos, "retain": rule.retain, "bindingVersion": BINDING}
    if expiry_s is not None:
        mqtt["messageExpiryInterval"] = max(1, round(expiry_s))
    return {"mqtt": mqtt}


def message_bindings(content_type: str) -> Json:
    is_text = content_type in (JSON_TYPE, EVENT_TYPE)
    return {
        "mqtt": {
            "payloadFormatIndicator": 1 if is_text else 0,
            "contentType": content_type,
            "bindingVersion": BINDING,
        }
    }


# Beside the arguments of a command: our own fields, by what `Command` has.
_MEANINGS = {
    "id": ({"type": "string", "maxLength": 128}, "The id of the call: repeated, it runs once."),
    "expires_s": ({"type": "number", "minimum": 0}, "Seconds from its arrival after which it is not begun any more."),
    "deadline_s": ({"type": "number", "minimum": 0}, "Seconds from its arrival after which it is ended."),
}
OURS = {
    f"_{one.name}": {**_MEANINGS[one.name][0], "description": _MEANINGS[one.name][1]}
    for one in fields(Command)
    if one.name in _MEANINGS
}

COMMAND_HEADERS = {
    "type": "object",
    "description": "Properties of MQTT 5. None has to be there.",
    "properties": {
        "responseTopic": {
            "type": "string",
            "description": "Where the result goes as well. It has to lie beneath the responder's own `result/`.",
        },
        "correlationData": {"type": "string", "description": "The id of the call: repeated, it runs once."},
    },
}
RESULT_HEADERS = {
    "type": "object",
    "properties": {"correlationData": {"type": "string", "description": "That of the command."}},
}


def plain_refs(schema: Json) -> Json:
    """The schema for readers that overlook what stands beside a `$ref`, as AsyncAPI's do."""
    found: Json = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: plain_refs(one) for name, one in value.items()}
        elif key in ("anyOf", "allOf"):
            found[key] = [plain_refs(one) for one in value]
        elif key in ("items", "additionalProperties", "propertyNames") and isinstance(value, dict):
            found[key] = plain_refs(value)
        else:
            found[key] = value
    if "$ref" not in found or len(found) == 1:
        return found
    reference = {"$ref": found.pop("$ref")}
    return {"allOf": [reference], **found}
