import numpy as np
import pytest

from agent.capture.health import Fingerprint, Health, StreamWatch
from runtime.backoff import Backoff

POINTS = 576


def watched(pictures: list[Fingerprint], step_s: float = 0.5, frozen_after_s: float = 5.0) -> list[Health]:
    watch = StreamWatch(frozen_after_s)
    found = []
    for n, picture in enumerate(pictures):
        assert watch.wants_look(n * step_s)
        watch.look(n * step_s, picture)
        found.append(watch.health(n * step_s))
    return found


def noisy(base: Fingerprint, sigma: float, count: int) -> list[Fingerprint]:
    rng = np.random.default_rng(4)
    return [np.clip(base + rng.normal(0, sigma, base.shape).round(), 0, 255).astype(np.uint8) for _ in range(count)]


BASE = np.random.default_rng(2).integers(20, 230, POINTS).astype(np.uint8)


def test_the_same_picture_for_long_is_frozen() -> None:
    assert watched([BASE] * 12) == [Health.GOOD] * 10 + [Health.FROZEN] * 2


def test_small_changes_at_key_frames_do_not_hide_a_frozen_picture() -> None:
    flicker = BASE + (np.arange(POINTS) % 7 == 0).astype(np.uint8)
    assert watched([BASE, flicker] * 8)[-1] is Health.FROZEN


def test_a_still_scene_seen_by_a_noisy_sensor_is_not_frozen() -> None:
    assert set(watched(noisy(BASE, 1.5, 40))) == {Health.GOOD}


def test_one_moving_person_is_enough_not_to_be_frozen() -> None:
    pictures = []
    for n in range(40):
        picture = BASE.copy()
        picture[n * 10 : n * 10 + 10] ^= 64
        pictures.append(picture)
    assert set(watched(pictures)) == {Health.GOOD}


def test_movement_ends_a_freeze() -> None:
    assert watched([BASE] * 12 + [255 - BASE])[-1] is Health.GOOD


def test_zero_turns_the_frozen_check_off() -> None:
    assert not StreamWatch(0).wants_look(10.0)


def test_a_frozen_picture_stays_frozen_over_a_reconnect_until_it_moves() -> None:
    watch = StreamWatch(5.0)
    watch.look(0.0, BASE)
    watch.look(6.0, BASE)
    watch.reconnected()
    assert watch.health(7.0) is Health.FROZEN
    watch.look(7.0, BASE)
    assert watch.health(7.0) is Health.FROZEN
    watch.look(8.0, 255 - BASE)
    assert watch.health(8.0) is Health.GOOD


def test_stillness_counts_anew_after_a_reconnect() -> None:
    watch = StreamWatch(5.0)
    watch.look(0.0, BASE)
    watch.reconnected()
    watch.look(60.0, BASE)
    assert watch.health(60.0) is Health.GOOD


def test_only_waiting_for_the_source_is_a_stall() -> None:
    watch = StreamWatch(5.0)
    assert watch.health(100.0) is Health.GOOD
    watch.read_began(deadline_s=105.0)
    assert watch.health(104.9) is Health.GOOD
    assert watch.health(105.0) is Health.STALLED
    watch.read_ended()
    assert watch.health(200.0) is Health.GOOD


@pytest.mark.parametrize(
    ("attempt", "jitter", "delay_s"),
    [(0, 1.0, 1.0), (0, 0.0, 0.5), (1, 1.0, 2.0), (3, 1.0, 8.0), (3, 0.0, 4.0), (9, 1.0, 30.0), (10**6, 1.0, 30.0)],
)
def test_backoff(attempt: int, jitter: float, delay_s: float) -> None:
    assert Backoff(1.0, 30.0).delay_s(attempt, jitter) == delay_s
