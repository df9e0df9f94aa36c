"""Examples in an AsyncAPI document: commands as typed and in full, results, events as they are encoded."""

import json

from schemas.codec import encode_event
from schemas.errors import LocalWireError
from schemas.identity import Identity, Lane
from schemas.language.asyncapi_parts import Json
from schemas.language.contract import TIME_UTC_MS
from schemas.language.examples import NoExampleError, example, example_of
from schemas.language.schema import EventType, FunctionType, Placement, Schema
from schemas.messages import Event, Severity
from schemas.topics import FLEET, ROOT

NODE = "gw-1"
STREAM = "0f1e2d3c4b5a6978"


def command_examples(schema: Schema, one: FunctionType) -> list[Json]:
    try:
        whole = example_of(schema, one.parameters, spoken=True)
        brief = example_of(schema, one.parameters, spoken=True, brief=True)
    except NoExampleError:
        return []
    found = [{"name": "typed", "summary": "As a person types it.", "payload": brief}]
    whole |= {"_id": "call-1", "_expires_s": 30}
    headers = {"responseTopic": f"{ROOT}/{NODE}/result/{one.name}/client-1", "correlationData": "call-1"}
    return [*found, {"name": "full", "summary": "Everything said.", "headers": headers, "payload": whole}]


def result_examples(schema: Schema, one: FunctionType) -> list[Json]:
    answer = {"function": one.name, "id": "call-1", "node": NODE, "time_utc_ms": TIME_UTC_MS, "v": 1}
    error = {"code": "bad_arguments", "message": "what was wrong, and with which field", "field": ""}
    refused = {**answer, "state": "rejected", "result": None, "error": error}
    found = [{"name": "rejected", "summary": "It was not run.", "payload": refused}]
    try:
        value = None if one.returns is None else example(schema, one.returns)
    except NoExampleError:
        return found
    done = {**answer, "state": "succeeded", "result": value, "error": None}
    return [{"name": "succeeded", "summary": "It has run.", "payload": done}, *found]


def event_examples(schema: Schema, one: EventType) -> list[Json]:
    try:
        data = example_of(schema, one.fields)
    except NoExampleError:
        return []
    who = FLEET if one.placement is Placement.CLOUD else NODE
    event = Event(Identity(who, STREAM, Lane.EVENT.value, 41), one.name, who, TIME_UTC_MS, data, 3)
    try:
        return [_shown(event)]
    except LocalWireError:
        return []  # more than a message may have


def alert_examples() -> list[Json]:
    data = {"alert_id": "cam1-somebody-1", "rule": "somebody", "state": "raised", "camera_id": "cam1"}
    who = Identity(NODE, STREAM, Lane.ALERT.value, 7)
    return [_shown(Event(who, "AlertRaised", "cam1", TIME_UTC_MS, data, 3, Severity.WARNING))]


def _shown(event: Event) -> Json:
    return {"name": event.type, "payload": json.loads(encode_event(event))}
