"""OPC UA through asyncua: variables are read at even distances, all in one request. The one file that imports it.

A variable that holds an array is a block of samples, and is taken once for each time that its source gives it.
"""

import asyncio
import math
import time
from typing import Any

import numpy as np
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError

from agent.sensors.parse import number
from agent.sensors.polling import Pace
from agent.sensors.reader import SensorError, SensorSettingsError, Sink
from agent.sensors.settings import SensorConfig
from runtime.config import secret


class OpcUaReader:
    """One session for one sensor. A value of bad quality is a missing value."""

    lossless = False

    def __init__(self, config: SensorConfig) -> None:
        self._config = config
        self._taken: Any = None  # the source's time of the newest array

    async def run(self, sink: Sink) -> None:
        config = self._config
        client = Client(config.url, timeout=config.timeout_s)
        if config.username:
            client.set_user(config.username)
            client.set_password(secret(f"sensor {config.id}: password", config.password_file, ""))
        try:
            nodes = [client.get_node(channel.node) for channel in config.channels]
        except (UaError, ValueError) as error:
            raise SensorSettingsError(f"sensor {config.id}: channels.node: {error}") from error
        try:
            await client.connect()
        except (OSError, TimeoutError, UaError, ConnectionError) as error:
            raise SensorError(f"{config.url}: no session: {error or type(error).__name__}") from error
        try:
            sink.connected()
            pace = Pace(config.poll_s or 1 / config.rate_hz, time.monotonic())
            while True:
                await self._take(await client.read_attributes(nodes), sink)
                await asyncio.sleep(pace.wait_s(time.monotonic()))
        except (OSError, TimeoutError, UaError, ConnectionError) as error:
            raise SensorError(f"{config.url}: {error or type(error).__name__}") from error
        finally:
            await _goodbye(client)

    async def _take(self, read: list[ua.DataValue], sink: Sink) -> None:
        columns: list[list[float]] = []
        for channel, one in zip(self._config.channels, read, strict=True):
            value = one.Value.Value if one.Value is not None else None
            if one.StatusCode is not None and one.StatusCode.is_bad():
                sink.refused(f"{channel.node}: {one.StatusCode.name}")
                value = None
            try:
                columns.append([number(item) for item in (value if isinstance(value, list) else [value])])
            except (TypeError, ValueError):
                sink.refused(f"{channel.node}: {str(value)[:60]!r} is no number and no array of numbers")
                columns.append([math.nan])
        length = max(map(len, columns))
        if length > 1 and (stamp := read[0].SourceTimestamp) is not None:
            if stamp == self._taken:
                return
            self._taken = stamp
        if any(len(column) not in (1, length) for column in columns):
            sink.refused(f"arrays of {sorted(map(len, columns))} samples: all of one length are wanted")
            return
        padded = [column if len(column) == length else [math.nan] * length for column in columns]
        await sink.take(np.array(padded, np.float64).T)


async def _goodbye(client: Client) -> None:
    try:
        async with asyncio.timeout(2.0):
            await client.disconnect()
    except (OSError, TimeoutError, UaError, ConnectionError):
        return  # it is gone anyway
