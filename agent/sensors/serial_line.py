"""Lines of a serial port through pyserial: the one file that imports it. A line is one sample of each channel."""

import asyncio
import os

import numpy as np
import serial

from agent.sensors.parse import row_of
from agent.sensors.reader import SensorError, SensorSettingsError, Sink
from agent.sensors.settings import SensorConfig

LINE_BYTES_MAX = 4096
READ_BYTES = 65536
WAITING_MAX = 1_048_576  # bytes read and not yet looked at; beyond it all of them are dropped


class SerialReader:
    """`column` of a channel is a number: serial lines have no names."""

    lossless = False

    def __init__(self, config: SensorConfig) -> None:
        self._config = config
        if named := [channel.name for channel in config.channels if not isinstance(channel.column, int)]:
            raise SensorSettingsError(f"sensor {config.id}: channels.column: a number from 0 is wanted ({named[0]})")
        self._columns = [int(channel.column) for channel in config.channels]

    async def run(self, sink: Sink) -> None:
        config = self._config
        try:
            port = await asyncio.to_thread(serial.Serial, config.device, config.baud, timeout=0)
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise SensorError(f"{config.device}: cannot be opened: {error}") from error
        loop = asyncio.get_running_loop()
        waiting, there = bytearray(), asyncio.Event()
        lost: list[str] = []

        def readable() -> None:
            try:
                came = os.read(port.fileno(), READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                came = b""
                lost.append(str(error))
            if not came:
                lost.append("the other end has closed it")
                loop.remove_reader(port.fileno())
            waiting.extend(came)
            if len(waiting) > WAITING_MAX:
                waiting.clear()
                sink.refused(f"{config.device}: more than {WAITING_MAX} bytes wait: they are dropped")
            there.set()

        loop.add_reader(port.fileno(), readable)
        try:
            sink.connected()
            while True:
                await there.wait()
                there.clear()
                await self._lines(waiting, sink)
                if lost:
                    raise SensorError(f"{config.device}: {lost[0]}")
        finally:
            loop.remove_reader(port.fileno())
            port.close()

    async def _lines(self, waiting: bytearray, sink: Sink) -> None:
        end = waiting.rfind(b"\n")
        if end < 0:
            if len(waiting) > LINE_BYTES_MAX:
                waiting.clear()
                sink.refused(f"{self._config.device}: more than {LINE_BYTES_MAX} bytes without an end of line")
            return
        whole = bytes(waiting[:end])
        del waiting[: end + 1]
        rows = []
        for line in whole.split(b"\n"):
            text = line.decode("ascii", "replace").strip()
            if not text:
                continue
            row = row_of(text.split(self._config.separator), self._columns)
            if all(value != value for value in row):
                sink.refused(f"{self._config.device}: no number in {text[:60]!r}")
            else:
                rows.append(row)
        if rows:
            await sink.take(np.array(rows, np.float64))
