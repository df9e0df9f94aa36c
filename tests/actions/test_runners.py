"""Each kind of action against the real thing: a web server, programs, a broker, and simulated lines."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gpiod
import pytest

from agent.actions.event import LocalEvent
from agent.actions.gpio import GpiodLine
from agent.actions.local_broker import LocalBroker
from agent.actions.make import runner_of
from agent.actions.runner import ActionError, ActionTimeoutError
from agent.actions.settings import ActionSettings, Do, Drive
from runtime.mqtt import BrokerAddress, Connection, Delivery
from tests.actions.test_settings_and_templates import EVENT, alert
from tests.broker import Broker, free_port, start_broker

WAIT_S = 30.0
NOWHERE = BrokerAddress("127.0.0.1", 1)


def event(draft: Any = EVENT) -> LocalEvent:
    return LocalEvent("gw-1", "edge/v1", "1.1", draft)


async def run(action: ActionSettings, draft: Any = EVENT) -> str:
    runner = runner_of(action, LocalBroker(NOWHERE, "x"))
    try:
        runner.open()
        async with asyncio.timeout(runner.limit_s):
            return await runner.run(event(draft))
    finally:
        runner.close()


# ---- commands ------------------------------------------------------------------------------------


def program(text: str, *more: str, timeout_s: float = WAIT_S) -> ActionSettings:
    return ActionSettings("p", Do.COMMAND, command=("sh", "-c", text, *more), timeout_s=timeout_s)


def test_a_program_gets_the_event_and_none_of_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_MQTT_PASSWORD", "s3cret")
    text = 'cat > "$1/event"; env > "$1/env"; echo well done >&2'
    assert asyncio.run(run(program(text, "sh", str(tmp_path)))) == "status 0: well done"
    got = json.loads((tmp_path / "event").read_text())
    assert (got["specversion"], got["type"], got["data"]["class"]) == ("1.0", "ObjectSeen", "person")
    environment = (tmp_path / "env").read_text()
    assert "EDGE_TYPE=ObjectSeen\n" in environment
    assert "EDGE_CAMERA_ID=cam1\n" in environment
    assert "s3cret" not in environment


def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    action = ActionSettings("p", Do.COMMAND, command=("touch", str(tmp_path / "a; touch b $HOME")))
    asyncio.run(run(action))
    assert [path.name for path in tmp_path.iterdir()] == ["a; touch b $HOME"]


def test_a_program_that_fails_says_so_with_the_end_of_its_words() -> None:
    with pytest.raises(ActionError, match=r"sh ended with status 3: x+the end$") as caught:
        asyncio.run(run(program("head -c 100000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 3")))
    assert len(str(caught.value)) < 2100


def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(ActionError, match="no-such-program cannot be started"):
        asyncio.run(run(ActionSettings("p", Do.COMMAND, command=("no-such-program",))))


@pytest.mark.parametrize("text", ['sleep 60 & echo $! > "$1/pid"; wait', 'sleep 60 & echo $! > "$1/pid"'])
def test_a_program_that_takes_too_long_is_killed_with_all_it_started(tmp_path: Path, text: str) -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(run(program(text, "sh", str(tmp_path), timeout_s=1.0)))
    pid = int((tmp_path / "pid").read_text())

    async def gone() -> None:
        while _runs(pid):
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(gone(), WAIT_S))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


# ---- webhooks ------------------------------------------------------------------------------------


class Hook(ThreadingHTTPServer):
    """Answers with the statuses in `answers`, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [200]
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.hold = threading.Event()
        self.hold.set()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?key=s3cret"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.path, dict(self.headers), body))
        self.server.hold.wait(WAIT_S)
        answers = self.server.answers
        self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()


def webhook(url: str, **more: Any) -> ActionSettings:
    return ActionSettings("h", Do.WEBHOOK, url=url, **more)


def test_a_webhook_posts_a_cloud_event_with_its_token(hook: Hook, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    assert asyncio.run(run(webhook(hook.url, token_file=tmp_path / "token"), alert())) == "answered 200"
    ((path, headers, body),) = hook.heard
    assert path == "/hook?key=s3cret"
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["Authorization"] == "Bearer t0ken"
    assert json.loads(body)["edgeseverity"] == "critical"


@pytest.mark.parametrize(
    ("answers", "retries", "attempts", "said"),
    [
        ([503, 429, 200], 2, 3, ""),
        ([503], 1, 2, r"answered 503 \(attempt 2\)"),
        ([404], 5, 1, "answered 404"),
        ([302], 5, 1, "answered 302"),
    ],
)
def test_a_busy_webhook_is_asked_again_and_a_refusal_is_not(
    hook: Hook, answers: list[int], retries: int, attempts: int, said: str
) -> None:
    hook.answers = answers
    if said:
        with pytest.raises(ActionError, match=said) as caught:
            asyncio.run(run(webhook(hook.url, retries=retries)))
        assert "s3cret" not in str(caught.value)
    else:
        assert asyncio.run(run(webhook(hook.url, retries=retries))) == "answered 200"
    assert len(hook.heard) == attempts


def test_a_silent_webhook_is_given_up(hook: Hook) -> None:
    hook.hold.clear()
    with pytest.raises(ActionTimeoutError):
        asyncio.run(run(webhook(hook.url, timeout_s=0.3, retries=0)))


def test_the_end_of_the_agent_does_not_wait_for_a_webhook(hook: Hook) -> None:
    async def scenario() -> None:
        hook.hold.clear()
        runner = runner_of(webhook(hook.url, timeout_s=300.0, retries=0), LocalBroker(NOWHERE, "x"))
        runner.open()
        running = asyncio.create_task(runner.run(event()))
        while not hook.heard:
            await asyncio.sleep(0.01)
        runner.close()
        with pytest.raises(ActionError):
            await running

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))


