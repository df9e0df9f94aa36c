"""A model swapped in a running agent: the project's weld model on the rendered line, from a real HTTP server."""

import functools
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_process.agents import AgentProcess, Peer, camera, pipeline, run_agent
from tests.broker import Broker, start_broker
from tests.node_models.world import Shop, Wishes, model_of, release_of, weld_bundle

TABLE = (
    '[models]\nsources = ["{url}"]\nspread_s = 0\nretry_first_s = 0.1\nretry_max_s = 0.5\n'
    "probation_s = {probation_s}\n"
    "live_frames = 20\n[models.gate]\nruns = 3\n"
)
CONFIGURED = {"model": "weld_defects@1.0.0", "digest": ""}
MODEL, RELEASE = "pipelines.seam.model", "models.weld_defects.release"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = start_broker(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path / "shop").open() as opened:
        yield opened


def agent_with(tmp_path: Path, broker: Broker, shop: Shop, *, probation_s: float = 0.5) -> AgentProcess:
    (tmp_path / "a").mkdir(exist_ok=True)
    seam = 'name = "seam"\nevery_frame = true\nobject_events = false'
    body = camera("cam1", "scene:weld?seed=1", "fps_target = 10") + pipeline("cam1", "weld_defects", seam)
    return AgentProcess(tmp_path / "a", broker.port, body + TABLE.format(url=shop.url, probation_s=probation_s))


def frames(peer: Peer) -> list[float]:
    return [event.data["time_s"] for event in peer.events("FrameAnalyzed")]


def count(peer: Peer, kind: str) -> int:
    return len(peer.events(kind))


def test_a_release_is_fetched_proved_and_run_while_frames_go_on(tmp_path: Path, broker: Broker, shop: Shop) -> None:
    new = shop.add(weld_bundle(tmp_path / "new", "2.0.0"))
    with Peer(broker, answers=True) as peer, agent_with(tmp_path, broker, shop) as agent:
        wishes = Wishes(peer)
        agent.start()
        peer.wait(lambda: len(frames(peer)) > 5, agent)
        wishes.want(**{RELEASE: release_of(new)})
        wishes.wait_held(RELEASE, release_of(new), agent)
        assert wishes.reports()[-1].fields[MODEL] == CONFIGURED
        wishes.want(**{RELEASE: release_of(new), MODEL: model_of(new)})
        wishes.wait_held(MODEL, model_of(new), agent)
        assert any(MODEL in one.pending for one in wishes.reports())
        peer.wait(lambda: count(peer, "ModelMeasured") == 2, agent)
        fetched, activated = peer.events("ModelPrefetched")[0].data, peer.events("ModelActivated")[0].data
        assert (fetched["model"], fetched["digest"], fetched["via"]) == ("weld_defects@2.0.0", new.digest, "http")
        assert 0 < fetched["bytes"] < new.release.bytes  # the model card stays where it is
        assert (activated["pipeline"], activated["was"], activated["engine"]) == ("seam", "weld_defects@1.0.0", "cpu")
        golden, live = (event.data for event in peer.events("ModelMeasured"))
        assert (golden["basis"], golden["frames"], golden["accuracy"], golden["agreement"]) == ("golden", 1, 1.0, 1.0)
        assert live["basis"] == "live" and live["frames"] >= 20 and "accuracy" not in live
        times = frames(peer)
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert max(gaps) < 1.0 and times == sorted(set(times))  # of the camera's clock
        wishes.want(**{RELEASE: release_of(new)})  # taken back: the configured one
        wishes.wait_held(MODEL, CONFIGURED, agent)
        before = len(frames(peer))
        peer.wait(lambda: len(frames(peer)) > before, agent)
        agent.terminate()


