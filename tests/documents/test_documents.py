"""Desired and reported documents: bytes, hash, limits, refusals; and the table of fields."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.ctl.arguments import UsageError, field_values
from schemas.documents import (
    Conflict,
    Desired,
    Reported,
    Write,
    Written,
    canonical,
    content_hash,
    decode_desired,
    decode_reported,
    encode,
    sealed,
)
from schemas.errors import LocalWireError, RemoteWireError
from schemas.fields import FIELDS, Owner, Rule, find_field, mistake, mistakes, rule_of
from schemas.hlc import Stamp
from schemas.resolve import Known, resolve

STAMP = "1795521600123.0.coordinator"
DESIRED = Desired(1, 3, {"heartbeat_s": 5.5, "log.level": "DEBUG"}, {"log.level": Written(STAMP)})


def raw(**changes: Any) -> bytes:
    """The bytes of DESIRED with some fields changed, and the hash that fits them."""
    fields = json.loads(encode(DESIRED)) | changes
    return canonical({**fields, "hash": content_hash(fields)}).encode()


def test_a_document_survives_the_wire() -> None:
    assert decode_desired(encode(DESIRED)) == sealed(DESIRED)
    conflict = Conflict("log.level", Rule.CLOUD_WINS, "DEBUG", STAMP, "INFO", "5.0.gw-1", "DEBUG", "coordinator")
    reported = Reported(
        3, 2, 1, 3, "00ff", {"log.level": "DEBUG"}, {"log.level": "INFO"}, {"log.level": Written("5.0.gw-1", STAMP)},
        {"sync": "not here"}, [conflict], 61_000,
    )  # fmt: skip
    assert decode_reported(encode(reported)) == sealed(reported)
    write = decode_reported(encode(reported)).writes()["log.level"]
    assert (write.value, write.at, write.over) == ("INFO", Stamp(5, 0, "gw-1"), Stamp.parse(STAMP))
    assert write.written == Written("5.0.gw-1", STAMP)


def test_the_hash_depends_on_the_content_alone() -> None:
    turned = Desired(1, 3, dict(reversed(DESIRED.fields.items())), DESIRED.stamps, "whatever")
    assert sealed(turned).hash == sealed(DESIRED).hash
    assert sealed(replace(DESIRED, revision=4)).hash != sealed(DESIRED).hash


def test_a_field_of_the_future_is_covered_by_the_hash_and_passed_over() -> None:
    assert decode_desired(raw(later={"a": 1})).fields == DESIRED.fields
    tampered = raw(later={"a": 1}).replace(b'"a":1', b'"a":2')
    with pytest.raises(RemoteWireError, match="its content has"):
        decode_desired(tampered)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "no JSON"),
        (b"[]", "no object"),
        (b"{}", "its hash is 'None'"),
        (encode(DESIRED).replace(b"5.5", b"6.5"), "its content has"),
        (encode(DESIRED)[:-9], "no JSON"),
        (raw(epoch=0), "count from 1"),
        (raw(revision=-1), "at least 0"),
        (raw(revision=True), "whole number"),
        (raw(fields=[]), "fields: "),
        (raw(stamps={"log.level": {"at": "yesterday"}}), "is no stamp"),
        (raw(stamps={"log.level": {"at": STAMP, "over": "x"}}), "is no stamp"),
        (raw(stamps={"log.level": {"at": STAMP}, "gone": {"at": STAMP}}), "not among the fields"),
        (raw(fields={"": 1}, stamps={}), "no name of a field"),
        (raw(fields={"x" * 201: 1}, stamps={}), "no name of a field"),
        (raw(fields={f"f{n}": 1 for n in range(1001)}, stamps={}), "at most 1000"),
        (b'{"epoch":1' + b" " * 262_144 + b"}", "at most 262144"),
    ],
)
def test_what_is_no_desired_document_is_refused(payload: bytes, said: str) -> None:
    with pytest.raises(RemoteWireError) as refused:
        decode_desired(payload)
    assert said in str(refused.value)


def test_a_field_that_its_writer_does_not_share_is_older_than_any_write() -> None:
    (write,) = decode_desired(raw(stamps={})).writes().values()
    assert write == Write("DEBUG", Stamp())
    assert write.written == Written("0.0.")
    local = {"log.level": Write("INFO", Stamp(1, 0, "gw-1"))}
    assert resolve(Known(decode_desired(raw(stamps={})), local)).conflicts[0].winner == "coordinator"  # by its rule


def test_a_report_with_numbers_near_their_end_is_refused() -> None:
    with pytest.raises(RemoteWireError, match="nobody ever gave"):
        decode_reported(encode(Reported(1, 1, 2**60, 1)))


def test_too_large_a_document_is_not_sent() -> None:
    with pytest.raises(LocalWireError, match="at most 262144"):
        encode(Desired(1, 1, {"sync": {"a": "x" * 300_000}}))


@pytest.mark.parametrize(
    ("path", "value", "writer", "said"),
    [
        ("log.level", "DEBUG", Owner.NODE, None),
        ("log.level", None, Owner.NODE, None),
        ("log.level", "LOUD", Owner.NODE, "must be one of DEBUG"),
        ("heartbeat_s", 5, Owner.COORDINATOR, None),
        ("heartbeat_s", 0.5, Owner.COORDINATOR, "a number from 1 to 3600"),
        ("heartbeat_s", True, Owner.COORDINATOR, "a number"),
        ("heartbeat_s", 5, Owner.NODE, "belongs to the coordinator"),
        ("pipelines.door.v2.enabled", False, Owner.NODE, None),
        ("pipelines.door.enabled", 1, Owner.NODE, "true or false"),
        ("pipelines.door.model", "m", Owner.NODE, "belongs to the coordinator"),
        ("pipelines.door.model", {"model": "finder@1.4.0", "digest": "ab" * 32}, Owner.COORDINATOR, None),
        ("pipelines.door.model", {"model": "finder", "digest": "ab" * 32}, Owner.COORDINATOR, "must be NAME@VERSION"),
        ("pipelines.door.model", {"model": "f@1.4", "digest": "ab" * 32}, Owner.COORDINATOR, "whole form, 1.4.0"),
        ("pipelines.door.model", "m", Owner.COORDINATOR, "NAME@VERSION"),
        ("models.finder.release", {"version": "1.4.0", "digest": "ab" * 32}, Owner.COORDINATOR, None),
        ("models.finder.release", {"version": "1.4.0", "digest": "AB"}, Owner.COORDINATOR, "64 hex digits"),
        ("models.finder.release", {"version": "newest", "digest": "ab" * 32}, Owner.COORDINATOR, "no version"),
        ("models.sources", ["http://10.0.0.1:8090", "https://models.example/edge"], Owner.COORDINATOR, None),
        ("models.sources", ["ftp://x"], Owner.COORDINATOR, "base URLs"),
        ("models.sources", ["http://a"] * 9, Owner.COORDINATOR, "at most 8"),
        ("pipelines..enabled", True, Owner.NODE, "there is no field"),
        ("pipelines.door.classes_ignored", ["a"] * 101, Owner.NODE, "at most 100 texts"),
        ("alerts.gate.muted_until_utc_ms", 1.5, Owner.NODE, "UTC milliseconds"),
        ("labels.line", "x" * 201, Owner.NODE, "at most 200 characters"),
        ("sync", [], Owner.COORDINATOR, "an object"),
        ("nothing", 1, Owner.COORDINATOR, "there are: heartbeat_s, sync"),
    ],
)
def test_who_may_write_what(path: str, value: Any, writer: Owner, said: str | None) -> None:
    found = mistake(path, value, writer)
    assert found is None if said is None else said in str(found)
    assert mistakes({path: value}, writer) == ([found] if found else [])


@pytest.mark.parametrize(
    ("typed_text", "value"),
    [
        ("labels.line=3", "3"),
        ("labels.line=", ""),
        ("labels.line=a=b", "a=b"),
        ("log.level=DEBUG", "DEBUG"),
        ('log.level="DEBUG"', "DEBUG"),
        ("pipelines.door.enabled=false", False),
        ("pipelines.door.enabled=no", "no"),
        ('pipelines.door.classes_ignored=["a"]', ["a"]),
        ("heartbeat_s=2.5", 2.5),
        ("warp=9", 9),
    ],
)
def test_what_a_person_types_becomes_what_the_field_wants(typed_text: str, value: Any) -> None:
    (found,) = field_values([typed_text]).values()
    assert found == value


@pytest.mark.parametrize("item", ["", "log.level", "=5"])
def test_what_is_no_assignment_is_refused(item: str) -> None:
    with pytest.raises(UsageError, match="not like field=value"):
        field_values([item])


def test_every_shared_field_has_a_rule_and_no_other_has() -> None:
    for field in FIELDS:
        path = field.path.replace("<name>", "a")
        assert (field.rule is not None) == (field.owner is Owner.SHARED)
        assert rule_of(path) is field.rule
        found = find_field(path)
        assert found is not None
        assert found[0] is field
    assert {field.rule for field in FIELDS} - {None} == set(Rule)


def test_the_page_for_users_has_the_table_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "desired-state.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (coordinator|node|both) \| (?:`(\w+)`)? ?\| ", page, re.M)
    owners = {Owner.COORDINATOR: "coordinator", Owner.NODE: "node", Owner.SHARED: "both"}
    assert rows == [(field.path, owners[field.owner], field.rule or "") for field in FIELDS]
