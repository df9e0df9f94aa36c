"""The figures of traffic, each against numbers that were worked out by hand."""

import pytest

from platforms.traffic import flow

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def at_minutes(*minutes: float) -> list[int]:
    """Times in milliseconds."""
    return [round(minute * MINUTE_MS) for minute in minutes]


def volumes(counts: list[int], interval_ms: int) -> list[int]:
    """Times of so many vehicles in each interval, evenly spread in it."""
    return [
        at * interval_ms + (2 * n + 1) * interval_ms // (2 * count)
        for at, count in enumerate(counts)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("vehicles", "observed_s", "vph"),
    [(30, 300.0, 360.0), (1, 3600.0, 1.0), (0, 60.0, 0.0), (450, 900.0, 1800.0)],
)
def test_flow_rate_is_the_count_as_vehicles_an_hour(vehicles: int, observed_s: float, vph: float) -> None:
    assert flow.flow_vph(vehicles, observed_s) == vph


def test_there_is_no_flow_rate_of_what_was_not_observed() -> None:
    assert flow.flow_vph(0, 0.0) is None


# ---- peak ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "counts", "interval_ms", "factor", "interval_s", "busiest", "vph"),
    [
        # The example of every textbook: 1000, 1200, 1100, 900 in quarters of an hour: 4200 / (4 × 1200) = 0.875.
        ("an hour", [1000, 1200, 1100, 900], 15 * MINUTE_MS, 0.875, 900, 1, 4800.0),
        ("an even hour", [10, 10, 10, 10], 15 * MINUTE_MS, 1.0, 900, 0, 40.0),
        ("all in one quarter", [0, 0, 0, 8], 15 * MINUTE_MS, 0.25, 900, 3, 32.0),
        # Six quarters: the busiest hour is 20, 30, 20, 10 (80); 80 / (4 × 30) = 2/3.
        ("the busiest hour of 90 minutes", [5, 20, 30, 20, 10, 5], 15 * MINUTE_MS, 80 / 120, 900, 2, 120.0),
        # 15 minutes in three of 5: 12 / (3 × 6) = 2/3.
        ("a quarter of an hour", [3, 6, 3], 5 * MINUTE_MS, 2 / 3, 300, 1, 72.0),
        # 5 minutes in five of one: 10 / (5 × 4) = 0.5.
        ("five minutes", [1, 2, 4, 2, 1], MINUTE_MS, 0.5, 60, 2, 240.0),
    ],
)
def test_the_peak_factor_is_the_mean_over_the_busiest_interval(
    name: str, counts: list[int], interval_ms: int, factor: float, interval_s: int, busiest: int, vph: float
) -> None:
    found = flow.peak(volumes(counts, interval_ms), 0, len(counts) * interval_ms)
    assert found is not None
    assert found.factor == pytest.approx(factor)
    assert (found.interval_s, found.begins_ms, found.flow_vph) == (interval_s, busiest * interval_ms, vph)


def test_intervals_end_with_the_window_and_what_is_left_over_at_its_beginning_is_in_none() -> None:
    """Seven minutes and a half are seven minutes from 0:30 on; the three vehicles before that are left out."""
    found = flow.peak(at_minutes(0.1, 0.2, 0.3, 1, 2, 2.2, 5), 0, round(7.5 * MINUTE_MS))
    assert found is not None
    assert found.factor == pytest.approx(4 / (7 * 2))
    assert found.begins_ms == 1.5 * MINUTE_MS


@pytest.mark.parametrize(("minutes", "window"), [((1.0, 2.0), 4), ((), 60)])
def test_no_peak_of_less_than_five_minutes_or_of_nothing(minutes: tuple[float, ...], window: int) -> None:
    assert flow.peak(at_minutes(*minutes), 0, window * MINUTE_MS) is None


# ---- headway -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times_s", "unknown_s", "headways_s"),
    [
        ([0, 2, 5, 9], [], [2.0, 3.0, 4.0]),
        ([9, 0, 5, 2], [], [2.0, 3.0, 4.0]),
        ([7], [], []),
        ([], [], []),
        ([0, 2, 100, 104], [(2, 100)], [2.0, 4.0]),
        ([0, 2, 100, 104], [(10, 90)], [2.0, 4.0]),
        ([0, 2, 100, 104], [(104, 200)], [2.0, 98.0, 4.0]),
    ],
)
def test_headways_are_between_vehicles_that_followed_each_other(
    times_s: list[int], unknown_s: list[tuple[int, int]], headways_s: list[float]
) -> None:
    unknown = [(begin * 1000, end * 1000) for begin, end in unknown_s]
    assert flow.headways_s([time_s * 1000 for time_s in times_s], unknown) == headways_s


def test_the_mean_of_nothing_is_nothing() -> None:
    assert flow.mean([]) is None
    assert flow.mean([2.0, 3.0, 4.0]) == 3.0


