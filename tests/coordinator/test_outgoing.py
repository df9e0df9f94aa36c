"""What waits to be said to a broker: answers together, urgent things first, nobody for ever; the pace of asking."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.documents.asking import AT_ONCE_MAX, GRACE_S, PER_S, Asking
from coordinator.ingest.batch import BatchLimits, Pacing
from coordinator.link.outgoing import LEAST_URGENT_EVERY, NODES_MAX, PARTS_MAX, Outgoing, Rank
from runtime.mqtt import Message
from schemas.codec import decode_packed
from schemas.messages import Ack, Closed, LaneAck, Refusal
from schemas.topics import RULES, Kind, TopicSpace

ROOM = 1024 * 1024


def stored(*seqs: int, stream: str = "s1", lane: str = "event") -> Ack:
    return Ack([LaneAck(stream, lane, [(seq, seq) for seq in seqs])])


def drain(outgoing: Outgoing, room: int = ROOM) -> list[tuple[str, bytes]]:
    found = []
    while (one := outgoing.next(room)) is not None:
        found.append((one[0].topic, one[0].payload))
    return found


def said(found: list[tuple[str, bytes]]) -> dict[str, list[Ack]]:
    by_node: dict[str, list[Ack]] = {}
    for topic, payload in found:
        by_node.setdefault(topic.split("/")[2], []).append(decode_packed(Ack, Kind.ACK, payload))
    return by_node


def test_what_comes_for_a_node_meanwhile_goes_with_the_same_message() -> None:
    outgoing = Outgoing(TopicSpace())
    for seq in (1, 3, 2):
        outgoing.answer("gw-1", stored(seq))
    outgoing.answer("gw-2", stored(7))
    outgoing.answer("gw-1", Ack(refused=[Refusal("s1", "event", 4, "no")], closed=[Closed("s1", "event", 5, 6, [])]))
    outgoing.answer("gw-1", stored(9, lane="alert"))
    found = said(drain(outgoing))
    assert list(found) == ["gw-1", "gw-2"]  # the longest waiting first
    (whole,) = found["gw-1"]
    assert [(one.lane, one.ranges) for one in whole.stored] == [("event", [(1, 3)]), ("alert", [(9, 9)])]
    assert (whole.refused[0].seq, whole.closed[0].last) == (4, 6)
    assert outgoing.merged_total == 4


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 300)), max_size=200), st.integers(90, 400))
def test_every_row_is_answered_within_the_brokers_limit(answers: list[tuple[str, int]], room: int) -> None:
    outgoing = Outgoing(TopicSpace())
    for node, seq in answers:
        outgoing.answer(node, stored(seq))
    found = drain(outgoing, room + 90)
    told: dict[str, set[int]] = {}
    for node, acks in said(found).items():
        for first, last in (pair for ack in acks for lane in ack.stored for pair in lane.ranges):
            told.setdefault(node, set()).update(range(first, last + 1))
    assert told == {node: {seq for name, seq in answers if name == node} for node, _ in answers}
    assert all(len(payload) <= max(room, 40) for _, payload in found)


def test_a_merged_answer_fits_its_topic_whatever_the_broker_takes() -> None:
    outgoing = Outgoing(TopicSpace())
    for seq in range(2**40, 2**40 + 10_000, 2):
        outgoing.answer("gw-1", stored(seq))
    found = drain(outgoing, 10**8)
    assert len(found) > 1
    assert max(len(payload) for _, payload in found) <= RULES[Kind.ACK].payload_bytes_max


def test_answers_go_before_events_and_documents_yet_none_waits_for_ever() -> None:
    outgoing = Outgoing(TopicSpace())
    for n in range(20):
        outgoing.put(Message("document", b"%d" % n), rank=Rank.DOCUMENT)
        outgoing.put(Message("event", b"%d" % n), rank=Rank.EVENT)
        outgoing.put(Message("call", b"%d" % n))
        outgoing.answer(f"n-{n}", stored(1))
    order = [topic if "/" not in topic else "answer" for topic, _ in drain(outgoing)]
    first = [kind for i, kind in enumerate(order[:40], start=1) if i % LEAST_URGENT_EVERY]
    assert first == ["call"] * 20 + ["answer"] * 15
    assert order[LEAST_URGENT_EVERY - 1] == "document"
    assert {kind: order.count(kind) for kind in order} == dict.fromkeys(order, 20)


def test_many_answers_to_one_node_are_kept_small_and_many_nodes_are_bounded() -> None:
    outgoing = Outgoing(TopicSpace())
    for seq in range(1, 10 * PARTS_MAX):
        outgoing.answer("gw-1", stored(seq))
    assert len(outgoing._answers["gw-1"]) <= PARTS_MAX
    for n in range(NODES_MAX + 5):
        outgoing.answer(f"n-{n}", stored(1))
    assert len(outgoing) == NODES_MAX
    assert outgoing.dropped_total == 6  # gw-1, which waited longest, and five more


def test_an_alert_waits_a_tenth_of_the_pause() -> None:
    pacing = Pacing(BatchLimits(pause_ms=50.0))
    assert pacing.wait_ms(1, 100, 0.0) == 50.0
    assert pacing.wait_ms(1, 100, 0.0, urgent=True) == 5.0
    assert pacing.wait_ms(1, 100, 6.0, urgent=True) == 0.0


# ---- asking nodes for what is not known of them -----------------------------------------------------


def test_a_few_are_asked_at_once() -> None:
    asking = Asking()
    asking.want("a", ["birth"], 100.0)
    asking.want("b", ["birth", "reported"], 100.0)
    assert asking.take(100.0) == [("a", ["birth"])]
    assert asking.wait_s(100.0) == GRACE_S  # b stood behind a
    assert asking.take(100.0 + GRACE_S) == [("b", ["birth", "reported"])]
    assert asking.wait_s(200.0) is None


def test_of_a_fleet_that_comes_back_hardly_anybody_is_asked() -> None:
    asking, asked = Asking(), 0
    for n in range(10_000):  # the heartbeats overtake the births, by seconds
        asking.want(f"n-{n}", ["birth"], 100.0)
        asked += len(asking.take(100.0))
    for tenth in range(100):
        for n in range(tenth * 100, tenth * 100 + 100):
            asking.heard(f"n-{n}", "birth")
        asked += len(asking.take(100.0 + tenth / 20))
    assert asked <= AT_ONCE_MAX
    assert len(asking) == 0


def test_who_never_says_it_is_asked_in_the_end_at_a_pace() -> None:
    asking, found = Asking(), list[str]()
    for n in range(500):
        asking.want(f"n-{n}", ["birth"], 100.0)
    now_s = 100.0
    while (wait_s := asking.wait_s(now_s)) is not None:
        now_s += max(wait_s, 0.001)
        found += [node for node, _ in asking.take(now_s)]
    assert found == [f"n-{n}" for n in range(500)]
    assert 100.0 + GRACE_S + (500 - 2 * AT_ONCE_MAX) / PER_S <= now_s <= 120.0


def test_who_has_said_half_of_it_is_asked_for_the_other() -> None:
    asking = Asking()
    asking.want("a", ["birth"], 100.0)
    asking.want("b", ["birth", "reported"], 100.0)
    asking.heard("b", "birth")
    asking.forget("a")
    assert asking.take(200.0) == [("b", ["reported"])]


def test_a_node_whose_session_is_new_has_a_moment_to_say_it() -> None:
    asking = Asking()
    asking.want("a", ["birth"], 100.0, at_once=False)
    assert asking.take(100.0) == []
    asking.want("b", ["birth"], 101.0, at_once=False)
    asking.heard("a", "birth")
    assert asking.take(101.0 + GRACE_S) == [("b", ["birth"])]
