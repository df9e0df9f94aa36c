"""Each technology against the real thing: pymodbus's and asyncua's own servers, a pty, mosquitto, files."""

import asyncio
import logging
import os
import pty
import tty
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.sensors.make import reader_of, readers_mistakes
from agent.sensors.parse import Block
from agent.sensors.reader import SensorError, SensorSettingsError
from agent.sensors.sensors import CHANGED, Sensor
from agent.sensors.settings import (
    After,
    ChannelSettings,
    Number,
    SensorConfig,
    SensorKind,
    Table,
    WordOrder,
)
from platforms.samples import SampleWindow
from runtime.mqtt import BrokerAddress
from tests.broker import broker, free_port

WAIT_S = 30.0


class Caught:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.refusals: list[str] = []
        self.breaks = 0
        self.is_connected = asyncio.Event()

    async def take(self, block: Block, *, at_s: float | None = None, source_s: float | None = None) -> None:
        self.blocks.append(block)

    def break_off(self) -> None:
        self.breaks += 1

    def refused(self, reason: str) -> None:
        self.refusals.append(reason)

    def connected(self) -> None:
        self.is_connected.set()

    @property
    def samples(self) -> Block:
        return np.vstack(self.blocks) if self.blocks else np.empty((0, 1))


async def until(true: Callable[[], object], more: Callable[[], Awaitable[None]] | None = None) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            if more is not None:
                await more()
            await asyncio.sleep(0.02)


def reader(config: SensorConfig, port: int = 1) -> Any:
    address = BrokerAddress("127.0.0.1", port)
    return reader_of(config, "gw-1", address, address)


async def reading(config: SensorConfig, port: int, body: Callable[[Caught], Coroutine[Any, Any, None]]) -> Caught:
    """Runs the reader beside `body`, which must not end before it."""
    caught = Caught()
    task = asyncio.create_task(reader(config, port).run(caught))
    told = asyncio.create_task(body(caught))
    try:
        await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
        if task.done() and not told.done():
            await task  # says why
        await told
    finally:
        for one in (task, told):
            one.cancel()
        await asyncio.gather(task, told, return_exceptions=True)
    return caught


# ---- Modbus --------------------------------------------------------------------------------------


def test_registers_of_a_modbus_server() -> None:
    server_module = pytest.importorskip("pymodbus.server")
    simulator = pytest.importorskip("pymodbus.simulator")
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

    async def run() -> Caught:
        port = free_port()
        registers = [0] * 100
        registers[0:2] = [0x41AC, 0x0000]  # 21.5 as float32, the most significant first
        registers[2:4] = [0x0000, 0x41AC]  # the same, the least significant first
        registers[10] = 0xFFFE  # -2 as int16
        data = simulator.SimData(0, values=registers, datatype=simulator.DataType.REGISTERS)
        device = simulator.SimDevice(1, [data])
        server = server_module.ModbusTcpServer(device, address=("127.0.0.1", port))
        await server.serve_forever(background=True)
        config = SensorConfig(
            "plc",
            SensorKind.MODBUS,
            host="127.0.0.1",
            port=port,
            rate_hz=50.0,
            timeout_s=20.0,
            channels=(
                ChannelSettings("t", register=0, number=Number.FLOAT32),
                ChannelSettings("u", register=2, number=Number.FLOAT32, words=WordOrder.LITTLE),
                ChannelSettings("v", register=10),
                ChannelSettings("none", register=5000, table=Table.HOLDING),
            ),
        )
        try:
            return await reading(config, 1, lambda caught: until(lambda: len(caught.blocks) >= 3))
        finally:
            await server.shutdown()

    caught = asyncio.run(run())
    np.testing.assert_array_equal(caught.samples[0], [21.5, 21.5, -2.0, np.nan])
    assert "registers 5000 to 5000" in caught.refusals[0]


def test_a_modbus_device_that_is_not_there() -> None:
    pytest.importorskip("pymodbus")
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    config = SensorConfig("plc", SensorKind.MODBUS, host="127.0.0.1", port=free_port(), timeout_s=1.0)
    with pytest.raises(SensorError, match="no Modbus device answers"):
        asyncio.run(reader(config).run(Caught()))


