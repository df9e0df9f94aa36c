import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas.topics
from schemas.errors import LocalWireError, RemoteWireError
from schemas.topics import (
    LEAF_PATTERN,
    NODE_PATTERN,
    RESERVED,
    RULES,
    Kind,
    Topic,
    TopicSpace,
    Writer,
    check_node_name,
)

nodes = st.from_regex(NODE_PATTERN, fullmatch=True).filter(lambda name: name not in RESERVED)
leaves = st.from_regex(LEAF_PATTERN, fullmatch=True)


@pytest.mark.parametrize("root", ["edge/v1", "acme/edge/v1", "t"])
@pytest.mark.parametrize("kind", Kind)
@given(node=nodes, leaf=leaves)
def test_a_topic_survives_the_way_to_text_and_back(kind: Kind, root: str, node: str, leaf: str) -> None:
    space = TopicSpace(root)
    topic = Topic(kind, node, leaf if RULES[kind].leaf else "")
    text = space.text(topic)
    assert text.startswith(f"{root}/{node}/{kind.value}")
    assert space.parse(text) == topic


@given(st.text(max_size=80))
def test_no_text_raises_anything_but_a_wire_error(text: str) -> None:
    for candidate in (text, "edge/v1/" + text, "edge/v1/n/" + text, "edge/v1/n/event/" + text):
        try:
            topic = TopicSpace().parse(candidate)
        except RemoteWireError:
            continue
        assert TopicSpace().text(topic) == candidate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "edge",
        "edge/v1",
        "edge/v1/",
        "edge/v1/gw-1",
        "edge/v1/gw-1/",
        "edge/v2/gw-1/status",
        "/edge/v1/gw-1/status",
        "edge/v1/gw-1/status/",
        "edge/v1/gw-1/status/more",
        "edge/v1/gw-1/statuses",
        "edge/v1/gw-1/event",
        "edge/v1/gw-1/event/",
        "edge/v1/gw-1/event/a/b",
        "edge/v1/gw-1/event/+",
        "edge/v1/gw-1/event/-first",
        "edge/v1/gw-1/event/" + "x" * 129,
        "edge/v1/gw-1/event/a\n",
        "edge/v1/gw-1/blob/x",
        "edge/v1/gw-1/blob/up",
        "edge/v1/gw-1/blob/up/a/b",
        "edge/v1/GW-1/status",
        "edge/v1/.gw/status",
        "edge/v1/gw\n/status",
        "edge/v1/gw 1/status",
        "edge/v1//status",
        "edge/v1/" + "n" * 64 + "/status",
        "edge/v1/+/status",
        "edge/v1/fleet/status",
        "edge/v1/fleet/cmd/x",
        "edge/v1/coordinator/event/X",
        "edge/v1/coordinator/birth",
        "edge/v1/gw-1/unknown/x",
    ],
)
def test_a_foreign_topic_is_refused(text: str) -> None:
    with pytest.raises(RemoteWireError, match="topic"):
        TopicSpace().parse(text)


@pytest.mark.parametrize("node", sorted(RESERVED))
def test_a_reserved_name_has_its_own_kinds_only(node: str) -> None:
    allowed = {"coordinator": {Kind.CMD, Kind.RESULT, Kind.STATUS}, "fleet": {Kind.EVENT}}[node]
    for kind in Kind:
        leaf = "x" if RULES[kind].leaf else ""
        if kind in allowed:
            assert TopicSpace().parse(TopicSpace().text(Topic(kind, node, leaf))).node == node
        else:
            with pytest.raises(LocalWireError, match="reserved"):
                Topic(kind, node, leaf)
    assert check_node_name(node) == f"{node!r} is reserved"


@pytest.mark.parametrize(
    ("kind", "node", "leaf"),
    [
        pytest.param(Kind.EVENT, "gw", "", id="leaf missing"),
        pytest.param(Kind.STATUS, "gw", "x", id="leaf too many"),
        pytest.param(Kind.EVENT, "gw", "a/b", id="leaf of two levels"),
        pytest.param(Kind.EVENT, "gw", "#", id="wildcard"),
        pytest.param(Kind.EVENT, "gw/x", "a", id="node of two levels"),
        pytest.param(Kind.STATUS, "", "", id="no node"),
    ],
)
def test_a_topic_outside_the_contract_cannot_be_made(kind: Kind, node: str, leaf: str) -> None:
    with pytest.raises(LocalWireError):
        Topic(kind, node, leaf)


def test_filters_catch_one_node_or_all() -> None:
    assert TopicSpace("a/b").filter(Kind.BLOB_UP) == "a/b/+/blob/up/+"
    assert TopicSpace().filter(Kind.ACK, "gw") == "edge/v1/gw/ack"


def test_only_what_is_a_last_known_value_is_retained() -> None:
    retained = {kind for kind, rule in RULES.items() if rule.retain}
    assert retained == {Kind.STATUS, Kind.BIRTH, Kind.DESIRED, Kind.REPORTED}
    assert {kind for kind, rule in RULES.items() if rule.qos == 0} == {Kind.HEARTBEAT}
    assert {kind for kind, rule in RULES.items() if rule.writer is Writer.COORDINATOR} == {
        Kind.ACK,
        Kind.DESIRED,
        Kind.BLOB_DOWN,
    }


@pytest.mark.parametrize("name", ["gw-1", "a", "0", "a.b_c", "n" * 63])
def test_node_names(name: str) -> None:
    assert check_node_name(name) is None


@pytest.mark.parametrize("name", ["", "Gw", "-a", "a/b", "a b", "n" * 64, "a\n"])
def test_refused_node_names(name: str) -> None:
    assert check_node_name(name) is not None


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(schemas.topics).failed == 0
