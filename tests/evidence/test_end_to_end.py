"""Real processes: kill -9 at either side and of the broker between them, and asking for a file by hand."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.blobs import Chunk, decode_up
from schemas.errors import RemoteWireError
from tests.agent_process.agents import AgentProcess, Heard, Peer, wait_until
from tests.broker import broker
from tests.coordinator.process import Process, edgectl
from tests.evidence.processes import body, kept

COORDINATOR = "[evidence]\nfree_bytes_min = 0\n"


def chunks(heard: list[Heard]) -> dict[str, list[int]]:
    """Where the pieces of each file began, in the order in which they were sent."""
    found: dict[str, list[int]] = {}
    for one in heard:
        if "/blob/up/" in one.topic:
            try:
                said = decode_up(one.payload)
            except RemoteWireError:
                continue
            if isinstance(said, Chunk):
                found.setdefault(one.topic.rsplit("/", 1)[1], []).append(said.at)
    return found


def listed(coordinator: Process, *more: str) -> list[dict[str, Any]]:
    done = edgectl(["--config", str(coordinator.config), "evidence", "ls", "--json", *more])
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_kills_at_either_side_and_of_the_broker_lose_no_byte(tmp_path: Path) -> None:
    text = body(tmp_path, 'upload = "auto"\nchunk_bytes = 2048\nbytes_s_max = 30000')
    (tmp_path / "c").mkdir()
    coordinator = Process(tmp_path / "c", 0, COORDINATOR)
    with broker(tmp_path) as between, AgentProcess(tmp_path, between.port, text) as agent:
        coordinator = Process(tmp_path / "c", between.port, COORDINATOR)
        coordinator.start()
        try:
            agent.start()
            first = Peer(between)
            wait_until(lambda: sum(map(len, chunks(first.heard).values())) >= 5, lambda: agent.log[-3000:])
            agent.kill()
            agent.start()
            sent = sum(map(len, chunks(first.heard).values()))
            wait_until(lambda: sum(map(len, chunks(first.heard).values())) >= sent + 3, lambda: agent.log[-3000:])
            coordinator.kill()
            coordinator.start()
            sent = sum(map(len, chunks(first.heard).values()))
            wait_until(lambda: sum(map(len, chunks(first.heard).values())) >= sent + 3, lambda: agent.log[-3000:])
            heard = first.heard
            between.kill()
            first.__exit__()
            between.start()
            with Peer(between) as second:
                wait_until(lambda: len(kept(agent)) >= 2 and {one["state"] for one in kept(agent)} == {"sent"})
                heard = heard + second.heard
            files = {one["sha256"]: one for one in kept(agent)}
            rows = {row["sha256"]: row for row in listed(coordinator)}
            assert rows.keys() == files.keys()
            for sha256, row in rows.items():
                out = tmp_path / "out"
                done = edgectl(["--config", str(coordinator.config), "evidence", "get", sha256, "-o", str(out)])
                assert done.returncode == 0, done.stderr
                assert hashlib.sha256(out.read_bytes()).hexdigest() == sha256
                assert len(out.read_bytes()) == row["bytes"] == files[sha256]["bytes"]
                assert set(row["events"]) == {event["event_id"] for event in files[sha256]["events"]}
            for sha256, starts in chunks(heard).items():
                again = len(starts) - len(set(starts))
                assert again <= 16, f"{sha256}: {again} of {len(starts)} pieces were sent twice"
        finally:
            coordinator.kill()


def test_a_file_is_fetched_by_hand_and_found_by_its_event(tmp_path: Path) -> None:
    text = body(tmp_path, 'upload = "on_demand"', seconds=3.0)
    (tmp_path / "c").mkdir()
    with broker(tmp_path) as between, AgentProcess(tmp_path, between.port, text) as agent, Peer(between) as peer:
        coordinator = Process(tmp_path / "c", between.port, COORDINATOR)
        coordinator.start()
        try:
            agent.start()

            def told() -> list[dict[str, Any]]:
                return [h.json["data"] for h in peer.heard if h.topic.endswith("/EvidenceStored")]

            wait_until(lambda: len(told()) == 2, lambda: agent.log[-3000:])
            assert not any("/blob/" in h.topic for h in peer.heard)
            still = told()[0]
            command = ["--config", str(coordinator.config), "evidence"]
            done = edgectl([*command, "fetch", "gw-1", still["sha256"]])
            assert done.returncode == 0, done.stderr
            (row,) = listed(coordinator, "gw-1", "--event", still["event_id"], "--camera", "cam1", "--since", "1h")
            assert (row["sha256"], row["events"]) == (still["sha256"], [still["event_id"]])
            assert listed(coordinator, "--event", "another") == []
            out = tmp_path / "still.jpg"
            assert edgectl([*command, "get", still["sha256"][:12], "-o", str(out)]).returncode == 0
            assert hashlib.sha256(out.read_bytes()).hexdigest() == still["sha256"]
            table = edgectl([*command, "ls"]).stdout
            assert still["sha256"] in table and "image/jpeg" in table
            for words, said in (
                (["fetch", "gw-1", "ab" * 32], "no such evidence"),
                (["fetch", "gw-1", "short"], "not the 64 hexadecimal digits"),
                (["get", "abcdef", "-o", str(out)], "there is no abcdef here"),
                (["get", "zz", "-o", str(out)], "no hexadecimal digits"),
            ):
                done = edgectl([*command, *words])
                assert done.returncode != 0
                assert said in done.stderr
            stored = tmp_path / "c" / "data" / "evidence" / "gw-1" / still["sha256"][:2] / still["sha256"]
            stored.write_bytes(b"damaged on the disk")
            done = edgectl([*command, "get", still["sha256"], "-o", str(tmp_path / "no.jpg")])
            assert done.returncode == 1 and "has the hash" in done.stderr
            assert not (tmp_path / "no.jpg").exists()
        finally:
            coordinator.kill()


@pytest.mark.parametrize("words", [["show"], ["export"]])
def test_the_node_shows_and_copies_what_it_keeps(tmp_path: Path, words: list[str]) -> None:
    from agent.evidence.settings import EvidenceSettings
    from agent.evidence.store import EvidenceStore
    from agent.evidence.tables import Binding, Piece
    from tests.agent_process.agents import run_agent

    agent = AgentProcess(tmp_path, 1)
    config = ["--config", str(agent.config)]
    done = run_agent("evidence", "ls", *config)
    assert done.returncode == 2 and "there is no evidence" in done.stderr
    agent.data_dir.mkdir()
    store = EvidenceStore(agent.data_dir, EvidenceSettings(free_bytes_min=0))
    sha256 = store.put(b"bytes", Piece("image/jpeg", "cam1", 1, 1), Binding("s.alert.1", "AlertRaised", 1)).sha256
    more = ["-o", str(tmp_path / "out")] if words == ["export"] else []
    done = run_agent("evidence", *words, sha256[:10], *more, *config)  # also while the agent has it open
    assert done.returncode == 0, done.stderr
    if more:
        assert (tmp_path / "out").read_bytes() == b"bytes"
        store.files.path(sha256).write_bytes(b"BYTES")
        assert "damaged or gone" in run_agent("evidence", *words, sha256, *more, *config).stderr
    else:
        shown = json.loads(done.stdout)
        assert (shown["sha256"], shown["events"][0]["event_id"]) == (sha256, "s.alert.1")
        assert Path(shown["path"]).read_bytes() == b"bytes"
    assert "there is none" in run_agent("evidence", *words, "ffff", *more, *config).stderr
    store.close()
