"""When a camera was watching, by the times of its results. Windows are [100 s, 200 s), the longest silence 30 s."""

import pytest

from platforms.coverage import coverage, least_share


@pytest.mark.parametrize(
    ("name", "heard_s", "silences_s", "observed_s"),
    [
        ("nothing was ever heard", [], [(100, 200)], 0.0),
        ("last heard long before", [60], [(100, 200)], 0.0),
        ("heard all along", [90, 115, 140, 165, 190], [], 100.0),
        ("silences of just so long are none", [80, 110, 140, 170], [], 100.0),
        ("it began to watch in the middle", [150, 175], [(100, 150)], 50.0),
        ("it went away in the middle", [95, 120, 150], [(150, 200)], 50.0),
        ("a silence begins before the window", [85, 120, 145, 170, 195], [(100, 120)], 80.0),
        ("one in the middle", [90, 110, 160, 180], [(110, 160)], 50.0),
        ("results after the window do not count", [90, 110, 130, 150, 160, 201], [(160, 200)], 60.0),
        ("in any order", [190, 165, 90, 140, 115], [], 100.0),
    ],
)
def test_a_silence_is_time_that_nobody_watched(
    name: str, heard_s: list[int], silences_s: list[tuple[int, int]], observed_s: float
) -> None:
    found = coverage([time_s * 1000 for time_s in heard_s], 100_000, 200_000, 30_000)
    assert found.silences == tuple((begin * 1000, end * 1000) for begin, end in silences_s)
    assert found.observed_s == observed_s
    assert found.share == observed_s / 100


def test_what_is_observed_lies_between_the_silences() -> None:
    found = coverage([90_000, 110_000, 160_000, 180_000], 100_000, 200_000, 30_000)
    assert found.observed == [(100_000, 110_000), (160_000, 200_000)]
    assert found.longest_silence_s == 50.0


def test_the_least_share_is_that_of_the_camera_that_was_heard_least() -> None:
    whole = coverage([90_000, 120_000, 150_000, 180_000], 100_000, 200_000, 30_000)
    half = coverage([150_000, 175_000], 100_000, 200_000, 30_000)
    assert least_share([whole, half]) == 0.5
    assert least_share([]) == 0.0
