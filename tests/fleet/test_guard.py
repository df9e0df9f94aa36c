"""The mass-outage guard, by plain numbers for time."""

from coordinator.fleet.guard import FLEET, NO_SITE, Guard, GuardRules, Turn
from coordinator.fleet.settings import FleetTable

SIZES = {FLEET: 1000, "north": 20, "south": 980}


def lose(guard: Guard, count: int, site: str, now_ms: int = 0, *, first: int = 0) -> None:
    for number in range(first, first + count):
        guard.lost(f"{site}-{number}", site, now_ms)


def test_a_few_lost_nodes_are_lost_nodes() -> None:
    guard = Guard()
    lose(guard, 4, "north")
    assert guard.tick(SIZES, 1) == []
    assert guard.holds("north") is None


def test_a_large_part_of_a_site_freezes_the_site_alone() -> None:
    guard = Guard()
    lose(guard, 5, "north")
    (turn,) = guard.tick(SIZES, 1)
    assert turn == Turn("north", True, "5 of 20 nodes of north turned suspect within 60 s")
    assert guard.holds("north") is not None
    assert guard.holds("south") is None


def test_a_part_of_the_fleet_freezes_all_of_it() -> None:
    guard = Guard()
    lose(guard, 51, "south")
    assert [turn.scope for turn in guard.tick(SIZES, 1)] == [FLEET]
    assert guard.holds("north") is not None


def test_losses_far_apart_in_time_are_no_outage() -> None:
    guard = Guard()
    for number in range(19):
        guard.lost(f"n-{number}", "north", number * 61_000)
        assert guard.tick(SIZES, number * 61_000 + 1) == []


def test_a_small_site_is_not_frozen_by_its_share_alone() -> None:
    guard = Guard()
    lose(guard, 3, "hut")
    assert guard.tick({FLEET: 1000, "hut": 3}, 1) == []


def test_within_a_freeze_of_all_nobody_is_told_of_each_site_but_of_those_that_outlast_it() -> None:
    guard = Guard()
    lose(guard, 60, "south")
    lose(guard, 20, "north")
    first = guard.tick(SIZES, 1)
    assert [(turn.scope, turn.quiet) for turn in sorted(first, key=lambda turn: turn.scope)] == [
        (FLEET, False), ("north", True),
    ]  # fmt: skip
    for number in range(60):
        guard.back(f"south-{number}", 10)
    assert guard.tick(SIZES, 29_000) == []
    fleet, north = guard.tick(SIZES, 41_000)
    assert (fleet.scope, fleet.frozen, fleet.quiet) == (FLEET, False, False)
    assert north == Turn("north", True, "20 of 20 nodes of north turned suspect within 60 s")
    for number in range(20):
        guard.back(f"north-{number}", 50_000)
    assert [(turn.scope, turn.frozen, turn.quiet) for turn in guard.tick(SIZES, 50_001)] == [("north", False, False)]


def test_a_site_that_is_back_before_all_are_is_not_told_either() -> None:
    guard = Guard()
    lose(guard, 80, "south")
    lose(guard, 20, "north")
    guard.tick(SIZES, 1)
    for number in range(20):
        guard.back(f"north-{number}", 10)
    assert [(turn.scope, turn.quiet) for turn in guard.tick(SIZES, 40_000)] == [("north", True)]
    assert guard.holds("north") is not None, "everything is still frozen"


def test_a_site_that_was_told_of_before_is_told_of_to_its_end() -> None:
    guard = Guard()
    lose(guard, 20, "north")
    assert [(turn.scope, turn.quiet) for turn in guard.tick(SIZES, 1)] == [("north", False)]
    lose(guard, 80, "south", 1000)
    assert [(turn.scope, turn.quiet) for turn in guard.tick(SIZES, 1001)] == [(FLEET, False)]
    for number in range(20):
        guard.back(f"north-{number}", 2000)
    assert [(turn.scope, turn.quiet) for turn in guard.tick(SIZES, 40_000)] == [("north", False)]


def test_nodes_without_a_site_share_one() -> None:
    guard = Guard()
    lose(guard, 5, "")
    guard.tick({FLEET: 1000, NO_SITE: 8}, 1)
    assert guard.holds("") is not None
    assert guard.holds("north") is None


def test_it_ends_when_they_are_back_and_it_is_calm() -> None:
    guard = Guard()
    lose(guard, 10, "north")
    guard.tick(SIZES, 1)
    for number in range(8):
        guard.back(f"north-{number}", 10)
    assert guard.tick(SIZES, 29_000) == [], "calm takes 30 s"
    assert guard.tick(SIZES, 31_000) == [Turn("north", False, "18 of 20 nodes are there", 30_999)]
    assert guard.holds("north") is None


