"""Customers in and out from crossings of lines, each against numbers that were worked out by hand."""

import pytest

from platforms.retail.counting import Crossing, Settled, count, pieces, settle

TURN_BACK_MS = [10_000, 10_000]


def ways(text: str) -> list[Crossing]:
    """`3:in:a` is object a that comes in at second 3; `!` behind the object marks staff, `/1` the second entrance."""
    found = []
    for word in text.split():
        time_s, direction, who = word.split(":")
        name, _, entrance = who.partition("/")
        found.append(
            Crossing(int(time_s) * 1000, int(entrance or 0), name.rstrip("!"), direction == "in", name.endswith("!"))
        )
    return found


def counted(settled: Settled) -> str:
    return " ".join(
        f"{one.time_ms // 1000}:{'in' if one.inward else 'out'}:{one.object_id}" for one in settled.counted
    )


@pytest.mark.parametrize(
    ("name", "crossings", "left", "turned_back"),
    [
        ("nobody", "", "", 0),
        ("one comes, another goes", "1:in:a 5:out:b", "1:in:a 5:out:b", 0),
        ("in and at once out again", "1:in:a 6:out:a", "", 1),
        ("out and at once in again", "1:out:a 6:in:a", "", 1),
        ("just at the limit", "1:in:a 11:out:a", "", 1),
        ("in, and out later in the same track", "1:in:a 12:out:a", "1:in:a 12:out:a", 0),
        ("back and forth, then in", "1:in:a 3:out:a 5:in:a", "5:in:a", 1),
        ("back and forth, then away", "1:in:a 3:out:a 5:in:a 7:out:a", "", 2),
        ("in twice without the way between", "1:in:a 30:in:a", "1:in:a", 0),
        ("in twice, then out", "1:in:a 30:in:a 60:out:a", "1:in:a 60:out:a", 0),
        ("the same id at another entrance is another person", "1:in:a 3:out:a/1", "1:in:a 3:out:a", 0),
        ("without an id every crossing is another person", "1:in: 2:out: 3:in:", "1:in: 2:out: 3:in:", 0),
        ("in any order", "6:out:a 5:in:b 1:in:a", "5:in:b", 1),
    ],
)
def test_a_track_is_one_person(name: str, crossings: str, left: str, turned_back: int) -> None:
    settled = settle(ways(crossings), TURN_BACK_MS)
    assert counted(settled) == left
    assert len(settled.turned_back) == turned_back


def test_each_entrance_has_its_own_time_to_turn_back() -> None:
    crossings = ways("1:in:a 6:out:a 1:in:b/1 6:out:b/1")
    assert counted(settle(crossings, [10_000, 1_000])) == "1:in:b 6:out:b"


@pytest.mark.parametrize(
    ("length_s", "intervals_s"),
    [(None, [(0, 100)]), (50, [(0, 50), (50, 100)]), (40, [(0, 40), (40, 80), (80, 100)]), (1000, [(0, 100)])],
)
def test_the_last_interval_is_what_is_left(length_s: int | None, intervals_s: list[tuple[int, int]]) -> None:
    found = pieces(0, 100_000, None if length_s is None else length_s * 1000)
    assert found == [(begin * 1000, end * 1000) for begin, end in intervals_s]


def inside_of(crossings: str, *, before: int = 0, length_s: int = 100) -> list[tuple[int, int, int]]:
    """Customers at the end, most of them, and unexplained exits, by interval of 100 seconds."""
    settled = Settled(tuple(ways(crossings)), ())
    found = count(settled, 2, pieces(0, 100_000, length_s * 1000), before)
    return [(piece.inside.customers, piece.inside.peak, piece.inside.unexplained) for piece in found]


@pytest.mark.parametrize(
    ("name", "crossings", "before", "inside"),
    [
        ("nobody", "", 0, (0, 0, 0)),
        ("two come, one goes", "1:in:a 2:in:b 3:out:c", 0, (1, 2, 0)),
        ("some were inside already", "1:out:a 2:in:b 3:in:c", 7, (8, 8, 0)),
        ("the most were there at the beginning", "1:out:a 2:out:b", 7, (5, 7, 0)),
        ("more leave than are known to be inside", "1:out:a 2:out:b 3:in:c", 1, (1, 1, 1)),
        ("nobody is inside less than never", "1:out:a 2:out:b 3:out:c", 0, (0, 0, 3)),
        ("staff are no customers", "1:in:a! 2:in:b 3:out:c!", 0, (1, 1, 0)),
        ("by two doors", "1:in:a 2:in:b/1 3:out:a/1", 0, (1, 2, 0)),
    ],
)
def test_who_is_inside(name: str, crossings: str, before: int, inside: tuple[int, int, int]) -> None:
    assert inside_of(crossings, before=before) == [inside]


def test_who_is_inside_stays_there_in_the_next_interval() -> None:
    found = inside_of("10:in:a 20:in:b 60:out:a 70:in:c 80:in:d", length_s=50)
    assert found == [(2, 2, 0), (3, 3, 0)]


def test_each_entrance_has_its_tally_in_each_interval() -> None:
    settled = settle(ways("1:in:a 2:in:b! 3:out:c/1 60:in:d/1 61:in:e 64:out:e 70:out:f!/1"), TURN_BACK_MS)
    first, second = count(settled, 2, pieces(0, 100_000, 50_000), 0)
    assert [(t.entered, t.left, t.staff_entered, t.staff_left, t.turned_back) for t in first.tallies] == [
        (1, 0, 1, 0, 0),
        (0, 1, 0, 0, 0),
    ]
    assert [(t.entered, t.left, t.staff_entered, t.staff_left, t.turned_back) for t in second.tallies] == [
        (0, 0, 0, 0, 1),
        (1, 0, 0, 1, 0),
    ]


def test_what_is_outside_the_intervals_does_not_count() -> None:
    settled = Settled(tuple(ways("1:in:a 60:in:b 120:in:c")), ())
    (piece,) = count(settled, 1, [(50_000, 100_000)], 0)
    assert piece.tallies[0].entered == 1
    assert piece.inside.customers == 1
