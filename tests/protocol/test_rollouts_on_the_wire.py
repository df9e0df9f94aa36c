"""docs/protocol.md, roll-outs: each test carries the number it shows."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import decode_result
from schemas.messages import CommandState, Result
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process, edgectl
from tests.models.making import make_folder, model_bytes
from tests.protocol.test_contract import Peer, until
from tests.rollout.nodes import LightNode, light_nodes


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = start_broker(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def peer(broker: Broker) -> Iterator[Peer]:
    peer = Peer(broker.port)
    yield peer
    peer.close()


@pytest.fixture
def coordinator(tmp_path: Path, broker: Broker) -> Iterator[Process]:
    (tmp_path / "c").mkdir()
    process = Process(tmp_path / "c", broker.port, extra="heartbeat_s = 60\n")
    process.start()
    try:
        asyncio.run(process.connected())
        yield process
    finally:
        process.kill()


def call(peer: Peer, function: str, **arguments: Any) -> Result:
    topic = f"edge/v1/coordinator/result/{function}"
    before = len(peer.seen(topic))
    peer.send(f"edge/v1/coordinator/cmd/{function}", json.dumps(arguments).encode())
    until(lambda: len(peer.seen(topic)) > before)
    return decode_result(bytes(peer.seen(topic)[-1].payload))


def told(peer: Peer, kind: str) -> list[dict[str, Any]]:
    return [json.loads(message.payload)["data"] for message in peer.seen(f"edge/v1/fleet/event/{kind}")]


def online(coordinator: Process, count: int) -> None:
    sql = "SELECT count(*) FROM nodes WHERE state = 'online' AND birth IS NOT NULL"
    until(lambda: coordinator.query(sql)[0][0] == count)


def states(peer: Peer, key: str) -> dict[str, str]:
    found = call(peer, "rolloutStatus", id=key, nodes=True).result["nodes"]
    return {one["node"]: one["state"] for one in found}


def revisions(node: LightNode) -> list[int]:
    return sorted({document.revision for document in node.seen})


def test_p70_each_node_gets_one_revision_and_what_cannot_be_changes_nothing(
    coordinator: Process, broker: Broker, peer: Peer
) -> None:
    with light_nodes(broker.port, 4) as nodes:
        online(coordinator, 4)
        for wrong in (
            {"select": "site = nowhere", "set": {"heartbeat_s": 5}},
            {"select": "all", "set": {"warp": 9}},
            {"select": "all"},
            {"select": "site =", "set": {"heartbeat_s": 5}},
            {"select": "all", "set": {"heartbeat_s": 5}, "waves": ["5%"]},
        ):
            refused = call(peer, "startRollout", **wrong)
            assert refused.state is CommandState.REJECTED and refused.error and refused.error.message
        assert all(node.seen == [] for node in nodes)
        begun = call(peer, "startRollout", select="all", set={"heartbeat_s": 5, "log.level": "DEBUG"}, rate_per_s=3)
        assert begun.result == {"id": "r-1", "nodes": 4, "here": 4, "model": "", "excluded": 0}
        until(lambda: any(node.seen for node in nodes))
        coordinator.kill()
        coordinator.start()
        until(lambda: told(peer, "RolloutCompleted"))
        assert all(revisions(node) == [1] for node in nodes)
        assert all(node.fields == {"heartbeat_s": 5, "log.level": "DEBUG"} for node in nodes)


def test_p71_what_a_node_says_is_what_it_counts_as(coordinator: Process, broker: Broker, peer: Peer) -> None:
    with light_nodes(broker.port, 4, {1: "refuses", 2: "silent", 3: "names"}):
        online(coordinator, 4)
        call(peer, "startRollout", select="all", set={"labels.a": "x"}, accept_s=2, verify_s=600, budget=1.0)
        wanted = {"n00": "verified", "n01": "failed", "n02": "silent", "n03": "accepted"}
        until(lambda: states(peer, "r-1") == wanted, "")
        assert told(peer, "RolloutStarted")[0]["counts"] == {"waiting": 4}


def test_p72_rolled_back_is_what_was_changed_and_nothing_else(
    coordinator: Process, broker: Broker, peer: Peer
) -> None:
    with light_nodes(broker.port, 4) as nodes:
        online(coordinator, 4)
        call(peer, "setDesired", node="n00", set={"labels.a": "before"})
        key = call(peer, "startRollout", select="name < n03", set={"labels.a": "x"}, bake_s=600).result["id"]
        until(lambda: set(states(peer, key).values()) == {"verified"})
        call(peer, "setDesired", node="n01", set={"labels.a": "mine"})
        assert call(peer, "abortRollout", id=key, roll_back=True).state is CommandState.SUCCEEDED
        (done,) = until(lambda: told(peer, "RolledBack"))
        assert (done["rollout"], done["counts"]) == (key, {"kept": 1, "rolled_back": 2})
        until(lambda: [node.fields.get("labels.a") for node in nodes] == ["before", "mine", None, None])
        assert [revisions(node) for node in nodes] == [[1, 2, 3], [1, 2], [1, 2], []]
        assert told(peer, "RolloutAborted")[0]["roll_back"] is True


# ---- models -------------------------------------------------------------------------------------

RUNS = {"pipelines.door.model": {"model": "finder@1.0.0", "digest": ""}}


def add_model(coordinator: Process, folder: Path, *channel: str) -> str:
    """The digest of a release whose only variant runs anywhere."""
    words = ["--config", str(coordinator.config), "model"]
    for more in (["add", str(make_folder(folder / "bundle", version="1.4.0"))], ["show", "finder", "--json"]):
        done = edgectl([*words, *more])
        assert done.returncode == 0, done
    if channel:
        assert edgectl([*words, "promote", "finder@1.4.0", *channel]).returncode == 0
    return str(json.loads(done.stdout)["digest"])


def known(coordinator: Process, count: int) -> None:
    online(coordinator, count)
    sql = "SELECT count(*) FROM reported WHERE document LIKE '%finder@1.0.0%'"
    until(lambda: coordinator.query(sql)[0][0] == count)


def test_p76_what_is_to_be_fetched_is_told_and_held_before_what_is_to_run(
    coordinator: Process, broker: Broker, peer: Peer, tmp_path: Path
) -> None:
    digest = add_model(coordinator, tmp_path, "stable")
    release, model = {"version": "1.4.0", "digest": digest}, {"model": "finder@1.4.0", "digest": digest}
    with light_nodes(broker.port, 3, {1: "fetches", 2: "cannot"}, holds=RUNS) as nodes:
        known(coordinator, 3)
        plan = {"select": "all", "model": "finder", "budget": 1.0, "accept_s": 600, "bake_s": 600}
        key = call(peer, "startRollout", **plan).result["id"]
        until(lambda: states(peer, key) == {"n00": "verified", "n01": "verified", "n02": "failed"})
        told = [[document.fields for document in node.seen] for node in nodes]
        first = {"models.finder.release": release}
        assert told == [[first, first | {"pipelines.door.model": model}]] * 2 + [[first]]
        reasons = call(peer, "rolloutStatus", id=key, nodes=True, state="failed").result["nodes"]
        assert "no space for it" in reasons[0]["reason"]
        call(peer, "abortRollout", id=key, roll_back=True)
        until(lambda: [node.desired.fields for node in nodes] == [{}] * 3)


def test_p77_deploy_model_answers_with_the_rollout_and_says_when_it_is_done(
    coordinator: Process, broker: Broker, peer: Peer, tmp_path: Path
) -> None:
    add_model(coordinator, tmp_path, "canary")
    with light_nodes(broker.port, 2, holds=RUNS, site="a") as nodes:
        known(coordinator, 2)
        for model, target, said in (
            ({"model_id": "finder"}, {"ids": ["n00"]}, "channel stable gives out no version"),
            ({"model_id": "other", "version": "1.0.0"}, {"ids": ["n00"]}, "there is no model other@1.0.0"),
            ({"model_id": "finder", "version": "1.4.0"}, {}, "name ids, labels or sites"),
            ({"model_id": "finder", "version": "1.4.0"}, {"ids": ["n00", "gw-9"]}, "not registered: gw-9"),
            ({"model_id": "finder", "version": "1.4.0"}, {"sites": ["nowhere"]}, "not registered; edgectl nodes"),
            ({"model_id": "finder", "version": "1.4.0", "sha256": "cd" * 32}, {"ids": ["n00"]}, "no file with the"),
        ):
            refused = call(peer, "deployModel", model=model, target_nodes=target)
            assert refused.state is CommandState.REJECTED and refused.error and said in refused.error.message
        assert all(node.seen == [] for node in nodes)
        model = {"model_id": "finder", "version": "canary"}
        done = call(peer, "deployModel", model=model, target_nodes={"labels": {"site": "a"}})
        assert (done.state, done.result) == (CommandState.SUCCEEDED, "r-1")
        (deployed,) = until(lambda: told(peer, "ModelDeployed"))
        assert deployed == {"model_id": "finder", "version": "1.4.0", "node_count": 2, "deployment": "r-1"}


def test_p78_files_and_signatures_of_models_are_answered_in_pieces(
    coordinator: Process, peer: Peer, tmp_path: Path
) -> None:
    digest = add_model(coordinator, tmp_path)
    sha256 = hashlib.sha256(model_bytes()).hexdigest()
    first = call(peer, "readBlob", sha256=sha256, offset=0, length=3000, _id="same").result
    assert (first["offset"], first["size"]) == (0, 4096)
    rest = call(peer, "readBlob", sha256=sha256, offset=3000, _id="same").result  # it runs again
    assert base64.b64decode(first["bytes_b64"]) + base64.b64decode(rest["bytes_b64"]) == model_bytes()
    document = base64.b64decode(call(peer, "readBlob", sha256=digest).result["bytes_b64"])
    assert hashlib.sha256(document).hexdigest() == digest
    assert json.loads(document)["version"] == "1.4.0"
    unsigned = call(peer, "readSignature", name="finder", version="1.4.0").result
    assert unsigned == {"name": "finder", "version": "1.4.0", "digest": digest, "signature": ""}
    signature = f"release {base64.b64encode(bytes(64)).decode()}"
    call(peer, "signModel", name="finder", version="1.4.0", digest=digest, signature=signature)
    assert call(peer, "readSignature", name="finder", version="1.4.0").result["signature"] == signature
    for function, wrong, code in (
        ("readBlob", {"sha256": "cd" * 32}, "unknown_file"),
        ("readBlob", {"sha256": sha256, "length": 300_000}, "bad_arguments"),
        ("readSignature", {"name": "finder", "version": "9.0.0"}, "unknown_model"),
    ):
        refused = call(peer, function, **wrong)
        assert refused.state is CommandState.REJECTED and refused.error and refused.error.code == code
