import pytest

from agent.link.presence import Identity, heartbeat_payload
from schemas.codec import decode_document, decode_packed, document_hash
from schemas.messages import Birth, Heartbeat, Presence, Status, StreamReport
from schemas.topics import RULES, Kind, TopicSpace

ME = Identity("gw-1", boot=7, session=3, space=TopicSpace("tenant/a"))


def test_the_will_says_offline_for_this_session_and_stays() -> None:
    will = ME.will()
    assert (will.topic, will.qos, will.retain) == ("tenant/a/gw-1/status", 1, True)
    status = decode_document(Status, Kind.STATUS, will.payload)
    assert (status.state, status.boot, status.session, status.time_utc_ms) == (Presence.OFFLINE, 7, 3, 0)


def test_a_birth_carries_boot_and_session() -> None:
    message = ME.birth(Birth(name="press 4"))
    birth = decode_document(Birth, Kind.BIRTH, message.payload)
    assert (birth.name, birth.boot, birth.session) == ("press 4", 7, 3)
    assert message.retain
    assert document_hash(message.payload) != document_hash(ME.birth(Birth(name="press 5")).payload)


@pytest.mark.parametrize(
    ("state", "boot", "session", "overruled"),
    [
        (Presence.OFFLINE, 7, 2, True),  # the late will of our last connection
        (Presence.OFFLINE, 6, 99, True),  # of our last life
        (Presence.OFFLINE, 7, 3, True),  # somebody says so of this very connection: it is not true
        (Presence.DRAINING, 6, 1, True),
        (Presence.ONLINE, 7, 2, False),  # harmless
        (Presence.OFFLINE, 7, 4, False),  # of a later connection than this one: it knows better
        (Presence.OFFLINE, 8, 1, False),
    ],
)
def test_an_older_absence_is_overruled(state: Presence, boot: int, session: int, overruled: bool) -> None:
    assert ME.overrules(Status(state, boot, session)) is overruled


@pytest.mark.parametrize("pipelines", [1, 64, 1000])
def test_a_heartbeat_always_fits_its_message(pipelines: int) -> None:
    counts = {f"class-{n}": 10**9 for n in range(80)}
    reports = [StreamReport(f"cam{n}", "pipe", counts=counts, error="x" * 500) for n in range(pipelines)]
    payload = heartbeat_payload(Heartbeat(boot=7, seq=9, streams=reports))
    assert len(payload) <= RULES[Kind.HEARTBEAT].payload_bytes_max
    beat = decode_packed(Heartbeat, Kind.HEARTBEAT, payload)
    assert (beat.boot, beat.seq) == (7, 9)
    if pipelines == 1:
        assert beat.streams == reports
