"""An agent notices another one of its name by what it sees on its own status topic."""

import pytest

from agent.link.twin import COMPLAIN_EVERY_S, Twin
from schemas.messages import Presence, Status

ON, OFF, DRAIN = Presence.ONLINE, Presence.OFFLINE, Presence.DRAINING
BOOT = 5


def said(state: Presence, boot: int = BOOT, session: int = 1, instance: str = "other", utc_ms: int = 0) -> Status:
    return Status(state, boot, session, utc_ms, "", instance)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ([(said(ON), 1, False)], False),  # kept of our own last start
        ([(said(ON), 1, True)], True),
        ([(said(ON), 2, False)], True),  # we were online in between
        ([(said(DRAIN, 3), 1, True)], True),
        ([(said(ON, instance="us"), 2, True)], False),
        ([(said(ON, instance=""), 2, True)], False),  # an agent that does not say it
        ([(said(OFF, 4), 1, True), (said(OFF, 4), 2, False)], False),  # the dead have one will
        ([(said(OFF, 4), 2, True), (said(OFF, 4, 2), 3, False)], True),
        ([(said(OFF, 4, instance="a"), 2, True), (said(OFF, 4, 2, instance="b"), 3, False)], False),
        ([(said(OFF, BOOT), 2, True)], True),  # no start of ours had this number or a later one
        ([(said(OFF, BOOT), 1, False)], False),
    ],
)
def test_who_lives_beside_us(seen: list[tuple[Status, int, bool]], told: bool) -> None:
    twin = Twin("us", BOOT)
    found = [twin.seen(status, session, 0.0, live=live) for status, session, live in seen]
    assert found == [*[False] * (len(seen) - 1), told]
    assert (twin.report(1.0) is not None) is told


def test_a_person_is_told_once_an_hour() -> None:
    twin = Twin("us", BOOT)
    found = [twin.seen(said(ON, session=n), 2, n * 600.0, live=True) for n in range(13)]
    assert [n for n, one in enumerate(found) if one] == [0, 6, 12]
    assert COMPLAIN_EVERY_S == 3600.0
    assert twin.report(7201.0) == {"instance": "other", "boot": BOOT, "session": 12, "seen_s_ago": 1.0, "times": 13}