def test_a_webhook_nobody_serves() -> None:
    with pytest.raises(ActionError, match="refused"):
        asyncio.run(run(webhook(f"http://127.0.0.1:{free_port()}/", retries=0)))


# ---- the local broker ----------------------------------------------------------------------------


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = start_broker(tmp_path)
    yield started
    started.stop()


async def heard_by(port: int, heard: list[Delivery]) -> Connection:
    peer = Connection(BrokerAddress("127.0.0.1", port), client_id="peer", on_message=heard.append)
    await peer.connect()
    await peer.subscribe({"site/#": 0})
    return peer


def test_a_message_waits_for_a_broker_that_is_away(broker: Broker) -> None:
    async def scenario() -> None:
        broker.stop()
        local = LocalBroker(BrokerAddress("127.0.0.1", broker.port), "gw-1-actions")
        keeping = asyncio.create_task(local.run())
        action = ActionSettings(
            "m", Do.MQTT, topic="site/{camera_id}/{data.class}", payload="{{{type}}}", retain=True
        )
        publishing = asyncio.create_task(runner_of(action, local).run(event()))
        while not local.error:
            await asyncio.sleep(0.02)
        assert not publishing.done()
        broker.start()
        assert await publishing == "published 12 bytes on site/cam1/person"
        heard: list[Delivery] = []
        peer = await heard_by(broker.port, heard)
        while not heard:
            await asyncio.sleep(0.02)
        assert (heard[0].topic, heard[0].payload, heard[0].retain) == ("site/cam1/person", b"{ObjectSeen}", True)
        await peer.close()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))


# ---- lines ---------------------------------------------------------------------------------------


def state(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize(("active_low", "levels"), [(False, [0, 1, 0, 0]), (True, [1, 0, 1, 1])])
def test_a_line_pulses_and_is_left_safe(tmp_path: Path, active_low: bool, levels: list[int]) -> None:
    path = tmp_path / "state.json"
    asyncio.run(
        run(ActionSettings("g", Do.GPIO, chip=f"fake:{path}", line="lamp", pulse_s=0.01, active_low=active_low))
    )
    assert state(path) == {"lamp": {"level": levels[-1], "held": False, "history": levels}}


def test_a_line_follows_its_alerts(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    action = ActionSettings("g", Do.GPIO, chip=f"fake:{path}", line=3, drive=Drive.FOLLOW, exit_active=True)

    async def scenario() -> None:
        runner = runner_of(action, LocalBroker(NOWHERE, "x"))
        runner.open()
        for step, level in (("raised", 1), ("updated", 1), ("cleared", 0)):
            await runner.run(event(alert(step)))
            assert state(path)["3"]["level"] == level
        runner.close()
        assert state(path)["3"]["level"] == 1

    asyncio.run(scenario())


def test_a_chip_that_is_not_there_is_named() -> None:
    with pytest.raises(ActionError, match="gpio line 3 of /dev/no-such-chip: cannot be taken"):
        GpiodLine("/dev/no-such-chip", 3, active_low=False, consumer="test")


def test_what_libgpiod_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no chip here: the request is caught on its way, its settings are the library's own."""
    asked: list[Any] = []

    class Request:
        def set_value(self, line: int | str, value: Any) -> None:
            asked.append((line, value))

        def release(self) -> None:
            asked.append("released")

    def request_lines(path: str, consumer: str, config: dict[int | str, gpiod.LineSettings]) -> Request:
        asked.append((path, consumer, config))
        return Request()

    monkeypatch.setattr(gpiod, "request_lines", request_lines)
    line = GpiodLine("/dev/gpiochip0", "LAMP", active_low=True, consumer="edge-agent lamp")
    line.set(True)
    line.set(False)
    line.release()
    (path, consumer, config), *rest = asked
    assert (path, consumer, list(config)) == ("/dev/gpiochip0", "edge-agent lamp", ["LAMP"])
    settings = config["LAMP"]
    assert (settings.direction, settings.output_value, settings.active_low) == (
        gpiod.line.Direction.OUTPUT,
        gpiod.line.Value.INACTIVE,
        True,
    )
    assert rest == [("LAMP", gpiod.line.Value.ACTIVE), ("LAMP", gpiod.line.Value.INACTIVE), "released"]
