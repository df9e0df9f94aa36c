"""`kill -9` of an agent in the middle of a download: it goes on where it was."""

import functools
from pathlib import Path

import pytest

from coordinator.models.settings import ModelsTable
from tests.agent_process.agents import AgentProcess, Peer, wait_until
from tests.broker import start_broker
from tests.models.making import make_folder, model_bytes
from tests.node_models.world import Shop, Wishes, release_of

SIZE = 2_000_000
PATH = "models.finder.release"


@pytest.mark.slow
def test_what_was_killed_in_the_middle_goes_on_there(tmp_path: Path) -> None:
    broker = start_broker(tmp_path)
    (tmp_path / "a").mkdir()
    slow = ModelsTable(bytes_s_client_max=800_000)  # so that there is a middle
    try:
        with Shop(tmp_path / "shop", slow).open() as shop, Peer(broker) as peer:
            made = shop.add(make_folder(tmp_path / "b", data=model_bytes(SIZE)))
            body = f'[models]\nsources = ["{shop.url}"]\nspread_s = 0\nretry_first_s = 0.1\n'
            with AgentProcess(tmp_path / "a", broker.port, body) as agent:
                wishes = Wishes(peer)
                wishes.want(**{PATH: release_of(made)})
                model = next(file.sha256 for file in made.release.files if file.path == "m.tflite")
                part = agent.data_dir / "models" / "parts" / model

                def has(least: int) -> bool:
                    return part.exists() and part.stat().st_size > least

                for least in (300_000, 900_000):
                    agent.start()
                    wait_until(functools.partial(has, least), lambda: agent.log[-2000:])
                    agent.kill()
                agent.start()
                wishes.wait_held(PATH, release_of(made), agent)
                agent.terminate()
            assert shop.bytes_out < 1.5 * SIZE  # a block or two of each life was on its way
    finally:
        broker.stop()