@pytest.mark.slow
def test_what_is_worse_or_broken_is_refused_and_the_old_one_goes_on(
    tmp_path: Path, broker: Broker, shop: Shop
) -> None:
    blind = shop.add(weld_bundle(tmp_path / "blind", "2.0.0", confidence=0.99))
    broken_folder = weld_bundle(tmp_path / "broken", "3.0.0")
    model = broken_folder / "weld_defects_int8.tflite"
    spoil(model, broken_folder)
    broken = shop.add(broken_folder)
    with Peer(broker, answers=True) as peer, agent_with(tmp_path, broker, shop) as agent:
        wishes = Wishes(peer)
        agent.start()
        peer.wait(lambda: len(frames(peer)) > 5, agent)
        wishes.want(**{MODEL: model_of(blind)})
        assert "accuracy 0.000 on 1 frames" in wishes.wait_refused(MODEL, agent)
        assert wishes.reports()[-1].fields[MODEL] == CONFIGURED
        wishes.want(**{MODEL: model_of(broken)})
        assert "cannot be loaded" in wishes.wait_refused(MODEL, agent)
        refused = [blind.digest, broken.digest]
        peer.wait(lambda: [event.data["digest"] for event in peer.events("ModelRefused")] == refused, agent)
        before = len(frames(peer))
        peer.wait(lambda: len(frames(peer)) > before, agent)
        assert count(peer, "ModelActivated") == 0
        agent.terminate()


def spoil(model: Path, folder: Path) -> None:
    """A file of the right kind that no interpreter takes, named rightly by the manifest."""
    import hashlib

    manifest = folder / "bundle.toml"
    before = hashlib.sha256(model.read_bytes()).hexdigest()
    model.write_bytes(model.read_bytes()[:8] + b"\0" * 1000)
    after = hashlib.sha256(model.read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace(before, after))


def test_killed_at_any_moment_it_comes_back_with_its_model_and_without_a_network(
    tmp_path: Path, broker: Broker, shop: Shop
) -> None:
    new = shop.add(weld_bundle(tmp_path / "new", "2.0.0"))
    with Peer(broker, answers=True) as peer, agent_with(tmp_path, broker, shop) as agent:
        wishes = Wishes(peer)
        wishes.want(**{MODEL: model_of(new)})
        agent.start()
        for kind in ("ModelPrefetched", "ModelMeasured"):  # killed while it is loaded, and while it is swapped in
            peer.wait(functools.partial(peer.events, kind), agent)
            agent.kill()
            agent.start()
        wishes.wait_held(MODEL, model_of(new), agent)
        agent.kill()
        shop.releases.clear()  # nobody serves it now
        broker.stop()
        agent.start()
        agent.wait_for_log("pipeline seam starts with weld_defects@2.0.0")
        shown = run_agent("models", "ls", "--config", str(agent.config))
        assert "weld_defects@2.0.0" in shown.stdout and "runs in seam" in shown.stdout
        agent.terminate()


@pytest.mark.slow
def test_what_is_damaged_here_gives_way_to_the_configured_model_and_comes_again(
    tmp_path: Path, broker: Broker, shop: Shop
) -> None:
    new = shop.add(weld_bundle(tmp_path / "new", "2.0.0"))
    with Peer(broker, answers=True) as peer, agent_with(tmp_path, broker, shop) as agent:
        wishes = Wishes(peer)
        wishes.want(**{MODEL: model_of(new)})
        agent.start()
        wishes.wait_held(MODEL, model_of(new), agent)
        agent.terminate()
        cached = agent.data_dir / "models" / "bundles" / new.digest / "weld_defects_int8.tflite"
        data = bytearray(cached.read_bytes())
        data[len(data) // 2] ^= 1
        cached.write_bytes(data)
        assert run_agent("models", "verify", "--config", str(agent.config)).returncode == 1
        agent.start()
        peer.wait(lambda: count(peer, "ModelRefused") == 1, agent)
        assert "damaged here, fetched again" in peer.events("ModelRefused")[0].data["reason"]
        peer.wait(lambda: count(peer, "ModelActivated") == 2, agent)
        assert peer.events("ModelActivated")[1].data["was"] == "weld_defects@1.0.0"
        assert run_agent("models", "verify", "--config", str(agent.config)).returncode == 0
        assert cached.read_bytes() != bytes(data)
        agent.terminate()
        shutil.rmtree(agent.data_dir / "models")  # all of it may be thrown away
        agent.start()
        peer.wait(lambda: count(peer, "ModelActivated") == 3, agent)
        agent.terminate()