# ---- zones ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first", "steps", "observed", "share", "vehicles"),
    [
        ("empty all along", 0, [], [(0, 100)], 0.0, 0.0),
        ("one that stands there", 1, [], [(0, 100)], 1.0, 1.0),
        # 1 vehicle for 10, 3 for 10, then none for 80.
        ("some pass", 0, [(20, 1), (30, 3), (40, 0)], [(0, 100)], 0.2, 0.4),
        ("what held before the time counts from its start", 5, [(-30, 2), (50, 0)], [(0, 100)], 0.5, 1.0),
        ("a change at the very start", 4, [(0, 2), (50, 0)], [(0, 100)], 0.5, 1.0),
        # Observed are 40: 10 with one vehicle, 10 empty, then 20 with two.
        ("only what was observed", 1, [(10, 0), (60, 2)], [(0, 20), (80, 100)], 0.75, 1.25),
        ("steps in any order", 0, [(40, 0), (20, 1), (30, 3)], [(0, 100)], 0.2, 0.4),
        ("after the end does not count", 0, [(100, 9)], [(0, 100)], 0.0, 0.0),
    ],
)
def test_occupancy_is_the_share_of_time_with_a_vehicle_in_the_zone(
    name: str,
    first: int,
    steps: list[tuple[int, int]],
    observed: list[tuple[int, int]],
    share: float,
    vehicles: float,
) -> None:
    found = flow.occupancy(first, steps, observed)
    assert found is not None
    assert found.share == pytest.approx(share)
    assert found.vehicles == pytest.approx(vehicles)


def test_no_occupancy_where_nothing_was_observed() -> None:
    assert flow.occupancy(3, [], []) is None


@pytest.mark.parametrize(
    ("vehicles", "length_m", "lanes", "density"),
    [(2.0, 100.0, 1, 20.0), (2.0, 100.0, 2, 10.0), (0.0, 50.0, 1, 0.0), (3.0, 250.0, 3, 4.0)],
)
def test_density_is_vehicles_on_a_kilometre_of_one_lane(
    vehicles: float, length_m: float, lanes: int, density: float
) -> None:
    assert flow.density_per_km_lane(vehicles, length_m, lanes) == pytest.approx(density)


@pytest.mark.parametrize(("heavy_share", "cars"), [(0.0, 10.0), (0.2, 12.0), (1.0, 20.0)])
def test_a_heavy_vehicle_counts_as_two_cars(heavy_share: float, cars: float) -> None:
    assert flow.passenger_cars(10.0, heavy_share) == pytest.approx(cars)


@pytest.mark.parametrize(
    ("pc_per_mile", "level"),
    [
        (0, "A"),
        (11, "A"),
        (11.1, "B"),
        (18, "B"),
        (26, "C"),
        (26.1, "D"),
        (35, "D"),
        (45, "E"),
        (45.1, "F"),
        (90, "F"),
    ],
)
def test_level_of_service_goes_by_density(pc_per_mile: float, level: str) -> None:
    """The bounds are 11, 18, 26, 35, 45 passenger cars a mile and lane; a mile is 1.609344 km."""
    assert flow.level_of_service(pc_per_mile / 1.609344 - 1e-9) == level


# ---- trend ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "places", "before_vph", "share", "sign"),
    [
        # 60 against 30: the difference 30 is more than 1.96 × √90 = 18.6.
        ("twice as many", [(60, 300, 30, 300)], 360.0, 1.0, 1),
        ("half as many", [(30, 300, 60, 300)], 720.0, -0.5, -1),
        # 12 against 8: 4 is less than 1.96 × √20 = 8.8.
        ("chance", [(12, 300, 8, 300)], 96.0, 0.5, 0),
        ("the same", [(10, 300, 10, 300)], 120.0, 0.0, 0),
        # Half of the time was observed: 15 are as many as 30 before.
        ("less was observed", [(15, 150, 30, 300)], 360.0, 0.0, 0),
        ("nothing came before", [(9, 300, 0, 300)], 0.0, None, 1),
        ("nothing came at all", [(0, 300, 0, 300)], 0.0, None, 0),
        # Each alone is chance; together 80 against 50: 30 is more than 1.96 × √130 = 22.3.
        ("two places together", [(40, 300, 25, 300), (40, 300, 25, 300)], 600.0, 0.6, 1),
        ("one of them not observed before", [(60, 300, 30, 300), (50, 300, 0, 0)], 360.0, 1.0, 1),
    ],
)
def test_flow_has_changed_when_the_difference_is_more_than_chance(
    name: str, places: list[tuple[int, float, int, float]], before_vph: float, share: float | None, sign: int
) -> None:
    found = flow.change([flow.Counted(*place) for place in places])
    assert found is not None
    assert found.flow_before_vph == pytest.approx(before_vph)
    assert found.share == (None if share is None else pytest.approx(share))
    assert found.sign == sign


def test_each_of_two_places_alone_would_be_chance() -> None:
    """40 against 25: 15 is less than 1.96 × √65 = 15.8."""
    found = flow.change([flow.Counted(40, 300, 25, 300)])
    assert found is not None
    assert found.sign == 0


@pytest.mark.parametrize("places", [[], [(5, 300, 5, 0)], [(5, 0, 5, 300)]])
def test_nothing_can_be_said_of_what_was_not_observed(places: list[tuple[int, float, int, float]]) -> None:
    assert flow.change([flow.Counted(*place) for place in places]) is None
