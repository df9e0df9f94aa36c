"""docs/protocol.md, models on a node: each test carries the number it shows."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.agent_process.agents import AgentProcess, Peer, camera, pipeline
from tests.broker import Broker, start_broker
from tests.models.making import found, model_bytes
from tests.node_models.faulty import Faulty
from tests.node_models.responder import Responder
from tests.node_models.world import Shop, Wishes, model_of, release_of, weld_bundle

SIZE = 700_000
FAST = "[models]\nspread_s = 0\nretry_first_s = 0.1\nretry_max_s = 0.5\n"
PATH = "models.finder.release"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = start_broker(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def shop() -> Iterator[Faulty]:
    with Faulty().open() as opened:
        yield opened


def agent_with(tmp_path: Path, broker: Broker, more: str) -> AgentProcess:
    (tmp_path / "a").mkdir()
    return AgentProcess(tmp_path / "a", broker.port, FAST + more)


def test_p73_what_a_node_works_on_is_pending_then_held_or_refused(
    tmp_path: Path, broker: Broker, shop: Faulty
) -> None:
    made = found(tmp_path / "b", data=model_bytes(SIZE))
    shop.faults = ["stall", "stall"]
    shop.add(made)
    other = {"version": "2.0.0", "digest": "ab" * 32}
    table = f'sources = ["{shop.url}"]\nover_mqtt = false\nstall_s = 1\n'
    with Peer(broker) as peer, agent_with(tmp_path, broker, table) as agent:
        wishes = Wishes(peer)
        wishes.want(**{PATH: release_of(made), "models.other.release": other})
        agent.start()
        peer.wait(lambda: any("%" in one.pending.get(PATH, "") for one in wishes.reports()), agent)
        for report in wishes.reports():
            for path in (PATH, "models.other.release"):
                told = [path in table for table in (report.fields, report.pending, report.refused)]
                assert sum(told) == 1, report
        wishes.wait_held(PATH, release_of(made), agent)
        assert "nobody serves it" in wishes.wait_refused("models.other.release", agent)
        agent.terminate()


def test_p74_a_release_is_what_its_digest_and_its_signature_say(tmp_path: Path, broker: Broker, shop: Faulty) -> None:
    made, forged = found(tmp_path / "b", data=model_bytes(SIZE)), found(tmp_path / "c", name="forged")
    key = Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    shop.add(made, f"plant {base64.b64encode(key.sign(bytes.fromhex(made.digest))).decode()}")
    shop.add(forged, f"plant {base64.b64encode(key.sign(bytes(32))).decode()}")
    shop.faults = ["", "", "", "wrong", "cut:300000", "cut:200000"]  # the small files come first
    table = f'sources = ["{shop.url}"]\nover_mqtt = false\ntrusted_keys = {{ plant = "{public}" }}\n'
    with Peer(broker) as peer, agent_with(tmp_path, broker, table) as agent:
        wishes = Wishes(peer)
        wishes.want(**{PATH: release_of(made), "models.forged.release": release_of(forged)})
        agent.start()
        wishes.wait_held(PATH, release_of(made), agent)
        assert "is not one of the key 'plant'" in wishes.wait_refused("models.forged.release", agent)
        model = next(file.sha256 for file in made.release.files if file.path == "m.tflite")
        ranges = [range_ for path, range_ in shop.asked if path == f"/blobs/{model}"]
        assert ranges == ["", "", "bytes=300000-", "bytes=500000-"]
        peer.wait(lambda: peer.events("ModelPrefetched"), agent)
        (event,) = peer.events("ModelPrefetched")
        assert (event.data["model"], event.data["digest"], event.data["via"]) == ("finder@1.0.0", made.digest, "http")
        agent.terminate()


def test_p74_where_http_fails_the_coordinator_is_asked_for_pieces(tmp_path: Path, broker: Broker) -> None:
    made = found(tmp_path / "b", data=model_bytes(SIZE))
    with Peer(broker) as peer, Responder(broker) as coordinator:
        coordinator.add(made)
        with agent_with(tmp_path, broker, 'sources = ["http://127.0.0.1:9"]\n') as agent:
            wishes = Wishes(peer)
            wishes.want(**{PATH: release_of(made)})
            agent.start()
            wishes.wait_held(PATH, release_of(made), agent)
            calls = coordinator.asked
            assert {response for _, _, response in calls} == {"edge/v1/coordinator/result/readBlob/gw-1"}
            assert all(set(arguments) == {"sha256", "offset", "length"} for _, arguments, _ in calls)
            assert all(0 < arguments["length"] <= 256 * 1024 for _, arguments, _ in calls)
            model = next(file.sha256 for file in made.release.files if file.path == "m.tflite")
            assert [one["offset"] for _, one, _ in calls if one["sha256"] == model] == [0, 262144, 524288]
            peer.wait(lambda: peer.events("ModelPrefetched"), agent)
            assert peer.events("ModelPrefetched")[0].data["via"] == "mqtt"
            agent.terminate()


def test_p75_a_pipeline_changes_its_model_between_two_frames_or_goes_on_with_the_old(
    tmp_path: Path, broker: Broker
) -> None:
    path = "pipelines.seam.model"
    with Shop(tmp_path / "shop").open() as shop, Peer(broker, answers=True) as peer:
        good = shop.add(weld_bundle(tmp_path / "good", "2.0.0"))
        bad = shop.add(weld_bundle(tmp_path / "bad", "3.0.0", confidence=0.99))
        body = f'sources = ["{shop.url}"]\nprobation_s = 0.5\n[models.gate]\nruns = 3\n'
        body += camera("cam1", "scene:weld?seed=1", "fps_target = 10")
        body += pipeline("cam1", "weld_defects", 'name = "seam"\nevery_frame = true')
        with agent_with(tmp_path, broker, body) as agent:
            wishes = Wishes(peer)
            agent.start()
            wishes.want(**{path: model_of(good)})
            wishes.wait_held(path, model_of(good), agent)
            peer.wait(lambda: peer.events("ModelActivated"), agent)
            (activated,) = peer.events("ModelActivated")
            assert (activated.data["model"], activated.data["was"]) == ("weld_defects@2.0.0", "weld_defects@1.0.0")
            wishes.want(**{path: model_of(bad)})
            assert "accuracy" in wishes.wait_refused(path, agent)
            assert wishes.reports()[-1].fields[path] == model_of(good)
            peer.wait(lambda: peer.events("ModelRefused"), agent)
            assert peer.events("ModelRefused")[0].data["digest"] == bad.digest
            before = len(peer.events("FrameAnalyzed"))
            peer.wait(lambda: len(peer.events("FrameAnalyzed")) > before, agent)
            indices = [event.data["time_s"] for event in peer.events("FrameAnalyzed")]
            assert indices == sorted(set(indices))
            agent.terminate()
