"""Modbus/TCP through pymodbus: registers are asked for at even distances. The one file that imports it."""

import asyncio
import math
import time

import numpy as np
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from agent.sensors.polling import WORDS, Pace, Span, spans
from agent.sensors.reader import SensorError, Sink
from agent.sensors.settings import SensorConfig, Table


class ModbusReader:
    """One connection for one sensor. A register that the device refuses is a missing value."""

    lossless = False

    def __init__(self, config: SensorConfig) -> None:
        self._config = config
        self._spans = spans(config.channels)
        self._where = f"{config.host}:{config.port}"

    async def run(self, sink: Sink) -> None:
        config = self._config
        client = AsyncModbusTcpClient(
            config.host, port=config.port, timeout=config.timeout_s, retries=0, reconnect_delay=0
        )
        try:
            if not await client.connect():
                raise SensorError(f"{self._where}: no Modbus device answers", hint="check host and port")
            sink.connected()
            pace = Pace(config.poll_s or 1 / config.rate_hz, time.monotonic())
            while True:
                await sink.take(np.array([await self._values(client, sink)], np.float64))
                await asyncio.sleep(pace.wait_s(time.monotonic()))
        except ModbusException as error:
            raise SensorError(f"{self._where}: {error}") from error
        finally:
            client.close()

    async def _values(self, client: AsyncModbusTcpClient, sink: Sink) -> list[float]:
        values = [math.nan] * len(self._config.channels)
        for span in self._spans:
            registers = await self._read(client, span, sink)
            for n in span.channels if registers else ():
                channel = self._config.channels[n]
                at = channel.register - span.first
                words = registers[at : at + WORDS[channel.number]]
                kind = client.DATATYPE[channel.number.name]
                value = client.convert_from_registers(words, kind, word_order=channel.words.value)
                values[n] = float(value) if isinstance(value, int | float) else math.nan
        return values

    async def _read(self, client: AsyncModbusTcpClient, span: Span, sink: Sink) -> list[int]:
        ask = client.read_input_registers if span.table is Table.INPUT else client.read_holding_registers
        answer = await ask(span.first, count=span.count, device_id=self._config.device_id)
        if answer.isError() or len(answer.registers) < span.count:
            where = f"{span.table.value} registers {span.first} to {span.first + span.count - 1}"
            sink.refused(f"{self._where}: {where}: {answer}")
            return []
        return list(answer.registers)
