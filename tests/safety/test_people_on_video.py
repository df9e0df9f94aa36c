"""Rules about people on real clips: what happens is told, and what does not happen is not."""

from pathlib import Path

from agent.decide.facts import AlertFact, AlertState
from agent.decide.settings import AlertRuleSettings, DecideSettings, ZoneSettings
from platforms.assembly import assemble
from platforms.settings import PlatformsTable
from tests.assets import ASSETS, needs_assets
from tests.real_input import bundles
from tests.real_input.replay import replay

pytestmark = needs_assets

VTEST = ASSETS / "video" / "vtest_480x360.avi"
BICYCLE = ASSETS / "video" / "intel_person-bicycle-car-detection_from_gif.mp4"
PERSON = ("person",)


def raised(clip: Path, folder: Path, settings: DecideSettings, every: int) -> dict[str, list[AlertFact]]:
    kinds = assemble(PlatformsTable(enabled=("manufacturing",))).rule_kinds
    found: dict[str, list[AlertFact]] = {rule.name: [] for rule in settings.rules}
    for fact in replay(clip, bundles.coco_ssd(folder), settings, every=every, kinds=kinds).facts:
        if isinstance(fact, AlertFact) and fact.state is AlertState.RAISED:
            found[fact.rule].append(fact)
    return found


def test_people_who_walk_about_are_in_the_zone_and_neither_fallen_nor_alone(tmp_path: Path) -> None:
    """vtest: 5 to 9 people on a path at any time, all on their feet."""
    path = ZoneSettings("path", ((0.2, 0.3), (0.8, 0.3), (0.8, 1.0), (0.2, 1.0)))
    rules = (
        AlertRuleSettings("zone", classes=PERSON, zone="path", for_s=1.0),
        AlertRuleSettings("fallen", classes=PERSON, for_s=0.5, kind="manufacturing.fallen"),
        AlertRuleSettings("alone", classes=PERSON, for_s=5.0, kind="manufacturing.alone"),
    )
    found = raised(VTEST, tmp_path, DecideSettings(zones=(path,), rules=rules), every=3)
    assert len(found["zone"]) >= 1
    assert found["fallen"] == [] and found["alone"] == []


def test_a_person_near_a_vehicle_is_told_with_the_distance(tmp_path: Path) -> None:
    settings = {"others": ["car", "bicycle", "truck"], "distance_m": 3.0}
    rules = (
        AlertRuleSettings("near", classes=PERSON, for_s=0.2, kind="manufacturing.too_close", settings=settings),
        AlertRuleSettings(
            "touching",
            classes=PERSON,
            for_s=0.2,
            kind="manufacturing.too_close",
            settings={**settings, "distance_m": 0.001},
        ),
    )
    found = raised(BICYCLE, tmp_path, DecideSettings(rules=rules), every=2)
    assert found["near"]
    (first, *_) = found["near"]
    assert all(one["distance_m"] < 3.0 for one in first.data["objects"])  # type: ignore[union-attr,index,call-overload,operator]
    assert len(found["touching"]) <= len(found["near"])
