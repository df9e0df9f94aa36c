"""What is dropped next: a table, and a simulation that must end with everything within its limits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.results.retention import Cut, Kept, Tier, has_room, next_cut
from agent.results.settings import MIB, ResultsSettings

HOUR, DAY = 3600.0, 86400.0
SETTINGS = ResultsSettings(
    raw_hours=24, raw_short_hours=1, aggregate_days=30, bytes_max=100 * MIB, disk_free_mb_min=128
)
FINE = Kept(
    run_s=100 * DAY, used_bytes=50 * MIB, disk_free_bytes=1000 * MIB,
    raw_rows=10, raw_oldest_s=99.5 * DAY, aggregate_rows=10, aggregate_oldest_s=80 * DAY,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "short", "cut"),
    [
        ({}, False, None),
        ({}, True, Cut(Tier.RAW, "age", 10, 100 * DAY - HOUR)),
        ({"raw_oldest_s": 98.9 * DAY}, False, Cut(Tier.RAW, "age", 10, 99 * DAY)),
        ({"raw_oldest_s": 98.9 * DAY, "raw_rows": 0}, False, None),
        ({"aggregate_oldest_s": 60 * DAY}, False, Cut(Tier.AGGREGATES, "age", 10, 70 * DAY)),
        ({"used_bytes": 110 * MIB}, False, Cut(Tier.RAW, "bytes", 3)),
        ({"used_bytes": 101 * MIB, "raw_rows": 0}, False, Cut(Tier.AGGREGATES, "bytes", 1)),
        ({"used_bytes": 101 * MIB, "raw_rows": 0, "aggregate_rows": 0}, False, None),
        ({"disk_free_bytes": 127 * MIB}, False, Cut(Tier.RAW, "disk", 1)),
        ({"disk_free_bytes": 127 * MIB, "raw_rows": 0}, False, Cut(Tier.AGGREGATES, "disk", 1)),
        ({"disk_free_bytes": 127 * MIB, "used_bytes": 101 * MIB}, False, Cut(Tier.RAW, "disk", 1)),
        ({"disk_free_bytes": 128 * MIB}, False, None),
    ],
)
def test_what_goes_first(changes: dict[str, float], short: bool, cut: Cut | None) -> None:
    assert next_cut(SETTINGS, replace(FINE, **changes), short=short) == cut  # type: ignore[arg-type]


def test_nothing_is_written_while_the_disk_is_short() -> None:
    assert has_room(SETTINGS, 128 * MIB)
    assert not has_room(SETTINGS, 128 * MIB - 1)


rows = st.lists(st.floats(0, 40 * DAY), max_size=30).map(sorted)


@given(rows, rows, st.integers(1, 10), st.integers(0, 300), st.booleans())
def test_it_comes_to_an_end_with_everything_within_its_limits(
    raw: list[float], aggregates: list[float], row_mib: int, free_mib: int, short: bool
) -> None:  # fmt: skip
    """Ages of the rows in seconds; each takes so many MiB, and dropping it gives them back to the disk."""
    run_s = 50 * DAY
    tiers = {
        Tier.RAW: [run_s - age for age in reversed(raw)],
        Tier.AGGREGATES: [run_s - age for age in reversed(aggregates)],
    }
    gone = 0

    def kept() -> Kept:
        first, second = tiers[Tier.RAW], tiers[Tier.AGGREGATES]
        return Kept(
            run_s, (len(first) + len(second)) * row_mib * MIB, (free_mib + gone * row_mib) * MIB,
            len(first), first[0] if first else 0.0, len(second), second[0] if second else 0.0,
        )  # fmt: skip

    while (cut := next_cut(SETTINGS, kept(), short=short)) is not None:
        before = gone
        while tiers[cut.tier] and gone - before < cut.rows:
            if cut.before_s is not None and tiers[cut.tier][0] >= cut.before_s:
                break
            tiers[cut.tier].pop(0)
            gone += 1
        assert gone > before
    end = kept()
    assert end.used_bytes <= SETTINGS.bytes_max
    assert end.disk_free_bytes >= SETTINGS.disk_free_mb_min * MIB or not (end.raw_rows or end.aggregate_rows)
    hours = 1 if short else 24
    assert all(run_s - at <= hours * HOUR + 1e-6 for at in tiers[Tier.RAW])
    assert all(run_s - at <= 30 * DAY + 1e-6 for at in tiers[Tier.AGGREGATES])
