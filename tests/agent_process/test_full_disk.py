"""An agent that is started on a full disk: it runs, on the room that its outbox keeps in reserve."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.outbox.ballast import FILE_NAME, Ballast
from benchmarks.faultlib.scenarios import _small_volume, can_mount
from tests.agent_process.agents import AgentProcess, Peer, wait_until
from tests.broker import Broker, start_broker

MIB = 1024 * 1024
BALLAST = 4 * MIB


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = start_broker(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    if why := can_mount():
        pytest.skip(why)
    with _small_volume(tmp_path / "volume", 32) as mounted:
        yield mounted


def fill(volume: Path) -> Path:
    """To the last byte."""
    filler = volume / "filler"
    with filler.open("wb") as file:
        while free := shutil.disk_usage(volume).free:
            os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free)
    return filler


def test_an_agent_starts_on_a_full_disk_and_takes_the_room_back_later(
    tmp_path: Path, broker: Broker, volume: Path
) -> None:
    body = f"[outbox]\nballast_bytes = {BALLAST}\n"
    with Peer(broker) as peer, AgentProcess(tmp_path, broker.port, body) as agent:
        agent.data_dir.symlink_to(volume)
        reserve = volume / FILE_NAME
        agent.start()
        agent.wait_for_log("runs, boot 1")
        agent.kill()
        assert reserve.stat().st_size == BALLAST
        filler = fill(volume)
        agent.start()
        agent.wait_for_log("is full: the room kept in reserve is given up, to be able to start")
        agent.wait_for_log("runs, boot 2")
        beats = len(peer.on("heartbeat"))
        peer.wait(lambda: len(peer.on("heartbeat")) >= beats + 2, agent)
        assert not reserve.exists()
        filler.unlink()
        wait_until(lambda: reserve.exists() and reserve.stat().st_size == BALLAST, lambda: agent.log[-3000:])
        assert agent.terminate() == 0
        assert "Traceback" not in agent.log


def test_the_reserve_stays_where_there_is_room_and_goes_once(volume: Path) -> None:
    ballast, reserve = Ballast(volume / FILE_NAME, BALLAST), volume / FILE_NAME
    assert not ballast.give_way(MIB)  # there is none
    ballast.take()
    assert not ballast.give_way(MIB)
    assert reserve.exists()
    filler = fill(volume)
    assert [ballast.give_way(MIB), ballast.give_way(MIB)] == [True, False]
    assert list(volume.iterdir()) == [filler]


def test_without_the_reserve_it_says_what_is_wrong(tmp_path: Path, broker: Broker, volume: Path) -> None:
    """Which is what it did before it had one: so the first test is not passed by chance."""
    with AgentProcess(tmp_path, broker.port, "[outbox]\nballast_bytes = 0\n") as agent:
        agent.data_dir.symlink_to(volume)
        agent.start()
        agent.wait_for_log("runs, boot 1")
        agent.kill()
        fill(volume)
        assert agent.run_to_its_end() == 1
        assert "state.db" in agent.log and "Traceback" not in agent.log
