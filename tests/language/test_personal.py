"""What must not leave a node is left out wherever it stands, and what is left is valid outside."""

from typing import Any

import pytest

from schemas.language.load import load_text
from schemas.language.personal import event_without_personal, is_personal, outside, value_without_personal
from schemas.language.schema import Ref

SCHEMA = load_text("""
record Face @personal { x: Integer }
type Plate = String @personal
type Same = Face?
record Visit {
  at: Timestamp
  who: String @personal
  face: Face
  faces: Face[]
  by_plate: Map[Plate, Integer]
  next: Visit?
  others: Visit[] = []
}
edge_computing Shop {
  platform_name: "Shop"
  events: [
    Seen(visit: Visit, name: String @personal, n: Integer) @source(node),
    Secret(n: Integer) @source(node) @personal
  ]
}
""").schema
VISIT: dict[str, Any] = {
    "at": 1, "who": "Ann", "face": {"x": 1}, "faces": [{"x": 1}], "by_plate": {"M-A 1": 1}, "more": 5,
    "next": {"at": 2, "who": "Bob", "face": {"x": 2}, "faces": [], "by_plate": {}, "next": None},
    "others": [{"at": 3, "who": "Cy", "face": {"x": 3}, "faces": [], "by_plate": {}}],
}  # fmt: skip
LEFT = {
    "at": 1, "faces": [], "by_plate": {}, "more": 5,
    "next": {"at": 2, "faces": [], "by_plate": {}, "next": None},
    "others": [{"at": 3, "faces": [], "by_plate": {}}],
}  # fmt: skip


def test_personal_fields_are_left_out_at_every_depth_and_others_stay() -> None:
    left = event_without_personal(SCHEMA, SCHEMA.events["Seen"], {"visit": VISIT, "name": "Ann", "n": 1, "extra": 2})
    assert left == {"visit": LEFT, "n": 1, "extra": 2}


def test_of_a_personal_event_nothing_leaves() -> None:
    assert event_without_personal(SCHEMA, SCHEMA.events["Secret"], {"n": 1}) is None


@pytest.mark.parametrize(("name", "personal"), [("Face", True), ("Plate", True), ("Same", True), ("Visit", False)])
def test_a_type_is_personal_through_other_names_for_it(name: str, personal: bool) -> None:
    assert is_personal(SCHEMA, Ref(name)) is personal
    assert (value_without_personal(SCHEMA, Ref(name), VISIT) is None) is personal


def test_outside_what_was_left_out_is_not_missing() -> None:
    seen = outside(SCHEMA).events["Seen"]
    assert [one.name for one in seen.fields if one.required] == ["visit", "n"]
    visit = outside(SCHEMA).types["Visit"]
    assert [one.name for one in visit.fields if one.required] == ["at", "faces", "by_plate"]  # type: ignore[union-attr]
