"""The codec: what is written is read back the same, in whatever pieces it comes, and nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from coordinator.simulate.mqtt5 import GOODBYE, PING, Reader, encode, puback
from coordinator.simulate.packets import (
    ConnAck,
    Connect,
    Disconnect,
    LocalProtocolError,
    Packet,
    PingReq,
    PingResp,
    Property,
    PubAck,
    Publish,
    RemoteProtocolError,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Will,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
topics = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=40)
binaries = st.binary(max_size=200)
mids = st.integers(1, 65_535)
bytes_ = st.integers(0, 255)
P = Property
properties = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys((P.PAYLOAD_FORMAT, P.MAXIMUM_QOS, P.RETAIN_AVAILABLE, P.WILDCARDS_AVAILABLE), bytes_),
        **dict.fromkeys((P.RECEIVE_MAXIMUM, P.TOPIC_ALIAS, P.SERVER_KEEP_ALIVE_S), st.integers(0, 65_535)),
        **dict.fromkeys((P.MESSAGE_EXPIRY_S, P.SESSION_EXPIRY_S, P.PACKET_BYTES_MAX), st.integers(0, 2**32 - 1)),
        **dict.fromkeys((P.CONTENT_TYPE, P.RESPONSE_TOPIC, P.REASON), texts),
        P.CORRELATION_DATA: binaries,
        P.SUBSCRIPTION_IDENTIFIER: st.integers(0, 268_435_455),
        P.USER: st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
    },
)
qos_0 = st.builds(Publish, topics, binaries, st.just(0), st.booleans(), properties=properties)
qos_1 = st.builds(Publish, topics, binaries, st.just(1), st.booleans(), mids, st.booleans(), properties)
wills = st.none() | st.builds(Will, topics, binaries, st.sampled_from([0, 1]), st.booleans())
packets: st.SearchStrategy[Packet] = st.one_of(
    st.builds(
        Connect,
        texts,
        st.integers(0, 65_535),
        st.booleans(),
        wills,
        st.none() | texts,
        st.none() | binaries,
        properties,
    ),
    st.builds(ConnAck, bytes_, st.booleans(), properties),
    qos_0,
    qos_1,
    st.builds(PubAck, mids, bytes_, properties),
    st.builds(Subscribe, mids, st.lists(st.tuples(topics, st.sampled_from([0, 1])), max_size=4), properties),
    st.builds(SubAck, mids, st.lists(bytes_, max_size=4), properties),
    st.builds(Unsubscribe, mids, st.lists(texts, max_size=4), properties),
    st.builds(UnsubAck, mids, st.lists(bytes_, max_size=4), properties),
    st.sampled_from([PingReq(), PingResp()]),
    st.builds(Disconnect, bytes_, properties),
)


@given(st.lists(packets, max_size=5), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_what_is_written_is_read_back_in_any_pieces(sent: list[Packet], sizes: list[int]) -> None:
    reader, found = Reader(), []
    wire = b"".join(map(encode, sent))
    at = step = 0
    while at < len(wire):
        size = sizes[step % len(sizes)]
        found += reader.feed(wire[at : at + size])
        at, step = at + size, step + 1
    assert found == sent


@given(st.binary(max_size=100))
def test_any_bytes_are_packets_an_unfinished_one_or_refused(data: bytes) -> None:
    try:
        found = Reader().feed(data)
    except RemoteProtocolError:
        return
    assert all(isinstance(packet, Packet) for packet in found)


@given(packets, st.data())
def test_a_packet_that_is_cut_short_inside_is_refused_or_another(packet: Packet, data: st.DataObject) -> None:
    wire = encode(packet)
    if wire[1] > 127 or wire[1] == 0:
        return
    keep = data.draw(st.integers(0, wire[1] - 1))
    try:
        (found,) = Reader().feed(wire[:1] + bytes((keep,)) + wire[2 : 2 + keep])
    except RemoteProtocolError:
        return
    empty_left_out = wire[2 + keep :] == b"\x00"  # no properties at the end need not be said (MQTT 5, 3.4.2.2.1)
    assert found != packet or empty_left_out


def test_the_bytes_that_are_written_by_hand_are_the_packets() -> None:
    assert (PING, GOODBYE, puback(515)) == (encode(PingReq()), encode(Disconnect()), encode(PubAck(515)))


def test_properties_are_written_as_paho_writes_them() -> None:
    theirs = PahoProperties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    theirs.ContentType = "a/b"
    theirs.CorrelationData = b"\x01"
    theirs.MessageExpiryInterval = 7
    ours = encode(
        Publish("t", b"", properties={P.MESSAGE_EXPIRY_S: 7, P.CONTENT_TYPE: "a/b", P.CORRELATION_DATA: b"\x01"})
    )
    assert sorted(theirs.pack()) == sorted(ours[5:])  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (Publish("t", b"", 1), "QoS 1 with packet id 0"),
        (Publish("t", b"", 0, mid=1), "QoS 0 with packet id 1"),
        (Publish("t", b"", 2, mid=1), "QoS 2 is not served"),
        (Publish("a/+", b""), "nothing can be published"),
        (Publish("", b""), "nothing can be published"),
        (Publish("a\0b", b""), "U\\+0000"),
        (Publish("a", b"", dup=True), "dup True"),
        (Publish("a" * 70_000, b""), "cannot be sent"),
        (PubAck(0), "no packet id|cannot be sent"),
        (PubAck(70_000), "cannot be sent"),
        (Subscribe(1, [("a", 2)]), "QoS 2"),
        (Connect("c", properties={99: 1}), "no property 99"),
        (ConnAck(0, properties={P.RECEIVE_MAXIMUM: 70_000}), "cannot be sent"),
        (Publish("a", b"", properties={P.SUBSCRIPTION_IDENTIFIER: 2**30}), "variable byte integer"),
    ],
)
def test_what_the_standard_forbids_is_not_sent(packet: Packet, said: str) -> None:
    with pytest.raises(LocalProtocolError, match=said):
        encode(packet)


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        ("00 00", "of type 0"),
        ("f0 00", "of type 15"),
        ("50 02 00 01", "of type 5"),
        ("d1 00", "flags 1"),
        ("d0 01 00", "1 bytes follow"),
        ("34 07 00 01 74 00 01 00 61", "flags 4"),
        ("38 04 00 01 74 00", "flags 8"),
        ("32 06 00 01 74 00 00 00", "packet id 0"),
        ("30 ff ff ff ff 7f", "more than four bytes"),
        ("30 ff ff ff 7f", "at most 4194304 are taken"),
        ("30 03 00 09 74", "cut short"),
        ("30 05 00 02 c3 28 00", "cannot be read"),
        ("30 06 00 01 74 02 63 00", "no property 99"),
        ("30 05 00 01 74 05 01", "cut short"),
        ("40 01 00", "cannot be read"),
        ("20 03 02 00 00", "flags 2"),
        ("10 0c 00 04 4d 51 54 54 04 02 00 14 00 00", "not how MQTT 5 begins"),
    ],
)
def test_what_the_standard_forbids_is_refused(wire: str, said: str) -> None:
    with pytest.raises(RemoteProtocolError, match=said):
        Reader().feed(bytes.fromhex(wire))
