"""Sensors' ideas by tables: payloads, windows with gaps, what is wrong with a window, when a device is asked."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sensors.assemble import Assembler
from agent.sensors.health import Health, SensorState
from agent.sensors.parse import PayloadError, block_of, columns_of, row_of, scaled, steps
from agent.sensors.polling import Pace, Span, spans
from agent.sensors.settings import (
    ChannelSettings,
    Number,
    SensorConfig,
    SensorKind,
    Table,
    sensors_mistakes,
)
from platforms.samples import Trouble, filled, trouble

NAN = math.nan
X, Y = ChannelSettings("x", path="acc.x"), ChannelSettings("y", path="acc.y")


# ---- payloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "channels", "expected"),
    [
        (b"21.5", [ChannelSettings()], [[21.5]]),
        (b"[1, 2.5, null]", [ChannelSettings()], [[1], [2.5], [NAN]]),
        (b'{"acc": {"x": [1, 2], "y": [3, 4]}}', [X, Y], [[1, 3], [2, 4]]),
        (b'{"acc": {"x": "7.5", "y": "NaN"}}', [X, Y], [[7.5, NAN]]),
        (b'{"v": [{"t": 1}, {"t": 2}]}', [ChannelSettings(path="v[1].t")], [[2]]),
        (b"true", [ChannelSettings()], [[1]]),
        (b"null", [ChannelSettings()], [[NAN]]),
    ],
)
def test_payloads(payload: bytes, channels: list[ChannelSettings], expected: list[list[float]]) -> None:
    np.testing.assert_array_equal(block_of(payload, channels)[0], np.array(expected, float))


@pytest.mark.parametrize(
    ("payload", "channels", "said"),
    [
        (b"hello", [ChannelSettings()], "no JSON"),
        (b'{"acc": {"x": 1}}', [X, Y], "there is no acc.y"),
        (b'{"acc": {"x": [1, 2], "y": [3]}}', [X, Y], "one length"),
        (b'{"acc": {"x": {}, "y": 1}}', [X, Y], "channel x: '{}' is no number"),
        (b'"warm"', [ChannelSettings()], "is no number"),
        (b"[" * 100_000, [ChannelSettings()], "no JSON"),
        (b"1", [ChannelSettings(path="a..b")], "no path at character 2"),
    ],
)
def test_payloads_that_are_not_as_the_settings_say(
    payload: bytes, channels: list[ChannelSettings], said: str
) -> None:
    with pytest.raises(PayloadError, match=said):
        block_of(payload, channels)


def test_paths() -> None:
    assert steps("a.b[2].c") == ("a", "b", 2, "c") and steps("") == () and steps("[0]") == (0,)


@given(st.binary(max_size=60))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    try:
        block_of(payload, [X, ChannelSettings()])
    except PayloadError:
        pass


def test_columns_by_name_and_number() -> None:
    named = [ChannelSettings("t", column="temp"), ChannelSettings("v", column=0)]
    assert columns_of(["vib", " temp"], named) == ([1, 0], True)
    assert columns_of(["1.5", "2"], [ChannelSettings(column=1)]) == ([1], False)
    with pytest.raises(PayloadError, match="no column 'temp'"):
        columns_of(["1", "2"], named)
    np.testing.assert_array_equal(row_of(["1", "", "x"], [0, 1, 2, 3]), [1, NAN, NAN, NAN])


def test_values_out_of_range_are_missing() -> None:
    channels = [ChannelSettings(scale=2, offset=1, low=0, high=10)]
    made, outside = scaled(np.array([[1.0], [5.0], [-1.0], [NAN], [math.inf]]), channels)
    np.testing.assert_array_equal(made[:, 0], [3, NAN, NAN, NAN, NAN])
    assert outside == [3]


# ---- windows ------------------------------------------------------------------------------------


def column(*values: float) -> np.ndarray:
    return np.array(values, float).reshape(-1, 1)


def test_windows_of_blocks_of_any_size() -> None:
    one = Assembler(1, 10, 4, 1.0)
    assert one.add(column(1, 2, 3), 0.3) == []
    (first, second) = one.add(column(4, 5, 6, 7, 8, 9), 0.9)
    assert first.samples[:, 0].tolist() == [1, 2, 3, 4] and first.ended_s == pytest.approx(0.4)
    assert second.samples[:, 0].tolist() == [5, 6, 7, 8] and second.ended_s == pytest.approx(0.8)
    assert (one.tally.samples, one.tally.windows, one.tally.gaps) == (9, 2, 0)


def test_a_gap_within_a_window_is_missing_values() -> None:
    one = Assembler(1, 1, 6, 1.5)
    one.add(column(1), 0)
    one.add(column(2), 1)
    (made,) = one.add(column(5, 6), 5.0)
    np.testing.assert_array_equal(made.samples[:, 0], [1, 2, NAN, NAN, 5, 6])
    assert (one.tally.gaps, one.tally.missing) == (1, 2)


def test_a_gap_longer_than_the_window_begins_it_anew() -> None:
    one = Assembler(1, 1, 3, 2.0)
    one.add(column(1, 2), 1)
    (made,) = one.add(column(7, 8, 9), 600)
    assert made.samples[:, 0].tolist() == [7, 8, 9] and one.tally.given_up == 2


def test_a_source_that_measures_now_and_then_has_whole_windows() -> None:
    one = Assembler(1, 1000, 1000, 1.0)
    for minute in range(3):
        (made,) = one.add(np.full((1000, 1), float(minute)), 60.0 * minute)
        assert np.unique(made.samples).tolist() == [minute]
    assert one.tally.given_up == 0 and one.tally.missing == 0


def test_a_slow_network_is_no_gap_where_the_source_gives_times() -> None:
    one = Assembler(1, 1, 4, 1.5)
    one.add(column(1), 0, 1000)
    one.add(column(2), 9, 1001)
    one.add(column(3), 9, 1002)
    assert one.tally.gaps == 0


@pytest.mark.parametrize("source_s", [900.0, 5000.0])
def test_a_source_clock_that_jumps_is_counted_and_nothing_is_lost(source_s: float) -> None:
    one = Assembler(1, 1, 3, 1.5)
    one.add(column(1), 0, 1000)
    one.add(column(2), 1, source_s)
    (made,) = one.add(column(3), 2, source_s + 1)
    assert made.samples[:, 0].tolist() == [1, 2, 3] and one.tally.clock_jumps == 1


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 20)), max_size=30), st.integers(2, 7))
def test_no_sample_is_lost_or_doubled(blocks: list[tuple[int, float]], window: int) -> None:
    one, now_s, count, found = Assembler(1, 1, window, 2.0), 0.0, 0, []
    for length, pause_s in blocks:
        now_s += length + pause_s
        found += one.add(np.arange(count, count + length, dtype=float).reshape(-1, 1), now_s)
        count += length
    tally = one.tally
    kept = np.concatenate([made.samples[:, 0] for made in found]) if found else np.empty(0)
    numbers = kept[~np.isnan(kept)]
    assert len(np.unique(numbers)) == len(numbers)
    waiting = tally.samples + tally.missing - tally.given_up - window * tally.windows
    assert 0 <= waiting < window and all(len(made.samples) == window for made in found)


# ---- health -------------------------------------------------------------------------------------


def health(stuck: int | None = None) -> Health:
    return Health(["v"], stuck)


@pytest.mark.parametrize(
    ("values", "outside", "expected"),
    [
        ([1, 2, 3, 4], 0, Trouble.NONE),
        ([1, NAN, NAN, 4], 2, Trouble.OUT_OF_RANGE),
        ([1, NAN, NAN, 4], 0, Trouble.DROPPED_OUT),
        ([1, math.inf, 3, 4], 0, Trouble.NOT_FINITE),
        ([5, 5, 5, 4], 0, Trouble.STUCK),
    ],
)
def test_what_is_wrong_with_a_window(values: list[float], outside: int, expected: Trouble) -> None:
    assert health(3).troubles(column(*values), [outside]) == [expected]


def test_a_value_that_stands_still_over_windows() -> None:
    slow = health(6)
    assert [slow.troubles(column(7, 7, 7), [0])[0] for _ in range(3)] == [Trouble.NONE, Trouble.STUCK, Trouble.STUCK]
    assert slow.troubles(column(7, 8, 9), [0]) == [Trouble.STUCK]
    assert slow.troubles(column(9, 8, 9), [0]) == [Trouble.NONE]
    assert health(None).troubles(column(7, 7, 7), [0]) == [Trouble.NONE]


def test_states_are_told_once() -> None:
    one = health()
    told = [one.becomes(SensorState.UNREACHABLE, f"attempt {n}") for n in range(3)]
    assert [change and change.reason for change in told] == ["attempt 0", None, None]
    live = one.values()
    assert live is not None and live.state is SensorState.LIVE and one.values() is None
    troubled = one.window([Trouble.STUCK])
    assert troubled is not None and troubled.reason == "v: stuck"
    assert one.values() is None and one.window([Trouble.STUCK]) is None
    well = one.window([Trouble.NONE])
    assert well is not None and well.state is SensorState.LIVE


def test_a_temperature_may_rest() -> None:
    flat = np.full(100, 21.5)
    assert trouble(flat, 100) is Trouble.STUCK and trouble(flat, 100, may_rest=True) is Trouble.NONE
    assert filled(np.array([1.0, NAN, 3.0])).tolist() == [1, 2, 3]


# ---- asking -------------------------------------------------------------------------------------


def test_a_slow_device_is_not_asked_for_what_was_missed() -> None:
    pace = Pace(1.0, 0.0)
    assert pace.wait_s(0.25) == 0.75
    assert pace.wait_s(5.5) == pytest.approx(0.5) and pace.missed_total == 4
    assert pace.wait_s(6.0) == pytest.approx(1.0)


def test_neighbours_are_read_together() -> None:
    def register(at: int, number: Number = Number.INT16, table: Table = Table.HOLDING) -> ChannelSettings:
        return ChannelSettings(register=at, number=number, table=table)

    channels = [register(10), register(0, Number.FLOAT32), register(300), register(3, table=Table.INPUT)]
    assert spans(channels) == [
        Span(Table.HOLDING, 0, 11, (1, 0)),
        Span(Table.HOLDING, 300, 1, (2,)),
        Span(Table.INPUT, 3, 1, (3,)),
    ]
    many = spans([register(n) for n in range(300)])
    assert max(span.count for span in many) <= 120 and sum(len(span.channels) for span in many) == 300


# ---- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (SensorConfig("a", SensorKind.MQTT), "topic: is needed for kind = 'mqtt'"),
        (SensorConfig("a", SensorKind.MQTT, topic="t", url="opc.tcp://x"), "url: belongs to kind = 'opcua'"),
        (SensorConfig("a", SensorKind.FILE, path="x.csv", rate_hz=1e6, window_s=60), "at most 1000000"),
        (SensorConfig("a", SensorKind.OPCUA, url="opc.tcp://x"), "channels[0].node: is needed"),
        (SensorConfig("a", SensorKind.FILE, path="x", channels=(X, X)), "channels: 'x' is given twice"),
        (SensorConfig("a", SensorKind.FILE, path="x", channels=(ChannelSettings(low=2, high=1),)), "must be below"),
    ],
)
def test_mistakes(config: SensorConfig, said: str) -> None:
    assert any(said in mistake for mistake in sensors_mistakes([config])), sensors_mistakes([config])


def test_two_sensors_of_one_name() -> None:
    twice = [SensorConfig("a", SensorKind.FILE, path="x.csv"), None, SensorConfig("a", SensorKind.FILE, path="y.csv")]
    assert sensors_mistakes(twice) == ["sensors[0].id: 'a' is given 2 times", "sensors[2].id: 'a' is given 2 times"]