# ---- OPC UA --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_variables_of_an_opc_ua_server() -> None:
    asyncua = pytest.importorskip("asyncua")
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)

    async def run() -> tuple[Caught, Caught]:
        port = free_port()
        server = asyncua.Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/plant")
        space = await server.register_namespace("plant")
        motor = await server.nodes.objects.add_object(space, "Motor")
        speed = await motor.add_variable(f"ns={space};s=speed", "speed", 1770.0)
        wave = await motor.add_variable(f"ns={space};s=wave", "wave", [1.0, 2.0, 3.0])
        text = await motor.add_variable(f"ns={space};s=text", "text", "hello")
        url = f"opc.tcp://127.0.0.1:{port}/plant"
        async with server:
            nodes = [node.nodeid.to_string() for node in (speed, wave, text)]
            scalar = SensorConfig(
                "motor", SensorKind.OPCUA, url=url, rate_hz=20.0,
                channels=(ChannelSettings("speed", node=nodes[0]), ChannelSettings("text", node=nodes[2])),
            )  # fmt: skip
            waves = SensorConfig(
                "wave", SensorKind.OPCUA, url=url, rate_hz=1000.0, poll_s=0.05,
                channels=(ChannelSettings("wave", node=nodes[1]),),
            )  # fmt: skip
            first = await reading(scalar, 1, lambda caught: until(lambda: len(caught.blocks) >= 3))

            async def twice(caught: Caught) -> None:
                await until(lambda: caught.blocks)
                await asyncio.sleep(0.3)
                await wave.write_value([4.0, 5.0])
                await until(lambda: len(caught.blocks) >= 2)

            return first, await reading(waves, 1, twice)

    first, waves = asyncio.run(run())
    np.testing.assert_array_equal(first.samples[0], [1770.0, np.nan])
    assert "'hello' is no number" in first.refusals[0]
    assert waves.samples[:, 0].tolist() == [1, 2, 3, 4, 5]  # each array once


def test_an_opc_ua_server_that_is_not_there() -> None:
    pytest.importorskip("asyncua")
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    url = f"opc.tcp://127.0.0.1:{free_port()}/plant"
    config = SensorConfig("m", SensorKind.OPCUA, url=url, timeout_s=1.0, channels=(ChannelSettings(node="i=84"),))
    with pytest.raises(SensorError, match="no session"):
        asyncio.run(reader(config).run(Caught()))


# ---- serial --------------------------------------------------------------------------------------


def test_lines_of_a_serial_port() -> None:
    pytest.importorskip("serial")

    async def run() -> Caught:
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        channels = (ChannelSettings("a", column=0), ChannelSettings("b", column=1))
        config = SensorConfig("s", SensorKind.SERIAL, device=os.ttyname(theirs), channels=channels)

        async def body(caught: Caught) -> None:
            await caught.is_connected.wait()
            os.write(ours, b"1.5,2\r\n3,")
            await until(lambda: len(caught.samples) == 1)
            os.write(ours, b"4\nhello\n5\n")
            await until(lambda: len(caught.samples) == 3)

        try:
            return await reading(config, 1, body)
        finally:
            os.close(ours)
            os.close(theirs)

    caught = asyncio.run(run())
    np.testing.assert_array_equal(caught.samples, [[1.5, 2], [3, 4], [5, np.nan]])
    assert "no number in 'hello'" in caught.refusals[0]


def test_a_serial_port_that_is_pulled_out_or_not_there(tmp_path: Path) -> None:
    pytest.importorskip("serial")

    async def pulled() -> None:
        ours, theirs = pty.openpty()
        config = SensorConfig("s", SensorKind.SERIAL, device=os.ttyname(theirs))
        caught = Caught()
        task = asyncio.create_task(reader(config).run(caught))
        await caught.is_connected.wait()
        os.close(theirs)
        os.close(ours)
        async with asyncio.timeout(WAIT_S):
            await task

    with pytest.raises(SensorError):
        asyncio.run(pulled())
    with pytest.raises(SensorError, match="cannot be opened"):
        asyncio.run(reader(SensorConfig("s", SensorKind.SERIAL, device=str(tmp_path / "tty"))).run(Caught()))
    with pytest.raises(SensorSettingsError, match="a number from 0"):
        reader(SensorConfig("s", SensorKind.SERIAL, device="x", channels=(ChannelSettings(column="t"),)))


# ---- files ---------------------------------------------------------------------------------------


def test_a_folder_is_watched_and_files_are_put_away(tmp_path: Path) -> None:
    config = SensorConfig("f", SensorKind.FILE, path=str(tmp_path), channels=(ChannelSettings("x", column="x"),))

    async def body(caught: Caught) -> None:
        await caught.is_connected.wait()
        (tmp_path / "b.csv").write_text("t,x\n0,1\n1,2\n")
        (tmp_path / "c.csv.part").write_text("t,x\n0,9\n")
        (tmp_path / "d.csv").write_text("t,y\n0,9\n")
        (tmp_path / "e.csv").write_bytes(b"\xff\xfe\x00")
        await until(lambda: (tmp_path / "done" / "b.csv").exists() and (tmp_path / "bad" / "e.csv").exists())
        (tmp_path / "f.csv").write_text("t;x\n")
        (tmp_path / "g.csv").write_text("x\n3\n\nnone\n")
        await until(lambda: (tmp_path / "done" / "g.csv").exists())

    caught = asyncio.run(reading(config, 1, body))
    np.testing.assert_array_equal(caught.samples[:, 0], [1, 2, 3, np.nan])
    assert {path.name for path in (tmp_path / "bad").iterdir()} == {"d.csv", "e.csv", "f.csv"}
    assert any("no column 'x'" in text for text in caught.refusals) and caught.breaks == 5


