"""docs/calling-functions.md: its commands and programs are run, on a real broker, with a `gw-1` in this process."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.state import StateFile
from runtime.calls.dispatcher import Dispatcher
from runtime.calls.served import Call, Nothing, Served, Table, arguments, plain
from runtime.mqtt import BrokerAddress, Connection
from schemas.codec import decode_result
from schemas.messages import CommandState
from schemas.topics import COORDINATOR, TopicSpace
from tests.broker import Broker, broker
from tests.calls.desk import until
from tests.calls.processes import Ear

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "calling-functions.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def lines(program: str) -> list[str]:
    """Every call of a program on the page."""
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith(program)]


@dataclass(frozen=True, slots=True)
class SnapshotOf:
    camera_id: str
    width_max: int = 1280


async def snapshot(call: Call, given: SnapshotOf) -> dict[str, Any]:
    call.progress(0.5, "half of it")
    await asyncio.sleep(0.2)
    return {"content_type": "image/jpeg", "bytes": given.width_max}


async def status(given: Nothing) -> dict[str, Any]:
    return {"uptime_s": 1.0}


def page(folder: Path, scene: Callable[[Broker, Ear], Awaitable[None]]) -> None:
    """With a `gw-1` and a `coordinator` that serve what the page calls."""

    async def main(mqtt: Broker) -> None:
        connections, closers = [], []
        for responder in ("gw-1", COORDINATOR):
            served = [Served("snapshot", arguments(SnapshotOf), snapshot), plain("status", Nothing, status)]
            state = StateFile(folder / f"{responder}.db")
            dispatcher = Dispatcher(Table(served), state.journal, responder=responder, space=TopicSpace())
            connection = Connection(
                BrokerAddress(port=mqtt.port),
                client_id=responder,
                on_message=lambda d, to=dispatcher: to.receive(  # type: ignore[misc]
                    d, d.topic.rsplit("/", 1)[-1], lambda taken: None
                ),
            )
            await connection.connect()
            await connection.subscribe({f"edge/v1/{responder}/cmd/+": 0})
            dispatcher.answers.publish = connection.publish
            connections.append(connection)
            closers.append(state)
        async with Ear(mqtt.port) as ear:
            await scene(mqtt, ear)
        for connection, state in zip(connections, closers, strict=True):
            await connection.close()
            state.close()

    with broker(folder) as mqtt:
        asyncio.run(main(mqtt))


async def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    def beside() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    return await asyncio.to_thread(beside)


def test_what_is_typed_by_hand_is_answered(tmp_path: Path) -> None:
    async def scene(mqtt: Broker, ear: Ear) -> None:
        for line in lines("mosquitto_pub"):
            before = len(ear.heard)
            program, *rest = shlex.split(line)
            assert (await run([program, "-p", str(mqtt.port), *rest])).returncode == 0
            await until(lambda before=before: any(r.state.final for _, r in ear.heard[before:]))  # type: ignore[misc]
            assert [r.state for _, r in ear.heard[before:] if r.state.final] == [CommandState.SUCCEEDED], line
        (line,) = lines("mosquitto_rr")
        program, *rest = shlex.split(line)
        done = await run([program, "-p", str(mqtt.port), "-W", "30", *rest])
        assert json.loads(done.stdout)["state"] == "succeeded"

    assert len(lines("mosquitto_pub")) == 4
    page(tmp_path, scene)


def test_what_edgectl_is_shown_with_works(tmp_path: Path) -> None:
    async def scene(mqtt: Broker, ear: Ear) -> None:
        config = tmp_path / "coordinator.toml"
        config.write_text(f"[broker]\nport = {mqtt.port}\n", encoding="utf-8")
        for line in lines("edgectl"):
            command = [sys.executable, "-m", "coordinator.edgectl", "--config", str(config), *shlex.split(line)[1:]]
            done = await run(command)
            if line.startswith("edgectl cancel"):
                assert (done.returncode, "ended already: succeeded" in done.stderr) == (1, True), done
            else:
                assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "succeeded"), done

    assert len(lines("edgectl")) == 5
    page(tmp_path, scene)


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    async def scene(mqtt: Broker, ear: Ear) -> None:
        program = blocks("python")[0].replace("1883", str(mqtt.port))
        done = await run([sys.executable, "-W", "error", "-c", program])
        assert done.returncode == 0, done.stderr
        told, got, refused = done.stdout.splitlines()
        assert told == "0.5 half of it"
        assert got == "image/jpeg 1280"
        assert refused.startswith("bad_arguments camera")

    page(tmp_path, scene)


def test_the_function_of_the_page_can_be_served() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(blocks("python")[1], "docs/calling-functions.md", "exec"), names)  # noqa: S102
    served: Served = names["SUM"]
    shares: list[float | None] = []
    call = Call(report=lambda progress: shares.append(progress.share))
    assert asyncio.run(_ran(served, call, {"numbers": [1, 2.5]})) == 3.5
    assert shares == [0.5, 1.0]


async def _ran(served: Served, call: Call, raw: dict[str, Any]) -> Any:
    return await served.run(call, served.parse(raw))


@pytest.mark.parametrize("block", blocks("json"))
def test_the_message_of_the_page_is_one(block: str) -> None:
    result = decode_result(block.encode())
    assert (result.state, result.progress and result.progress.share) == (CommandState.RUNNING, 0.4)


def test_every_code_that_a_dispatcher_gives_is_on_the_page() -> None:
    files = [path for path in sorted((ROOT / "runtime" / "calls").glob("*.py")) if path.name != "client.py"]
    sources = [path.read_text(encoding="utf-8") for path in files]
    given = re.findall(r'(?:Error|ended)\((?:CommandState\.[A-Z]+, )?"([a-z_]+)"', "\n".join(sources))
    assert len(set(given)) > 12
    assert [code for code in sorted({*given, "deadline", "timeout"}) if f"`{code}`" not in PAGE] == []