def test_it_does_not_end_while_they_come_back_one_after_the_other() -> None:
    guard = Guard()
    lose(guard, 10, "north")
    guard.tick(SIZES, 1)
    for number in range(9):
        guard.back(f"north-{number}", 60_000 + 5_000 * number)
        assert guard.tick(SIZES, 60_000 + 5_000 * number) == []
    assert guard.tick(SIZES, 109_000) == [], "the last one may be on its way"
    (turn,) = guard.tick(SIZES, 110_000)
    assert (turn.frozen, turn.reason) == (False, "19 of 20 nodes are there")


def test_it_ends_at_once_when_the_last_is_back() -> None:
    guard = Guard()
    lose(guard, 10, "north")
    guard.tick(SIZES, 1)
    for number in range(10):
        guard.back(f"north-{number}", 60_000)
    assert [turn.frozen for turn in guard.tick(SIZES, 60_001)] == [False]


def test_it_does_not_end_while_many_are_away_however_calm_it_is() -> None:
    guard = Guard()
    lose(guard, 20, "north")
    guard.tick(SIZES, 1)
    assert guard.tick(SIZES, 14 * 60_000) == []
    assert guard.holds("north") is not None


def test_one_that_lasts_too_long_ends_and_does_not_begin_again_by_the_same_losses() -> None:
    guard = Guard(GuardRules(window_ms=3600_000))
    lose(guard, 20, "north")
    guard.tick(SIZES, 1)
    (turn,) = guard.tick(SIZES, 15 * 60_000 + 1)
    assert (turn.frozen, turn.scope) == (False, "north")
    assert guard.tick(SIZES, 15 * 60_000 + 2) == []
    lose(guard, 1, "north", 16 * 60_000, first=50)
    assert [one.frozen for one in guard.tick(SIZES, 16 * 60_000)] == [True], "a further loss is news"


def test_while_its_own_probe_is_lost_nothing_is_moved_and_that_has_no_end() -> None:
    guard = Guard()
    guard.probe(ok=False, now_ms=0)
    assert [turn.scope for turn in guard.tick(SIZES, 1)] == [FLEET]
    assert guard.tick(SIZES, 24 * 3600_000) == []
    guard.probe(ok=True, now_ms=24 * 3600_000)
    assert [turn.frozen for turn in guard.tick(SIZES, 24 * 3600_000)] == [False]


def test_a_node_taken_out_of_the_fleet_is_not_missing() -> None:
    guard = Guard()
    lose(guard, 10, "north")
    guard.tick(SIZES, 1)
    for number in range(10):
        guard.gone(f"north-{number}")
        guard.gone(f"north-{number}")  # twice changes nothing
    (turn,) = guard.tick({**SIZES, "north": 10}, 31_000)
    assert turn.reason == "10 of 10 nodes are there"


def test_a_node_lost_again_and_again_counts_as_one_that_is_away() -> None:
    guard = Guard()
    for at_ms in range(10):
        guard.lost("n-1", "north", at_ms)
        guard.back("n-1", at_ms)
    assert guard.tick(SIZES, 11), "ten losses within a minute are an outage"
    assert guard.tick(SIZES, 31_000), "and it is over: nobody is away"


def test_a_freeze_that_ended_is_not_begun_anew_by_the_same_losses() -> None:
    guard, sizes = Guard(GuardRules(window_ms=60_000, calm_ms=10_000)), {FLEET: 100, "north": 100}
    for n in range(50):
        guard.lost(f"n-{n}", "north", 0)
    assert sorted(turn.scope for turn in guard.tick(sizes, 1)) == ["", "north"]
    for n in range(50):
        guard.back(f"n-{n}", 1_000)
    assert {turn.frozen for turn in guard.tick(sizes, 20_000)} == {False}
    assert guard.tick(sizes, 20_500) == guard.tick(sizes, 30_000) == []
    guard.lost("n-1", "north", 30_000)
    assert guard.tick(sizes, 30_001) == []
    for n in range(40):
        guard.lost(f"n-{n}", "north", 40_000)
    assert {turn.frozen for turn in guard.tick(sizes, 40_001)} == {True}
    for n in range(50):
        guard.back(f"n-{n}", 41_000)
    assert {turn.frozen for turn in guard.tick(sizes, 200_000)} == {False}
    for n in range(40):
        guard.lost(f"n-{n}", "north", 300_000)
    assert {turn.frozen for turn in guard.tick(sizes, 300_001)} == {True}


def test_each_setting_becomes_the_rule_of_its_name() -> None:
    settings = FleetTable(
        outage_window_s=61.0, outage_site_share=0.21, outage_site_nodes=5, outage_fleet_share=0.06,
        outage_fleet_nodes=11, outage_calm_s=31.0, outage_max_s=901.0,
    )  # fmt: skip
    expected = GuardRules(
        window_ms=61_000, site_share_max=0.21, site_count_min=5, fleet_share_max=0.06, fleet_count_min=11,
        calm_ms=31_000, returning_ms=10_000, freeze_max_ms=901_000,
    )  # fmt: skip
    assert settings.rules.guard == expected
    assert FleetTable(outage_calm_s=2.0).rules.guard.returning_ms == 2_000