def test_files_can_be_deleted_instead(tmp_path: Path) -> None:
    config = SensorConfig("f", SensorKind.FILE, path=str(tmp_path), after=After.DELETE)
    (tmp_path / "a.csv").write_text("1\n2\n")
    caught = asyncio.run(reading(config, 1, lambda caught: until(lambda: not (tmp_path / "a.csv").exists())))
    assert caught.samples[:, 0].tolist() == [1, 2] and not (tmp_path / "done").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="cannot be read: No such file"):
        asyncio.run(reader(SensorConfig("f", SensorKind.FILE, path=str(tmp_path / "x.csv"))).run(Caught()))


# ---- a whole sensor ------------------------------------------------------------------------------


class Whole:
    """A `Sensor` with what it announces and hands on."""

    def __init__(self, config: SensorConfig, port: int = 1) -> None:
        self.told: list[tuple[str, str]] = []
        self.windows: list[SampleWindow] = []
        self.free = asyncio.Event()
        self.free.set()
        address = BrokerAddress("127.0.0.1", port)
        self.sensor = Sensor(
            config, lambda: reader_of(config, "gw-1", address, address), self._announce, self._measured
        )

    def _announce(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        assert kind == CHANGED and subject == data["sensor_id"]
        self.told.append((data["state"], data["reason"]))

    async def _measured(self, window: SampleWindow) -> None:
        await self.free.wait()
        self.windows.append(window)

    @property
    def states(self) -> list[str]:
        return [state for state, _ in self.told]

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        tasks = [asyncio.create_task(run()) for run in (self.sensor.read, self.sensor.hand_on, self.sensor.watch)]
        try:
            await body()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def test_a_broker_that_comes_late_and_goes_is_told_once_each_time(tmp_path: Path) -> None:
    async def run() -> None:
        port = free_port()
        config = SensorConfig(
            "t", SensorKind.MQTT, topic="t", rate_hz=100.0, window_s=0.02, retry_max_s=1.0, silent_s=1.0
        )
        whole = Whole(config, port)

        async def publish() -> None:
            command = ("mosquitto_pub", "-p", str(port), "-t", "t", "-m", "[1, 2]")
            process = await asyncio.create_subprocess_exec(*command)
            await process.wait()

        async def body() -> None:
            await until(lambda: whole.sensor.failures_total >= 2)
            with broker(tmp_path, port=port) as running:
                await until(lambda: "live" in whole.states)
                await until(lambda: whole.windows, publish)
                await until(lambda: whole.states[-1] == "silent")
                await until(lambda: whole.states[-1] == "live", publish)
                running.kill()
                await until(lambda: whole.states[-1] == "unreachable")

        await whole.run(body)
        assert whole.states == ["unreachable", "live", "silent", "live", "unreachable"]
        assert whole.windows[0].channels["value"].tolist() == [1, 2]

    asyncio.run(run())


def test_trouble_of_a_sensor_is_told_and_its_windows_carry_it(tmp_path: Path) -> None:
    well = [f"{n % 7}" for n in range(100)]
    lines = [*well, *["3"] * 100, *well, *["9999"] * 50, *["nan"] * 50, *well]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    channel = ChannelSettings(low=-10, high=10)
    config = SensorConfig(
        "f",
        SensorKind.FILE,
        path=str(tmp_path / "x.csv"),
        realtime=False,
        rate_hz=100.0,
        window_s=1.0,
        channels=(channel,),
    )

    async def run() -> Whole:
        whole = Whole(config)
        await whole.run(lambda: until(lambda: len(whole.windows) == 5))
        return whole

    whole = asyncio.run(run())
    found = [window.troubles.get("value", "") for window in whole.windows]
    assert found == ["", "stuck", "", "out_of_range", ""]
    assert [reason for state, reason in whole.told if state == "troubled"] == ["value: stuck", "value: out_of_range"]
    assert [window.number for window in whole.windows] == [1, 2, 3, 4, 5]


def test_a_replay_waits_for_a_slow_listener_and_a_live_sensor_does_not(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("\n".join(str(n) for n in range(200)))
    config = SensorConfig(
        "f", SensorKind.FILE, path=str(tmp_path / "x.csv"), realtime=False, rate_hz=10.0, window_s=1.0, queue_max=2
    )

    async def run() -> None:
        whole = Whole(config)
        whole.free.clear()

        async def body() -> None:
            await until(lambda: len(whole.sensor._windows) == 2)
            whole.free.set()
            await until(lambda: len(whole.windows) == 20 and whole.states[-1] == "ended")

        await whole.run(body)
        assert whole.sensor.dropped_total == 0 and whole.states[-1] == "ended"
        live = Whole(config)
        for n in range(5):
            await live.sensor.take(np.full((10, 1), float(n)))
        assert live.sensor.dropped_total == 3 and live.sensor.report()["waiting"] == 2

    asyncio.run(run())


def test_a_library_that_is_missing_is_said_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "agent.sensors.modbus", None)
    config = SensorConfig("plc", SensorKind.MODBUS, host="127.0.0.1")
    assert readers_mistakes([None, config])[0].startswith("sensors[1]: kind = 'modbus': ")
    with pytest.raises(SensorSettingsError, match=r"pip install 'edgewright\[modbus\]'"):
        reader(SensorConfig("plc", SensorKind.MODBUS, host="127.0.0.1"))
