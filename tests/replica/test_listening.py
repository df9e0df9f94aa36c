"""Of several coordinators the one that leads listens: what any of them stored, each event once."""

import asyncio
import json
from pathlib import Path

from tests.broker import Broker
from tests.coordinator.sender import TestNode, until
from tests.hosting.test_fleet_listening import platform_folder
from tests.replica.test_replicas import Replicas, mqtt, replicas, stream  # noqa: F401 - fixtures


def test_the_leader_hears_what_both_store_and_who_follows_goes_on(
    tmp_path: Path,
    mqtt: Broker,  # noqa: F811
    replicas: Replicas,  # noqa: F811
) -> None:
    folder = platform_folder(tmp_path)
    for one in replicas.each.values():
        one.config.write_text(f'{one.config.read_text()}\n[platforms]\nfolders = ["{folder}"]\n')

    def heard() -> list[int]:
        rows = replicas.query("SELECT data FROM events WHERE type = 'Heard' ORDER BY id")
        return [int(json.loads(data)["n"]) for (data,) in rows]

    def place() -> int:
        return int(replicas.query("SELECT value FROM meta WHERE key = 'heard.plat_fleet.heard'")[0][0])

    async def scene() -> None:
        await replicas.start_both()
        async with TestNode(mqtt.port) as node:
            node.present()
            node.born()
            at = await stream(node, 1, 200)
            await until(lambda: not node.waiting)
            await until(lambda: min(replicas.stored().get(name, 0) for name in "ab") > 20)
            await until(lambda: len(heard()) == at - 2)
            assert sorted(heard()) == [n for n in range(1, at) if n != 13]
            (newest,) = replicas.query("SELECT max(id) FROM events WHERE type = 'ObjectSeen'")[0]
            await until(lambda: place() >= newest)
            replicas["a"].kill()
            at = await stream(node, at, 100)  # stored by the other, and heard when that leads
            await replicas.lead("b")
            await until(lambda: not node.waiting)
            await until(lambda: len(heard()) >= at - 2)
            await asyncio.sleep(1.0)
            assert sorted(heard()) == [n for n in range(1, at) if n != 13]

    asyncio.run(scene())
