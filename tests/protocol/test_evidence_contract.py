"""The part of docs/protocol.md about files, against real processes; each test carries the numbers it shows."""

import asyncio
import hashlib
import json
import random
from pathlib import Path

from schemas.blobs import Chunk, Held, Offer, Reason, Refused, decode_down, decode_up, encode_blob
from schemas.codec import encode_document
from schemas.messages import Presence, Status
from tests.agent_process.agents import AgentProcess, Peer, mosquitto_pub, wait_until
from tests.broker import broker
from tests.coordinator.process import Process
from tests.coordinator.sender import TestNode
from tests.coordinator.sender import until as sender_until
from tests.evidence.processes import body, kept

DATA = random.Random(3).randbytes(3000)
NAME = hashlib.sha256(DATA).hexdigest()
UP = "edge/v1/gw-1/blob/up/"
DOWN = "edge/v1/gw-1/blob/down/"


def said(peer: Peer) -> list[tuple[str, Offer | Chunk]]:
    """What the node said of its files, in order."""
    return [(h.topic.removeprefix(UP), decode_up(h.payload)) for h in peer.heard if h.topic.startswith(UP)]


def test_p33_a_file_is_offered_and_only_what_is_missing_is_sent(tmp_path: Path) -> None:
    text = body(tmp_path, 'upload = "auto"\nclip = false\nchunk_bytes = 4096')
    with (
        broker(tmp_path) as broker_,
        Peer(broker_, answers=True) as peer,
        AgentProcess(tmp_path, broker_.port, text) as agent,
    ):
        peer.publish("edge/v1/coordinator/status", encode_document(Status(Presence.ONLINE, 1, 1)), retain=True)
        agent.start()
        wait_until(lambda: said(peer), lambda: agent.log[-3000:])
        name, offer = said(peer)[0]
        assert isinstance(offer, Offer)
        assert offer.content_type == "image/jpeg"
        size = offer.size
        peer.publish(DOWN + name, encode_blob(Held(size, [(1000, size - 500)])))
        wait_until(lambda: len(said(peer)) >= 2)
        first = said(peer)[1][1]
        assert isinstance(first, Chunk)
        assert (first.at, len(first.data)) == (0, 1000)
        agent.kill()
        count = len(said(peer))
        agent.start()
        wait_until(lambda: len(said(peer)) > count, lambda: agent.log[-3000:])
        again, offered = said(peer)[count]
        assert isinstance(offered, Offer)
        assert (again, offered.size) == (name, size)
        peer.publish(DOWN + name, encode_blob(Held(size, [(0, size - 500)])))
        wait_until(lambda: len(said(peer)) > count + 1)
        last = said(peer)[count + 1][1]
        assert isinstance(last, Chunk)
        assert (last.at, len(last.data)) == (size - 500, 500)
        answered = [0]

        def is_sent() -> bool:
            """After the restart the clip is the same: a second alert may have this file, and it is offered again."""
            if len(said(peer)) > answered[0]:
                answered[0] = len(said(peer))
                peer.publish(DOWN + name, encode_blob(Held(size, [(0, size)], complete=True)))
            return [one["state"] for one in kept(agent) if one["sha256"] == name] == ["sent"]

        wait_until(is_sent, lambda: f"{kept(agent)}\n{agent.log[-3000:]}")


def test_p34_p35_p36_what_the_coordinator_answers(tmp_path: Path) -> None:
    async def scene(port: int) -> None:
        coordinator = Process(tmp_path, port, "[evidence]\nfree_bytes_min = 0\nblob_bytes_max = 4000\n")
        coordinator.start()
        await coordinator.connected()
        try:
            async with TestNode(port) as node:
                assert node.connection is not None
                await node.connection.subscribe({"edge/v1/gw-1/blob/down/+": 1})

                def answers(name: str) -> list[Held | Refused]:
                    return [decode_down(d.payload) for d in node.others if d.topic == DOWN + name]

                async def ask(message: Offer | Chunk, name: str = NAME) -> Held | Refused:
                    count = len(answers(name))
                    node.publish(f"blob/up/{name}", encode_blob(message))
                    await sender_until(lambda: len(answers(name)) > count)
                    return answers(name)[-1]

                refused = await ask(Chunk(0, DATA[:10]))
                assert isinstance(refused, Refused) and refused.reason is Reason.NOT_OFFERED
                refused = await ask(Offer(4001), "ab" * 32)
                assert isinstance(refused, Refused) and refused.reason is Reason.TOO_LARGE
                assert await ask(Offer(3000, events=["s.alert.1"])) == Held(3000)
                assert await ask(Chunk(2000, DATA[2000:])) == Held(3000, [(2000, 3000)])
                assert await ask(Chunk(0, DATA[:500])) == Held(3000, [(0, 500), (2000, 3000)])
                coordinator.kill()
                coordinator.start()
                await coordinator.connected(2)
                assert await ask(Offer(3000)) == Held(3000, [(0, 500), (2000, 3000)])
                refused = await ask(Chunk(2999, DATA[:2]))
                assert isinstance(refused, Refused) and refused.reason is Reason.BAD_CHUNK
                refused = await ask(Chunk(500, bytes(1500)))
                assert isinstance(refused, Refused) and refused.reason is Reason.BAD_HASH
                assert coordinator.query("SELECT * FROM evidence") == []
                assert await ask(Offer(3000)) == Held(3000)
                assert await ask(Chunk(0, DATA)) == Held(3000, [(0, 3000)], complete=True)
                assert coordinator.query("SELECT node, sha256, bytes FROM evidence") == [("gw-1", NAME, 3000)]
        finally:
            coordinator.kill()

    with broker(tmp_path) as broker_:
        asyncio.run(scene(broker_.port))


def test_p37_what_stays_is_named_and_never_offered(tmp_path: Path) -> None:
    text = body(tmp_path, 'upload = "auto"\nblur = "people"')  # the model knows no people
    with (
        broker(tmp_path) as broker_,
        Peer(broker_, answers=True) as peer,
        AgentProcess(tmp_path, broker_.port, text) as agent,
    ):
        peer.publish("edge/v1/coordinator/status", encode_document(Status(Presence.ONLINE, 1, 1)), retain=True)
        agent.start()

        def told() -> list[dict[str, object]]:
            return [h.json["data"] for h in peer.heard if h.topic == "edge/v1/gw-1/event/EvidenceStored"]

        wait_until(lambda: len(told()) == 2, lambda: agent.log[-3000:])
        alerts = [h.json for h in peer.heard if h.topic.startswith("edge/v1/gw-1/alert/")]
        (alert,) = {one["id"] for one in alerts if one["data"]["state"] == "raised"}
        assert [(one["local_only"], one["blurred"], one["event_id"]) for one in told()] == [(True, False, alert)] * 2
        mosquitto_pub(broker_, "uploadEvidence", json.dumps({"event_id": alert}))
        results = "edge/v1/gw-1/result/uploadEvidence"
        wait_until(lambda: [h for h in peer.heard if h.topic == results])
        assert next(h.json["error"]["code"] for h in peer.heard if h.topic == results) == "local_only"
        assert said(peer) == []
